"""A quick mIoU of the folder's weights on generated scenes that training never saw (the Rust `gclip eval` is the judge).

    python evaluate.py --scenes 200 --short-side 336
    python evaluate.py --scenes 200 --pairs          # "red bus", "blue car" ...: held-out pairs against seen ones
    python evaluate.py --scenes 40 --synonyms        # every synonym in its class's place
    python evaluate.py --absent boat tiger           # the share of the pixels that absent things are given
    python evaluate.py --grid grid.png               # scene, truth, gclip and plain clip, side by side
"""

import argparse
import copy
import json
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from batches import MEAN, STD, Words
from clip import Clip, suppress_channel
from pairs import PAIRED, SEED0, paired_labels
from scenes import CLASSES, COLOUR_NAMES, HELD_OUT, draw, make_world
from scenes.words import NAMES

METHODS = {"clip": "clip", "gclip": "fused", "clearclip": "qq", "naclip": "kk", "value": "value"}
PALETTE = np.array([  # RGB by class id, for pictures of masks
    (120, 190, 240), (150, 112, 92), (40, 120, 50), (146, 204, 84), (84, 84, 104), (226, 178, 196), (255, 255, 255),
    (206, 166, 116), (30, 84, 224), (222, 40, 40), (242, 142, 20), (252, 222, 40), (20, 192, 172), (150, 76, 24),
    (250, 90, 200), (122, 60, 206), (0, 232, 255), (100, 0, 66),
], np.uint8)


def iou(counts):
    """counts [truth, found] -> IoU per class, NaN where a class is neither there nor found"""
    hit = np.diag(counts).astype(float)
    union = counts.sum(0) + counts.sum(1) - hit
    return np.where(union > 0, hit / np.maximum(union, 1), np.nan)


