"""Makes a street from a seed, and draws it as it is at a moment in time."""

import numpy as np

from . import furniture, vehicles
from .canvas import Camera, Canvas, Pen
from .finish import finish, paint_sky
from .layouts import across, along
from .things import World
from .words import CLASSES, COLOUR_NAMES, ID, WEATHER

GRASS, ROAD, PAVING, PAINT = (98, 152, 66), (98, 100, 106), (188, 180, 168), (238, 238, 232)
DRAW = {
    "building": furniture.building, "tree": furniture.tree, "fence": furniture.fence, "bench": furniture.bench,
    "person": furniture.person, "dog": furniture.dog, "traffic light": furniture.traffic_light,
    "sign": furniture.sign, "lamp": furniture.lamp, "bicycle": vehicles.bicycle,
    "car": vehicles.car_side, "bus": vehicles.bus_side, "truck": vehicles.truck_side,
    "car front": vehicles.car_front, "bus front": vehicles.bus_front, "truck front": vehicles.truck_front,
}


def make_world(seed, held_out=False):
    """A random street. Half of them look across the road, half along it."""
    rng = np.random.default_rng([seed, 77])
    weather = str(rng.choice(list(WEATHER), p=[0.34, 0.2, 0.12, 0.12, 0.08, 0.08, 0.06]))
    world = World(weather, sky={"clouds": rng.random((8, 3)), "hue": float(rng.random())}, camera={}, seed=int(seed))
    world.light = {"night": 0.62, "rain": 0.82, "cloudy": 0.9, "sunset": 0.92}.get(weather, 1.0)
    world.haze = {
        "fog": ((206, 210, 212), 32.0), "night": ((30, 36, 62), 90.0), "sunset": ((236, 180, 140), 110.0),
        "rain": ((158, 166, 176), 70.0), "snow": ((222, 226, 232), 80.0),
    }.get(weather, ((200, 214, 228), 160.0))
    (across if rng.random() < 0.55 else along)(rng, world, held_out)
    world.things.sort(key=lambda t: -t.z)
    return world


def sky_colour(world):
    """The colour name that the sky counts as."""
    return {"clear": "blue", "cloudy": "grey", "rain": "grey", "snow": "white", "fog": "white",
            "sunset": "orange", "night": "black"}[world.weather]


def mark_of(cls, colour):
    return (ID[cls], COLOUR_NAMES.index(colour) + 1 if colour else 0)


def draw(world, height, width, time=0.0, pan=0.0, extra=None):
    """World -> (rgb [H, W, 3] u8, class ids [H, W] u8, colour ids [H, W] u8; 0 = none).

    `time` in seconds moves what has a speed; `pan` in metres moves the camera sideways. `extra(canvas, camera)` draws what else there is.
    """
    canvas = Canvas(height, width)
    camera = Camera(height, width, **world.camera)
    camera.x += pan
    paint_sky(canvas, world, camera, mark_of("sky", sky_colour(world)))
    hazed = Pen(canvas, camera, 0.0, 40.0, mark_of("grass", None), world.haze, world.light)
    snow = 0.65 if world.weather == "snow" else 0.0
    ground = {"grass": GRASS, "road": ROAD, "sidewalk": PAVING, "crosswalk": PAINT}
    for cls, corners in world.bands:
        near = Pen(canvas, camera, 0.0, max(min(z for _, z in corners), 4.0), (ID[cls], 0), world.haze, world.light)
        base = tuple(c + (236 - c) * (snow if cls == "grass" else 0.5 * snow) for c in ground[cls])
        if cls == "crosswalk":  # stripes come with the lines
            canvas.fill([camera.ground(corners)], None, (ID[cls], 0))
        else:
            canvas.fill([camera.ground(corners)], near.shade(base), (ID[cls], 0))
    for corners, colour in world.lines:
        canvas.fill([camera.ground(corners)], hazed.shade(colour))
    for thing in world.things:
        cls = thing.kind.removesuffix(" front")
        x, look = thing.x + thing.speed * time, thing.look
        if thing.speed and "phase" in look:
            look = dict(look, phase=look["phase"] + 4.2 * thing.speed * time)
        elif thing.speed and cls == "bicycle":
            look = dict(look, turn=-thing.speed * time / 0.46)
        pen = Pen(canvas, camera, x, thing.z, mark_of(cls, thing.colour), world.haze, world.light, thing.flip)
        reach = 8.0 * pen.scale  # nothing is wider than 16 m
        if pen.x + reach > 0 and pen.x - reach < width:
            DRAW[thing.kind](pen, look)
            if cls == "bicycle" and thing.look.get("rider"):
                rider(pen, thing, look)
    if extra:
        extra(canvas, camera)
    finish(canvas, world, time)
    return canvas.rgb, canvas.marks[..., 0], canvas.marks[..., 1]


def rider(pen, thing, look):
    """The person on a bicycle, labelled as a person."""
    p = thing.look["rider"]
    pen.mark = mark_of("person", p["colour"])
    knee = 0.1 * np.sin(-look.get("turn", 0.0))
    pen.bar(-0.26, 1.16, 0.16, 0.86 + knee, 0.2, (58, 62, 84))
    pen.bar(0.16, 0.86 + knee, -0.02, 0.34 + knee, 0.16, (58, 62, 84))
    pen.poly([(-0.46, 1.12), (-0.08, 1.1), (0.26, 1.72), (-0.06, 1.84)], p["paint"])
    pen.bar(0.12, 1.68, 0.5, 1.26, 0.13, p["paint"], 0.8)
    pen.disc(0.24, 1.98, 0.18, (40, 30, 26), 0.2)
    pen.disc(0.29, 1.95, 0.14, furniture.SKIN[p["skin"]], 0.16)


def present_in(classes, colours, least=0.004):
    """What a picture or crop shows: [(class name, colour name or None, share)], largest first."""
    pairs = classes.astype(np.int32) * 16 + colours
    codes, counts = np.unique(pairs, return_counts=True)
    found = [
        (CLASSES[code >> 4], COLOUR_NAMES[(code & 15) - 1] if code & 15 else None, count / pairs.size)
        for code, count in zip(codes, counts)
        if count >= least * pairs.size
    ]
    return sorted(found, key=lambda item: -item[2])
