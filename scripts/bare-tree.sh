#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Runs a command in a Debian with nothing in it but apt and a clone of what is committed here: what a new user has.
# usage: scripts/bare-tree.sh [--suite bookworm|trixie] [--rust] [--lend FILE]... COMMAND [ARGUMENT...]
#   --rust   lends the Rust toolchain and cargo's downloads    --lend   puts a file into /lent
# KEEP=/folder   where the tree is made, and stays; default: a temporary folder, removed at the end
# Needs root and mmdebstrap. Exit status 77: this machine cannot do that.
set -euo pipefail
cd "$(dirname "$0")/.."
suite=bookworm rust=no files=()
while [ $# -gt 0 ]; do
  case $1 in
    --suite) suite=$2 && shift 2 ;;
    --rust) rust=yes && shift ;;
    --lend) files+=("$2") && shift 2 ;;
    -h | --help) sed -n '3,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) break ;;
  esac
done
[ $# -gt 0 ] || { sed -n '4,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
cannot() { echo "bare-tree: $*" >&2; exit 77; }
[ "$(id -u)" = 0 ] || cannot "a Debian tree needs root, for mounts and chroot"
namespace=(unshare --mount)
"${namespace[@]}" true 2>/dev/null || namespace+=(--propagation unchanged)
"${namespace[@]}" true 2>/dev/null || cannot "this machine does not allow mount namespaces"
command -v mmdebstrap >/dev/null || apt-get install -y -q mmdebstrap >/dev/null 2>&1 || cannot "mmdebstrap is missing"

if [ -n "${KEEP:-}" ]; then
  tree=$KEEP
else
  tree=$(mktemp -d)
  trap 'rm -rf --one-file-system "$tree"' EXIT
fi
if [ ! -d "$tree/etc" ]; then
  mmdebstrap --quiet --variant=apt --include=ca-certificates --aptopt='Acquire::Check-Valid-Until "false"' "$suite" "$tree" \
    2>"$tree.log" || { tail -n 5 "$tree.log" >&2; cannot "mmdebstrap could not make a tree of Debian $suite"; }
  rm -f "$tree.log"
fi
rm -rf "$tree/src" "$tree/lent"
mkdir -p "$tree/src" "$tree/lent"
git clone --quiet . "$tree/src/gst-plugin-gclip"
for file in "${files[@]}"; do cp -L "$file" "$tree/lent/"; done
for file in /etc/resolv.conf /etc/hosts /etc/pip.conf; do [ ! -e "$file" ] || cp -L "$file" "$tree$file"; done
# Whom this machine trusts, the tree trusts.
cp -r /etc/ssl/certs/. "$tree/etc/ssl/certs/" 2>/dev/null || true
[ ! -d /usr/local/share/ca-certificates ] || cp -r /usr/local/share/ca-certificates "$tree/usr/local/share/"

settings=(HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
passed='^(https?_proxy|ftp_proxy|no_proxy|all_proxy|pip_[a-z_]+|cargo_[a-z_]+|ssl_[a-z_]+|requests_[a-z_]+)='
while IFS= read -r setting; do settings+=("$setting"); done < <(env | grep -iE "$passed" || true)
lent=
if [ $rust = yes ]; then
  toolchain=$(rustc --print sysroot)
  downloads=${CARGO_HOME:-$HOME/.cargo}
  lent="$toolchain $downloads"
  # What cargo finds beside its downloads first are rustup's stand-ins for `cargo fmt` and others: they ask rustup which they are.
  if command -v rustup >/dev/null; then
    rustup=${RUSTUP_HOME:-$HOME/.rustup}
    case $toolchain in "$rustup"/*) lent="$rustup $downloads" ;; *) lent="$lent $rustup" ;; esac
    settings+=("RUSTUP_HOME=$rustup" "RUSTUP_TOOLCHAIN=${toolchain##*/}")
  fi
  settings+=("PATH=$toolchain/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" "CARGO_HOME=$downloads")
fi
"${namespace[@]}" bash -euc '
  tree=$1 lent=$2
  shift 2
  mount --bind "$tree" "$tree"
  mount --make-private "$tree"
  for folder in $lent; do
    mkdir -p "$tree$folder"
    mount --bind "$folder" "$tree$folder"
  done
  mount -t proc proc "$tree/proc"
  mount --rbind /dev "$tree/dev"
  mount -t tmpfs tmpfs "$tree/dev/shm" 2>/dev/null || true
  exec chroot "$tree" /usr/bin/env -i --chdir=/src/gst-plugin-gclip "$@"
' sh "$tree" "$lent" "${settings[@]}" "$@"
