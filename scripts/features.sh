#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Prints cargo's options for what this machine's GStreamer can do beyond 1.22; prints nothing where it can no more.
#   cargo build --release $(scripts/features.sh)
set -euo pipefail
if pkg-config --exists 'gstreamer-analytics-1.0 >= 1.26' 2>/dev/null; then
  echo --features=v1_26
fi
