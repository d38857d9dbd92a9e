# SPDX-License-Identifier: MIT OR Apache-2.0
"""The same work as capture.py in a pipeline with gclipsegment. Prints one JSON object.

Loading does not count: of both times, those of a run that stops after its first frames are taken off.

usage: element.py MODEL VIDEO --size 336 --batch 4 [--precision auto|f32|bf16|int8]
"""

import argparse
import json
import re
import resource
import subprocess
import time

PROMPTS = "ball; person; car; road; tree; sky; building; grass"


def run(args, frames: str) -> tuple[float, float, int]:
    """Seconds, seconds of CPU time, frames."""
    pipeline = (
        f"filesrc location={args.video} ! decodebin ! {frames} gclipsegment name=model model={args.model}"
        f" precision={args.precision} prompt-template=none input-size={args.size} batch-size={args.batch}"
        f" max-in-flight={3 * args.batch} batch-timeout=1000000000 ! fakesink silent=false sync=false"
    )
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = ["gst-launch-1.0", "-v"]
    for word in pipeline.split():
        command.append(word)
        if word == "name=model":
            command.append(f"prompts={PROMPTS}")  # one argument, with its spaces
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    seen = len(re.findall(r"last-message = chain ", done.stdout))
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("video")
    parser.add_argument("--size", type=int, default=336)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--precision", default="auto")
    args = parser.parse_args()
    wall_of_few, cpu_of_few, few = run(args, "identity eos-after=1 !")
    wall, cpu, frames = run(args, "")
    print(json.dumps(dict(
        what=f"gclipsegment, {args.precision}", frames=frames,
        ms_per_frame=round(1000 * (wall - wall_of_few) / (frames - few), 1),
        cpu_ms_per_frame=round(1000 * (cpu - cpu_of_few) / (frames - few), 1),
    )))


if __name__ == "__main__":
    main()
