"""Draws the training scenes once, into flat files that training maps into memory.

    python pool.py --out POOL --scenes 6000

Pictures are 592 x 336 (37 x 21 patches of 16). Labels are kept at every fourth pixel: class and colour ids.
Scene i of the pool is `make_world(SEED0 + i)`, so any part of a pool can be drawn again.
"""

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np

from scenes import draw, make_world

HEIGHT, WIDTH, STEP = 336, 592, 4
SEED0 = 1_000_000  # training scenes; held-out sets use other ranges


def open_pool(folder, count=None):
    """-> (pictures [N, H, W, 3] u8, marks [N, H/4, W/4, 2] u8); creates the files when `count` is given."""
    folder = Path(folder)
    mode = "r+" if count else "r"
    if count:
        folder.mkdir(parents=True, exist_ok=True)
        for name, size in (("rgb.u8", HEIGHT * WIDTH * 3), ("marks.u8", (HEIGHT // STEP) * (WIDTH // STEP) * 2)):
            with open(folder / name, "ab") as file:
                file.truncate(count * size)
    else:
        count = json.loads((folder / "pool.json").read_text())["scenes"]
    rgb = np.memmap(folder / "rgb.u8", np.uint8, mode, shape=(count, HEIGHT, WIDTH, 3))
    marks = np.memmap(folder / "marks.u8", np.uint8, mode, shape=(count, HEIGHT // STEP, WIDTH // STEP, 2))
    return rgb, marks


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--scenes", type=int, default=6000)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    rgb, marks = open_pool(args.out, args.scenes)
    weather, start = [], time.time()
    for i in range(args.scenes):
        world = make_world(SEED0 + i)
        picture, classes, colours = draw(world, HEIGHT, WIDTH)
        rgb[i] = picture
        marks[i, ..., 0] = classes[STEP // 2 :: STEP, STEP // 2 :: STEP]
        marks[i, ..., 1] = colours[STEP // 2 :: STEP, STEP // 2 :: STEP]
        weather.append(world.weather)
        if (i + 1) % 500 == 0:
            print(f"{i + 1}/{args.scenes} scenes, {(time.time() - start) / (i + 1) * 1e3:.0f} ms each", flush=True)
    rgb.flush()
    marks.flush()
    Path(args.out, "pool.json").write_text(json.dumps({"scenes": args.scenes, "weather": weather}))


if __name__ == "__main__":
    main()
