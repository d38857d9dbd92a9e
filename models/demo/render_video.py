"""Renders the demo video: one street, laid out by hand, with traffic, walkers and a slow camera move.

    python render_video.py --out demo.mp4                 # needs ffmpeg with libx264
    python render_video.py --labels DIR                   # the class ids of every frame, as 8-bit PNG files
    python render_video.py --fixed --noise 1.5 --out fixed.mp4 --labels DIR   # a camera on a mast, with a sensor's noise
    python render_video.py --fixed --quiet --out quiet.mp4                    # ... over a street with a car and walkers alone
"""

import argparse
import subprocess
from pathlib import Path

import cv2
import numpy as np

from scenes import World, draw
from scenes.layouts import MARKING, band, stripes_across
from scenes.things import make_thing
from scenes.words import COLOURS

HEIGHT, WIDTH, FPS, SECONDS = 480, 854, 25, 10
SEED = 9_000_001
NEAR, FAR, WALK, LAWN = 6.2, 13.4, 16.4, 19.6  # where road, far pavement, grass and houses begin (metres away)


def street(quiet=False):
    """The world of the video. Positive speeds drive right; +x is right. `quiet`: of what moves, only a car and walkers far off."""
    rng = np.random.default_rng(SEED)
    world = World("clear", {"clouds": rng.random((8, 3)), "hue": 0.6}, dict(h=3.1, focal=0.86, horizon=0.4, x=0.0), seed=7)
    world.bands = [
        ("grass", band(2.0, 120.0)), ("sidewalk", band(0.5, NEAR)), ("road", band(NEAR, FAR)), ("sidewalk", band(FAR, WALK)),
    ]
    kerb = (214, 208, 198)
    world.lines = [(band(NEAR - 0.18, NEAR), kerb), (band(FAR, FAR + 0.18), kerb)]
    middle = 0.5 * (NEAR + FAR)
    world.lines += [
        (band(middle - 0.08, middle + 0.08, x, x + 2.0), MARKING) for x in np.arange(-40, 40, 4.0) if not -3 < x + 1 < 4
    ]
    stripes_across(world, 0.6, NEAR, FAR, 3.6)

    def put(kind, x, z, colour=None, speed=0.0, flip=False, **look):
        thing = make_thing(rng, kind, x, z, world, **look)
        if colour:
            paint = COLOURS[colour]
            thing.look["paint"] = tuple(0.85 * c + 0.15 * 190 for c in paint) if kind == "building" else paint
            thing.colour = colour
        thing.speed, thing.flip = speed, flip
        world.things.append(thing)
        return thing

    houses = [("red", 9.6, 9), ("white", 12.8, 8), ("yellow", 7.2, 9), ("grey", 15.8, 9), ("orange", 10.0, 8),
              ("blue", 12.8, 9), ("brown", 7.2, 9), ("white", 10.0, 8)]
    x = -33.0
    for k, (colour, height, width) in enumerate(houses):
        look = dict(height=height, width=width, pitched=k % 3 == 2, columns=3, bricks=k % 2 == 0, shop=k % 2 == 1)
        put("building", x + width / 2, LAWN + 0.8, colour, **look)
        x += width + (1.6 if k % 2 else 0.0)
    trees = ((-11.5, 7.0, 0, "green"), (-3.6, 6.2, 2, "green"), (4.6, 7.4, 0, "green"), (13.5, 6.6, 0, "orange"))
    for x, size, shape, colour in trees:
        tree = put("tree", x, WALK + 1.4, size=size, shape=shape)
        tree.colour = colour
        tree.look["paint"] = (70, 136, 56) if colour == "green" else (222, 128, 40)
    for k in range(4):
        put("fence", 7.2 + 4.0 * k, LAWN - 0.4, "white", width=4.0)
    for x in (-8.2, 8.6):
        put("lamp", x, FAR + 0.6, shape=1)
    put("traffic light", -2.2, FAR + 0.5, shape=0)
    put("sign", 4.1, FAR + 0.5, "blue", shape=3)
    put("sign", -6.4, NEAR - 0.7, "red", shape=2)
    put("bench", -5.2, WALK - 0.4, "brown")
    put("bench", 7.0, WALK - 0.4, "green")
    far_lane, near_lane = NEAR + 0.76 * (FAR - NEAR), NEAR + 0.27 * (FAR - NEAR)
    put("bus", 11.0, far_lane, "red", -2.6, True, shape=1)
    put("car", 22.0, far_lane, "white", -2.6, True, shape=0)
    put("car", -8.0, near_lane, "yellow", 1.9, shape=1)
    put("truck", -21.5, near_lane, "blue", 2.3, shape=0)
    put("car", -2.2, far_lane, "black", -3.2, True, shape=2)
    walkers = ((-6.5, "purple", 0.9, 0), (-1.0, "white", -1.0, 2), (5.2, "red", -0.8, 1), (9.5, "blue", 1.0, 0))
    for x, colour, speed, shape in walkers:
        put("person", x, FAR + 1.6, colour, speed, speed < 0, shape=shape, hair=abs(int(x)) % 5)
    put("person", 4.6, NEAR - 1.0, "green", -0.75, True, shape=1, skin=1, hair=0)
    put("dog", 3.1, NEAR - 1.05, "brown", -0.75, True, size=1.15)
    bike = put("bicycle", 6.8, NEAR + 0.5, "green", -1.5, True)
    bike.look["rider"] = {"colour": "pink", "paint": COLOURS["pink"], "skin": 0}
    if quiet:
        world.things = [t for t in world.things if not t.speed or t.z == FAR + 1.6 or t.colour == "white"]
    world.things.sort(key=lambda t: -t.z)
    return world


