# SPDX-License-Identifier: MIT OR Apache-2.0
"""Joins what benches/gpu.rs and torch_gpu.py measured into one file, and prints it as tables with the targets.

usage: gpu_report.py OURS.json PYTORCH.json FOLDER      -> FOLDER/<date>-<gpu>.json
"""

import datetime
import json
import re
import sys
from pathlib import Path

H200_TARGETS = "targets are for an H200 with B/16 in f16"


def read(path: str) -> dict:
    try:
        return json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        return {"error": str(error)}


def number(value, digits: int = 1) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def table(title: str, head: list, rows: list) -> None:
    print(f"\n{title}")
    cells = [head] + [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        print("  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths)))


def part(numbers: dict, name: str):
    """A part that failed says so and counts as empty."""
    found = numbers.get(name) or {}
    if isinstance(found, dict) and "error" in found:
        print(f"\n{name} FAILED: {found['error']}")
        return {}
    return found


def main(ours_file: str, torch_file: str, folder: str) -> None:
    ours, torch = read(ours_file), read(torch_file)
    stamp = datetime.datetime.now(datetime.timezone.utc)
    # The kernel does not tell the name of every card; PyTorch asks the card.
    device = torch["device"] if torch.get("device", "cpu") != "cpu" else ours.get("device", "unknown")
    name = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
    print(f"{device}, {stamp:%Y-%m-%d %H:%M} UTC, {ours.get('gstreamer')}, torch {torch.get('torch')}")

    if "error" in ours:
        print(f"gclip FAILED: {ours['error']}")
    card = part(ours, "card")
    rates = card.get("matrix_tflops", {})
    forward = part(ours, "forward")
    rate = rates.get(forward.get("precision"))
    print("matrix rate, TFLOP/s: " + ", ".join(f"{kind} {number(value)}" for kind, value in rates.items()))
    print(f"copy on the device {number(card.get('copy_gb_per_s'))} GB/s, to it {number(card.get('upload_gb_per_s'))} GB/s")

    correctness = part(ours, "correctness") or []
    for failed in (c for c in correctness if "error" in c):
        print(f"\n{failed['weights']} FAILED: {failed['error']}")
    correctness = [c for c in correctness if "error" not in c]
    share = lambda value: "-" if value is None else f"{100 * value:.2f} %"
    table("against f32 on the CPU, of one tensor", ["weights", "precision", "largest logit difference", "range", "classes agree",
                                                    "largest pixel difference", "classes agree from frame to mask"], [
        [c["weights"], c["precision"], number(c["largest_logit_difference"], 5), number(c["logit_range"], 3),
         share(c["class_agreement"]), number(c.get("largest_pixel_difference"), 5), share(c.get("whole_agreement"))]
        for c in correctness])

    points = forward.get("points", []) + part(ours, "other_sizes").get("points", [])
    table("forward and infer", ["size", "batch", "forward/s", "ms", "issued in", "TFLOP/s", "of the matrix rate", "infer/s"], [
        ["x".join(map(str, p["size"])), p["batch"]] + (
            [number(p["forward_per_s"]), number(p["forward_ms"], 2), number(p.get("issue_ms"), 2), number(p["tflops"]),
             "-" if not rate else f"{100 * p['tflops'] / rate:.1f} %", number(p.get("infer_per_s"))]
            if "error" not in p else [p["error"], "", "", "", "", ""])
        for p in points])

    attention = ours.get("attention") or []
    if isinstance(attention, list) and attention:
        table("attention: the first batch of a size, and the next", ["cuDNN's", "batch", "first ms", "next ms"], [
            [way["cudnn"], p["batch"], number(p["first_ms"]), number(p["ms"], 2)] for way in attention for p in way["batches"]])
    decoder = part(ours, "decoder")
    if decoder:
        print(f"\nhardware decoder: {number(decoder['frames_per_s'])} frames/s, {decoder['frames']} frames, of which on the device "
              f"{decoder['device_frames']}, copied there {decoder['device_copies']}, through the host {decoder['host_copies']}")

    table("the same model in PyTorch", ["way", "batch", "masks/s"], [
        [p["way"], p["batch"], number(p["masks_per_s"]) if "masks_per_s" in p else p["error"]]
        for p in torch.get("points", [])])
    if "error" in torch:
        print(f"  no numbers: {torch['error']}")

    streams = part(ours, "streams")
    alone = [dict(streams["alone"], kind="one frame at a time")] if "alone" in streams else []
    runs = streams.get("throughput", []) + alone + [dict(run, kind="live") for run in streams.get("live", [])]
    for run in (run for run in runs if "error" in run):
        print(f"\n{run['streams']} streams, {run['memory']} memory, FAILED: {run['error']}")
    table("pipelines", ["streams", "memory", "fed", "offered/s", "frames/s", "batch", "p50 ms", "p99 ms", "host copies",
                        "device frames", "device copies"], [
        [r["streams"], r["memory"], r.get("kind", "at full speed"), number(r.get("offered_per_s")), number(r["frames_per_s"]),
         number(r.get("mean_batch_fill")), number(r["latency_ms"]["p50"]), number(r["latency_ms"]["p99"]),
         r["host_copies"], r["device_frames"], r["device_copies"]] for r in runs if "error" not in r])
    for note in streams.get("notes", []):
        print(f"  {note}")
    print(f"memory: host peak {streams.get('host_peak_mib')} MiB, device {streams.get('device_used_mib')} MiB")

    targets = check(ours, torch, correctness, points, streams, rate)
    print(f"\n{H200_TARGETS}")
    for text, reached in targets:
        print(f"  {'met   ' if reached else 'MISSED' if reached is False else 'not measured'}  {text}")
    result = dict(date=f"{stamp:%Y-%m-%dT%H:%MZ}", ours=ours, pytorch=torch,
                  targets=[dict(target=text, met=reached) for text, reached in targets])
    Path(folder).mkdir(parents=True, exist_ok=True)
    out = Path(folder, f"{stamp:%Y-%m-%d}-{name}.json")
    out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"\nwritten: {out}")


def check(ours, torch, correctness, points, streams, rate) -> list:
    """(target, met), met None where it was not measured."""
    at = lambda batch: next((p for p in points if p.get("size") == [336, 592] and p["batch"] == batch and "tflops" in p), None)
    way = lambda name, batch: next((p["masks_per_s"] for p in torch.get("points", [])
                                    if p["way"] == name and p["batch"] == batch and "masks_per_s" in p), None)
    compared = lambda a, b: None if a is None or b is None else a >= b
    big, one = at(32), at(1)
    infer = big and big.get("infer_per_s")
    eager, compiled = way("eager", 32), way("torch.compile", 32)
    full = [run for run in streams.get("throughput", []) if "error" not in run]
    best = max((run["frames_per_s"] for run in full), default=None)
    live = [run for run in streams.get("live", []) if run["streams"] == 256 and "error" not in run]
    trained = [c for c in correctness if c["weights"] == "trained weights"] or correctness
    decoder = ours.get("decoder") or {}
    in_cuda = [run for run in full if run["memory"] == "cuda"]
    return [
        ("classes agree with f32 on at least 99.5 % of the pixels",
         all(c["class_agreement"] >= 0.995 for c in trained) if trained else None),
        ("forward at 336x592, batch 32, at 50 % of the card's matrix rate", compared(big and big["tflops"], rate and rate / 2)),
        ("frames to masks 1.5 times as fast as eager PyTorch, batch 32", compared(infer, eager and 1.5 * eager)),
        ("frames to masks no slower than torch.compile, batch 32", compared(infer, compiled)),
        ("pipeline at 90 % of infer (frames to masks without a pipeline), batch 32", compared(best, infer and 0.9 * infer)),
        ("256 live streams, 8 refreshes a second each: all served, p99 under 150 ms",
         any(run["latency_ms"]["p99"] and run["latency_ms"]["p99"] < 150 and run["frames_per_s"] >= 0.98 * run["offered_per_s"]
             for run in live) if live else None),
        ("forward of one picture under 8 ms", compared(8.0, one and one["forward_ms"])),
        ("no host copy of a frame in CUDA memory",
         all(run["host_copies"] == 0 and run["device_copies"] == 0 and run["device_frames"] > 0 for run in in_cuda)
         if in_cuda else None),
        ("the hardware decoder's frames stay on the device",
         decoder["device_frames"] == decoder["frames"] > 0 and decoder["device_copies"] == decoder["host_copies"] == 0
         if decoder.get("frames") is not None else None),
    ]


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
