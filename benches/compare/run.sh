#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# gclip against what a user would pick instead, on the same random ViT-B/16 weights, the same frames and the same threads,
# run in turn: a video through PyTorch (eager, compiled), ONNX Runtime and OpenVINO behind an OpenCV capture script and
# through gclipsegment, and pictures one by one through eager PyTorch and `gclip segment`. Every run decodes, resizes,
# segments and makes masks; loading does not count. Prints tables of the medians, with how far each engine's masks and
# features agree with f32, and writes benches/results/<date>-cpu.json.
# usage: benches/compare/run.sh [ROUNDS]     (default 3; the first run fetches about 6 GB of Python packages)
# ENGINES="eager-f32 onnx-f32 ..." PRECISIONS="f32 auto int8" FRAMES=24 PICTURES=8 SIZE=336 BATCH=4 THREADS=<cores>
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-3} frames=${FRAMES:-24} pictures=${PICTURES:-8} size=${SIZE:-336} batch=${BATCH:-4} threads=${THREADS:-$(nproc)}
work=target/compare
mkdir -p "$work" benches/results

if [ ! -e "$work/venv/complete" ]; then
  python3 -m venv "$work/venv"
  "$work/venv/bin/pip" install --quiet torch==2.11.0 transformers==5.24.0 onnx==1.23.2 onnxruntime==1.32.0 \
    openvino==2026.4.1 nncf==3.4.0 opencv-python-headless==5.0.0.93
  touch "$work/venv/complete"
fi
python=$work/venv/bin/python
cargo build --release --quiet
mkdir -p "$work/plugins"
ln -sf ../../release/libgstgclip.so "$work/plugins/libgstgclip.so"
export GST_PLUGIN_PATH=$PWD/$work/plugins GST_REGISTRY=$PWD/$work/registry.bin XDG_CACHE_HOME=$PWD/$work/cache
export OMP_NUM_THREADS=$threads

[ -e "$work/b16/preprocessor_config.json" ] || "$python" benches/compare/random_clip.py "$work/b16" 2>/dev/null
stills=$work/stills video=$work/stills-$frames.mp4
[ -e "$stills/000.png" ] || { mkdir -p "$stills" && gst-launch-1.0 -q filesrc location=models/demo/demo.mp4 ! decodebin \
  ! videoconvert ! videoscale add-borders=false ! video/x-raw,format=RGB,width=1280,height=720,pixel-aspect-ratio=1/1 \
  ! pngenc ! multifilesink location="$stills/%03d.png"; }
# A clip of exactly so many frames, all of which every player shows.
[ -e "$video" ] || gst-launch-1.0 -q multifilesrc location="$stills/%03d.png" stop-index=$((frames - 1)) \
  caps=image/png,framerate=25/1 ! pngdec ! videoconvert ! video/x-raw,format=I420 ! x264enc ! h264parse ! mp4mux \
  ! filesink location="$video"
folder=$work/pictures-$pictures
[ -e "$folder/000.png" ] || { mkdir -p "$folder" && find "$stills" -name "*.png" | sort | sed -n "1,${pictures}p" \
  | xargs cp -t "$folder"; }
width=$((((size * 16 / 9) + 8) / 16 * 16)) # 16:9, to the nearest whole patch, as gclipsegment does

capture() {
  "$python" benches/compare/capture.py "$work/b16" "$@" --folder "$work" --height "$size" --width "$width" \
    --threads "$threads" 2>>"$work/capture.log"
}
element() { "$python" benches/compare/element.py "$work/b16" "$video" --size "$size" --batch "$batch" "$@"; }
program() { "$python" benches/compare/pictures.py target/release/gclip "$work/b16" "$folder" --size "$size" "$@"; }

results=$work/results.jsonl
: >"$results"
for round in $(seq "$rounds"); do
  echo "round $round of $rounds" >&2
  for engine in ${ENGINES:-eager-f32 eager-bf16 compile-bf16 onnx-f32 onnx-int8 openvino-f32 openvino-bf16 openvino-int8}; do
    capture "$video" --batch "$batch" --engine "$engine" >>"$results"
  done
  for precision in ${PRECISIONS:-f32 auto int8}; do
    element --precision "$precision" >>"$results"
  done
  capture "$folder/%03d.png" --batch 1 --what "one by one: " >>"$results"
  program --precision f32 >>"$results"
  program --precision auto >>"$results"
done
"$python" benches/compare/table.py "$results" "benches/results/$(date +%F)-cpu.json" "$rounds" "$frames" "$size" "$batch" "$threads"
