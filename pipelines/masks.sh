#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Records the masks alone, without loss: MASKS.mkv is a grey video (FFV1) in which each pixel is the number of its class
# (0 = none of them), at the size of the mask; MASKS.jsonl says for each frame which number has which label.
#   SRC=street.mp4 PROMPTS="car; person" MASKS=street bash pipelines/masks.sh
# Back to numbers: ffmpeg -i street.mkv -f rawvideo -pix_fmt gray street.raw
# SIZE=frame records them at the size of the video instead.
. "$(dirname "$0")/env.sh"
MASKS=${MASKS:-masks}
exec gst-launch-1.0 -e uridecodebin uri="$(uri "$SRC")" ! videoconvert ! $UPRIGHT \
  ! gclipsegment model="$MODEL" prompts="${PROMPTS:-road; car, automobile; person; tree; building; sky}" \
  ! tee name=masks \
  masks. ! queue ! gclipmask mode=ids size="${SIZE:-mask}" ! avenc_ffv1 ! matroskamux \
    ! filesink location="$MASKS.mkv" \
  masks. ! queue ! gclipmeta2json ! filesink location="$MASKS.jsonl"
