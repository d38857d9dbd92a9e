#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""What does gclip watch do for 1, 2, 4, 8, 16 cameras of 720p at 10 frames a second, with the demo model?

    benches/fleet.py [--cameras 1,2,4,8,16] [--seconds 60] [--gclip target/release/gclip] [--set 'inference-interval = 2']

Cameras are the server of the tests (testing/src/rtsp/server.c), which sends the demo video from memory. Printed for each number, over the
seconds after the first 10: masks a second of all cameras; age of the mask on each frame, and on the first frame that has it, in seconds of the
stream; frames a second and dropped ones; cores by decoders, by the model and by all; resident memory. Cores are CPU time, so that other
work on the machine moves them little; rates and ages it does move: the load of the machine is printed beside them.
"""
import argparse, collections, json, os, pathlib, re, signal, statistics, subprocess, sys, tempfile, time, urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
SETTLE = 10
TICKS = os.sysconf("SC_CLK_TCK")


def server(folder):
    """Compiles and starts it; returns the process and its port."""
    packages = ["gstreamer-rtsp-server-1.0", "gstreamer-rtsp-1.0", "gstreamer-app-1.0", "gio-2.0"]
    flags = subprocess.check_output(["pkg-config", "--cflags", "--libs", *packages], text=True).split()
    program = folder / "rtsp-server"
    subprocess.check_call(["cc", "-O1", ROOT / "testing/src/rtsp/server.c", *flags, "-o", program])
    process = subprocess.Popen([program, "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    port = process.stdout.readline().split()[1]
    process.stdin.write(f"serve demo 1280 720 10 {ROOT}/models/demo/demo.mp4\n")
    process.stdin.flush()
    answer = process.stdout.readline().strip()
    assert answer == "ok", answer
    return process, port


def cpu(pid):
    """CPU seconds by kind of thread, those that are alive; and of the whole process."""
    kinds = collections.Counter()
    for stat in pathlib.Path(f"/proc/{pid}/task").glob("*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        name, fields = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
        kinds[kind(name)] += (int(fields[11]) + int(fields[12])) / TICKS
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return kinds, (int(fields[11]) + int(fields[12])) / TICKS


def kind(name):
    # The model's workers have the name of the thread that made them.
    if name.startswith(("gclip", "pool-gclip")):
        return "model"
    # Packets are put together and decoded on the thread on which they leave the jitter buffer; libav's own are called after it.
    if re.match(r"rtpjitterbuffer|multiqueue|av:", name):
        return "decoder"
    return "rest"


def resident(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def metrics(port):
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30).read().decode()
    total = lambda name: sum(float(value) for value in re.findall(rf"^{name}\{{[^}}]*\}} (\S+)", text, re.M))
    return {name: total(f"gclip_camera_{name}_total") for name in ("masks", "frames", "dropped", "source_frames")}


def quantile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


def ages(path, begin, end):
    """Of the mask on each frame between two times, and on the first that has it; seconds."""
    every, first, seen = [], [], set()
    for line in path.open():
        try:
            line = json.loads(line)
        except ValueError:
            continue
        if line["type"] != "frame" or not begin <= line["time"] < end:
            continue
        every.append(line["age"] / 1e9)
        mask = (line["camera"], (line["pts"] - line["age"]) // 1_000_000)
        if mask not in seen:
            seen.add(mask)
            first.append(line["age"] / 1e9)
    return every, first


def run(folder, count, port, options):
    path, config, metrics_port = folder / "lines.jsonl", folder / "fleet.toml", 19464
    path.unlink(missing_ok=True)
    config.write_text(
        f'model = "{ROOT}/models/demo"\nmetrics = "127.0.0.1:{metrics_port}"\n[segment]\n{options.set}\n[defaults]\n'
        f'prompts = "@{ROOT}/models/demo/prompts.txt"\n[output.file]\ntype = "file"\npath = "{path}"\nwhat = "all"\n'
        + "".join(f'[[camera]]\nname = "c{i}"\nurl = "rtsp://127.0.0.1:{port}/demo"\n' for i in range(count))
    )
    process = subprocess.Popen([options.gclip, "watch", config], stdout=subprocess.DEVNULL, stderr=(folder / "log").open("w"))
    try:
        time.sleep(SETTLE)
        clock = lambda: time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
        begin, before, (kinds, all_before) = clock(), metrics(metrics_port), cpu(process.pid)
        started, memory = time.monotonic(), []
        while time.monotonic() - started < options.seconds:
            time.sleep(1)
            memory.append(resident(process.pid))
        length = time.monotonic() - started
        end, after, (kinds_after, all_after) = clock(), metrics(metrics_port), cpu(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
    assert code == 0, (folder / "log").read_text()
    rate = {name: (after[name] - before[name]) / length for name in after}
    cores = {name: (kinds_after[name] - kinds[name]) / length for name in kinds_after}
    every, first = ages(path, begin, end)
    print(
        f"| {count} | {rate['masks']:.2f} | {statistics.median(every):.2f} / {quantile(every, 0.95):.2f} "
        f"| {statistics.median(first):.2f} / {quantile(first, 0.95):.2f} | {rate['frames']:.1f} of {rate['source_frames']:.1f} "
        f"| {rate['dropped']:.1f} | {cores.get('decoder', 0):.3f} | {cores.get('model', 0):.2f} | {(all_after - all_before) / length:.2f} "
        f"| {statistics.median(memory):.0f} | {os.getloadavg()[0]:.1f} |",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cameras", default="1,2,4,8,16")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--gclip", default=ROOT / "target/release/gclip")
    parser.add_argument("--set", default="", help="lines of [segment]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        cameras, port = server(folder)
        try:
            print("| cameras | masks/s | mask age, median / p95 | when first used | frames/s | dropped/s | cores: decoders | model | all | MiB | load |")
            print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
            for count in options.cameras.split(","):
                run(folder, int(count), port, options)
        finally:
            cameras.stdin.close()
            cameras.wait(20)


if __name__ == "__main__":
    sys.exit(main())
