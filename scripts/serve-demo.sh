#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Serves the demo video as a camera, for a first `gclip watch` without one.
# usage: scripts/serve-demo.sh [PORT]    (8554) then, elsewhere: gclip watch pipelines/demo-camera.toml
# The camera is rtsp://127.0.0.1:PORT/demo until Ctrl-C; only this machine sees it. It is the server of the tests
# (testing/src/rtsp/server.c, on gst-rtsp-server), which shows the first seconds in a loop.
set -euo pipefail
cd "$(dirname "$0")/.."
port=${1:-8554}
case $port in -h | --help) sed -n '3,6s/^# \{0,1\}//p' "$0"; exit 0 ;; *[!0-9]*) echo "serve-demo: $port is no port" >&2; exit 2 ;; esac

packages=(gstreamer-rtsp-server-1.0 gstreamer-rtsp-1.0 gstreamer-app-1.0 gio-2.0)
if ! flags=$(pkg-config --cflags --libs "${packages[@]}" 2>/dev/null); then
  echo "serve-demo: gst-rtsp-server is missing (Debian: apt install libgstrtspserver-1.0-dev)" >&2
  exit 1
fi
folder=$(mktemp -d)
server=
# shellcheck disable=SC2317 # by the trap
leave() { exec 3>&-; [ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$folder"; }
trap leave EXIT
trap 'exit 0' INT TERM
# shellcheck disable=SC2086 # several words
"${CC:-cc}" -O1 testing/src/rtsp/server.c $flags -o "$folder/rtsp-server"
mkfifo "$folder/commands" "$folder/answers"
"$folder/rtsp-server" "$port" <"$folder/commands" >"$folder/answers" &
server=$!
exec 3>"$folder/commands" 4<"$folder/answers"
read -r ready <&4 || { echo "serve-demo: it does not start on port $port: is something else there?" >&2; exit 1; }
[ "${ready%% *}" = ready ] || { echo "serve-demo: $ready" >&2; exit 1; }
echo "serve demo 854 480 25 models/demo/demo.mp4" >&3
read -r answer <&4 || answer='it has ended'
[ "$answer" = ok ] || { echo "serve-demo: $answer" >&2; exit 1; }
echo "rtsp://127.0.0.1:${ready#ready }/demo    (Ctrl-C ends it)"
wait "$server"