class Judge:
    """Scenes drawn once; `run` scores a model on them."""

    def __init__(self, folder, scenes, seed=SEED0, pairs=False, short_side=336):
        self.templates = json.loads(Path(folder, "templates.json").read_text())
        self.words, self.pairs = Words(folder), pairs
        self.size = (short_side // 16 * 16, round(short_side * 37 / 21) // 16 * 16)
        self.scenes = []
        for i in range(scenes):
            rgb, classes, colours = draw(make_world(seed + i, held_out=pairs), 336, 592)
            self.scenes.append((rgb, paired_labels(classes, colours)[1] if pairs else classes))
        self.names = paired_labels(None, None)[0] if pairs else list(CLASSES)

    def features(self, model, device, names):
        """Each name in all templates, averaged. [classes, joint]"""
        rows = []
        for name in names:
            ids = self.words.ids([t.format(name) for t in self.templates]).to(device)
            rows.append(F.normalize(model.text(ids).mean(0), dim=0))
        return torch.stack(rows)

    @torch.no_grad()
    def run(self, model, device, methods=("gclip",), g=2, names=None, suppress=True):
        """-> {method: counts [truth, found]}"""
        if suppress:
            model = copy.deepcopy(model)
            suppress_channel(model, g)
        texts = self.features(model, device, names or self.names)
        counts = {m: np.zeros((len(texts), len(texts)), np.int64) for m in methods}
        for rgb, truth in self.scenes:
            seen = truth != 255
            for m, found in self.segment(model, device, rgb, texts, methods, g).items():
                both = truth[seen].astype(np.int64) * len(texts) + found[seen]
                counts[m] += np.bincount(both, minlength=len(texts) ** 2).reshape(len(texts), -1)
        return counts

    @torch.no_grad()
    def segment(self, model, device, rgb, texts, methods, g):
        """One picture -> {method: class ids [H, W]}"""
        x = torch.from_numpy(rgb).permute(2, 0, 1)[None].float().to(device) / 255
        x = F.interpolate(x, self.size, mode="bilinear", antialias=True) if self.size != rgb.shape[:2] else x
        x = (x - MEAN[:, None, None].to(device)) / STD[:, None, None].to(device)
        forms = [METHODS[m] for m in methods if m != "clip"]
        _, dense = model.image(x, g=g, forms=forms, with_last="clip" in methods)
        found = {}
        for m in methods:
            logits = (dense[METHODS[m]][0] @ texts.T).T.reshape(1, -1, x.shape[2] // 16, x.shape[3] // 16)
            found[m] = F.interpolate(logits, rgb.shape[:2], mode="bilinear")[0].argmax(0).cpu().numpy()
        return found

    def summary(self, model, device):
        """One line of mIoU and pixel accuracy."""
        with torch.autocast(device, torch.bfloat16):
            counts = self.run(model, device, ("gclip", "clearclip", "naclip", "clip"))
        return ", ".join(
            f"{m} {100 * np.nanmean(iou(c)):.1f} mIoU {100 * np.diag(c).sum() / c.sum():.1f} %" for m, c in counts.items()
        )


def load(folder):
    from safetensors.torch import load_file

    model = Clip()
    model.load_state_dict({k: v.float() for k, v in load_file(Path(folder, "model.safetensors")).items()})
    return model.eval()


def synonyms(judge, model, device, g):
    """How far each synonym, put in place of its class's own name, moves that class's IoU."""
    plain = iou(judge.run(model, device, g=g)["gclip"])
    for i, name in enumerate(CLASSES):
        for other in NAMES[name][0][1:]:
            names = list(CLASSES)
            names[i] = other
            found = iou(judge.run(model, device, g=g, names=names)["gclip"])[i]
            print(f"{name:14} {100 * plain[i]:5.1f}   {other:22} {100 * found:5.1f}", flush=True)


@torch.no_grad()
def grid(judge, model, device, g, path):
    """Rows of scene, truth, gclip and plain clip."""
    texts, rows = judge.features(model, device, judge.names), []
    for rgb, truth in judge.scenes:
        found = judge.segment(model, device, rgb, texts, ("gclip", "clip"), g)
        rows.append(np.concatenate([rgb] + [PALETTE[m] for m in (truth, found["gclip"], found["clip"])], 1))
    picture = np.concatenate(rows)[..., ::-1]
    cv2.imwrite(path, cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(Path(__file__).parent))
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--short-side", type=int, default=336)
    parser.add_argument("--g", type=int, default=2, help="first of the two fused blocks (counted from 0)")
    parser.add_argument("--pairs", action="store_true")
    parser.add_argument("--synonyms", action="store_true")
    parser.add_argument("--absent", nargs="+", help="prompts to add, for things that no scene shows")
    parser.add_argument("--grid", help="write a picture of six scenes here and stop")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    judge = Judge(Path(__file__).parent, 6 if args.grid else args.scenes, pairs=args.pairs, short_side=args.short_side)
    model = load(args.model).to(device)
    if args.grid:
        grid(judge, model, device, args.g, args.grid)
        return
    if args.synonyms:
        synonyms(judge, model, device, args.g)
        return
    if args.absent:
        counts = judge.run(model, device, g=args.g, names=CLASSES + args.absent)["gclip"]
        for name, share in zip(args.absent, counts.sum(0)[len(CLASSES) :] / counts.sum()):
            print(f"{name}: {100 * share:.2f} % of the pixels")
        return
    methods = ("gclip",) if args.pairs else tuple(METHODS)
    for method, counts in judge.run(model, device, methods, args.g).items():
        score = iou(counts)
        accuracy = np.diag(counts).sum() / counts.sum()
        print(f"{method}: {100 * np.nanmean(score):.1f} mIoU, {100 * accuracy:.1f} % of the pixels")
        if args.pairs:
            held = [f"{colour} {cls}" for cls, colour in HELD_OUT if cls in PAIRED]
            for title, wanted in (("held-out pairs", True), ("seen pairs", False)):
                ids = [i for i, n in enumerate(judge.names) if " ".join(n.split()[1:]) in PAIRED and (n in held) == wanted]
                print(f"  {title}: {100 * np.nanmean(score[ids]):.1f} mIoU over {len(ids)}")
        elif method == "gclip":
            print("  " + ", ".join(f"{n} {100 * s:.0f}" for n, s in zip(judge.names, score)))


if __name__ == "__main__":
    main()
