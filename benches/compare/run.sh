#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# gclip against what a user would pick instead, on the same random ViT-B/16 weights, the same video and the same threads,
# run in turn: eager PyTorch and ONNX Runtime behind an OpenCV capture script, and gclipsegment in f32 and in `auto`.
# Every run decodes, resizes, segments and makes masks; loading does not count. Prints a table of the medians and writes
# benches/results/<date>-cpu.json.
# usage: benches/compare/run.sh [ROUNDS]     (default 3; the first run fetches about 5 GB of Python packages)
# FRAMES=24 SIZE=336 BATCH=4 THREADS=<cores>
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-3} frames=${FRAMES:-24} size=${SIZE:-336} batch=${BATCH:-4} threads=${THREADS:-$(nproc)}
work=target/compare
mkdir -p "$work" benches/results

if [ ! -x "$work/venv/bin/python" ]; then
  python3 -m venv "$work/venv"
  "$work/venv/bin/pip" install --quiet torch==2.11.0 transformers onnx onnxruntime opencv-python-headless
fi
python=$work/venv/bin/python
cargo build --release --quiet --lib
mkdir -p "$work/plugins"
ln -sf ../../release/libgstgclip.so "$work/plugins/libgstgclip.so"
export GST_PLUGIN_PATH=$PWD/$work/plugins GST_REGISTRY=$PWD/$work/registry.bin XDG_CACHE_HOME=$PWD/$work/cache
export OMP_NUM_THREADS=$threads

[ -e "$work/b16/model.safetensors" ] || "$python" benches/compare/random_clip.py "$work/b16" 2>/dev/null
video=$work/720p-$frames.mp4
[ -e "$video" ] || gst-launch-1.0 -q videotestsrc pattern=ball num-buffers="$frames" ! video/x-raw,format=I420,width=1280,height=720 \
  ! x264enc ! h264parse ! mp4mux ! filesink location="$video"
width=$((((size * 16 / 9) + 15) / 16 * 16)) # 16:9, up to whole patches, as gclipsegment does

capture() { "$python" benches/compare/capture.py "$work/b16" "$video" --height "$size" --width "$width" \
  --batch "$batch" --threads "$threads" "$@" 2>/dev/null; }
element() { "$python" benches/compare/element.py "$work/b16" "$video" --size "$size" --batch "$batch" "$@"; }

results=$work/results.jsonl
: >"$results"
for round in $(seq "$rounds"); do
  echo "round $round of $rounds" >&2
  capture >>"$results"
  capture --onnx "$work/b16-$size-$batch.onnx" >>"$results"
  element --precision f32 >>"$results"
  element --precision auto >>"$results"
done
"$python" benches/compare/table.py "$results" "benches/results/$(date +%F)-cpu.json" "$rounds" "$frames" "$size" "$batch" "$threads"
