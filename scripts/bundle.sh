#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Makes a folder that runs gclip on a machine without GStreamer, Rust or this source: the plugin, the program, the GPU
# benchmark, and GStreamer's run-time files. It brings neither glibc nor libtorch: a Linux at least as new as this one,
# and a libtorch 2.11, such as that of Python's torch (which is where CUDA comes from, too), have to be there.
# usage: scripts/bundle.sh [FOLDER]          default: target/bundle; FOLDER.tar.gz is the same, packed
# There:  FOLDER/run gclip info MODEL        FOLDER/run gst-launch-1.0 ...        FOLDER/run bench-gpu --help
set -euo pipefail
cd "$(dirname "$0")/.."
bundle=${1:-target/bundle}
case ${1:-} in -h | --help) sed -n '3,8s/^# \{0,1\}//p' "$0"; exit 0 ;; -*) echo "bundle: unknown option $1" >&2; exit 2 ;; esac

# What the pipelines and benches of this repository need of GStreamer. Decoding on the CPU (libav) is left out: it is
# larger than all the rest together, and a GPU machine decodes with nvcodec.
plugins=(coreelements app typefindfunctions playback videotestsrc videoconvertscale videorate videoparsersbad
  isomp4 matroska nvcodec png jpeg)
tools=(gst-launch-1.0 gst-inspect-1.0)

[ -n "${GCLIP_NO_BUILD:-}" ] || cargo build --release
[ -n "${GCLIP_NO_BUILD:-}" ] || cargo build --release --bench gpu
bench=$(ls -t target/release/deps/gpu-* 2>/dev/null | grep -v '\.d$' | head -n 1) || true
for file in target/release/libgstgclip.so target/release/gclip "${bench:-the GPU benchmark}"; do
  [ -e "$file" ] || { echo "bundle: $file has not been built" >&2; exit 1; }
done

from=$(pkg-config --variable=pluginsdir gstreamer-1.0)
scanner=$(pkg-config --variable=pluginscannerdir gstreamer-1.0)/gst-plugin-scanner
[ -e "$scanner" ] || { echo "bundle: GStreamer's plugin scanner is not in $scanner" >&2; exit 1; }

rm -rf "$bundle"
mkdir -p "$bundle"/{bin,lib,plugins,libexec}
cp target/release/gclip "$bundle/bin/"
cp "$bench" "$bundle/bin/bench-gpu"
cp target/release/libgstgclip.so "$bundle/plugins/"
for plugin in "${plugins[@]}"; do
  cp "$from/libgst$plugin.so" "$bundle/plugins/" || { echo "bundle: GStreamer's plugin $plugin is not installed" >&2; exit 1; }
done
for tool in "${tools[@]}"; do cp "$(command -v "$tool")" "$bundle/bin/"; done
cp "$scanner" "$bundle/libexec/"

# Every library that these need, but for glibc's own, the compiler's, libtorch's and the driver's.
theirs='^(ld-linux.*|libc|libm|libpthread|libdl|librt|libresolv|libgcc_s|libstdc\+\+|libgomp|libtorch.*|libc10.*|libcu.*|libnv.*)\.so'
# gstreamer-cuda is opened by name, by the plugin.
cuda=$(ldconfig -p | awk '/libgstcuda-1.0.so.0 / && !found {found = $NF} END {print found}')
[ -n "$cuda" ] || { echo "bundle: GStreamer's CUDA library (libgstcuda-1.0) is not installed" >&2; exit 1; }
find "$bundle" -type f -print0 | xargs -0 ldd "$cuda" | awk '$2 == "=>" && $3 ~ /^\// {print $3}' |
  sort -u | while read -r library; do
    if ! [[ $(basename "$library") =~ $theirs ]]; then cp -L "$library" "$bundle/lib/"; fi
  done
cp -L "$cuda" "$bundle/lib/"
find "$bundle" -type f -exec strip --strip-unneeded {} +

cat >"$bundle/run" <<'RUN'
#!/usr/bin/env bash
# Runs a program of this folder with its libraries.   usage: run PROGRAM [ARGUMENT ...]
# LIBTORCH=/folder   a libtorch 2.11 (the folder that holds lib/); default: that of python3's torch
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ $# -gt 0 ] || { echo "usage: $0 PROGRAM [ARGUMENT ...]; programs: $(ls "$here/bin" | tr '\n' ' ')" >&2; exit 2; }
if [ -z "${LIBTORCH:-}" ]; then
  LIBTORCH=$(python3 -c 'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0])' 2>/dev/null) ||
    { echo "run: python3 has no torch; set LIBTORCH to a libtorch 2.11" >&2; exit 1; }
fi
[ -e "$LIBTORCH/lib/libtorch_cpu.so" ] || { echo "run: $LIBTORCH holds no lib/libtorch_cpu.so" >&2; exit 1; }
export LD_LIBRARY_PATH=$here/lib:$LIBTORCH/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export PATH=$here/bin:$PATH
export GST_PLUGIN_SYSTEM_PATH_1_0=$here/plugins GST_PLUGIN_SCANNER_1_0=$here/libexec/gst-plugin-scanner
export GST_REGISTRY_1_0=${GST_REGISTRY_1_0:-${TMPDIR:-/tmp}/gclip-registry-$(id -u).bin}
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
exec "$@"
RUN
chmod 755 "$bundle/run"
tar -C "$(dirname "$bundle")" -czf "$bundle.tar.gz" "$(basename "$bundle")"
echo "bundle: $bundle, $(du -sm "$bundle" | cut -f1) MiB; packed $(du -sm "$bundle.tar.gz" | cut -f1) MiB"
