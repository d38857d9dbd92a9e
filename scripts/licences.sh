#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Writes the crates that the plugin and the program are made of, with their licences.
# usage: scripts/licences.sh [--list] FILE
#   --list   name, version, licence and place of each; without it also the texts, by cargo-about, as a release needs them
#            (cargo install --locked cargo-about --features cli)
set -euo pipefail
list=no
[ "${1:-}" != --list ] || { list=yes && shift; }
[ $# = 1 ] || { sed -n '4,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
file=$(realpath -m "$1")
cd "$(dirname "$0")/.."
# Beside its place and renamed: an interrupted run leaves no half list.
if [ $list = yes ]; then
  cargo tree --locked -p gclip -e normal --prefix none --format '{p}  {l}  {r}' | sed 's/ (\*)$//; s/ ([^)]*)//' | sort -u >"$file.partial"
else
  cargo about --version >/dev/null 2>&1 ||
    { echo "licences: cargo-about is missing: cargo install --locked cargo-about --features cli" >&2; exit 1; }
  cargo about generate --config packaging/about.toml --manifest-path gclip/Cargo.toml --offline --fail \
    --output-file "$file.partial" packaging/licences.hbs
fi
mv "$file.partial" "$file"
