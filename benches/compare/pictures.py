# SPDX-License-Identifier: MIT OR Apache-2.0
"""The same work as capture.py with batches of one, by `gclip segment` on a folder of pictures. Prints one JSON object.

Loading does not count: of both times, those of a run on one picture alone are taken off. `texts_encoded` is how many names
the text tower encoded at the first start and at the second: none once the features are on disk.

usage: pictures.py GCLIP MODEL FOLDER --size 336 [--precision auto|f32|bf16]
"""

import argparse
import json
import os
import re
import resource
import subprocess
import tempfile
import time
from pathlib import Path

PROMPTS = "ball; person; car; road; tree; sky; building; grass"


def run(args, pictures: list[Path], cache: str) -> tuple[float, float, int]:
    """Seconds, seconds of CPU time, texts encoded."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [args.gclip, "segment", *map(str, pictures), "--model", args.model, "--prompts", PROMPTS]
    command += ["--template", "none", "--size", str(args.size), "--precision", args.precision]
    environment = os.environ | dict(XDG_CACHE_HOME=cache)
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    encoded = int(re.search(r"\((\d+) prompt names encoded", done.stdout).group(1))
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, encoded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gclip")
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=336)
    parser.add_argument("--precision", default="auto")
    args = parser.parse_args()
    pictures = sorted(args.folder.glob("*.png"))
    with tempfile.TemporaryDirectory() as cache:  # empty at first
        _, _, first = run(args, pictures[:1], cache)
        wall_of_one, cpu_of_one, second = run(args, pictures[:1], cache)
        wall, cpu, _ = run(args, pictures, cache)
    print(json.dumps(dict(
        what=f"one by one: gclip segment, {args.precision}", frames=len(pictures), texts_encoded=[first, second],
        ms_per_frame=round(1000 * (wall - wall_of_one) / (len(pictures) - 1), 1),
        cpu_ms_per_frame=round(1000 * (cpu - cpu_of_one) / (len(pictures) - 1), 1),
    )))


if __name__ == "__main__":
    main()
