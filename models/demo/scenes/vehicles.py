"""Car, bus, truck and bicycle, from the side and from the front or back. Units are metres; side views face right."""

import numpy as np

from .canvas import arc

TYRE, RIM, GLASS, DARK = (28, 28, 30), (178, 180, 184), (120, 160, 186), (44, 46, 50)
LAMP_ON, TAIL = (255, 244, 190), (214, 30, 30)


def wheel(pen, u, r):
    pen.disc(u, r, r, TYRE)
    pen.disc(u, r, 0.58 * r, RIM)
    pen.disc(u, r, 0.2 * r, DARK)


def car_side(pen, p):
    """Low, rounded, one window band: hatchback, saloon or estate by `p.shape`."""
    paint = p["paint"]
    pen.shadow(-2.3, 2.3, 0.9)
    back = (-1.95, -1.55, -1.75)[p["shape"]]  # where the roof ends at the rear
    body = [(-2.2, 0.32), (-2.25, 0.75), (-2.1, 0.98), (-1.9, 1.02), (1.0, 1.0), (1.9, 0.86), (2.2, 0.66), (2.25, 0.32)]
    cabin = [(-2.0, 0.98), (back + 0.25, 1.52), (back + 0.6, 1.6), (0.25, 1.58), (0.5, 1.5), (1.15, 0.98)]
    pen.poly(cabin, paint, 0.92)
    pen.poly(body, paint)
    pen.rect(-2.2, 0.3, 2.22, 0.46, paint, 0.62)
    glass = [(-1.72, 1.0), (back + 0.42, 1.47), (-0.5, 1.5), (-0.5, 1.0)]
    front = [(-0.38, 1.0), (-0.38, 1.5), (0.2, 1.49), (0.42, 1.42), (0.92, 1.0)]
    pen.poly(glass, GLASS)
    pen.poly(front, GLASS)
    pen.bar(-0.44, 0.5, -0.44, 1.0, 0.05, paint, 0.6)
    pen.rect(-0.85, 0.84, -0.62, 0.9, paint, 0.5)
    pen.poly(arc(2.12, 0.7, 0.14, 0.1), LAMP_ON)
    pen.rect(-2.25, 0.7, -2.1, 0.9, TAIL)
    for u in (-1.38, 1.4):
        pen.poly(arc(u, 0.36, 0.46, 0.46, 0.0, np.pi), DARK)
        wheel(pen, u, 0.36)


def bus_side(pen, p):
    """Long and boxy, a row of big windows, doors, a stripe and a destination board."""
    paint, half = p["paint"], 5.2
    pen.shadow(-half, half, 1.3)
    pen.poly([(-half, 0.35), (-half, 3.0), (-half + 0.25, 3.25), (half - 0.3, 3.25), (half, 2.95), (half, 0.35)], paint)
    pen.rect(-half, 0.35, half, 0.6, paint, 0.6)
    pen.rect(-half + 0.1, 3.06, half - 0.35, 3.16, paint, 0.78)
    pen.rect(-half, 0.98, half, 1.14, (245, 245, 240) if p["shape"] else paint, 0.97)
    boxes = [(u, 1.45, u + 1.12, 2.65) for u in np.arange(-half + 0.25, half - 3.0, 1.26)]
    pen.rects(boxes, GLASS, 0.85)
    pen.rects([(a + 0.1, 2.05, a + 0.5, b2 - 0.08) for a, _, _, b2 in boxes], (196, 216, 228))
    for u in (half - 2.5, half - 1.0):  # two doors
        pen.rect(u, 0.5, u + 0.86, 2.7, DARK)
        pen.rects([(u + 0.06, 0.62, u + 0.4, 2.6), (u + 0.46, 0.62, u + 0.8, 2.6)], GLASS, 0.95)
    pen.rect(half - 4.6, 2.74, half - 2.9, 3.02, (24, 24, 26))
    pen.rect(half - 4.45, 2.81, half - 3.05, 2.95, (255, 190, 40))
    pen.rect(half - 0.18, 0.7, half, 0.95, LAMP_ON)
    pen.rect(-half, 0.75, -half + 0.14, 1.1, TAIL)
    for u in (-3.3, 3.0 - 0.7):
        pen.poly(arc(u, 0.48, 0.62, 0.62, 0.0, np.pi), DARK)
        wheel(pen, u, 0.48)


