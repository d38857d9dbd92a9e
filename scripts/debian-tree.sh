#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Runs a command in this checkout inside a tree of another Debian release, so against that release's GStreamer.
# usage: scripts/debian-tree.sh SUITE COMMAND [ARGUMENT...]
#   SUITE     trixie (Debian 13, GStreamer 1.26) or forky (the release after it, GStreamer 1.28)
# The tree is made with mmdebstrap at the first run. It and what cargo builds in it stay in $GCLIP_HOME/debian-SUITE
# (default: ~/.local/share/gst-plugin-gclip/debian-SUITE); remove that folder to start afresh. The command sees this
# checkout, the Rust toolchain, cargo's downloads and libtorch at the paths they have here, and a target folder of its own.
# Needs root, for mounts and chroot. Exit status 77: this machine cannot do that.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { echo "debian-tree: $*" >&2; exit 1; }
cannot() { echo "debian-tree: $*" >&2; exit 77; }
step() { echo "debian-tree: $*"; }

[ $# -ge 2 ] || { sed -n '4,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
suite=$1
shift
case $suite in trixie | forky) ;; *) die "unknown suite $suite (trixie or forky)" ;; esac

[ "$(id -u)" = 0 ] || cannot "a Debian tree needs root, for mounts and chroot: run this as root"
command -v apt-get >/dev/null || cannot "a Debian tree is made with mmdebstrap, which needs apt here"
namespace=(unshare --mount)
# In a chroot the root is no mount point, whose propagation could be set.
"${namespace[@]}" true 2>/dev/null || namespace+=(--propagation unchanged)
"${namespace[@]}" true 2>/dev/null ||
  cannot "this machine does not allow mount namespaces (unshare --mount), which a Debian tree needs"

# What is lent ---------------------------------------------------------------------------------------------------
checkout=$PWD
toolchain=$(rustc --print sysroot) || die "rustc is missing: install Rust first (https://rustup.rs)"
[ "$toolchain" != /usr ] || cannot "Rust lies in /usr, which a tree has of its own: install Rust with rustup"
downloads=${CARGO_HOME:-$HOME/.cargo}
configured=$(sed -n 's/^LIBTORCH = .*value = "\([^"]*\)".*/\1/p' .cargo/config.toml 2>/dev/null || true)
libtorch=${LIBTORCH:-$configured}
[ -e "$libtorch/lib/libtorch_cpu.so" ] || die "no libtorch: run scripts/setup.sh first"
lent=("$checkout" "$toolchain" "$libtorch" "$downloads/registry")
# The wheel's libraries link those of the wheels beside it.
[ ! -d "${libtorch%/*}/nvidia" ] || lent+=("${libtorch%/*}/nvidia")
# Their licences, which a package carries.
for folder in "${libtorch%/*}"/{torch-,nvidia_cuda_}*.dist-info; do [ ! -d "$folder" ] || lent+=("$folder"); done
# Crates are fetched out here, where certificates and proxies are set up; inside, cargo is offline.
cargo fetch --locked --quiet

home=${GCLIP_HOME:-${XDG_DATA_HOME:-$HOME/.local/share}/gst-plugin-gclip}/debian-$suite
tree=$home/root
log=$home/log
mkdir -p "$home/target"
exec {lock}>"$home/lock"
flock --nonblock "$lock" || { step "waiting for another run in $home"; flock "$lock"; }

# The tree -------------------------------------------------------------------------------------------------------
if [ ! -d "$tree" ]; then
  if ! command -v mmdebstrap >/dev/null; then
    step "installing mmdebstrap"
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
      mmdebstrap debian-archive-keyring; } >"$log" 2>&1 || { tail -n 15 "$log" >&2; die "apt-get could not install mmdebstrap"; }
  fi
  step "making a tree of Debian $suite in $tree"
  # Filled beside its place and renamed, so that an interrupted run leaves nothing that looks complete.
  rm -rf --one-file-system "$tree.partial"
  # The index of a testing suite that comes from a cache may be older than its date allows.
  mmdebstrap --variant=apt --aptopt='Acquire::Check-Valid-Until "false"' "$suite" "$tree.partial" >"$log" 2>&1 ||
    { tail -n 15 "$log" >&2; die "mmdebstrap could not make the tree (log: $log)"; }
  # What is installed later needs neither manuals nor to survive a loss of power.
  printf '%s\n' force-unsafe-io path-exclude=/usr/share/{doc,man,info,locale,help}/'*' >"$tree.partial/etc/dpkg/dpkg.cfg.d/tree"
  mv "$tree.partial" "$tree"
fi
for file in /etc/resolv.conf /etc/hosts /etc/pip.conf "$downloads/config.toml"; do
  [ ! -e "$file" ] || { mkdir -p "$tree${file%/*}" && cp -L "$file" "$tree$file"; }
done

# The command ----------------------------------------------------------------------------------------------------
settings=(HOME=/root LANG=C.UTF-8 "PATH=$toolchain/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
  "CARGO_HOME=$downloads" CARGO_NET_OFFLINE=true "CARGO_TARGET_DIR=$home/target" "LIBTORCH=$libtorch")
passed='^(https?_proxy|ftp_proxy|no_proxy|all_proxy|pip_[a-z_]+|cargo_build_jobs|rust_backtrace|update_[a-z]+)='
while IFS= read -r setting; do settings+=("$setting"); done < <(env | grep -iE "$passed" || true)
# pip trusts whom it trusts out here; the tree's own list of certificates is the distribution's.
certificates=${PIP_CERT:-${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}}
if [ -e "$certificates" ]; then
  cp -L "$certificates" "$tree/etc/certificates-for-pip.crt"
  settings+=(PIP_CERT=/etc/certificates-for-pip.crt)
fi

# The mounts live in a namespace of this command alone and end with it.
exec "${namespace[@]}" bash -euc '
  tree=$1 checkout=$2 lent=$3
  shift 3
  mount --bind "$tree" "$tree"
  mount --make-private "$tree"
  while IFS= read -r folder; do
    mkdir -p "$tree$folder"
    mount --bind "$folder" "$tree$folder"
  done <<<"$lent"
  mount -t proc proc "$tree/proc"
  mount --rbind /dev "$tree/dev"
  exec chroot "$tree" /usr/bin/env -i --chdir="$checkout" "$@"
' sh "$tree" "$checkout" "$(printf '%s\n' "${lent[@]}" "$home/target")" \
  "${settings[@]}" "$@"
