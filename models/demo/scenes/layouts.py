"""Where things stand: a street seen across (vehicles from the side) or along (vehicles from front and back)."""

import numpy as np

from .things import make_thing, pick_colour
from .words import COLOURS

MARKING = (236, 236, 228)


def band(z0, z1, x0=-90.0, x1=90.0):
    """A ground rectangle as corners (x, z)."""
    return [(x0, z0), (x1, z0), (x1, z1), (x0, z1)]


def across(rng, world, held_out):
    """From one pavement over the road to the houses opposite."""
    world.camera = dict(h=rng.uniform(1.9, 4.2), focal=rng.uniform(0.85, 1.6), horizon=rng.uniform(0.3, 0.5))
    near = rng.uniform(5.0, 7.5)                    # where the road begins
    far = near + rng.uniform(6.5, 9.0)              # where it ends
    walk = far + rng.uniform(2.2, 3.5)              # the far pavement's end
    lawn = walk + (rng.uniform(2.0, 6.0) if rng.random() < 0.65 else 0.0)
    near_grass = rng.random() < 0.4
    world.bands = [
        ("grass", band(2.0, 120.0)),
        ("grass" if near_grass else "sidewalk", band(0.5, near)),
        ("road", band(near, far)),
        ("sidewalk", band(far, walk)),
    ]
    kerb = 0.18
    world.lines = [(band(near - kerb, near), (214, 208, 198)), (band(far, far + kerb), (214, 208, 198))]
    middle = 0.5 * (near + far)
    world.lines += [(band(middle - 0.08, middle + 0.08, x, x + 2.0), MARKING) for x in np.arange(-40, 40, 4.0)]
    if rng.random() < 0.45:
        stripes_across(world, rng.uniform(-5, 5), near, far, rng.uniform(2.6, 4.0))

    gap = rng.uniform(0, 0.35)
    x = -42.0
    while x < 42.0:  # the row of houses
        if rng.random() < gap:
            x += rng.uniform(4, 10)
            continue
        house = make_thing(rng, "building", x, lawn + rng.uniform(0.2, 2.5), world, held_out)
        x += house.look["width"] / 2
        house.x = x
        world.things.append(house)
        x += house.look["width"] / 2 + (rng.uniform(0.5, 4) if rng.random() < 0.4 else 0.0)

    def scatter(kind, count, z0, z1, spread=12.0, **look):
        for _ in range(count):
            z = rng.uniform(z0, z1)
            reach = min(spread, 0.95 * z / world.camera["focal"])
            world.things.append(make_thing(rng, kind, rng.uniform(-reach, reach), z, world, held_out, **look))

    scatter("tree", rng.integers(0, 4), walk, lawn + 0.1, 18.0)
    if rng.random() < 0.35:
        scatter("tree", 1, near - 2.0, near - 0.5)
    if rng.random() < 0.45:  # a run of fence before the houses
        start, width = rng.uniform(-14, 2), rng.uniform(3.5, 6.0)
        piece = make_thing(rng, "fence", start, lawn - 0.3, world, held_out, width=width)
        for k in range(int(rng.integers(2, 6))):
            world.things.append(type(piece)("fence", start + k * width, piece.z, piece.look, piece.colour))
    scatter("lamp", rng.integers(0, 3), far + 0.4, far + 0.9)
    scatter("sign", rng.integers(0, 3), *((far + 0.4, far + 1.0) if rng.random() < 0.6 else (near - 1.5, near - 0.4)))
    scatter("traffic light", rng.integers(0, 3) if rng.random() < 0.6 else 0, far + 0.3, far + 0.8)
    scatter("bench", rng.integers(0, 3) if rng.random() < 0.7 else 0, walk - 0.7, walk - 0.1)
    scatter("person", rng.integers(0, 5), far + 0.5, walk - 0.3)
    scatter("person", rng.integers(0, 3), near - 2.2, near - 0.4)
    scatter("dog", rng.integers(0, 3) if rng.random() < 0.6 else 0, near - 2.0, near - 0.4)
    scatter("dog", int(rng.random() < 0.3), far + 0.4, walk - 0.4)
    for lane, toward in ((near + 0.27 * (far - near), 1), (near + 0.76 * (far - near), -1)):
        traffic(rng, world, lane, toward, held_out)
    if rng.random() < 0.45:
        cyclist(rng, world, rng.uniform(-5, 5), near + rng.uniform(0.3, 0.9), held_out)
    if rng.random() < 0.35:
        scatter("bicycle", 1, far + 0.4, walk - 0.4)


