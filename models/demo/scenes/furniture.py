"""People, dogs, trees, buildings and street furniture. Units are metres; things stand at v = 0."""

import numpy as np

from .canvas import arc

SKIN = [(244, 204, 172), (222, 170, 130), (166, 112, 76), (104, 68, 46)]
HAIR = [(40, 30, 26), (92, 60, 34), (196, 160, 90), (150, 150, 150), (150, 70, 34)]
STEEL, WOOD = (86, 90, 96), (112, 74, 44)


def person(pen, p):
    """Walks with `p.phase`; coat or shirt and legs; `paint` is the colour of the clothes."""
    paint, skin, swing = p["paint"], SKIN[p["skin"]], 0.34 * np.sin(p["phase"])
    legs = tuple(0.5 * c for c in paint) if p["shape"] == 0 else (58, 62, 84)
    pen.shadow(-0.35, 0.35, 0.3)
    for s, gain in ((swing, 0.8), (-swing, 1.0)):  # far leg, near leg
        pen.bar(0.0, 0.92, s, 0.06, 0.22, legs, gain)
        pen.rect(s - 0.1, 0.0, s + 0.2, 0.11, (34, 30, 30))
    pen.bar(0.0, 1.38, 0.8 * swing, 0.88, 0.15, paint, 0.7)
    if p["shape"] == 2:  # long coat or dress
        pen.poly([(-0.24, 1.46), (0.24, 1.46), (0.4, 0.55), (-0.4, 0.55)], paint)
    else:
        pen.poly([(-0.27, 1.46), (0.27, 1.46), (0.25, 0.84), (-0.25, 0.84)], paint)
    pen.bar(0.0, 1.4, -0.8 * swing, 0.9, 0.16, paint, 0.85)
    pen.disc(-0.8 * swing, 0.86, 0.08, skin)
    pen.rect(-0.07, 1.44, 0.08, 1.56, skin)
    pen.disc(0.0, 1.68, 0.17, HAIR[p["hair"]], 0.19)
    pen.disc(0.05, 1.65, 0.13, skin, 0.15)


def dog(pen, p):
    """Drawn half as large again as life (unless `size` says otherwise), so that it covers whole patches."""
    paint, swing, k = p["paint"], 0.14 * np.sin(p["phase"]), p.get("size", 1.5)
    pen.shadow(-0.8, 0.8, 0.3)

    def bar(a, b, c, d, w, gain=1.0):
        pen.bar(k * a, k * b, k * c, k * d, k * w, paint, gain)

    for u, s in ((-0.34, swing), (0.3, -swing)):
        bar(u, 0.36, u + s, 0.02, 0.1, 0.75)
        bar(u + 0.04, 0.36, u + 0.04 - s, 0.02, 0.11)
    pen.poly(arc(0.0, k * 0.46, k * 0.48, k * 0.19), paint)
    bar(-0.42, 0.52, -0.62, 0.78 + 0.3 * swing, 0.08)
    bar(0.34, 0.5, 0.52, 0.78, 0.2)
    pen.disc(k * 0.55, k * 0.8, k * 0.16, paint, k * 0.14)
    pen.poly(k * arc(0.72, 0.75, 0.13, 0.08), paint, 0.85)
    pen.disc(k * 0.83, k * 0.77, k * 0.035, (20, 20, 20))
    pen.poly(k * arc(0.45, 0.76, 0.07, 0.15), paint, 0.6)
    pen.disc(k * 0.6, k * 0.83, k * 0.025, (15, 15, 15))


def tree(pen, p):
    """A trunk and a crown of blobs (round), stacked triangles (fir) or a tall oval (poplar)."""
    size, paint = p["size"], p["paint"]
    pen.shadow(-0.3 * size, 0.3 * size, 0.12 * size, 0.75)
    pen.poly([(-0.05 * size, 0), (0.05 * size, 0), (0.03 * size, 0.6 * size), (-0.03 * size, 0.6 * size)], WOOD)
    if p["shape"] == 1:
        for k in range(4):
            v, w = size * (0.18 + 0.19 * k), size * (0.3 - 0.06 * k)
            pen.poly([(-w, v), (w, v), (0.0, v + 0.34 * size)], paint, 0.68 + 0.08 * k)
        return
    wide, tall = (0.36, 0.3) if p["shape"] == 0 else (0.2, 0.38)
    pen.poly(arc(0, 0.64 * size, wide * size, tall * size), paint, 0.66)
    for u, v, r, gain in p["leaves"]:
        pen.poly(arc(u * wide * size, (0.64 + v * tall) * size, r * size, 0.9 * r * size, count=11), paint, gain)