def truck_side(pen, p):
    """A separate short cab in front of a tall cargo box or an open bed, big gap between, three wheels."""
    paint = p["paint"]
    pen.shadow(-4.0, 4.0, 1.2)
    pen.rect(-3.9, 0.55, 3.4, 0.85, DARK)
    if p["shape"] == 0:  # box with ribs
        pen.rect(-3.95, 0.85, 1.55, 3.6, paint)
        pen.rects([(u, 0.95, u + 0.07, 3.5) for u in np.arange(-3.6, 1.4, 0.62)], paint, 0.8)
        pen.rect(-3.95, 3.45, 1.55, 3.6, paint, 0.75)
    elif p["shape"] == 1:  # tank
        pen.poly(arc(-1.2, 2.0, 2.75, 1.15), paint)
        pen.poly(arc(-1.2, 2.45, 2.3, 0.4), paint, 1.2)
        pen.rects([(u, 0.95, u + 0.14, 3.05) for u in (-2.8, -1.25, 0.3)], paint, 0.7)
    else:  # open bed with a heap
        pen.poly([(-3.6, 1.7), (-2.9, 2.5), (-1.8, 2.9), (-0.6, 2.75), (0.6, 2.4), (1.3, 1.7)], (150, 118, 78))
        pen.rect(-3.95, 0.85, 1.55, 1.95, paint)
        pen.rects([(u, 0.85, u + 0.12, 1.95) for u in np.arange(-3.8, 1.5, 0.85)], paint, 0.7)
    pen.poly([(1.85, 0.5), (1.85, 2.85), (2.1, 3.0), (3.2, 2.95), (3.65, 1.75), (3.7, 0.5)], paint, 0.95)
    pen.poly([(2.35, 1.7), (2.35, 2.65), (3.05, 2.65), (3.45, 1.7)], GLASS)
    pen.rect(2.2, 1.4, 2.45, 1.46, paint, 0.5)
    pen.bar(2.2, 0.6, 2.2, 1.7, 0.05, paint, 0.6)
    pen.rect(3.5, 0.5, 3.85, 0.75, RIM)
    pen.rect(3.5, 0.9, 3.68, 1.15, LAMP_ON)
    pen.rect(1.62, 0.9, 1.78, 3.3, (150, 152, 156))  # exhaust stack
    for u in (-3.0, -1.85, 2.75):
        wheel(pen, u, 0.56)


def car_front(pen, p):
    """Wide and low; lamps and a number plate; seen from the back when `p.back`."""
    paint = p["paint"]
    pen.shadow(-1.0, 1.0, 0.6)
    pen.rects([(-0.88, 0.0, -0.58, 0.5), (0.58, 0.0, 0.88, 0.5)], TYRE)
    pen.poly([(-0.78, 0.9), (-0.58, 1.5), (-0.45, 1.56), (0.45, 1.56), (0.58, 1.5), (0.78, 0.9)], paint, 0.9)
    pen.poly([(-0.66, 0.94), (-0.5, 1.44), (0.5, 1.44), (0.66, 0.94)], GLASS)
    pen.poly([(-0.95, 0.25), (-0.97, 0.8), (-0.82, 0.98), (0.82, 0.98), (0.97, 0.8), (0.95, 0.25)], paint)
    pen.rect(-0.95, 0.22, 0.95, 0.38, paint, 0.55)
    lamp = TAIL if p["back"] else LAMP_ON
    for u in (-0.74, 0.74):
        pen.disc(u, 0.72, 0.17, lamp, 0.1)
    if p["back"]:
        pen.rect(-0.26, 0.5, 0.26, 0.64, (238, 238, 230))
    else:
        pen.rect(-0.4, 0.55, 0.4, 0.74, DARK)


