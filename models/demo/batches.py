"""Training batches from a scene pool: every batch depends on (seed, step) alone, so that training can resume.

A step shows about `TOKENS` patches in one of four ways: small windows, square windows, whole pictures at two sizes.
"""

import json
from pathlib import Path

import cv2
import numpy as np
import torch

from pool import STEP, WIDTH, open_pool
from scenes import CLASSES, caption, present_in
from scenes.words import COLOUR_NAMES, COLOUR_WORDS, COLOURS_OF, HELD_OUT, NAMES, phrase, templated

TOKENS = 3900
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])
# name: (patch size in scene pixels, window rows and cols, whole grid or None for a picture of its own)
WAYS = {
    "7x7 fine": (16, 7, 7, (21, 37)), "7x7": (24, 7, 7, (14, 24)),
    "14x14 fine": (16, 14, 14, (21, 37)), "14x14": (24, 14, 14, None),
    "14x24": (24, 14, 24, None), "21x37": (16, 21, 37, None),
}
EARLY = np.array([0.26, 0.2, 0.22, 0.14, 0.1, 0.08])
LATE = np.array([0.06, 0.04, 0.2, 0.1, 0.1, 0.5])
PAIRS = 16 * len(CLASSES)


class Words:
    """Texts to token ids, with a cache of single texts."""

    def __init__(self, folder):
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.cache = {}
        grammar = [name for group in NAMES.values() for names in group for name in names]
        grammar += [w for words in COLOUR_WORDS.values() for w in words] + ["street", "thing", "object", "something"]
        used = {word for name in grammar for word in name.split()}
        vocab = self.tokenizer.get_vocab()
        words = (t[:-4] for t in vocab if t.endswith("</w>") and t[:-4].isalpha() and t.isascii() and 4 <= len(t) - 4 <= 9)
        self.other = sorted(w for w in words if w not in used)

    def ids(self, texts, most=40):
        """texts -> [T, longest] i64, padded with the end token"""
        rows = []
        for text in texts:
            if text not in self.cache:
                self.cache[text] = self.tokenizer.encode(text).ids
            rows.append(self.cache[text] if len(self.cache[text]) <= most else self.cache[text][: most - 1] + [49407])
        longest = max(map(len, rows))
        return torch.tensor([r + [49407] * (longest - len(r)) for r in rows])


