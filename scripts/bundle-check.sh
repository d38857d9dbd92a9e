#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Runs a bundle (scripts/bundle.sh) in a bare Debian 12 without GStreamer, Rust and Python, with nothing but libtorch beside
# it: the plugin is found, a pipeline runs, the program segments a picture. Needs root, mmdebstrap and 300 MB.
# usage: scripts/bundle-check.sh [FOLDER]        default: target/bundle
# LIBTORCH=/folder   the libtorch to use (default: that of .cargo/config.toml)      TREE=/folder   keep the bare tree there
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-} in -h | --help) sed -n '3,6s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
bundle=$(realpath "${1:-target/bundle}")
[ -x "$bundle/run" ] || { echo "bundle-check: no bundle in $bundle (scripts/bundle.sh makes one)" >&2; exit 1; }
torch=${LIBTORCH:-$(sed -n 's/^LIBTORCH = { value = "\([^"]*\)".*/\1/p' .cargo/config.toml)}
[ -e "$torch/lib/libtorch_cpu.so" ] || { echo "bundle-check: no libtorch in ${torch:-LIBTORCH}" >&2; exit 1; }
tree=${TREE:-$(mktemp -d)}
[ -d "$tree/etc" ] || mmdebstrap --quiet --variant=minbase bookworm "$tree"
mkdir -p "$tree"/{bundle,site,models}
check='set -e
cd /
export LIBTORCH=/site/torch
if command -v gst-launch-1.0; then echo "this tree is not bare" >&2; exit 1; fi
/bundle/run gst-inspect-1.0 gclipsegment >/tmp/inspect
grep -q "GCLIP segmentation" /tmp/inspect
/bundle/run gst-launch-1.0 -q videotestsrc num-buffers=3 ! video/x-raw,format=NV12,width=320,height=180 \
  ! gclipsegment model=/models/demo prompts="car; road" ! gclipmeta2json ! filesink location=/tmp/masks.jsonl
[ "$(wc -l </tmp/masks.jsonl)" = 3 ]
/bundle/run gclip info /models/demo | head -n 3
/bundle/run bench-gpu --help >/dev/null'
# In a mount namespace of its own: nothing stays mounted.
unshare -m bash -c '
  set -e
  mount --bind "$2" "$1/bundle"; mount --bind "$(dirname "$3")" "$1/site"; mount --bind models "$1/models"
  mount -t proc proc "$1/proc"; mount --rbind /dev "$1/dev"
  exec chroot "$1" /usr/bin/env -i HOME=/root PATH=/usr/bin:/bin bash -c "$4"
' sh "$tree" "$bundle" "$torch" "$check"
[ -n "${TREE:-}" ] || rm -rf --one-file-system "$tree"
echo "bundle-check: it runs ($(du -sm "$bundle" | cut -f1) MiB)"
