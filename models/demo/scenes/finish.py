"""Sky, surface texture, weather and light: what is done to whole pictures."""

from functools import lru_cache

import cv2
import numpy as np

from .words import CLASSES

SKY = {  # top, bottom
    "clear": ((72, 140, 222), (190, 222, 244)), "cloudy": ((136, 146, 160), (206, 210, 214)),
    "sunset": ((94, 84, 150), (252, 172, 104)), "night": ((10, 14, 38), (44, 50, 88)),
    "rain": ((104, 112, 124), (164, 170, 178)), "snow": ((178, 186, 198), (228, 232, 236)),
    "fog": ((190, 196, 200), (214, 218, 220)),
}
ROUGH = {  # amplitude of the surface noise (grey levels): fine, coarse
    "grass": (15, 12), "tree": (17, 10), "road": (6, 5), "sidewalk": (5, 4), "crosswalk": (5, 4), "building": (4, 5),
}
TINT = {"sunset": (1.08, 0.96, 0.86), "night": (0.82, 0.88, 1.12), "rain": (0.95, 0.98, 1.03)}


@lru_cache(maxsize=8)
def noise(height, width, cell, seed):
    """Smooth noise of about `cell` pixels, one standard deviation = 1. [H, W] f32."""
    rng = np.random.default_rng(seed)
    small = rng.standard_normal((height // cell + 2, width // cell + 2)).astype(np.float32)
    big = cv2.resize(small, (width + cell, height + cell), interpolation=cv2.INTER_LINEAR)[:height, :width]
    return big / big.std()


@lru_cache(maxsize=2)
def ladders():
    """Class id -> noise amplitude, for fine and coarse noise. Two f32 arrays [256]."""
    fine, coarse = np.full(256, 2.0, np.float32), np.full(256, 2.0, np.float32)
    for name, (a, b) in ROUGH.items():
        fine[CLASSES.index(name)], coarse[CLASSES.index(name)] = a, b
    fine[CLASSES.index("sky")], coarse[CLASSES.index("sky")] = 0.6, 1.5
    return fine, coarse


def paint_sky(canvas, world, camera, mark):
    """A vertical gradient with flat clouds, stars or a low sun."""
    height, width = canvas.height, canvas.width
    top, bottom = (np.array(c, np.float32) for c in SKY[world.weather])
    t = np.clip(np.arange(height) / max(camera.horizon, 1.0), 0, 1)[:, None, None] ** 0.8
    canvas.rgb[:] = (top * (1 - t) + bottom * t + 14 * (world.sky["hue"] - 0.5)).astype(np.uint8)
    canvas.marks[:] = mark
    drift = -0.02 * camera.x
    if world.weather == "sunset":
        centre = (int(width * (0.2 + 0.6 * world.sky["hue"])), int(0.8 * camera.horizon))
        cv2.circle(canvas.rgb, centre, int(0.06 * height), (255, 226, 150), -1, cv2.LINE_AA)
    if world.weather == "night":
        for u, v, _ in world.sky["clouds"]:
            for k in range(4):
                x, y = int(width * ((u * 7.3 + k * 0.31) % 1)), int(camera.horizon * ((v * 5.1 + k * 0.23) % 1))
                cv2.circle(canvas.rgb, (x, y), max(1, height // 300), (226, 228, 240), -1, cv2.LINE_AA)
        return
    if world.weather in ("clear", "cloudy", "sunset"):
        colour = {"clear": (248, 250, 252), "cloudy": (186, 190, 198), "sunset": (250, 206, 176)}[world.weather]
        for u, v, s in world.sky["clouds"][: 8 if world.weather == "cloudy" else 4]:
            cx, cy, r = width * ((u + drift) % 1.2 - 0.1), camera.horizon * (0.05 + 0.65 * v), height * (0.02 + 0.045 * s)
            for k, dy in enumerate((0.0, -0.5, -0.7, -0.3, 0.0)):
                centre = (int(cx + (k - 2) * 1.1 * r), int(cy + dy * r))
                cv2.ellipse(canvas.rgb, centre, (int(1.3 * r) + 1, int(0.8 * r) + 1), 0, 0, 360, colour, -1, cv2.LINE_AA)


def finish(canvas, world, time):
    """Surface noise by class, then rain or snow in the air, then the light's tint."""
    height, width = canvas.height, canvas.width
    fine, coarse = ladders()
    classes = canvas.marks[..., 0]
    shift = world.seed % 37
    grain = cv2.LUT(classes, fine) * np.roll(noise(height, width, max(1, height // 300), 5), shift * 9, 1)
    grain += cv2.LUT(classes, coarse) * np.roll(noise(height, width, max(4, height // 34), 6), shift * 13, 1)
    picture = canvas.rgb.astype(np.float32) + world.light * grain[..., None]
    if world.weather in TINT:
        picture *= np.array(TINT[world.weather], np.float32)
    canvas.rgb[:] = np.clip(picture, 0, 255).astype(np.uint8)
    if world.weather in ("rain", "snow"):
        rng = np.random.default_rng(world.seed + 1)
        fall = height * (1.6 if world.weather == "rain" else 0.25)
        overlay = canvas.rgb.copy()
        for x, y, s in rng.random((110, 3)):
            px, py = int(width * x), int((height * y + fall * time * (0.7 + 0.6 * s)) % height)
            if world.weather == "rain":
                tip = (px - height // 60, py + height // 18)
                cv2.line(overlay, (px, py), tip, (206, 214, 226), max(1, height // 330), cv2.LINE_AA)
            else:
                cv2.circle(overlay, (px, py), max(1, int(height * (0.003 + 0.005 * s))), (250, 250, 252), -1, cv2.LINE_AA)
        cv2.addWeighted(overlay, 0.6, canvas.rgb, 0.4, 0, canvas.rgb)
