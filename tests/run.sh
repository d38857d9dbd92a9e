#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Sets up and runs every check: formatting, lints, all tests.   usage: tests/run.sh
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh --tests
export G_DEBUG=fatal_warnings
export OMP_WAIT_POLICY=passive # torch's threads must not spin on cores that other tests need
# A registry of our own: the tests must see neither a stale plugin cache nor another installed gclip.
# The same for text embeddings: none from earlier runs, and none left in the user's cache.
own=$(mktemp -d)
trap 'rm -rf "$own"' EXIT
export GST_REGISTRY=$own/registry.bin XDG_CACHE_HOME=$own/cache
cargo fmt --check
cargo clippy --all-targets -- -D warnings
cargo test
