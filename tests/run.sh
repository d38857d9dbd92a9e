#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Sets up and runs the checks.
# usage: tests/run.sh                 every check: formatting, lints, all tests
#        tests/run.sh --gstreamer     only what depends on the version of GStreamer: metadata, elements, other languages
#        tests/run.sh --debian-13     the latter in a tree of Debian 13, GStreamer 1.26 (as root; see scripts/debian-tree.sh)
#        tests/run.sh --debian-next   the same in a tree of Debian's next release, GStreamer 1.28
#        tests/run.sh --random-camera [SECONDS]   gclip watch beside a camera that changes everything it says at random (3600)
#        tests/run.sh --fleet [TIMES]   what a fleet does when workers, servers and networks fail, each so often (10); 5,000 histories
#        tests/run.sh --soak [SECONDS]   eight streams through random faults, under the leaks tracer (3600); GCLIP_SOAK_SEED repeats
set -euo pipefail
cd "$(dirname "$0")/.."

checks=all
case ${1:-} in
  '') ;;
  --gstreamer) checks=gstreamer ;;
  --debian-13 | --debian-next)
    [ "$1" = --debian-13 ] && suite=trixie || suite=forky
    bash scripts/setup.sh # libtorch, which the tree borrows
    exec bash scripts/debian-tree.sh "$suite" bash tests/run.sh --gstreamer
    ;;
  --random-camera)
    bash scripts/setup.sh --tests
    # GStreamer warns of what a camera says (an unknown transport, for one): that is no fault of the program's. Its assertions are.
    export G_DEBUG=fatal_criticals OMP_WAIT_POLICY=passive GCLIP_RANDOM_CAMERA=${2:-3600}
    exec cargo test --workspace --test watch random -- --ignored --nocapture
    ;;
  --fleet)
    bash scripts/setup.sh --tests
    export G_DEBUG=fatal_warnings OMP_WAIT_POLICY=passive GCLIP_FLEET_TIMES=${2:-10} GCLIP_SCHEDULES=5000
    cargo test --workspace --bin gclip fleet::
    exec cargo test --workspace --test fleet -- --include-ignored --nocapture --test-threads 1
    ;;
  --soak)
    bash scripts/setup.sh --tests
    export G_DEBUG=fatal_warnings OMP_WAIT_POLICY=passive GCLIP_SOAK=${2:-3600}
    exec cargo test --workspace --test soak_streams -- --ignored --nocapture
    ;;
  -h | --help) sed -n '3,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
  *) echo "run.sh: unknown option $1 (see tests/run.sh --help)" >&2; exit 2 ;;
esac

bash scripts/setup.sh --tests
features=$(bash scripts/features.sh)
export G_DEBUG=fatal_warnings
export OMP_WAIT_POLICY=passive # torch's threads must not spin on cores that other tests need
# A registry of our own: the tests must see neither a stale plugin cache nor another installed gclip.
# The same for text embeddings: none from earlier runs, and none left in the user's cache.
own=$(mktemp -d)
trap 'rm -rf "$own"' EXIT
export GST_REGISTRY=$own/registry.bin XDG_CACHE_HOME=$own/cache

if [ $checks = all ]; then
  cargo fmt --all --check
  cargo clippy --workspace --all-targets $features -- -D warnings
  bash tests/setup.sh
  cargo test --workspace $features
  # tests/crates.rs holds licences and sources to the same rules; this knows more, where it is installed.
  if cargo deny --version >/dev/null 2>&1; then
    cargo deny --offline --log-level error check licenses bans sources
  else
    echo "run.sh: SKIPPED cargo deny, which is not installed (cargo install --locked cargo-deny)" >&2
  fi
else
  echo "checks of what depends on GStreamer, with $(pkg-config --modversion gstreamer-1.0) ${features:-(no analytics library)}"
  # What only such a build compiles has not been linted yet.
  cargo clippy $features --lib --test analytics --test segment_settings -- -D warnings
  cargo test $features --lib -- --skip batch:: --skip registry::
  cargo test $features --test analytics --test consumers --test interface --test mask --test 'meta*' --test 'overlay*' \
    --test 'segment_*'
fi
