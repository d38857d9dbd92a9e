#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Measures what a new user waits for: from a fresh clone on a bare Debian with Rust to the demo's pictures, by part.
# usage: scripts/first-minutes.sh [--tests]     --tests: then also to passing tests
# As root, on a quiet machine; 3 GB, removed at the end. Prints a table; the whole output goes to target/first-minutes.log.
set -euo pipefail
cd "$(dirname "$0")/.."
tests=no
case ${1:-} in '') ;; --tests) tests=yes ;; *) sed -n '3,5s/^# \{0,1\}//p' "$0" >&2; exit 2 ;; esac
mkdir -p target
log=$PWD/target/first-minutes.log
tree=$(mktemp -d)
trap 'rm -rf --one-file-system "$tree"' EXIT
command='bash pipelines/demo.sh && echo "part: end" && times'
[ $tests = no ] || command="$command"' && echo "part: tests" && bash tests/run.sh && echo "part: end of tests"'
# Every line with the seconds since the start.
KEEP=$tree bash scripts/bare-tree.sh true
SECONDS=0
status=0
KEEP=$tree bash scripts/bare-tree.sh --rust bash -c "$command" 2>&1 |
  while IFS= read -r line; do printf '%4d %s\n' "$SECONDS" "$line"; done >"$log" || status=$?
at() { awk -v text="$1" 'index($0, text) { print $1; exit }' "$log"; }
part() { # part NAME FROM TO
  [ -z "$2" ] || [ -z "$3" ] || printf '| %s | %d s |\n' "$1" $(($3 - $2))
}
echo "| part | time |"
echo "| --- | --- |"
part "clone, and what building needs: Debian packages and libtorch side by side" 0 "$(at 'setup: ready to build')"
part "fetching crates" "$(at 'demo: 2 of 3')" "$(at '   Compiling ')"
part "building the program" "$(at '   Compiling ')" "$(at 'demo: 3 of 3')"
part "the demo itself" "$(at 'demo: 3 of 3')" "$(at 'part: end')"
part "together, to the first picture" 0 "$(at 'part: end')"
part "tests after that" "$(at 'part: tests')" "$(at 'part: end of tests')"
echo "crates compiled: $(sed '/part: tests/,$d' "$log" | grep -c '   Compiling ')"
echo "CPU time (user, system): $(sed -n '/part: end$/,/part: tests/p' "$log" | sed -n 3p | cut -c6-)"
[ $status = 0 ] || { tail -n 5 "$log" >&2; echo "first-minutes: it failed (log: $log)" >&2; exit 1; }
