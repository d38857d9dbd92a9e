#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Prints one JSON object a frame: what is where, how much of the picture, how sure.
#   SRC=street.mp4 PROMPTS="car; person" bash pipelines/json.sh | jq .regions
. "$(dirname "$0")/env.sh"
exec gst-launch-1.0 -q filesrc location="$SRC" ! decodebin ! videoconvert ! $UPRIGHT \
  ! gclipsegment model="$MODEL" prompts="${PROMPTS:-road; car, automobile; person; tree; building; sky}" \
  ! gclipmeta2json ! fdsink fd=1
