#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# What a fleet does when something fails, and what it costs: three workers and six cameras on this machine, real NATS servers.
# usage: benches/fleet.sh [TIMES]     each failure this often (default 10: about 40 minutes); cutting one direction takes root
# Prints a line for each with minimum, median and maximum; fails where something was lost, or two spoke at a time.
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-10} in *[!0-9]*) sed -n '3,5s/^# \{0,1\}//p' "$0" >&2; exit 2 ;; esac
bash scripts/setup.sh --tests
export GCLIP_FLEET_TIMES=${1:-10} OMP_WAIT_POLICY=passive
exec cargo test --release --workspace --test fleet measure -- --ignored --nocapture --test-threads 1