class Batches:
    def __init__(self, pool, folder, seed, steps):
        self.rgb, self.marks = open_pool(pool)
        self.weather = json.loads(Path(pool, "pool.json").read_text())["weather"]
        self.templates = json.loads(Path(folder, "templates.json").read_text())
        self.words, self.seed, self.steps = Words(folder), seed, steps
        share = np.bincount(self.marks[:200, ..., 0].ravel(), minlength=len(CLASSES)) + 1.0
        self.class_weight = np.clip((share / share.sum()) ** -0.5, None, 14.0)      # rare classes count more

    def batch(self, step):
        rng = np.random.default_rng([self.seed, step])
        late = np.clip((step / self.steps - 0.3) / 0.4, 0, 1)
        way = str(rng.choice(list(WAYS), p=(1 - late) * EARLY + late * LATE))
        size, rows, cols, whole = WAYS[way]
        count = max(TOKENS // (rows * cols), 5)
        pixels = np.empty((count, rows * 16, cols * 16, 3), np.uint8)
        marks = np.empty((count, rows * size // STEP, cols * size // STEP, 2), np.uint8)
        corner, weather = np.zeros((2, count), np.int64), []
        for b in range(count):
            i = int(rng.integers(len(self.rgb)))
            if whole:
                r, c = int(rng.integers(whole[0] - rows + 1)), int(rng.integers(whole[1] - cols + 1))
                y, x = r * size, c * size
                corner[:, b] = r, c
            else:
                y, x = 0, int(rng.integers((WIDTH - cols * size) // STEP + 1)) * STEP
            cut = self.rgb[i, y : y + rows * size, x : x + cols * size]
            pixels[b] = cut if size == 16 else cv2.resize(cut, (cols * 16, rows * 16), interpolation=cv2.INTER_AREA)
            marks[b] = self.marks[i, y // STEP : (y + rows * size) // STEP, x // STEP : (x + cols * size) // STEP]
            weather.append(self.weather[i])
        flip = rng.random(count) < 0.5
        pixels[flip], marks[flip] = pixels[flip, :, ::-1], marks[flip, :, ::-1]
        if whole:  # a mirrored cut lies at the mirrored place
            corner[1, flip] = whole[1] - cols - corner[1, flip]
        return dict(
            way=way, whole=whole, corner=torch.from_numpy(corner) if whole else None,
            pixels=self.develop(rng, pixels), **self.targets(rng, marks, rows, cols, weather),
        )

    def develop(self, rng, pixels):
        """Camera variety (gain, cast, contrast, noise, blur), then CLIP's normalisation. [B, 3, H, W] f32"""
        if rng.random() < 0.15:
            pixels = np.stack([cv2.GaussianBlur(p, (0, 0), float(rng.uniform(0.4, 1.1))) for p in pixels])
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(255)
        count = len(x)
        gain = rng.uniform(0.8, 1.2, (count, 1, 1, 1)) * rng.uniform(0.95, 1.05, (count, 3, 1, 1))
        lift = rng.uniform(-0.06, 0.06, (count, 1, 1, 1))
        x = x.mul_(torch.from_numpy(gain).float()).add_(torch.from_numpy(lift).float())
        if rng.random() < 0.4:
            generator = torch.Generator().manual_seed(int(rng.integers(1 << 31)))
            x += torch.randn(x.shape, generator=generator) * float(rng.uniform(0.005, 0.04))
        return x.clamp_(0, 1).sub_(MEAN[:, None, None]).div_(STD[:, None, None])

    def targets(self, rng, marks, rows, cols, weather):
        """What each patch shows, and the texts of the step."""
        count, k = len(marks), marks.shape[1] // rows
        cells = marks.reshape(count, rows, k, cols, k, 2).swapaxes(2, 3).reshape(count * rows * cols, k * k, 2)
        pair = cells[..., 0].astype(np.int64) * 16 + cells[..., 1]                  # [patches, cells]
        base = np.arange(len(pair))[:, None] * PAIRS
        share = np.bincount((base + pair).ravel(), minlength=len(pair) * PAIRS).reshape(-1, PAIRS) / (k * k)
        classes = share.reshape(-1, len(CLASSES), 16).sum(-1)                       # [patches, classes]
        best = share.argmax(1)
        clear = (share.max(1) > 0.5) & (best % 16 > 0)                              # patches of one coloured thing
        known, index = np.unique(best[clear], return_inverse=True)
        target = np.full(len(pair), -1)
        target[clear] = index
        colour = np.where(clear, best % 16 - 1, -1)
        amount = np.bincount(index, minlength=len(known)) if len(known) else np.ones(1)
        pair_weight = np.zeros(len(pair))
        pair_weight[clear] = amount[index] ** -0.5

        class_texts = [templated(rng, phrase(rng, c), self.templates) for c in CLASSES]
        class_texts += [templated(rng, str(w), self.templates) for w in rng.choice(self.words.other, 12)]
        pair_texts = [self.pair_text(rng, CLASSES[code >> 4], COLOUR_NAMES[(code & 15) - 1]) for code in known]
        pair_texts += self.wrong_pairs(rng, {int(c) for c in known}, 12)
        thing = ["{}", "{} thing", "something {}", "{} object", "{} colour"]
        colour_texts = [
            thing[rng.integers(5)].format(COLOUR_WORDS[c][rng.integers(len(COLOUR_WORDS[c]))]) for c in COLOUR_NAMES
        ]
        told = min(count, 40)
        captions = [caption(rng, present_in(m[..., 0], m[..., 1]), w) for m, w in zip(marks[:told], weather)]
        area = np.sqrt(classes.reshape(count, rows * cols, -1).mean(1))             # [B, classes]
        return dict(
            classes=torch.from_numpy(classes).float(), weight=torch.from_numpy(classes @ self.class_weight).float(),
            pair=torch.from_numpy(target), pair_weight=torch.from_numpy(pair_weight).float(),
            colour=torch.from_numpy(colour), area=torch.from_numpy(area / area.sum(1, keepdims=True)).float(),
            parts=[len(class_texts), len(pair_texts), len(colour_texts), told],
            ids=self.words.ids(class_texts + pair_texts + colour_texts + captions), captions=captions,
        )

    def pair_text(self, rng, cls, colour):
        return templated(rng, phrase(rng, cls, colour, plain=0.6), self.templates, bare=0.5)

    def wrong_pairs(self, rng, known, count):
        """Pairs that training may draw but this batch does not show."""
        texts = []
        for _ in range(count):
            cls = list(COLOURS_OF)[rng.integers(len(COLOURS_OF))]
            colour = COLOURS_OF[cls][rng.integers(len(COLOURS_OF[cls]))]
            code = CLASSES.index(cls) * 16 + COLOUR_NAMES.index(colour) + 1
            if code not in known and (cls, colour) not in HELD_OUT:
                known.add(code)
                texts.append(self.pair_text(rng, cls, colour))
        return texts
