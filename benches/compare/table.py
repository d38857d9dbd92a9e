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
    print(f"{'':48} ms/frame  CPU ms/frame  against eager PyTorch in f32, by CPU time")
    for row in table:
        if "eager PyTorch, f32" in row["what"]:  # the first of each kind of run
            eager = row["cpu_ms_per_frame"]
        row["times_as_fast"] = round(eager / row["cpu_ms_per_frame"], 2)
        agrees = {key: runs[row["what"]][0][key] for key in ("cosine", "same_class") if key in runs[row["what"]][0]}
        row.update(agrees)
        said = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in agrees.items())
        print(f"{row['what']:48} {row['ms_per_frame']:8} {row['cpu_ms_per_frame']:13}  x{row['times_as_fast']}  {said}")
        encoded = [run["texts_encoded"] for run in runs[row["what"]] if "texts_encoded" in run]
        if encoded:
            row["texts_encoded"] = encoded
            print(f"    texts encoded, start by start: {' '.join(str(texts) for pair in encoded for texts in pair)}")
    machine = dict(cpu=cpu.group(1) if cpu else platform.processor(), threads=int(threads))
    setting = dict(rounds=int(rounds), frames=int(frames), short_side=int(size), batch=int(batch))
    Path(output).write_text(json.dumps(dict(machine=machine, **setting, results=table, runs=runs), indent=1) + "\n")
    print(f"written: {output}")


if __name__ == "__main__":
    if len(sys.argv) != 8:
        sys.exit(__doc__)
    main(*sys.argv[1:])
