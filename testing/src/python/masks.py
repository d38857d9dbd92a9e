# SPDX-License-Identifier: MIT OR Apache-2.0
"""The other side of tests/meta2json.rs: masks drawn by OpenCV and encoded by pycocotools, and a check of ours.

    masks.py make          JSON on stdout: masks as text, with the run lengths that pycocotools makes of them
    masks.py check < JSON  reads masks with our run lengths and outlines; says what is wrong with them, else nothing
"""
import json
import sys

import cv2
import numpy as np
from pycocotools import mask as coco

CLASSES = 4
# Outlines are rasterised this much larger: OpenCV draws their border too, which then stays off the pixels' centres.
SCALE = 16


def drawn(random, height, width):
    """Shapes of OpenCV over each other, some with holes, some cut off by the edge."""
    ids = np.zeros((height, width), np.uint8)
    for _ in range(random.integers(2, 9)):
        value = int(random.integers(0, CLASSES + 1))
        corners = random.uniform([-0.2 * width, -0.2 * height], [1.2 * width, 1.2 * height], (random.integers(3, 8), 2))
        centre = corners.mean(0)
        hole = centre + (corners - centre) * 0.4
        cv2.fillPoly(ids, [corners.round().astype(np.int32), hole.round().astype(np.int32)], value)
        radii = [int(r) for r in random.integers(1, max(2, min(height, width) // 3), 2)]
        middle = [int(random.integers(0, width)), int(random.integers(0, height))]
        cv2.ellipse(ids, middle, radii, float(random.uniform(0, 180)), 0, 360, value, cv2.FILLED)
    return ids


def make():
    random = np.random.default_rng(7)
    masks = []
    for number in range(60):
        height, width = (int(side) for side in random.integers(1, 160, 2))
        ids = drawn(random, height, width)
        if number % 5 == 0:  # noise: many small pieces, corners that touch
            ids = random.integers(0, CLASSES + 1, (height, width)).astype(np.uint8)
        rles = {}
        for value in np.unique(ids[ids > 0]).tolist():
            rles[value] = coco.encode(np.asfortranarray(ids == value))["counts"].decode()
        masks.append({"width": width, "height": height, "pixels": ids.tobytes().hex(), "rles": rles})
    json.dump(masks, sys.stdout)


def filled(rings, height, width):
    """Outlines, relative to the frame, as OpenCV fills them: by the even-odd rule."""
    canvas = np.zeros((height * SCALE, width * SCALE), np.uint8)
    size = np.array([width * SCALE, height * SCALE])
    cv2.fillPoly(canvas, [(np.array(ring) * size).round().astype(np.int32) for ring in rings], 1)
    return canvas[SCALE // 2 :: SCALE, SCALE // 2 :: SCALE] == 1


def distance_to_edge(mask):
    """From each pixel's centre to the centre of the nearest pixel on the other side; outside the frame is no region."""
    padded = np.pad(mask, 1)
    inside, outside = (cv2.distanceTransform(part.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
                       for part in (padded, ~padded))
    return np.where(padded, inside, outside)[1:-1, 1:-1]


def faults_of(case, region, mask):
    height, width = mask.shape
    decoded = coco.decode({"size": region["rle"]["size"], "counts": region["rle"]["counts"]}) == 1
    if not np.array_equal(decoded, mask):
        yield "pycocotools reads another mask from our run lengths"
    if coco.encode(np.asfortranarray(mask))["counts"].decode() != region["rle"]["counts"]:
        yield "pycocotools writes other run lengths"
    if int(coco.area({"size": [height, width], "counts": region["rle"]["counts"]})) != int(mask.sum()):
        yield "pycocotools finds another area"
    if not np.array_equal(filled(region["exact"], height, width), mask):
        yield "OpenCV fills the exact outlines another way"
    wrong = filled(region["simple"], height, width) != mask
    if wrong.any() and distance_to_edge(mask)[wrong].max() > 2.5:
        yield "OpenCV fills the simplified outlines another way, far from the edge"


def check():
    for number, case in enumerate(json.load(sys.stdin)):
        ids = np.frombuffer(bytes.fromhex(case["pixels"]), np.uint8).reshape(case["height"], case["width"])
        for region in case["regions"]:
            for fault in faults_of(case, region, ids == region["value"]):
                print(f"mask {number}, value {region['value']}, {case['width']}x{case['height']}: {fault}")


if __name__ == "__main__":
    {"make": make, "check": check}[sys.argv[1]]()
