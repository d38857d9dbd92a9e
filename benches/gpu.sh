#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Everything about the GPU in one run of less than 8 minutes: is it right, the card's ceilings, the model by batch and
# size, pipelines of 1 to 256 streams, and the same model in PyTorch, in this order: what decides comes first. Prints tables;
# writes benches/results/<date>-<gpu>.json, first without and then with PyTorch, so that a run that is stopped leaves what it has.
# usage: benches/gpu.sh [--cpu] [--quick] [--bundle FOLDER] [--results FOLDER]
#   --cpu       the CPU in the place of a GPU: tries the logic, measures nothing of interest (give --quick too)
#   --quick     few and short measurements
#   --bundle    programs and GStreamer from a folder that scripts/bundle.sh made, on a machine without Rust and GStreamer
#               (default: what cargo builds here; without cargo target/bundle or target/bundle.tar.gz)
#   --results   where the result goes (default: benches/results); what is measured so far is in its gpu-run/
# Needs python3 with torch 2.11 and transformers for the weights (random, B/16) and for PyTorch's side.
set -euo pipefail
called_from=$PWD # what a folder's name is relative to
cd "$(dirname "$0")/.."
python=${PYTHON:-python3} cpu=() quick=() bundle='' results=$PWD/benches/results budget=220 torch_budget=90
absolute() { case $1 in /*) printf '%s\n' "$1" ;; *) printf '%s\n' "$called_from/$1" ;; esac; }
while [ $# -gt 0 ]; do
  case $1 in
    --cpu) cpu=(--cpu) ;;
    --quick) quick=(--quick) ;;
    --bundle) bundle=$(absolute "${2:?--bundle needs a folder}"); shift ;;
    --results) results=$(absolute "${2:?--results needs a folder}"); shift ;;
    -h | --help) sed -n '3,13s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "gpu.sh: unknown option $1 (see --help)" >&2; exit 2 ;;
  esac
  shift
done
if [ -z "$bundle" ] && ! command -v cargo >/dev/null; then
  if [ -e target/bundle.tar.gz ] && [ ! -x target/bundle/run ]; then
    tar -C target -xzf target/bundle.tar.gz
  fi
  [ ! -x target/bundle/run ] || bundle=target/bundle
fi
"$python" -c 'import torch, transformers' 2>/dev/null || { echo "gpu.sh: $python lacks torch or transformers" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
run=$results/gpu-run
mkdir -p "$run"
rm -f "$run"/{ours,torch}.json

if [ -n "$bundle" ]; then
  export LIBTORCH=${LIBTORCH:-$("$python" -c 'import torch; print(torch.__path__[0])')}
  bench=("$bundle/run" bench-gpu)
else
  cargo build --release --quiet --bench gpu
  bench=("$(ls -t target/release/deps/gpu-* | grep -v '\.d$' | head -n 1)")
fi
echo "weights ..."
"$python" benches/compare/random_clip.py "$work/b16" b16 >"$work/weights.log" 2>&1 || { cat "$work/weights.log" >&2; exit 1; }
echo "gclip ..."
timeout -k 5 $((budget + 40)) "${bench[@]}" "$work/b16" --trained models/demo --picture docs/demo.png --video models/demo/demo.mp4 \
  --out "$run/ours.json" --budget $budget "${cpu[@]}" "${quick[@]}" || echo "gpu.sh: the benchmark ended with $?" >&2
report() { "$python" benches/compare/gpu_report.py "$run/ours.json" "$run/torch.json" "$results"; }
report >"$run/report.txt" || echo "gpu.sh: no report" >&2
echo "PyTorch ..."
timeout -k 5 $((torch_budget + 20)) "$python" benches/compare/torch_gpu.py "$work/b16" --out "$run/torch.json" \
  --budget $torch_budget "${cpu[@]}" "${quick[@]}" >"$work/torch.log" 2>&1 || { echo "gpu.sh: PyTorch ended with $?"; tail -n 5 "$work/torch.log"; } >&2
report | tee "$run/report.txt"