def frame(world, index, scale=2, fixed=False, noise=0.0):
    """Frame `index` -> (rgb, class ids), drawn `scale` times as large and reduced; `noise` in grey levels."""
    time = index / FPS
    pan = 0.0 if fixed else 1.5 * np.sin(2 * np.pi * time / (2 * SECONDS) - np.pi / 2)  # from left to right, gently
    rgb, classes, _ = draw(world, HEIGHT * scale, WIDTH * scale, time, pan)
    rgb = cv2.resize(rgb, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    if noise:
        grain = np.random.default_rng(index).normal(0.0, noise, rgb.shape)
        rgb = np.clip(np.rint(rgb + grain), 0, 255).astype(np.uint8)
    return rgb, classes[::scale, ::scale]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", help="the video to write")
    parser.add_argument("--labels", help="folder for the class ids of every frame")
    parser.add_argument("--fixed", action="store_true", help="the camera does not move")
    parser.add_argument("--quiet", action="store_true", help="little traffic")
    parser.add_argument("--noise", type=float, default=0.0, help="of the camera's sensor, in grey levels")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="length of the video (of 10)")
    parser.add_argument("--still", type=int, help="write only this frame, as PNG, to --out")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    world = street(args.quiet)
    if args.still is not None:
        cv2.imwrite(args.out, frame(world, args.still, fixed=args.fixed, noise=args.noise)[0][..., ::-1])
        return
    encoder = None
    if args.out:
        command = ["ffmpeg", "-loglevel", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}",
                   "-r", str(FPS), "-i", "-", "-threads", "1", "-c:v", "libx264", "-profile:v", "main", "-preset", "slow",
                   "-crf", "25", "-pix_fmt", "yuv420p", "-g", "50", "-colorspace", "bt709", "-color_primaries", "bt709",
                   "-color_trc", "bt709", "-vf", "scale=out_color_matrix=bt709", "-movflags", "+faststart",
                   "-f", "mp4", str(args.out) + ".part"]
        encoder = subprocess.Popen(command, stdin=subprocess.PIPE)
    if args.labels:
        Path(args.labels).mkdir(parents=True, exist_ok=True)
    frames = round(FPS * args.seconds)
    for index in range(frames):
        rgb, classes = frame(world, index, fixed=args.fixed, noise=args.noise)
        if encoder:
            encoder.stdin.write(rgb.tobytes())
        if args.labels:
            cv2.imwrite(str(Path(args.labels, f"{index:04d}.png")), classes)
        if (index + 1) % FPS == 0:
            print(f"{index + 1}/{frames} frames", flush=True)
    if encoder:
        encoder.stdin.close()
        if encoder.wait():
            raise SystemExit("ffmpeg failed")
        Path(str(args.out) + ".part").rename(args.out)


if __name__ == "__main__":
    main()
