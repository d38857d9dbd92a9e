#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# The tests of what has threads and neither GStreamer nor torch in it, the batcher and the registry, under ThreadSanitizer.
# A stable toolchain has its runtime, but no instrumented standard library: what std does without generics (channels,
# the end of a thread) and the fence in Arc's last drop look like races, and are left out of the report.
# usage: scripts/thread-sanitizer.sh [ARGUMENTS OF THE TEST PROGRAM]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
crate=$root/target/thread-sanitizer
mkdir -p "$crate/src"
for part in batch registry registry.rs; do ln -sfn "$root/src/$part" "$crate/src/$part"; done
cp "$root/Cargo.lock" "$crate/"
cat >"$crate/Cargo.toml" <<'END'
[package]
name = "threads"
version = "0.0.0"
edition = "2024"
[dependencies]
anyhow = "1"
parking_lot = "0.12"
[workspace]
END
cat >"$crate/src/lib.rs" <<'END'
#![allow(unused_imports)]
pub mod batch;
pub mod registry;
END
cat >"$crate/known" <<'END'
race:std::sync::mpmc
race:drop_slow
race:alloc::sync::Weak
race:alloc::sync::Arc<std::
END
export RUSTC_BOOTSTRAP=1 RUSTFLAGS='-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer'
export TSAN_OPTIONS="suppressions=$crate/known"
# With a target of its own, build scripts are not instrumented.
cd "$crate" && exec cargo test --lib --target "$(rustc --print host-tuple)" -- "$@"
