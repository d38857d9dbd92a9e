#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Makes a container image from the Debian package, without a registry: a Debian tree with the package in it, as an OCI
# layout with the entry point `gclip` and a user of its own.
# usage: scripts/image.sh [PACKAGE]      default: the newest in target/packages; leaves target/packages/gclip-image
#   podman run --rm oci:target/packages/gclip-image:latest --version
#   skopeo copy oci:target/packages/gclip-image:latest docker-daemon:gclip:latest
# Needs root, mmdebstrap and umoci.
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-} in -h | --help) sed -n '3,8s/^# \{0,1\}//p' "$0"; exit 0 ;; -*) echo "image: unknown option $1" >&2; exit 2 ;; esac
die() { echo "image: $*" >&2; exit 1; }
step() { echo "image: $*"; }
[ "$(id -u)" = 0 ] || die "a Debian tree needs root"
package=${1:-$(ls -t target/packages/*.deb 2>/dev/null | head -n 1)}
[ -e "${package:-}" ] || die "there is no package: run scripts/package.sh first"
case $package in *+deb12_*) suite=bookworm ;; *+deb13_*) suite=trixie ;; *) die "cannot tell for which Debian $package is" ;; esac
tools=()
for tool in mmdebstrap umoci; do command -v $tool >/dev/null || tools+=($tool); done
if [ ${#tools[@]} -gt 0 ]; then
  step "installing ${tools[*]}"
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${tools[@]}"; } \
    >/dev/null 2>&1 || die "apt-get could not install ${tools[*]}"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
image=target/packages/gclip-image
name=$(basename "$package")
version=$(dpkg-deb --field "$package" Version)
step "a tree of Debian $suite with $name"
# Left out: manuals, translations, what draws on screens and speaks to GPUs of other makers (Mesa, LLVM), which the
# packages of GStreamer's plugins bring and `gclip` never loads.
mmdebstrap --variant=apt --skip=cleanup/reproducible --aptopt='Acquire::Check-Valid-Until "false"' \
  --aptopt='APT::Install-Recommends "false"' \
  --dpkgopt='path-exclude=/usr/share/{doc,man,info,locale,help,gtk-doc,bug,lintian}/*' \
  --dpkgopt='path-include=/usr/share/doc/*/copyright' \
  --dpkgopt='path-include=/usr/share/doc/gst-plugin-gclip/*' \
  --dpkgopt='path-exclude=/usr/lib/x86_64-linux-gnu/dri/*' \
  --dpkgopt='path-exclude=/usr/lib/x86_64-linux-gnu/libLLVM*' \
  --dpkgopt='path-exclude=/usr/lib/x86_64-linux-gnu/libicudata.so.*.a' \
  --include=ca-certificates,systemd-standalone-sysusers \
  --customize-hook="copy-in '$package' /tmp" \
  --customize-hook='chroot "$1" apt-get install -y -q --no-install-recommends "/tmp/'"$name"'"' \
  --customize-hook='rm -f "$1/tmp/'"$name"'" "$1/etc/resolv.conf" "$1/etc/hostname"; rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*' \
  "$suite" "$work/tree.tar" >"$work/log" 2>&1 || { tail -n 15 "$work/log" >&2; die "mmdebstrap failed"; }
unpacked=$(($(stat -c %s "$work/tree.tar") / 1048576))

step "an OCI layout of it"
rm -rf "$work/oci"
umoci init --layout "$work/oci"
umoci new --image "$work/oci:latest"
umoci raw add-layer --image "$work/oci:latest" "$work/tree.tar"
umoci config --image "$work/oci:latest" --config.entrypoint gclip --config.user gclip --config.workingdir /var/lib/gclip \
  --config.env PATH=/usr/local/bin:/usr/bin:/bin --config.env HF_HOME=/var/lib/gclip/models --config.env OMP_WAIT_POLICY=passive \
  --config.env LANG=C.UTF-8 --config.env XDG_CACHE_HOME=/var/cache/gclip --author "The gst-plugin-gclip developers" \
  --config.label org.opencontainers.image.title=gclip --config.label "org.opencontainers.image.version=$version"
umoci gc --layout "$work/oci"
rm -rf "$image"
mv "$work/oci" "$image"
step "$image: unpacked $unpacked MiB, as a layout $(du -sm "$image" | cut -f1) MiB"
[ "$unpacked" -lt 900 ] || die "the image is larger than 900 MB"
