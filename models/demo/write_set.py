"""Writes a held-out set of scenes that training never saw: pictures, label images and class names.

    python write_set.py --out SET --scenes 200
    python write_set.py --out SET --scenes 200 --held-out-pairs

SET/images/*.png (592 x 336), SET/labels/*.png (8 bit, one id a pixel, 255 = not judged), SET/classes.txt (line n = id n).
With --held-out-pairs, held-out colours are as frequent as others, and the coloured classes are split by colour
("red bus", "blue bus" ...); SET/held_out.txt lists the pairs that training never showed together.
"""

import argparse
from pathlib import Path

import cv2

from evaluate import PAIRED, SEED0, paired_labels
from pool import HEIGHT, WIDTH
from scenes import CLASSES, HELD_OUT, draw, make_world


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=SEED0, help="seed of the first scene")
    parser.add_argument("--held-out-pairs", action="store_true")
    args = parser.parse_args()
    out = Path(args.out)
    for name in ("images", "labels"):
        (out / name).mkdir(parents=True, exist_ok=True)
    names = list(CLASSES)
    for i in range(args.scenes):
        rgb, classes, colours = draw(make_world(args.seed + i, args.held_out_pairs), HEIGHT, WIDTH)
        if args.held_out_pairs:
            names, classes = paired_labels(classes, colours)
        cv2.imwrite(str(out / "images" / f"{i:05d}.png"), rgb[..., ::-1])
        cv2.imwrite(str(out / "labels" / f"{i:05d}.png"), classes)
    (out / "classes.txt").write_text("\n".join(names) + "\n")
    if args.held_out_pairs:
        held = sorted(f"{colour} {cls}" for cls, colour in HELD_OUT if cls in PAIRED)
        (out / "held_out.txt").write_text("\n".join(held) + "\n")
    print(f"{args.scenes} scenes, {len(names)} classes in {out}")


if __name__ == "__main__":
    main()
