# SPDX-License-Identifier: MIT OR Apache-2.0
"""Medians over the rounds of run.sh, as a table and as a JSON file.

usage: table.py RESULTS.jsonl OUTPUT.json ROUNDS FRAMES SIZE BATCH THREADS
"""

import json
import platform
import re
import statistics
import sys
from pathlib import Path


def main(results, output, rounds, frames, size, batch, threads) -> None:
    runs = {}
    for line in Path(results).read_text().splitlines():
        run = json.loads(line)
        runs.setdefault(run["what"], []).append(run)
    median = lambda what, key: round(statistics.median(run[key] for run in runs[what]), 1)
    table = [
        dict(what=what, ms_per_frame=median(what, "ms_per_frame"), cpu_ms_per_frame=median(what, "cpu_ms_per_frame"))
        for what in runs
    ]
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    first = table[0]["cpu_ms_per_frame"]
    print(f"{'':32} ms/frame  CPU ms/frame  against the first, by CPU time")
    for row in table:
        row["times_as_fast"] = round(first / row["cpu_ms_per_frame"], 2)
        print(f"{row['what']:32} {row['ms_per_frame']:8} {row['cpu_ms_per_frame']:13}  x{row['times_as_fast']}")
    machine = dict(cpu=cpu.group(1) if cpu else platform.processor(), threads=int(threads))
    setting = dict(rounds=int(rounds), frames=int(frames), short_side=int(size), batch=int(batch))
    Path(output).write_text(json.dumps(dict(machine=machine, **setting, results=table, runs=runs), indent=1) + "\n")
    print(f"written: {output}")


if __name__ == "__main__":
    if len(sys.argv) != 8:
        sys.exit(__doc__)
    main(*sys.argv[1:])
