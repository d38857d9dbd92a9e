#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# The main job in one command: sets up, builds, and segments a video by text.
# Leaves out/demo.mp4 (the video, masks drawn), out/demo.png (one frame of it) and out/demo.jsonl (the masks as data).
#   bash pipelines/demo.sh [--open]
#   SRC=street.mp4 MODEL=openai/clip-vit-base-patch16 PROMPTS="car; person, pedestrian; tree" bash pipelines/demo.sh
# --open    shows the picture at the end, on a desktop
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
show=no
case ${1:-} in
  --open) show=yes && shift ;;
  -h | --help) sed -n '3,16s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac
case "${SRC:-}" in '' | *://* | /*) ;; *) SRC=$PWD/$SRC ;; esac
[ -d "${MODEL:-}" ] || [ -f "${MODEL:-}" ] && MODEL=$(realpath "$MODEL")
cd "$here"
began=$SECONDS
step() { echo "demo: $*"; }
if [ -z "${GCLIP:-}" ]; then
  build() {
    # The commands on the network are more than half of the crates, and no part of this; where they are built they stay.
    local part=--no-default-features
    if target/release/gclip watch --help >/dev/null 2>&1; then part=; fi
    step "2 of 3: building the program${part:+, without the commands on the network} (some minutes, or what has changed)"
    cargo build --release --locked -p gclip $part $(bash scripts/features.sh)
  }
  export -f step build
  step "1 of 3: what building needs (on a bare Debian about a minute)"
  bash scripts/setup.sh --meanwhile bash -euo pipefail -c build
  GCLIP=target/release/gclip
  step "3 of 3: segmenting ${SRC:-the demo clip}"
fi

# libtorch's threads sleep instead of spin while they wait for each other: decoder and encoder need the cores too.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
demo=models/demo
out=${OUT:-out}
"$GCLIP" video "${SRC:-$demo/demo.mp4}" --model "${MODEL:-$demo}" \
  --prompts "${PROMPTS:-@$demo/prompts.txt}" --out "$out" --name demo ${SECONDS_:+--seconds "$SECONDS_"} "$@"
step "done after $((SECONDS - began)) s: see $(realpath "$out")/demo.png (a frame), demo.mp4 (all, masks drawn) and demo.jsonl (the masks as data)"
if [ $show = yes ]; then
  if [ -z "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]; then
    step "--open: there is no desktop here to show the picture on"
  elif ! command -v xdg-open >/dev/null; then
    step "--open: xdg-open is missing (Debian package xdg-utils)"
  else
    xdg-open "$out/demo.png"
  fi
fi
