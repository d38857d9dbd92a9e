#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Plays a video file with its masks drawn.
#   PROMPTS="car; person; tree" SRC=street.mp4 MODEL=openai/clip-vit-base-patch16 bash pipelines/file.sh
# SINK may be any video sink, such as `fakesink` or `video/x-raw,format=I420 ! x264enc ! mp4mux ! filesink location=masks.mp4`.
. "$(dirname "$0")/env.sh"
exec gst-launch-1.0 -e filesrc location="$SRC" ! decodebin ! videoconvert ! $UPRIGHT \
  ! gclipsegment model="$MODEL" prompts="${PROMPTS:-road; car, automobile; person; tree; building; sky}" \
  ! gclipoverlay legend=true ! videoconvert ! $SINK
