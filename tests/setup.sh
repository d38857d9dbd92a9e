#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# What scripts/setup.sh does where it cannot do its work: one sentence that says what to do, and nothing half installed.
# Run by tests/run.sh, after a set-up that succeeded.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0 checks=0

# refuses NAME SENTENCE COMMAND...: it fails, its last line holds the sentence, and $work/home holds nothing.
refuses() {
  local name=$1 sentence=$2 status=0
  shift 2
  mkdir -p -m 777 "$work/home"
  timeout 300 "$@" >"$work/output" 2>&1 </dev/null || status=$?
  checks=$((checks + 1))
  if [ $status = 0 ] || ! tail -n 1 "$work/output" | grep -qF -- "$sentence"; then
    echo "setup.sh, $name: status $status, and not the sentence \"$sentence\" but:" >&2
    tail -n 5 "$work/output" >&2
    failures=$((failures + 1))
  fi
  left=$(find "$work/home" -mindepth 1 -not -name .lock -not -name .log)
  if [ -n "$left" ]; then
    echo "setup.sh, $name: leaves" $left >&2
    failures=$((failures + 1))
  fi
  rm -rf "$work/home"
}
setup=(env -u LIBTORCH GCLIP_HOME="$work/home" bash scripts/setup.sh --cpu)

# Programs of other versions, before those of this machine.
program() { # program FOLDER NAME COMMAND: makes one
  mkdir -p "$work/$1"
  printf '#!/bin/sh\n%s\n' "$3" >"$work/$1/$2"
  chmod +x "$work/$1/$2"
}
program old cargo 'echo "cargo 1.75.0 (1d8b05cdd 2023-11-20)"'
refuses "an old Rust" "this Rust is 1.75.0, and $(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml) or newer is needed" \
  env PATH="$work/old:$PATH" "${setup[@]}"

mkdir -p "$work/other/lib" "$work/other/include/torch/csrc/api/include/torch"
refuses "a folder without libtorch" "holds no lib/libtorch_cpu.so" env LIBTORCH="$work/other" bash scripts/setup.sh
touch "$work/other/lib/libtorch_cpu.so"
printf '#define TORCH_VERSION_%s\n' 'MAJOR 2' 'MINOR 4' 'PATCH 1' >"$work/other/include/torch/csrc/api/include/torch/version.h"
refuses "another libtorch" "is libtorch 2.4.1, and" env LIBTORCH="$work/other" bash scripts/setup.sh

# An index whose one wheel ends in the middle.
cat >"$work/index.py" <<'INDEX'
import http.server, sys
WHEEL = "torch-2.11.0-py3-none-any.whl"
class Index(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        page = f'<a href="/{WHEEL}">{WHEEL}</a>'.encode()
        wheel = self.path.endswith(".whl")
        if wheel: open(sys.argv[1], "w").close()
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream" if wheel else "text/html")
        self.send_header("Content-Length", str(1000000 if wheel else len(page)))
        self.end_headers()
        self.wfile.write(b"PK" * 1000 if wheel else page)
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Index)
print(server.server_port, flush=True)
server.serve_forever()
INDEX
mkfifo "$work/port"
python3 "$work/index.py" "$work/asked" >"$work/port" &
index=$!
trap 'kill $index 2>/dev/null || true; rm -rf "$work"' EXIT
read -r port <"$work/port"
refuses "a broken download" "pip could not install" env PIP_CONFIG_FILE=/dev/null PIP_INDEX_URL="http://127.0.0.1:$port/simple/" \
  PIP_RETRIES=0 PIP_RESUME_RETRIES=0 no_proxy=127.0.0.1 "${setup[@]}"
kill $index
trap 'rm -rf "$work"' EXIT
[ -e "$work/asked" ] || { echo "setup.sh, a broken download: nothing was downloaded" >&2; failures=$((failures + 1)); }

if [ "$(id -u)" = 0 ]; then
  # Real ones: a network of its own, which leads nowhere; a small disk; a user who is not root.
  if unshare --net true 2>/dev/null; then
    refuses "no network" "is there a network" unshare --net env PIP_RETRIES=0 "${setup[@]}"
  fi
  if unshare --mount true 2>/dev/null; then
    refuses "a full disk" "libtorch 2.11.0 needs" unshare --mount bash -c '
      mount -t tmpfs -o size=64m tmpfs "$1" && shift && exec "$@"' sh "$work/home" "${setup[@]}"
  fi
  program bare dpkg-query 'exit 1'
  program bare cargo 'echo "cargo 99.0.0"'
  chmod 755 "$work"
  user=(setpriv --reuid=65534 --regid=65534 --clear-groups)
  if "${user[@]}" test -r scripts/setup.sh 2>/dev/null; then
    refuses "no root" "need root: as root, apt-get install" "${user[@]}" env HOME=/nonexistent PATH="$work/bare:$PATH" \
      "${setup[@]}"
  fi
fi

# A second run waits, and says so.
mkdir -p "$work/home"
exec {lock}>"$work/home/.lock"
flock "$lock"
timeout 5 "${setup[@]}" >"$work/output" 2>&1 </dev/null {lock}>&- || true
checks=$((checks + 1))
grep -q "another run is setting up in $work/home: waiting for it" "$work/output" ||
  { echo "setup.sh, a second run: says nothing of the first" >&2; cat "$work/output" >&2; failures=$((failures + 1)); }
exec {lock}>&-

# What runs meanwhile runs once, and its failure is the set-up's.
checks=$((checks + 1))
status=0
bash scripts/setup.sh --meanwhile bash -c 'echo ran; exit 7' >"$work/output" 2>&1 </dev/null || status=$?
[ $status = 7 ] && [ "$(grep -c '^ran$' "$work/output")" = 1 ] ||
  { echo "setup.sh --meanwhile: status $status" >&2; cat "$work/output" >&2; failures=$((failures + 1)); }

echo "setup.sh: $((checks - failures)) of $checks answers are as they should be"
[ $failures = 0 ]
