#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Called by meson.build: builds with cargo and puts the results where meson expects them.
# usage: scripts/meson-cargo.sh SOURCE_DIR BUILD_DIR
set -euo pipefail
[ $# = 2 ] || { echo "usage: $0 SOURCE_DIR BUILD_DIR" >&2; exit 2; }
cd "$1"
cargo build --release $(bash scripts/features.sh) --target-dir "$2/target"
cp "$2/target/release/libgstgclip.so" "$2/target/release/gclip" "$2/"
