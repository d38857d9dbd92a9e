"""Writes a held-out set of scenes that training never saw: pictures, label images and class names.

    python write_set.py --out SET --scenes 200
    python write_set.py --out SET --scenes 200 --held-out-pairs
    python write_set.py --out SET --scenes 100 --stalls
    python write_set.py --out SET --scenes 10 --examples "market stall" --stalls --seed 7000000
    python write_set.py --out SET --scenes 90 --damage bus

SET/images/*.png (592 x 336), SET/labels/*.png (8 bit, one id a pixel, 255 = not judged), SET/classes.txt (line n = id n).
With --held-out-pairs, held-out colours are as frequent as others, and the coloured classes are split by colour
("red bus", "blue bus" ...); SET/held_out.txt lists the pairs that training never showed together.
With --stalls, every scene has a market stall or two, which no word of the model names.
With --examples CLASS, only scenes that show enough of the class; SET/exemplars.txt is what `gclip --exemplars` takes.
With --damage CLASS, scenes that show the class, a third of each kind of damage and as many without: the labels are 1 where
it is damaged, in folders good, scratched, broken and missing.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from pairs import PAIRED, SEED0, paired_labels
from pool import HEIGHT, WIDTH
from scenes import CLASSES, HELD_OUT, draw, make_world
from scenes.strange import damage, draw_stalls

STALL = "market stall"
KINDS = ("good", "scratched", "broken", "missing")
ENOUGH = 0.02  # of a picture, to be an example or to be damaged


def scene(seed, args):
    """-> rgb, class ids, colour ids"""
    world = make_world(seed, args.held_out_pairs)
    rng = np.random.default_rng([seed, 99])
    extra = (lambda canvas, camera: draw_stalls(rng, canvas, camera, world, (len(CLASSES), 0))) if args.stalls else None
    return draw(world, HEIGHT, WIDTH, extra=extra)


def write(folder, name, rgb, labels):
    for kind in ("images", "labels"):
        (folder / kind / name).parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / "images" / f"{name}.png"), rgb[..., ::-1])
    cv2.imwrite(str(folder / "labels" / f"{name}.png"), labels)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=SEED0, help="seed of the first scene")
    parser.add_argument("--held-out-pairs", action="store_true")
    parser.add_argument("--stalls", action="store_true")
    parser.add_argument("--examples", metavar="CLASS")
    parser.add_argument("--damage", metavar="CLASS")
    args = parser.parse_args()
    out = Path(args.out)
    names = list(CLASSES) + [STALL] * args.stalls
    wanted = args.examples or args.damage
    written, examples = 0, []
    for seed in range(args.seed, args.seed + 100 * args.scenes):
        if written == args.scenes:
            break
        rgb, classes, colours = scene(seed, args)
        if wanted and (classes == names.index(wanted)).mean() < ENOUGH:
            continue
        name = f"{written:05d}"
        if args.damage:
            kind = KINDS[written % len(KINDS)]
            rng = np.random.default_rng([seed, 55])
            where = np.zeros(classes.shape, bool)
            if kind != "good":
                where = damage(rng, rgb, classes, names.index(wanted), kind)
                if not where.any():
                    continue
            write(out, f"{kind}/{name}", rgb, where.astype(np.uint8))
        else:
            if args.held_out_pairs:
                names, classes = paired_labels(classes, colours)
            write(out, name, rgb, classes)
        if args.examples:
            (out / "masks").mkdir(exist_ok=True)
            mask = out / "masks" / f"{name}.png"
            cv2.imwrite(str(mask), np.where(classes == names.index(wanted), 255, 0).astype(np.uint8))
            examples.append(f"{out / 'images' / name}.png@{mask}")
        written += 1
    if args.examples:
        (out / "exemplars.txt").write_text(f"{wanted}=" + ",".join(examples) + "\n")
    (out / "classes.txt").write_text("\n".join(["normal", wanted] if args.damage else names) + "\n")
    if args.held_out_pairs:
        held = sorted(f"{colour} {cls}" for cls, colour in HELD_OUT if cls in PAIRED)
        (out / "held_out.txt").write_text("\n".join(held) + "\n")
    print(f"{written} scenes, {len(names)} classes in {out}")


if __name__ == "__main__":
    main()
