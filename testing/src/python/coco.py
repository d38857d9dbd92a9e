# SPDX-License-Identifier: MIT OR Apache-2.0
"""The other side of gclip/tests/cli.rs: a COCO data set as pycocotools loads it.

    coco.py FILE   JSON on stdout: for each picture its file, size and categories, and the mask as ids, row by row
"""
import contextlib
import json
import sys

import numpy as np
from pycocotools.coco import COCO

with contextlib.redirect_stdout(sys.stderr):  # it prints how long it takes
    dataset = COCO(sys.argv[1])
pictures = []
for picture in dataset.loadImgs(dataset.getImgIds()):
    ids = np.zeros((picture["height"], picture["width"]), np.uint8)
    annotations = dataset.loadAnns(dataset.getAnnIds(imgIds=picture["id"]))
    for annotation in annotations:
        mask = dataset.annToMask(annotation).astype(bool)
        rows, columns = np.nonzero(mask)
        box = [int(columns.min()), int(rows.min()), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]
        assert not ids[mask].any(), "regions overlap"
        assert annotation["area"] == mask.sum() and annotation["bbox"] == box, (annotation, box)
        ids[mask] = annotation["category_id"]
    names = {category["id"]: category["name"] for category in dataset.loadCats(dataset.getCatIds())}
    pictures.append({"file": picture["file_name"], "ids": ids.tobytes().hex(), "names": names, "found": len(annotations)})
json.dump(pictures, sys.stdout)
