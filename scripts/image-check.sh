#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Unpacks the container image, and segments the demo clip with it as the image says: entry point, user, environment.
# usage: scripts/image-check.sh [IMAGE]      default: target/packages/gclip-image
# As root; runs it by chroot in a mount namespace, which needs no container engine.
set -euo pipefail
cd "$(dirname "$0")/.."
image=${1:-target/packages/gclip-image}
die() { echo "image-check: FAILED: $*" >&2; exit 1; }
[ -e "$image/index.json" ] || die "$image is no OCI layout: run scripts/image.sh first"
bundle=$(mktemp -d)
trap 'rm -rf --one-file-system "$bundle"' EXIT
umoci unpack --image "$image:latest" "$bundle/run" >/dev/null 2>&1 || die "umoci cannot unpack it"
read -r entry user < <(python3 - "$bundle/run/config.json" <<'PYTHON'
import json, sys
process = json.load(open(sys.argv[1]))["process"]
print(process["args"][0], "%d:%d" % (process["user"]["uid"], process["user"]["gid"]))
PYTHON
)
[ "$entry" = gclip ] || die "the entry point is $entry"
[ "${user%%:*}" != 0 ] || die "it runs as root"
settings=()
while IFS= read -r setting; do settings+=("$setting"); done < <(
  python3 -c 'import json, sys; print("\n".join(json.load(open(sys.argv[1]))["process"]["env"]))' "$bundle/run/config.json")
# With /proc and /dev, as a container has; the mounts end with the command.
run() {
  unshare --mount bash -euc 'root=$1 user=$2 && shift 2
    mount --bind "$root" "$root" && mount --make-private "$root"
    mount -t proc proc "$root/proc" && mount --rbind /dev "$root/dev"
    exec chroot --userspec="$user" "$root" /usr/bin/env -i "$@"' sh "$bundle/run/rootfs" "$user" "${settings[@]}" "$entry" "$@"
}
model=/usr/share/gst-plugin-gclip/models/demo
run --version
run video $model/demo.mp4 --model $model --prompts "car; road; sky" --out /var/lib/gclip/out --seconds 1 >"$bundle/log" 2>&1 ||
  { tail -n 10 "$bundle/log" >&2; die "gclip video"; }
[ -s "$bundle/run/rootfs/var/lib/gclip/out/video.mp4" ] || die "gclip video left no video"
echo "image-check: it runs as $user"
