"""A picture with its labels, a pinhole camera over flat ground, and the pen that draws things standing on it."""

import cv2
import numpy as np

SHIFT = 4  # sub-pixel bits of OpenCV's drawing calls
ONE = 1 << SHIFT


class Canvas:
    """RGB picture `rgb` [H, W, 3] and `marks` [H, W, 2] = (class id, colour id), drawn together."""

    def __init__(self, height, width):
        self.height, self.width = height, width
        self.rgb = np.zeros((height, width, 3), np.uint8)
        self.marks = np.zeros((height, width, 2), np.uint8)

    def fill(self, polygons, colour, mark=None):
        """Fills polygons (each [n, 2] in pixels); `colour` None leaves the picture, `mark` None the labels."""
        fixed = [np.round(np.clip(np.asarray(p, np.float64), -4000, 8000) * ONE).astype(np.int32) for p in polygons]
        if colour is not None:
            for points in fixed:  # one by one: in a joint call overlapping polygons cancel out
                cv2.fillPoly(self.rgb, [points], colour, cv2.LINE_AA, SHIFT)
        if mark is not None:
            for points in fixed:
                cv2.fillPoly(self.marks, [points], mark, cv2.LINE_8, SHIFT)

    def darken(self, cx, cy, rx, ry, keep):
        """A soft-edged elliptic shadow on whatever lies there."""
        x0, x1 = max(int(cx - rx), 0), min(int(cx + rx) + 1, self.width)
        y0, y1 = max(int(cy - ry), 0), min(int(cy + ry) + 1, self.height)
        if x1 <= x0 or y1 <= y0 or rx < 1 or ry < 0.5:
            return
        dx = (np.arange(x0, x1) - cx) / rx
        dy = (np.arange(y0, y1) - cy) / ry
        depth = np.clip(1.6 * (1.0 - dx[None] ** 2 - dy[:, None] ** 2), 0.0, 1.0)  # [h, w]
        part = self.rgb[y0:y1, x0:x1]
        part[...] = (part * (1.0 - (1.0 - keep) * depth[..., None])).astype(np.uint8)


class Camera:
    """Looks along +Z from height `h` (metres); `focal` and `horizon` are shares of the picture's height."""

    def __init__(self, height, width, h, focal, horizon, x=0.0):
        self.width, self.height = width, height
        self.h, self.focal, self.horizon, self.x = h, focal * height, horizon * height, x

    def point(self, x, z, y=0.0):
        """World (x right, y up, z away) -> pixel."""
        scale = self.focal / max(z, 0.3)
        return (self.width / 2 + (x - self.x) * scale, self.horizon + (self.h - y) * scale)

    def ground(self, corners):
        """Ground polygon [(x, z), ...] -> pixels [n, 2]."""
        return np.array([self.point(x, z) for x, z in corners])


class Pen:
    """Draws one thing in its own metres: u to the right, v up, origin where it stands on the ground."""

    def __init__(self, canvas, camera, x, z, mark, haze, light=1.0, flip=False):
        self.canvas, self.mark = canvas, mark
        self.x, self.y = camera.point(x, z)
        self.scale = camera.focal / max(z, 0.3)
        self.light, self.sign = light, -1.0 if flip else 1.0
        haze_colour, reach = haze
        self.mix, self.haze = 1.0 - np.exp(-z / reach), haze_colour

    def shade(self, colour, gain=1.0):
        """Light and distance haze applied to a colour."""
        return tuple(
            float(np.clip(c * self.light * gain, 0, 255) * (1 - self.mix) + h * self.mix)
            for c, h in zip(colour, self.haze)
        )

    def pixels(self, points):
        p = np.asarray(points, np.float64)
        return np.stack([self.x + self.sign * p[:, 0] * self.scale, self.y - p[:, 1] * self.scale], 1)

    def poly(self, points, colour, gain=1.0):
        self.canvas.fill([self.pixels(points)], self.shade(colour, gain), self.mark)

    def rect(self, u0, v0, u1, v1, colour, gain=1.0):
        self.poly([(u0, v0), (u1, v0), (u1, v1), (u0, v1)], colour, gain)

    def rects(self, boxes, colour, gain=1.0):
        """Many rectangles [(u0, v0, u1, v1), ...] of one colour."""
        corners = [self.pixels([(a, b), (c, b), (c, d), (a, d)]) for a, b, c, d in boxes]
        self.canvas.fill(corners, self.shade(colour, gain), self.mark)

    def disc(self, u, v, ru, colour, rv=None, gain=1.0):
        self.poly(arc(u, v, ru, rv or ru), colour, gain)

    def bar(self, u0, v0, u1, v1, width, colour, gain=1.0):
        """A straight bar `width` metres thick."""
        du, dv = u1 - u0, v1 - v0
        half = 0.5 * width / max(np.hypot(du, dv), 1e-6)
        a, b = -dv * half, du * half
        self.poly([(u0 + a, v0 + b), (u1 + a, v1 + b), (u1 - a, v1 - b), (u0 - a, v0 - b)], colour, gain)

    def hull(self, points):
        """Labels only: the outline an annotator would draw around something with holes."""
        self.canvas.fill([self.pixels(points)], None, self.mark)

    def shadow(self, u0, u1, depth=0.35, keep=0.55):
        """A contact shadow under the span u0..u1."""
        centre = self.x + self.sign * 0.5 * (u0 + u1) * self.scale
        self.canvas.darken(centre, self.y, 0.56 * (u1 - u0) * self.scale, depth * self.scale * 0.5, keep)


def arc(u, v, ru, rv, start=0.0, stop=2 * np.pi, count=20):
    """Points on an ellipse."""
    t = np.linspace(start, stop, count, endpoint=stop - start < 6.28)
    return np.stack([u + ru * np.cos(t), v + rv * np.sin(t)], 1)
