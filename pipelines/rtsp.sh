#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Watches an RTSP camera. A frame never waits for the model longer than the reported latency: when the model is
# slower than the camera, frames carry the newest mask there is (late-policy=reuse).
# Ctrl-C lets what is under way pass and ends. An error of rtspsrc that gst-launch prints after "Got EOS" is rtspsrc
# breaking off a request of its own as it closes; nothing is lost.
#   SRC=rtsp://user:password@camera/stream PROMPTS="person; car" bash pipelines/rtsp.sh
. "$(dirname "$0")/env.sh"
exec gst-launch-1.0 -e rtspsrc location="$SRC" latency=200 ! rtph264depay ! h264parse ! avdec_h264 ! videoconvert \
  ! gclipsegment model="$MODEL" prompts="${PROMPTS:-person; car}" late-policy=reuse \
  ! gclipoverlay legend=true ! videoconvert ! $SINK
