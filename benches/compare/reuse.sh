#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# What token reuse spares on a camera that stands still, with what it costs in agreement, and on one that moves.
# Renders the labelled street of the demo's generator from a mast, with and without the noise of a sensor, and plays each video twice,
# without and with token reuse (`gclip eval --against whole`): the demo model, then the shapes of ViT-B/16 with random weights (no labels:
# it knows nothing); then 16 streams on one model. Ratios within one run, by CPU time. Other clips as arguments.
# usage: benches/compare/reuse.sh [CLIP.mp4]...     after benches/compare/run.sh, whose Python and whose checkpoint it takes; needs ffmpeg
# THRESHOLDS="0.03 0.05 0.1" SECONDS_OF_VIDEO=10 STREAMS=16
set -euo pipefail
clips=()
for clip in "$@"; do clips+=("$(realpath "$clip")"); done
cd "$(dirname "$0")/../.."
work=target/compare
python=$work/venv/bin/python
[ -e "$work/venv/complete" ] && [ -e "$work/b16/config.json" ] || { echo "reuse: run benches/compare/run.sh first" >&2; exit 1; }
command -v ffmpeg >/dev/null || { echo "reuse: ffmpeg is missing: apt install ffmpeg" >&2; exit 1; }
cargo build --release --quiet
mkdir -p "$work/plugins"
ln -sf ../../release/libgstgclip.so "$work/plugins/libgstgclip.so"
export GST_PLUGIN_PATH=$PWD/$work/plugins GST_REGISTRY=$PWD/$work/registry.bin XDG_CACHE_HOME=$PWD/$work/cache
seconds=${SECONDS_OF_VIDEO:-10}

video() { # video NAME OPTIONS...: rendered once
  local folder=$work/$1-$seconds
  shift
  [ -e "$folder/video.mp4" ] || { mkdir -p "$folder" && "$python" models/demo/render_video.py --seconds "$seconds" "$@" \
    --out "$folder/video.mp4" --labels "$folder/labels" >&2; }
  echo "$folder"
}
still=$(video mast --fixed) noisy=$(video mast-noise --fixed --noise 1.5) moving=$(video moving)
quiet=$(video mast-quiet --fixed --quiet --noise 1.0)

"$python" benches/compare/reuse.py head
for threshold in ${THRESHOLDS:-0.03 0.05 0.1}; do
  for place in "$quiet" "$still" "$noisy" "$moving"; do
    "$python" benches/compare/reuse.py eval "$place/video.mp4" --labels "$place/labels" --model models/demo --threshold "$threshold"
  done
done
for clip in "${clips[@]}"; do
  "$python" benches/compare/reuse.py eval "$clip" --model models/demo --threshold 0.05
done
for place in "$quiet" "$still" "$moving"; do
  "$python" benches/compare/reuse.py eval "$place/video.mp4" --model "$work/b16" --threshold 0.05 --limit 40
done
for model in models/demo "$work/b16"; do
  "$python" benches/compare/reuse.py streams "$quiet/video.mp4" --model "$model" --threshold 0.05 --streams "${STREAMS:-16}" --limit 40
done
