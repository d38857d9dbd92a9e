#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Blurs everything but what KEEP names, or only what HIDE names (default: people).
#   SRC=hall.mp4 KEEP="person, pedestrian" SINK="video/x-raw,format=I420 ! x264enc ! mp4mux ! filesink location=blurred.mp4" bash pipelines/privacy.sh
#   SRC=rtsp://camera/stream HIDE="person; license plate" bash pipelines/privacy.sh
# BACKGROUND names what else there is to see, so that it is not taken for what the prompts name.
. "$(dirname "$0")/env.sh"
# No frame may leave with the mask of an older one, on which people stood elsewhere: a file waits for the model, and a
# camera loses the frames that the model has no time for.
case $SRC in /dev/* | rtsp*://*) late=drop ;; *) late=wait ;; esac
if [ -n "${KEEP:-}" ]; then prompts=$KEEP invert=true; else prompts=${HIDE:-person} invert=false; fi
exec gst-launch-1.0 -e uridecodebin uri="$(uri "$SRC")" ! videoconvert ! $UPRIGHT \
  ! gclipsegment model="$MODEL" prompts="$prompts" late-policy=$late \
    background="${BACKGROUND:-road, building, sky, tree, grass, car}" \
  ! gclipoverlay mode=blur invert=$invert legend=false ! videoconvert ! $SINK
