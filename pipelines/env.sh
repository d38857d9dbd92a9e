# SPDX-License-Identifier: MIT OR Apache-2.0
# Sourced by the pipelines: builds the plugin, shows it to GStreamer, and fills in MODEL, SRC and SINK.
# GCLIP_PLUGINS   the folder of an installed plugin: nothing is built then
# GStreamer searches a plugin path recursively, so the library gets a folder of its own (target/plugins).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ -z "${GCLIP_PLUGINS:-}" ]; then
  bash "$root/scripts/setup.sh" >&2
  (cd "$root" && cargo build --release --locked -p gst-plugin-gclip $(bash scripts/features.sh))
  GCLIP_PLUGINS=$root/target/plugins
  mkdir -p "$GCLIP_PLUGINS"
  ln -sf ../release/libgstgclip.so "$GCLIP_PLUGINS/libgstgclip.so"
fi
export GST_PLUGIN_PATH=$GCLIP_PLUGINS${GST_PLUGIN_PATH:+:$GST_PLUGIN_PATH}
# libtorch's threads sleep instead of spin while they wait for each other: decoder and encoder need the cores too.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
MODEL=${MODEL:-$root/models/demo}
SRC=${SRC:-$root/models/demo/demo.mp4}
SINK=${SINK:-autovideosink}
# Pictures as they are shown: phones store them as their sensor lies, with a display matrix beside. Masks go by what the
# element sees, so this comes before it; without such a matrix it does nothing.
UPRIGHT="videoflip video-direction=auto"
# A file as well as rtsp://, http:// and so on, as `uridecodebin` takes them.
uri() { case $1 in *://*) echo "$1" ;; *) echo "file://$(realpath "$1")" ;; esac; }
