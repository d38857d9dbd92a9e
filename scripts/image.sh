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
# Left out: manuals, translations, icons, Perl's modules, and the drivers of screens (Mesa, LLVM) and of Intel's video
# units, which GStreamer's plugins bring along and `gclip` never opens.
skipped=()
for path in doc man info locale help gtk-doc bug lintian; do
  skipped+=(--dpkgopt="path-exclude=/usr/share/$path/*")
done
unused='usr/share/icons usr/share/sounds usr/share/themes usr/share/perl usr/share/perl5
  usr/lib/x86_64-linux-gnu/perl usr/lib/x86_64-linux-gnu/dri usr/lib/x86_64-linux-gnu/mfx
  usr/lib/x86_64-linux-gnu/libLLVM* usr/lib/x86_64-linux-gnu/libz3.so* var/lib/apt/lists/* var/cache/apt/* var/log/*.log var/log/apt
  etc/resolv.conf etc/hostname'
mmdebstrap --variant=apt --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='APT::Install-Recommends "false"' \
  "${skipped[@]}" --dpkgopt='path-include=/usr/share/doc/*/copyright' --dpkgopt='path-include=/usr/share/doc/gst-plugin-gclip/*' \
  --include=ca-certificates,systemd-standalone-sysusers \
  --customize-hook="copy-in '$package' /tmp" \
  --customize-hook="chroot \"\$1\" apt-get install -y -q --no-install-recommends /tmp/$name" \
  --customize-hook='chroot "$1" install -d -o gclip -g gclip /var/lib/gclip /var/cache/gclip' \
  --customize-hook="rm \"\$1/tmp/$name\"; cd \"\$1\" && rm -rf $(echo $unused)" \
  "$suite" "$work/tree.tar" >"$work/log" 2>&1 || { tail -n 15 "$work/log" >&2; die "mmdebstrap failed"; }
# By number, so that whoever runs it can see that it is not root.
user=$(tar -xOf "$work/tree.tar" ./etc/passwd | awk -F: '$1 == "gclip" { print $3 ":" $4 }')
[ -n "$user" ] || die "the package has made no user"
unpacked=$(($(stat -c %s "$work/tree.tar") / 1048576))

step "an OCI layout of it"
rm -rf "$work/oci"
umoci init --layout "$work/oci"
umoci new --image "$work/oci:latest"
umoci raw add-layer --image "$work/oci:latest" "$work/tree.tar"
umoci config --image "$work/oci:latest" --config.entrypoint gclip --config.user "$user" --config.workingdir /var/lib/gclip \
  --config.env PATH=/usr/local/bin:/usr/bin:/bin --config.env HF_HOME=/var/lib/gclip/models --config.env OMP_WAIT_POLICY=passive \
  --config.env LANG=C.UTF-8 --config.env XDG_CACHE_HOME=/var/cache/gclip --author "The gst-plugin-gclip developers" \
  --config.label org.opencontainers.image.title=gclip --config.label "org.opencontainers.image.version=$version"
umoci gc --layout "$work/oci"
rm -rf "$image"
mv "$work/oci" "$image"
step "$image: unpacked $unpacked MiB, as a layout $(du -sm "$image" | cut -f1) MiB"
[ "$unpacked" -lt 900 ] || die "the image is larger than 900 MB"
