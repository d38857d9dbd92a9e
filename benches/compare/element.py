# SPDX-License-Identifier: MIT OR Apache-2.0
"""The same work as capture.py in a pipeline with gclipsegment. Prints one JSON object.

The time is that between PLAYING and the end of the stream as gst-launch-1.0 prints it: the model is loaded before. The CPU
time is that of the process less that of one that stops after its first frame: loading is in both.

usage: element.py MODEL VIDEO --size 336 --batch 4 [--precision auto|f32|bf16]
"""

import argparse
import json
import re
import resource
import subprocess

PROMPTS = "ball; person; car; road; tree; sky; building; grass"


def run(args, frames: str) -> tuple[float, float, int]:
    """Seconds of playing, seconds of CPU time, frames."""
    pipeline = (
        f"filesrc location={args.video} ! decodebin ! {frames} gclipsegment name=model model={args.model}"
        f" precision={args.precision} prompt-template=none input-size={args.size} batch-size={args.batch}"
        f" max-in-flight={3 * args.batch} batch-timeout=1000000000 ! fakesink silent=false sync=false"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = ["gst-launch-1.0", "-v"]
    for word in pipeline.split():
        command.append(word)
        if word == "name=model":
            command.append(f"prompts={PROMPTS}")  # one argument, with its spaces
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    hours, minutes, seconds = re.search(r"Execution ended after (\d+):(\d+):([\d.]+)", done.stdout).groups()
    seen = len(re.findall(r"last-message = chain ", done.stdout))
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds), cpu, seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("video")
    parser.add_argument("--size", type=int, default=336)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--precision", default="auto")
    args = parser.parse_args()
    _, cpu_of_few, few = run(args, "identity eos-after=1 !")
    wall, cpu, frames = run(args, "")
    print(json.dumps(dict(
        what=f"gclipsegment, {args.precision}", frames=frames,
        ms_per_frame=round(1000 * wall / frames, 1), cpu_ms_per_frame=round(1000 * (cpu - cpu_of_few) / (frames - few), 1),
    )))


if __name__ == "__main__":
    main()
