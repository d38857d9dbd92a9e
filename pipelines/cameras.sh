#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Several cameras, one model: the branches share `model-instance-id`, so one forward serves frames of both,
# while each branch keeps its own prompts.
#   SRC=rtsp://gate SRC2=rtsp://yard PROMPTS="person" PROMPTS2="car; truck" bash pipelines/cameras.sh
. "$(dirname "$0")/env.sh"
exec gst-launch-1.0 -e \
  uridecodebin uri="$(uri "$SRC")" ! videoconvert ! $UPRIGHT \
  ! gclipsegment model="$MODEL" model-instance-id=shared prompts="${PROMPTS:-person}" \
  ! gclipoverlay legend=true ! videoconvert ! $SINK \
  uridecodebin uri="$(uri "${SRC2:-$SRC}")" ! videoconvert ! $UPRIGHT \
  ! gclipsegment model="$MODEL" model-instance-id=shared prompts="${PROMPTS2:-car; truck; bus}" \
  ! gclipoverlay legend=true ! videoconvert ! ${SINK2:-$SINK}