def bus_front(pen, p):
    """Very tall: a windscreen over most of the face, a lit board above, mirrors like ears."""
    paint = p["paint"]
    pen.shadow(-1.35, 1.35, 0.8)
    pen.rects([(-1.15, 0.0, -0.8, 0.5), (0.8, 0.0, 1.15, 0.5)], TYRE)
    pen.poly([(-1.28, 0.3), (-1.28, 3.1), (-1.1, 3.3), (1.1, 3.3), (1.28, 3.1), (1.28, 0.3)], paint)
    pen.rect(-1.12, 1.3, 1.12, 2.7, GLASS, 0.85)
    pen.poly([(-0.9, 1.5), (-0.5, 2.6), (-0.1, 2.6), (-0.5, 1.5)], (196, 216, 228))
    pen.rect(-0.85, 2.8, 0.85, 3.12, (24, 24, 26))
    pen.rect(-0.66, 2.88, 0.66, 3.04, (255, 190, 40))
    pen.rect(-1.28, 0.3, 1.28, 0.5, paint, 0.6)
    lamp = TAIL if p["back"] else LAMP_ON
    for u in (-0.95, 0.95):
        pen.disc(u, 0.8, 0.19, lamp, 0.15)
    pen.rects([(-1.62, 2.0, -1.38, 2.6), (1.38, 2.0, 1.62, 2.6)], DARK)


def truck_front(pen, p):
    """A wide box behind a smaller cab (front), or double cargo doors with bars (back)."""
    paint = p["paint"]
    pen.shadow(-1.35, 1.35, 0.8)
    pen.rects([(-1.2, 0.0, -0.7, 0.62), (0.7, 0.0, 1.2, 0.62)], TYRE)
    pen.rect(-1.3, 0.85, 1.3, 3.7, paint, 0.8)
    if p["back"]:
        pen.rects([(-1.2, 0.95, -0.06, 3.6), (0.06, 0.95, 1.2, 3.6)], paint)
        pen.rects([(u, 1.0, u + 0.08, 3.55) for u in (-0.72, -0.3, 0.22, 0.64)], RIM)
        pen.rect(-1.25, 0.5, 1.25, 0.72, (225, 60, 40))
        pen.rects([(u, 0.5, u + 0.25, 0.72) for u in (-1.0, -0.5, 0.0, 0.5, 1.0)], (240, 240, 235))
        return
    pen.poly([(-1.1, 0.4), (-1.1, 2.1), (-0.95, 2.75), (0.95, 2.75), (1.1, 2.1), (1.1, 0.4)], paint)
    pen.poly([(-0.98, 1.85), (-0.85, 2.6), (0.85, 2.6), (0.98, 1.85)], GLASS)
    pen.rect(-0.7, 0.75, 0.7, 1.65, DARK)
    pen.rects([(-0.62, v, 0.62, v + 0.09) for v in (0.85, 1.05, 1.25, 1.45)], RIM)
    pen.rect(-1.15, 0.4, 1.15, 0.62, RIM)
    for u in (-0.92, 0.92):
        pen.disc(u, 0.85, 0.14, LAMP_ON)


def bicycle(pen, p):
    """Two big wheels and a diamond frame; the label covers the wheels' discs, as annotators draw them."""
    paint, r = p["paint"], 0.46
    pen.shadow(-1.0, 1.0, 0.3, 0.7)
    for u in (-0.68, 0.68):
        pen.hull(arc(u, r, r, r))
    pen.hull([(-0.68, r), (-0.3, 1.05), (0.45, 1.1), (0.68, r), (-0.05, 0.3)])
    turn = p.get("turn", 0.0)
    for u in (-0.68, 0.68):
        for angle in np.arange(4) * np.pi / 4 + turn:
            du, dv = 0.42 * np.cos(angle), 0.42 * np.sin(angle)
            pen.bar(u - du, r - dv, u + du, r + dv, 0.022, (170, 172, 176))
        ring(pen, u, r, r, 0.085, TYRE)
    crank, seat, head = (-0.05, 0.36), (-0.28, 0.98), (0.46, 1.0)
    for a, b in ((crank, seat), (crank, head), (seat, head), ((-0.68, r), crank), ((-0.68, r), seat), (head, (0.68, r))):
        pen.bar(*a, *b, 0.095, paint)
    pen.bar(-0.28, 0.98, -0.3, 1.1, 0.07, DARK)
    pen.rect(-0.48, 1.08, -0.14, 1.17, DARK)
    pen.bar(0.46, 1.0, 0.43, 1.2, 0.07, DARK)
    pen.bar(0.43, 1.2, 0.62, 1.18, 0.08, DARK)


def ring(pen, u, v, radius, width, colour):
    """A wheel's tyre as short bars, so that what lies behind stays visible between the spokes."""
    outer = arc(u, v, radius, radius, count=18)
    for a, b in zip(outer, np.roll(outer, -1, 0)):
        pen.bar(*a, *b, width, colour)
