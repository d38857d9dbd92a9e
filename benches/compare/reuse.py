# SPDX-License-Identifier: MIT OR Apache-2.0
"""Rows of the table of reuse.sh: a video without and with token reuse.

usage: reuse.py head
       reuse.py eval VIDEO --model MODEL --threshold T [--labels FOLDER] [--limit FRAMES]
       reuse.py streams VIDEO --model MODEL --threshold T --streams N
"""

import argparse
import json
import resource
import subprocess
import tempfile
import time
from pathlib import Path

PROGRAM, PROMPTS = "target/release/gclip", "models/demo/prompts.txt"


def evaluate(args) -> str:
    """Agreement by `gclip eval --against whole`, which counts pixels beside the model; times by pipelines without that."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        command = [PROGRAM, "eval", "--video", args.video, "--against", "whole", "--set", f"token-reuse={args.threshold}",
                   "--model", args.model, "--prompts-file", PROMPTS, "--json", out.name]
        command += ["--labels", args.labels] if args.labels else []
        command += ["--limit", str(args.limit)] if args.limit else []
        subprocess.run(command, check=True, capture_output=True)
        run = json.loads(Path(out.name).read_text())
    whole = run["against_whole"]
    iou = "" if run.get("mean_iou") is None else f"{100 * run['mean_iou']:.2f} of {100 * whole['mean_iou']:.2f}"
    frames = run["frames"]
    wholly, reusing = times(args, 1, frames)
    return (f"{100 * whole['agreement']:.2f} % (worst frame {100 * whole['worst_agreement']:.2f})", iou,
            f"{1000 * wholly[1] / frames:.1f} / {1000 * reusing[1] / frames:.1f} ms", f"x{wholly[1] / reusing[1]:.2f}")


def times(args, streams: int, frames: int) -> list[tuple[float, float]]:
    """Seconds and CPU seconds of all streams without and with reuse, loading and the first two frames taken off (the first of a stream is always computed whole)."""
    end = f"identity eos-after={frames} !" if args.limit else ""
    pairs = [(play(args, streams, threshold, "identity eos-after=2 !"), play(args, streams, threshold, end)) for threshold in (0.0, args.threshold)]
    return [(wall - few_wall, cpu - few_cpu) for (few_wall, few_cpu), (wall, cpu) in pairs]


def play(args, streams: int, threshold: float, frames: str) -> tuple[float, float]:
    """Seconds and CPU seconds until all streams have ended."""
    command = ["gst-launch-1.0", "-q"]
    for _ in range(streams):
        command += ["filesrc", f"location={args.video}", "!", "qtdemux", "!", "h264parse", "!", "avdec_h264", "max-threads=1", "!"]
        command += frames.split() + ["queue", "max-size-buffers=2", "!", "gclipsegment", f"model={args.model}", "model-instance-id=one",
                                     f"prompts-file={PROMPTS}", "batch-size=8", f"token-reuse={threshold}", "!", "fakesink"]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def share(args) -> tuple:
    """Many streams of one video on one model."""
    (wall, cpu), (reuse_wall, reuse_cpu) = times(args, args.streams, args.limit or 0)
    return "", "", f"{cpu:.1f} / {reuse_cpu:.1f} s", f"x{cpu / reuse_cpu:.2f} (by the clock x{wall / reuse_wall:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["head", "eval", "streams"])
    parser.add_argument("video", nargs="?")
    parser.add_argument("--model")
    parser.add_argument("--threshold", type=float)
    parser.add_argument("--labels")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--streams", type=int)
    args = parser.parse_args()
    if args.what == "head":
        print("| video | model | threshold | agreement | mIoU | CPU time a frame with decoding, whole / reuse | |\n| --- | --- | --- | --- | --- | --- | --- |")
        return
    place = Path(args.video)
    name = place.parent.name if place.name == "video.mp4" else place.stem
    if args.what == "streams":
        name = f"{args.streams} streams of {name}"
    columns = evaluate(args) if args.what == "eval" else share(args)
    print(f"| {name} | {Path(args.model).name} | {args.threshold} | " + " | ".join(columns) + " |", flush=True)


if __name__ == "__main__":
    main()
