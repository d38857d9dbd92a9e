#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Makes the Debian package, for the Debian that this machine runs: the plugin, the program, libtorch for the CPU, the service.
# usage: scripts/package.sh [--debian-13]     leaves target/packages/gst-plugin-gclip_VERSION_amd64.deb
#   --debian-13   for Debian 13, in a tree that is made for it (as root; see scripts/debian-tree.sh)
# GCLIP_LICENCES=         (empty) also the texts of the crates' licences, which handing the package on asks for; needs cargo-about
# GCLIP_DEB_COMPRESSION   options of dpkg-deb; default: -Zxz -z1 (a minute; -z6 takes several and saves a fifth)
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-} in
  '') ;;
  --debian-13) bash scripts/setup.sh --cpu && exec bash scripts/debian-tree.sh trixie bash scripts/package.sh ;;
  -h | --help) sed -n '3,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
  *) echo "package: unknown option $1 (see scripts/package.sh --help)" >&2; exit 2 ;;
esac
die() { echo "package: $*" >&2; exit 1; }
step() { echo "package: $*"; }
command -v dpkg-deb >/dev/null || die "this makes Debian packages, and needs a Debian"
release=$(. /etc/os-release && echo "${VERSION_ID:-}")
[ -n "$release" ] || release=next

tools=()
command -v dh >/dev/null || tools+=(debhelper)
command -v patchelf >/dev/null || tools+=(patchelf)
if [ ${#tools[@]} -gt 0 ]; then
  [ "$(id -u)" = 0 ] || die "this needs the Debian packages ${tools[*]}"
  step "installing ${tools[*]}"
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${tools[@]}"; } \
    >/dev/null 2>&1 || die "apt-get could not install ${tools[*]}"
fi

# What is packed -------------------------------------------------------------------------------------------------
bash scripts/setup.sh --cpu
libtorch=${LIBTORCH:-$(sed -n 's/^LIBTORCH = .*value = "\([^"]*\)".*/\1/p' .cargo/config.toml)}
torch=$(sed -n 's/^TORCH=//p' scripts/setup.sh)
features=$(bash scripts/features.sh)
step "building"
cargo build --release --locked -p gst-plugin-gclip -p gclip $features
built=${CARGO_TARGET_DIR:-target}/release

version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml)+deb$release
multiarch=$(dpkg-architecture -qDEB_HOST_MULTIARCH)
work=target/packages/work-$release
rm -rf "$work"
mkdir -p "$work"/{root,man}
root=$work/root
own=usr/lib/$multiarch/gst-plugin-gclip

put() { install -D -m "$1" "$2" "$root/$3"; } # put MODE FILE PLACE
# filled MODE FILE PLACE: with what only this script knows
filled() {
  put "$1" "$2" "$3"
  sed -i "s|MULTIARCH|$multiarch|; s|TORCH|$torch|" "$root/$3"
}
put 644 "$built/libgstgclip.so" "usr/lib/$multiarch/gstreamer-1.0/libgstgclip.so"
put 755 "$built/gclip" usr/bin/gclip
filled 755 packaging/gclip-use-cuda usr/bin/gclip-use-cuda
strip --strip-unneeded "$root/usr/bin/gclip" "$root/usr/lib/$multiarch/gstreamer-1.0/libgstgclip.so"
patchelf --set-rpath "/$own/torch/lib" "$root/usr/bin/gclip" "$root/usr/lib/$multiarch/gstreamer-1.0/libgstgclip.so"

# libtorch for the CPU links two of NVIDIA's libraries, GPU or not.
nvidia=$(ls -d "$libtorch"/../nvidia/cu*/lib)
for library in "$libtorch"/lib/{libtorch_cpu.so,libc10.so,libgomp.so.1} "$nvidia"/{libcudart,libcupti}.so.[0-9]*; do
  put 644 "$library" "$own/torch-cpu/lib/$(basename "$library")"
done
before=$(du -sm "$root/$own" | cut -f1)
strip --strip-unneeded "$root/$own"/torch-cpu/lib/lib{torch_cpu,c10}.so
step "libtorch: $before MiB, stripped $(du -sm "$root/$own" | cut -f1) MiB"

for file in config.json model.safetensors preprocessor_config.json templates.json prompts.txt demo.mp4 README.md; do
  put 644 "models/demo/$file" "usr/share/gst-plugin-gclip/models/demo/$file"
done
put 755 scripts/private-libtorch.py usr/share/gst-plugin-gclip/private-libtorch.py
"$built/gclip" man "$work/man"
cp packaging/gclip-use-cuda.1 "$work/man/"
mkdir -p "$root"/usr/share/{bash-completion/completions,zsh/vendor-completions,fish/vendor_completions.d}
"$built/gclip" completions bash >"$root/usr/share/bash-completion/completions/gclip"
"$built/gclip" completions zsh >"$root/usr/share/zsh/vendor-completions/_gclip"
"$built/gclip" completions fish >"$root/usr/share/fish/vendor_completions.d/gclip.fish"

if [ "$release" = 12 ]; then units=lib/systemd/system; else units=usr/lib/systemd/system; fi
for unit in gclip-watch@ gclip-jobs@; do put 644 packaging/$unit.service "$units/$unit.service"; done
install -d -m 755 "$root/etc/gclip"
documents=usr/share/doc/gst-plugin-gclip
for file in watch.toml editable.conf; do put 644 "packaging/$file" "$documents/examples/$file"; done
for file in README.md docs/*.md; do put 644 "$file" "$documents/$(basename "$file")"; done
put 644 CHANGELOG.md "$documents/changelog"
put 644 LICENSE-MIT "$documents/LICENSE-MIT"
site=$(dirname "$libtorch")
cat "$site"/torch-"$torch".dist-info/licenses/{LICENSE,NOTICE} >"$work/libtorch.txt"
cat "$site"/nvidia_cuda_*.dist-info/licenses/* >"$work/nvidia.txt"
for file in libtorch nvidia; do put 644 "$work/$file.txt" "$documents/$file.txt"; done
bash scripts/licences.sh ${GCLIP_LICENCES---list} "$work/third-party-licences.txt"
put 644 "$work/third-party-licences.txt" "$documents/third-party-licences.txt"

# The package ----------------------------------------------------------------------------------------------------
cp -r packaging/debian "$work/debian"
cp packaging/copyright "$work/debian/copyright"
sed -i "s|MULTIARCH|$multiarch|" "$work"/debian/gst-plugin-gclip.*
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
cat >"$work/debian/changelog" <<CHANGELOG
gst-plugin-gclip ($version) unstable; urgency=medium

  * See changelog.gz for what has changed.

 -- $(sed -n 's/^Maintainer: //p' packaging/debian/control)  $(date -R -d "@$SOURCE_DATE_EPOCH")
CHANGELOG
step "packing"
(cd "$work" && GCLIP_DEB_COMPRESSION=${GCLIP_DEB_COMPRESSION:--Zxz -z1} DEB_BUILD_OPTIONS=nocheck \
  dpkg-buildpackage --build=binary --no-sign --no-check-builddeps) >"$work.log" 2>&1 ||
  { tail -n 20 "$work.log" >&2; die "dpkg-buildpackage failed (log: $work.log)"; }
package=target/packages/gst-plugin-gclip_${version}_$(dpkg-architecture -qDEB_HOST_ARCH).deb
[ -e "$package" ] || die "dpkg-buildpackage left no $package (log: $work.log)"
rm -rf "$work" target/packages/*.buildinfo target/packages/*.changes
step "$package: $(du -m "$package" | cut -f1) MiB, installed $(($(dpkg-deb --field "$package" Installed-Size) / 1024)) MiB"