def traffic(rng, world, z, toward, held_out):
    """Vehicles of one lane, bumper to bumper with gaps, centred around the view."""
    reach = 0.75 * z / world.camera["focal"] + 3.0
    x = -reach - rng.uniform(0, 8)
    while x < reach:
        kind = str(rng.choice(["car", "bus", "truck"], p=[0.48, 0.26, 0.26]))
        length = {"car": 4.6, "bus": 10.6, "truck": 8.2}[kind]
        if rng.random() < 0.6:
            thing = make_thing(rng, kind, x + length / 2, z, world, held_out)
            thing.flip = toward < 0
            world.things.append(thing)
        x += length + rng.uniform(0.8, 7.0)


def cyclist(rng, world, x, z, held_out):
    """A bicycle with a rider."""
    bike = make_thing(rng, "bicycle", x, z, world, held_out)
    if rng.random() < 0.75:
        colour = pick_colour(rng, "person", held_out)
        bike.look["rider"] = {"colour": colour, "paint": COLOURS[colour], "skin": int(rng.integers(4))}
    world.things.append(bike)
    return bike


def stripes_across(world, x, near, far, width):
    """A zebra crossing over a road that runs along x."""
    world.bands.append(("crosswalk", band(near, far, x - width / 2, x + width / 2)))
    for z in np.arange(near + 0.2, far - 0.4, 1.05):
        world.lines.append((band(z, z + 0.58, x - width / 2, x + width / 2), MARKING))


def along(rng, world, held_out):
    """Down the road to the vanishing point, houses and trees on both sides."""
    world.camera = dict(h=rng.uniform(1.7, 4.0), focal=rng.uniform(0.8, 1.35), horizon=rng.uniform(0.34, 0.52))
    world.camera["x"] = rng.uniform(-3.5, 3.5)
    half = rng.uniform(3.6, 5.5)
    walk = half + rng.uniform(2.0, 3.4)
    verge = walk + (rng.uniform(1.5, 4.5) if rng.random() < 0.6 else 0.3)
    end = 110.0
    world.bands = [
        ("grass", band(1.0, 300.0)),
        ("road", band(0.8, end, -half, half)),
        ("sidewalk", band(0.8, end, -walk, -half)),
        ("sidewalk", band(0.8, end, half, walk)),
    ]
    world.lines = [(band(0.8, end, s * half - 0.1, s * half + 0.1), (214, 208, 198)) for s in (-1, 1)]
    world.lines += [(band(z, z + 2.0, -0.09, 0.09), MARKING) for z in np.arange(3.0, 70.0, 4.0)]
    if rng.random() < 0.55:
        start, depth = rng.uniform(5.0, 11.0), rng.uniform(2.4, 3.6)
        world.bands.append(("crosswalk", band(start, start + depth, -half, half)))
        world.lines += [
            (band(start, start + depth, x, x + 0.55), MARKING) for x in np.arange(-half + 0.2, half - 0.4, 1.05)
        ]

    def stand(kind, x, z, **look):
        thing = make_thing(rng, kind, x, z, world, held_out, **look)
        world.things.append(thing)
        return thing

    for side in (-1, 1):
        z = rng.uniform(10, 16)
        while z < 80:  # houses face the camera, one behind the other
            if rng.random() < 0.75:
                width = rng.uniform(7, 12)
                stand("building", side * (verge + width / 2 + rng.uniform(0, 1.5)), z, width=width)
            z += rng.uniform(7, 13)
        for z in np.arange(rng.uniform(6, 12), 50, rng.uniform(7, 14)):
            if rng.random() < 0.6:
                stand("tree", side * (rng.uniform(walk, verge) + 0.4), z)
        if rng.random() < 0.35:
            stand("fence", side * (verge + 2.0), rng.uniform(8, 14))
        for kind, chance, nearest in (("lamp", 0.55, 7), ("sign", 0.5, 5.5), ("traffic light", 0.45, 6), ("bench", 0.45, 5.5)):
            if rng.random() < chance:
                inner = half + 0.5 if kind != "bench" else walk - 0.7
                thing = stand(kind, side * inner, rng.uniform(nearest, 16))
                thing.flip = side > 0
        for _ in range(rng.integers(0, 4)):
            stand("person", side * rng.uniform(half + 0.5, walk - 0.3), rng.uniform(4.5, 18))
        if rng.random() < 0.35:
            stand("dog", side * rng.uniform(half + 0.5, walk), rng.uniform(4.5, 10))
        if rng.random() < 0.3:
            cyclist(rng, world, side * rng.uniform(half - 1.0, walk - 0.5), rng.uniform(4.5, 10), held_out)
        z = rng.uniform(6, 12)
        while z < 50:  # this side's lane
            if rng.random() < 0.65:
                kind = str(rng.choice(["car front", "bus front", "truck front"], p=[0.46, 0.27, 0.27]))
                stand(kind, side * (half / 2 + rng.uniform(-0.3, 0.3)), z, back=side > 0)
            z += rng.uniform(6, 14)
    if rng.random() < 0.3:  # something crosses the road
        kind = str(rng.choice(["car", "bus", "truck"]))
        stand(kind, rng.uniform(-3, 3), rng.uniform(12, 20))
