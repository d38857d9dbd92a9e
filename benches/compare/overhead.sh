#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# What gclipsegment costs a frame beside the model, against onnxinference of GStreamer 1.28, both with models that do
# nothing: benches/overhead.rs in a tree of Debian's next release (as root; see scripts/debian-tree.sh).
# Needs Python's onnx: that of benches/compare/run.sh, or another with PYTHON=.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-target/compare/venv/bin/python}
"$python" -c 'import onnx' 2>/dev/null || { echo "overhead: $python has no onnx: run benches/compare/run.sh first, or set PYTHON" >&2; exit 1; }
models=$PWD/target/compare/onnx
for size in 640x360 1920x1080; do
  "$python" benches/compare/trivial_onnx.py "$models/$size" "${size%x*}" "${size#*x}"
done
# Built out here, against the older GStreamer, and run in there: that is what a binary plugin has to bear.
bench=$(cargo bench --bench overhead --no-run --message-format=json | sed -n 's/.*"executable":"\([^"]*overhead[^"]*\)".*/\1/p' | tail -n 1)
exec bash scripts/debian-tree.sh forky env GCLIP_BENCH_ONNX="$models" "$bench" --bench
