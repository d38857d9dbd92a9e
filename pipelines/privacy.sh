#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Blurs what the prompts name (default: people); INVERT=true blurs everything else instead.
#   SRC=hall.mp4 HIDE="person" bash pipelines/privacy.sh
. "$(dirname "$0")/env.sh"
HIDE=${HIDE:-person}
exec gst-launch-1.0 -e uridecodebin uri="file://$(realpath "$SRC")" ! videoconvert \
  ! gclipsegment model="$MODEL" prompts="$HIDE" background="${BACKGROUND:-road, building, sky, tree, grass, car}" \
  ! gclipoverlay mode=blur invert="${INVERT:-false}" ! videoconvert ! $SINK
