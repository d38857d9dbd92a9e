"""What a street is made of, as plain data, and how a thing gets its colour and look."""

from dataclasses import dataclass, field

import numpy as np

from .words import COLOURS, COLOURS_OF, HELD_OUT

LEAVES = {"green": (70, 136, 56), "orange": (222, 128, 40), "yellow": (222, 192, 60), "pink": (238, 164, 190)}
SHAPES = {"car": 3, "bus": 2, "truck": 3, "person": 3, "tree": 3, "traffic light": 3, "sign": 4, "lamp": 2}


@dataclass
class Thing:
    """Something that stands on the ground: `kind` names its drawing, `speed` is along x in metres a second."""

    kind: str
    x: float
    z: float
    look: dict
    colour: str | None = None
    speed: float = 0.0
    flip: bool = False


@dataclass
class World:
    """Everything `draw` needs. `bands`: ground polygons [(class, corners in (x, z))], painted in order."""

    weather: str
    sky: dict
    camera: dict
    bands: list = field(default_factory=list)
    lines: list = field(default_factory=list)
    things: list = field(default_factory=list)
    light: float = 1.0
    haze: tuple = ((200, 210, 220), 150.0)
    seed: int = 0


def pick_colour(rng, cls, held_out=False):
    """A colour for a class: any that it has if `held_out`, else never one of the held-out pairs."""
    pool = [c for c in COLOURS_OF[cls] if held_out or (cls, c) not in HELD_OUT]
    return pool[rng.integers(len(pool))]


def make_thing(rng, kind, x, z, world, held_out=False, **look):
    """A thing with a colour and a look of its own; `kind` may end in " front"."""
    cls = kind.removesuffix(" front")
    colour = pick_colour(rng, cls, held_out) if cls in COLOURS_OF else None
    if cls == "tree" and rng.random() < 0.6:
        colour = "green"
    p = {"shape": int(rng.integers(SHAPES.get(cls, 1))), "back": bool(rng.random() < 0.5)}
    if colour:
        base = LEAVES[colour] if cls == "tree" else COLOURS[colour]
        if cls == "building":  # walls are paler than paint
            base = tuple(0.8 * c + 0.2 * 190 for c in base)
        gain = rng.uniform(0.85, 1.1)
        p["paint"] = tuple(float(np.clip(c * gain + rng.normal(0, 5), 0, 250)) for c in base)
    if cls in ("person", "dog"):
        p.update(phase=rng.uniform(0, 6.28), skin=int(rng.integers(4)), hair=int(rng.integers(5)))
    if cls == "tree":
        p["size"] = rng.uniform(4.0, 8.5)
        p["leaves"] = [
            (rng.uniform(-0.85, 0.85), rng.uniform(-0.8, 0.8), rng.uniform(0.06, 0.13), rng.uniform(0.72, 1.2))
            for _ in range(26)
        ]
    if cls == "lamp":
        p["on"] = world.weather in ("night", "sunset", "fog")
    if cls == "fence":
        p["width"] = rng.uniform(3.0, 7.0)
    if cls == "building":
        night = world.weather == "night"
        p.update(
            height=float(rng.choice([7.2, 10.0, 12.8, 15.8])), width=rng.uniform(7, 13), bricks=rng.random() < 0.4,
            pitched=rng.random() < 0.35, columns=int(rng.integers(3, 6)), door=int(rng.integers(3)),
            shop=rng.random() < 0.4, lit=rng.random(64) < (0.55 if night else 0.03),
            roof=[(120, 62, 48), (72, 76, 84), (96, 70, 52)][rng.integers(3)],
            glass=(46, 56, 76) if night else (120, 152, 176),
            awning=[(196, 52, 44), (46, 110, 80), (50, 84, 150), (214, 150, 50)][rng.integers(4)],
        )
    p.update(look)
    return Thing(kind, float(x), float(z), p, colour, flip=bool(rng.random() < 0.5))
