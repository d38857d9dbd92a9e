#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Makes all that a release hands out, in target/packages: packages for Debian 12 and 13, the container image, the list of crates
# (CycloneDX), their licences, and the checksums.
# usage: scripts/release.sh       as root, on Debian 12
# Needs cargo-cyclonedx, cargo-about and cargo-deny (cargo install --locked cargo-cyclonedx cargo-deny; cargo-about with
# --features cli).
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-} in '') ;; *) sed -n '3,7s/^# \{0,1\}//p' "$0"; [ "$1" = --help ] && exit 0; exit 2 ;; esac
die() { echo "release: $*" >&2; exit 1; }
step() { echo "release: $*"; }
[ "$(id -u)" = 0 ] || die "trees of Debian need root"
[ "$(. /etc/os-release && echo "${VERSION_ID:-}")" = 12 ] || die "this is made on Debian 12"
for tool in cyclonedx about deny; do
  cargo $tool --version >/dev/null 2>&1 || die "cargo-$tool is missing (see scripts/release.sh --help)"
done
[ -z "$(git status --porcelain)" ] || die "there are changes that are not committed: a release is made of a commit"

packages=target/packages
rm -rf "$packages"
mkdir -p "$packages"
step "licences and sources of crates"
cargo deny check licenses bans sources
step "packages"
export GCLIP_LICENCES=
export GCLIP_DEB_COMPRESSION=${GCLIP_DEB_COMPRESSION:--Zxz -z6}
bash scripts/package.sh
bash scripts/package.sh --debian-13
for package in "$packages"/*.deb; do bash scripts/package-check.sh "$package"; done
step "image"
bash scripts/image.sh "$(ls "$packages"/*+deb12_*.deb)"
bash scripts/image-check.sh
tar -C "$packages" -cf "$packages/gclip-image.tar" gclip-image
rm -rf "$packages/gclip-image"
step "list of crates, licences, checksums"
version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml)
cargo cyclonedx --format json --manifest-path gclip/Cargo.toml --override-filename "gclip-$version.cdx"
mv "gclip/gclip-$version.cdx.json" "$packages/"
find . -name "gclip-$version.cdx.json" -not -path './target/*' -delete
bash scripts/licences.sh "$packages/third-party-licences.txt"
(cd "$packages" && sha256sum -- *.deb *.tar *.json *.txt >SHA256SUMS)
step "done: $(ls "$packages" | tr '\n' ' ')"
