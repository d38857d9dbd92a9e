#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Writes the licences of all crates that the plugin and the program are made of, with their texts.
# usage: scripts/licences.sh FILE
# Needs cargo-about: `cargo install --locked cargo-about --features cli` (some minutes).
set -euo pipefail
[ $# = 1 ] || { sed -n '4,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
cargo about --version >/dev/null 2>&1 ||
  { echo "licences: cargo-about is missing: cargo install --locked cargo-about --features cli" >&2; exit 1; }
file=$(realpath -m "$1")
cd "$(dirname "$0")/.."
# Beside its place and renamed: an interrupted run leaves no half list.
cargo about generate --config packaging/about.toml --manifest-path gclip/Cargo.toml --offline --fail \
  --output-file "$file.partial" packaging/licences.hbs
mv "$file.partial" "$file"
