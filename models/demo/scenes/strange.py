"""What training never drew: a thing that no word of the model names, and damage to things that it knows."""

import numpy as np

from .canvas import Pen, arc

STRIPES = [(232, 120, 60), (240, 236, 224)]
CRATES = [(206, 60, 52), (110, 168, 60), (238, 196, 70), (150, 84, 160)]


def stall(pen):
    """A market stall with a striped awning, 4 m wide."""
    pen.shadow(-2.1, 2.1, 0.8)
    for u in (-1.9, 1.9):
        pen.bar(u, 0.0, u, 2.7, 0.14, (92, 70, 52))
    pen.rect(-2.0, 0.0, 2.0, 1.0, (150, 116, 82))
    for k, paint in enumerate(CRATES):
        pen.rect(-1.8 + 0.92 * k, 0.95, -1.0 + 0.92 * k, 1.35, paint)
    width = 4.6 / 8
    for k in range(8):
        u = -2.3 + width * k
        pen.poly([(u, 2.3), (u + width, 2.3), (0.86 * (u + width), 3.1), (0.86 * u, 3.1)], STRIPES[k % 2])
        pen.poly(arc(u + width / 2, 2.3, width / 2, 0.18), STRIPES[k % 2])


def draw_stalls(rng, canvas, camera, world, mark):
    """One or two stalls on the ground, in front of what is there. `mark` is their (class id, colour id)."""
    for _ in range(int(rng.integers(1, 3))):
        z = rng.uniform(5.0, 11.0)
        reach = 0.45 * canvas.width / camera.focal * z
        pen = Pen(canvas, camera, camera.x + rng.uniform(-reach, reach), z, mark, world.haze, world.light)
        stall(pen)


def damage(rng, rgb, classes, cls, kind):
    """Damages the largest thing of class id `cls` in a picture, in place. Returns where: [H, W] bool, all False if there is none.

    kind: "scratched" (bright jagged lines), "broken" (a dark star of cracks around a hole) or "missing" (a part is the street's grey).
    """
    import cv2

    count, labels, stats, centres = cv2.connectedComponentsWithStats((classes == cls).astype(np.uint8))
    where = np.zeros(classes.shape, np.uint8)
    if count < 2:
        return where > 0
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    x, y, w, h, area = stats[largest]
    if area < 1500:
        return where > 0
    thing = labels == largest
    size = float(np.sqrt(area))
    rows, columns = np.nonzero(thing)
    at = int(rng.integers(len(rows)))
    cy, cx = float(rows[at]), float(columns[at])
    painted = rgb.copy()
    if kind == "scratched":
        for _ in range(int(rng.integers(3, 6))):
            angle, reach = rng.uniform(-0.6, 0.6), rng.uniform(0.25, 0.5) * size
            points = [
                (cx + reach * t * np.cos(angle) + rng.normal(0, 2), cy + reach * t * np.sin(angle) + rng.normal(0, 3))
                for t in np.linspace(-1, 1, 9)
            ]
            cy += rng.normal(0, 0.06 * size)
            points = np.round(np.array(points)).astype(np.int32)
            for picture, colour in ((painted, (226, 224, 218)), (where, 1)):
                cv2.polylines(picture, [points], False, colour, 3, cv2.LINE_8)
    elif kind == "broken":
        reach = rng.uniform(0.16, 0.28) * size
        for angle in np.linspace(0, 2 * np.pi, int(rng.integers(7, 11)), endpoint=False):
            tip = (int(cx + reach * np.cos(angle + rng.normal(0, 0.2))), int(cy + reach * np.sin(angle + rng.normal(0, 0.2))))
            for picture, colour in ((painted, (18, 18, 22)), (where, 1)):
                cv2.line(picture, (int(cx), int(cy)), tip, colour, 2, cv2.LINE_8)
        for picture, colour in ((painted, (24, 24, 28)), (where, 1)):
            cv2.circle(picture, (int(cx), int(cy)), max(3, int(0.35 * reach)), colour, -1)
    else:
        half = rng.uniform(0.12, 0.2) * size
        corner, end = (int(cx - half), int(cy - half)), (int(cx + half), int(cy + half))
        for picture, colour in ((painted, (118, 120, 124)), (where, 1)):
            cv2.rectangle(picture, corner, end, colour, -1)
    where = (where > 0) & thing
    rgb[where] = painted[where]
    return where
