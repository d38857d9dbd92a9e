#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# The main job in one command: sets up, builds, and segments a video by text.
# Leaves out/demo.mp4 (the video, masks drawn), out/demo.png (one frame of it) and out/demo.jsonl (the masks as data).
#   bash pipelines/demo.sh
#   SRC=street.mp4 MODEL=openai/clip-vit-base-patch16 PROMPTS="car; person, pedestrian; tree" bash pipelines/demo.sh
# SRC       a file, a URI (rtsp://user:password@camera/stream) or a camera (/dev/video0); default: the demo clip
# MODEL     a CLIP checkpoint: folder, file, or Hugging Face id in the local cache; default: the demo model,
#           which knows generated street scenes only
# PROMPTS   classes separated by `;`, synonyms by `,`
# SECONDS_  stop after so many seconds (a live source otherwise runs until Ctrl-C)
# OUT       folder of the results; default: out
# GCLIP     an installed `gclip`: nothing is set up or built then
# Further arguments go to `gclip video`, such as --set batch-size=8 or --draw mode=contour.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
case "${SRC:-}" in '' | *://* | /*) ;; *) SRC=$PWD/$SRC ;; esac
[ -d "${MODEL:-}" ] || [ -f "${MODEL:-}" ] && MODEL=$(realpath "$MODEL")
cd "$here"
if [ -z "${GCLIP:-}" ]; then
  bash scripts/setup.sh
  cargo build --release --quiet -p gclip $(bash scripts/features.sh)
  GCLIP=target/release/gclip
fi

# libtorch's threads sleep instead of spin while they wait for each other: decoder and encoder need the cores too.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
demo=models/demo
exec "$GCLIP" video "${SRC:-$demo/demo.mp4}" --model "${MODEL:-$demo}" \
  --prompts "${PROMPTS:-@$demo/prompts.txt}" --out "${OUT:-out}" --name demo ${SECONDS_:+--seconds "$SECONDS_"} "$@"
