#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Installs the Debian package in a bare Debian, uses it, purges it, and looks at what is left.
# usage: scripts/package-check.sh [PACKAGE]     default: the newest in target/packages
# As root. Exit status 77: this machine cannot do that.
set -euo pipefail
cd "$(dirname "$0")/.."
package=$(realpath "${1:-$(ls -t target/packages/*.deb 2>/dev/null | head -n 1)}")
case $package in *+deb12_*) suite=bookworm ;; *+deb13_*) suite=trixie ;; *) echo "package-check: which Debian is $package for?" >&2; exit 2 ;; esac
if command -v lintian >/dev/null; then
  lintian --fail-on error "$package" || { echo "package-check: FAILED: lintian finds errors" >&2; exit 1; }
else
  echo "package-check: SKIPPED lintian, which is not installed" >&2
fi
exec bash scripts/bare-tree.sh --suite $suite --lend "$package" bash -euc '
step() { echo "package-check: $*"; }
die() { echo "package-check: FAILED: $*" >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive
apt-get update -q >/dev/null 2>&1
apt-get install -y -q --no-install-recommends /lent/*.deb >/tmp/log 2>&1 || { tail -n 20 /tmp/log; die "apt install"; }
apt-get install -y -q --no-install-recommends gstreamer1.0-tools >/tmp/log 2>&1
name=gst-plugin-gclip
step "installed: $(dpkg-query -W -f "\${Installed-Size}" $name) KiB"
model=/usr/share/gst-plugin-gclip/models/demo
gst-inspect-1.0 gclip | grep -q gclipsegment || die "gst-inspect-1.0 does not show the plugin"
su nobody -s /bin/sh -c "gclip --version" >/dev/null || die "gclip does not run"
gclip video $model/demo.mp4 --model $model --prompts "@$model/prompts.txt" --out /tmp/out --seconds 1 >/tmp/log 2>&1 ||
  { tail -n 20 /tmp/log; die "gclip video"; }
ls -la /tmp/out
[ "$(find /tmp/out -name "*.mp4" -size +10k | wc -l)" = 1 ] || die "gclip video left no video"
gst-launch-1.0 -q videotestsrc num-buffers=2 ! video/x-raw,width=320,height=240 ! gclipsegment model=$model prompts="car; road" \
  ! gclipmeta2json ! filesink location=/tmp/masks.jsonl || die "a pipeline"
[ "$(wc -l </tmp/masks.jsonl)" = 2 ] || die "a pipeline left no masks"
# Nothing else sees the private libtorch.
! ldconfig -p | grep -q libtorch || die "libtorch is visible to other programs"
for file in /usr/share/man/man1/gclip.1.gz /usr/share/man/man1/gclip-watch.1.gz /usr/share/bash-completion/completions/gclip \
  /usr/share/zsh/vendor-completions/_gclip /usr/share/fish/vendor_completions.d/gclip.fish; do [ -e $file ] || die "$file is missing"; done
getent passwd gclip >/dev/null || die "there is no user gclip"
install -m 600 /usr/share/doc/$name/examples/watch.toml /etc/gclip/yard.toml
gclip watch --check /etc/gclip/yard.toml || die "the example of a config is wrong"
# No systemd runs here, but it reads the unit.
apt-get install -y -q --no-install-recommends systemd >/tmp/log 2>&1 || { tail -n 20 /tmp/log; die "apt install systemd"; }
units=$(dpkg -L $name | grep "/gclip-.*@.service$")
[ "$(echo "$units" | wc -l)" = 2 ] || die "these are not the units: $units"
systemd-analyze verify --man=no $units >/tmp/log 2>&1 || { cat /tmp/log; die "systemd-analyze verify"; }
changes=/etc/systemd/system/gclip-watch@.service.d
install -D -m 644 /usr/share/doc/$name/examples/editable.conf $changes/editable.conf
systemd-analyze verify --man=no gclip-watch@yard.service >/tmp/log 2>&1 || { cat /tmp/log; die "systemd-analyze verify, with editable.conf"; }
rm -r $changes
gclip-use-cuda --show | grep -q torch-cpu || die "gclip-use-cuda --show"
! gclip-use-cuda /nowhere 2>/tmp/log || die "gclip-use-cuda takes what is not there"
grep -q "no folder /nowhere" /tmp/log || die "gclip-use-cuda does not say why"
! gclip-use-cuda /usr 2>/tmp/log || die "gclip-use-cuda takes what is no libtorch"
apt-get install -y -q --no-install-recommends python3 >/tmp/log 2>&1 || { tail -n 20 /tmp/log; die "apt install python3"; }
/usr/share/$name/private-libtorch.py /tmp/private --plugin "$(dpkg -L $name | grep /libgstgclip.so)" || die "private-libtorch.py"
GST_REGISTRY=/tmp/private.bin GST_PLUGIN_PATH=/tmp/private/plugin gst-inspect-1.0 gclip | grep -q /tmp/private/plugin ||
  die "GStreamer does not take the private copy"
step "it runs"
rm /etc/gclip/yard.toml
dpkg -L $name | sort >/tmp/had
apt-get purge -y -q $name >/tmp/log 2>&1 || { tail -n 20 /tmp/log; die "apt purge"; }
left=$(find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path /src -o -path /lent -o -path /run -o -path /root \) -prune -o \
  -iname "*gclip*" -print)
[ -z "$left" ] || die "purge leaves: $left"
! getent passwd gclip >/dev/null || die "purge leaves the user gclip"
step "purge leaves nothing"
'
