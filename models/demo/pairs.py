"""The held-out scenes: where their seeds begin, and classes split by colour."""

import numpy as np

from scenes import CLASSES, COLOUR_NAMES
from scenes.words import COLOURS_OF

PAIRED = ("car", "bus", "truck", "person", "building", "bicycle")
SEED0 = 5_000_000


def paired_labels(classes, colours):
    """Classes with colours as classes of their own -> names, the set's label map"""
    names = [c for c in CLASSES if c not in PAIRED]
    table = np.full((len(CLASSES), 16), 255, np.uint8)
    for i, name in enumerate(names):
        table[CLASSES.index(name)] = i
    for cls in PAIRED:
        for colour in COLOURS_OF[cls]:
            table[CLASSES.index(cls), COLOUR_NAMES.index(colour) + 1] = len(names)
            names.append(f"{colour} {cls}")
    return names, None if classes is None else table[classes, colours]