def building(pen, p):
    """A facade: walls, rows of windows (some lit at night), a door, a flat or pitched roof."""
    w, h, paint = p["width"], p["height"], p["paint"]
    pen.rect(-w / 2, 0, w / 2, h, paint)
    if p["bricks"]:
        pen.rects([(-w / 2, v, w / 2, v + 0.07) for v in np.arange(0.4, h, 0.45)], paint, 0.9)
    if p["pitched"]:
        top = h + 0.3 * w
        pen.poly([(-w / 2 - 0.3, h), (w / 2 + 0.3, h), (0.0, top)], p["roof"])
    else:
        pen.rect(-w / 2 - 0.15, h - 0.35, w / 2 + 0.15, h + 0.15, paint, 0.72)
    pen.rect(-w / 2, 0, w / 2, 0.5, paint, 0.7)
    columns, pitch = p["columns"], w / p["columns"]
    frames, panes, lit = [], [], []
    for row in range(max(1, int((h - 3.4) / 2.9) + 1)):
        for col in range(columns):
            u, v = -w / 2 + (col + 0.5) * pitch, 3.4 + row * 2.9
            if v + 1.6 > h - 0.4:
                continue
            half = 0.3 * pitch
            frames.append((u - half - 0.12, v - 0.12, u + half + 0.12, v + 1.62))
            (lit if p["lit"][(row * columns + col) % 64] else panes).append((u - half, v, u + half, v + 1.5))
    pen.rects(frames, (238, 236, 228), 0.9)
    pen.rects(panes, p["glass"])
    pen.rects(lit, (255, 220, 130))
    half = 0.36 * pitch
    for col in range(columns):
        u = -w / 2 + (col + 0.5) * pitch
        if col == p["door"]:
            pen.rect(u - 0.65, 0, u + 0.65, 2.5, p["roof"], 0.8)
            pen.rect(u - 0.45, 1.5, u + 0.45, 2.3, p["glass"])
        elif p["shop"]:
            pen.rect(u - half, 0.5, u + half, 2.3, p["glass"], 1.1)
            pen.rects([(u - half + s * half / 2, 2.2, u - half + (s + 1) * half / 2, 2.8) for s in range(4)], p["awning"])
            pen.rects([(u - half + s * half / 2, 2.2, u - half + (s + 1) * half / 2, 2.8) for s in (1, 3)], (245, 245, 240))
        else:
            pen.rect(u - half, 0.9, u + half, 2.4, p["glass"])


def fence(pen, p):
    """Pickets and two rails; the label covers the gaps."""
    w, paint = p["width"], p["paint"]
    pen.hull([(-w / 2, 0), (w / 2, 0), (w / 2, 1.25), (-w / 2, 1.25)])
    for v in (0.35, 0.95):
        pen.rect(-w / 2, v, w / 2, v + 0.13, paint, 0.8)
    for u in np.arange(-w / 2, w / 2 - 0.1, 0.3):
        pen.poly([(u, 0.0), (u + 0.19, 0.0), (u + 0.19, 1.15), (u + 0.095, 1.3), (u, 1.15)], paint)


def traffic_light(pen, p):
    """A pole and a big black box with three lenses, one of them bright."""
    pen.rect(-0.09, 0, 0.09, 2.4, STEEL)
    pen.rect(-0.38, 2.2, 0.38, 4.2, (30, 32, 34))
    pen.rect(-0.46, 4.12, 0.46, 4.26, (30, 32, 34))
    for k, colour in enumerate(((60, 220, 110), (255, 190, 40), (240, 50, 40))):
        pen.disc(0.0, 2.55 + 0.62 * k, 0.25, colour, gain=1.1 if k == p["shape"] else 0.3)


def sign(pen, p):
    """A plate on a pole: disc, triangle, octagon or board, with a white rim and a mark."""
    paint = p["paint"]
    pen.rect(-0.07, 0, 0.07, 2.0, (150, 152, 156))
    outlines = {
        0: arc(0, 2.5, 0.7, 0.7),
        1: np.array([(-0.8, 1.9), (0.8, 1.9), (0.0, 3.25)]),
        2: arc(0, 2.5, 0.72, 0.72, np.pi / 8, np.pi / 8 + 2 * np.pi, 9),
        3: np.array([(-0.95, 2.0), (0.95, 2.0), (0.95, 3.0), (-0.95, 3.0)]),
    }
    plate = outlines[p["shape"]]
    middle = plate.mean(0)
    rim = (245, 245, 242) if sum(paint) < 560 else (40, 40, 44)
    pen.poly(plate, rim)
    pen.poly(middle + 0.84 * (plate - middle), paint)
    if p["shape"] == 3:
        pen.rects([(-0.6, 2.25, 0.6, 2.37), (-0.6, 2.6, 0.4, 2.72)], rim)
    else:
        pen.rect(middle[0] - 0.34, middle[1] - 0.09, middle[0] + 0.34, middle[1] + 0.09, rim)


def lamp(pen, p):
    """A stout post with a curved arm or a globe; it glows in the dark."""
    post, glow = (58, 64, 70), (255, 232, 160) if p["on"] else (226, 226, 214)
    pen.rect(-0.13, 0, 0.13, 5.0, post)
    pen.rect(-0.24, 0, 0.24, 0.7, post, 0.85)
    if p["shape"] == 0:
        pen.poly([(-0.13, 4.7), (-0.13, 5.1), (1.5, 5.5), (1.5, 5.25)], post)
        pen.poly([(0.8, 5.05), (1.95, 5.15), (1.95, 5.55), (0.8, 5.5)], post, 0.8)
        pen.rect(0.95, 4.98, 1.85, 5.14, glow)
    else:
        pen.disc(0, 5.3, 0.48, glow)
        pen.rect(-0.34, 4.85, 0.34, 5.0, post, 0.8)
        pen.poly([(-0.4, 5.65), (0.4, 5.65), (0.0, 6.0)], post, 0.8)


def bench(pen, p):
    """Slats on two iron frames, seen from the front."""
    paint = p["paint"]
    pen.shadow(-1.15, 1.15, 0.5)
    pen.hull([(-1.1, 0.0), (1.1, 0.0), (1.1, 1.2), (-1.1, 1.2)])
    for u in (-0.95, 0.95):
        pen.rect(u - 0.07, 0, u + 0.07, 1.2, (44, 46, 50))
    pen.rects([(-1.15, v, 1.15, v + 0.17) for v in (0.62, 0.83, 1.04)], paint)
    pen.poly([(-1.2, 0.4), (1.2, 0.4), (1.1, 0.58), (-1.1, 0.58)], paint, 0.85)
    pen.rect(-1.2, 0.32, 1.2, 0.42, paint, 0.6)
