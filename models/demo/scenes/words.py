"""The vocabulary of the street: classes, names, colours, and the grammar that captions are made from."""

import numpy as np

# class -> names. The first name is the class's own; the rest are synonyms, then come the plurals.
NAMES = {
    "sky": (["sky", "open sky", "heaven"], ["skies"]),
    "building": (["building", "house", "apartment building", "edifice", "facade"], ["buildings", "houses"]),
    "tree": (["tree", "leafy tree", "foliage"], ["trees"]),
    "grass": (["grass", "lawn", "turf", "green verge"], ["grass verges", "lawns"]),
    "road": (["road", "roadway", "asphalt", "tarmac", "carriageway"], ["roads"]),
    "sidewalk": (["sidewalk", "pavement", "footpath", "walkway"], ["sidewalks", "footpaths"]),
    "crosswalk": (["crosswalk", "zebra crossing", "pedestrian crossing"], ["crosswalks", "zebra crossings"]),
    "fence": (["fence", "picket fence", "railing"], ["fences", "railings"]),
    "car": (["car", "automobile", "motorcar", "sedan"], ["cars", "automobiles"]),
    "bus": (["bus", "city bus", "coach", "omnibus"], ["buses", "coaches"]),
    "truck": (["truck", "lorry", "delivery truck", "cargo truck"], ["trucks", "lorries"]),
    "person": (["person", "pedestrian", "human", "man", "woman"], ["people", "pedestrians", "men", "women"]),
    "bicycle": (["bicycle", "bike", "pushbike"], ["bicycles", "bikes"]),
    "dog": (["dog", "puppy", "hound"], ["dogs", "puppies"]),
    "traffic light": (["traffic light", "traffic signal", "stoplight"], ["traffic lights", "traffic signals"]),
    "sign": (["sign", "traffic sign", "road sign", "street sign"], ["signs", "road signs"]),
    "lamp": (["lamp", "street lamp", "lamp post", "streetlight"], ["lamps", "street lamps"]),
    "bench": (["bench", "park bench", "wooden seat"], ["benches", "park benches"]),
}
CLASSES = list(NAMES)  # the label id is the place in this list
ID = {name: i for i, name in enumerate(CLASSES)}

COLOURS = {
    "red": (200, 42, 38), "orange": (236, 128, 30), "yellow": (242, 206, 48), "green": (46, 140, 66),
    "blue": (42, 92, 196), "purple": (124, 58, 156), "pink": (236, 134, 176), "brown": (122, 78, 46),
    "black": (34, 34, 40), "grey": (132, 136, 142), "white": (236, 236, 232),
}
COLOUR_NAMES = list(COLOURS)  # the attribute id is the place in this list plus one; 0 = no colour is told
COLOUR_WORDS = {name: [name] for name in COLOURS}
COLOUR_WORDS.update(red=["red", "crimson"], purple=["purple", "violet"], grey=["grey", "gray"])

PAINT = [c for c in COLOURS if c != "brown"]
COLOURS_OF = {
    "car": PAINT, "bus": PAINT, "truck": PAINT, "person": list(COLOURS), "bicycle": PAINT,
    "building": ["red", "orange", "yellow", "green", "blue", "pink", "brown", "grey", "white"],
    "dog": ["black", "white", "brown", "grey", "orange"],
    "bench": ["brown", "green", "red", "blue", "grey", "yellow", "purple"],
    "fence": ["white", "brown", "black", "green", "grey", "blue", "red"],
    "sign": ["red", "blue", "yellow", "green", "white", "orange"],
    "tree": ["green", "orange", "yellow", "pink"],
}
# (class, colour) pairs that training never sees together.
HELD_OUT = {
    ("car", "green"), ("car", "purple"), ("bus", "blue"), ("bus", "white"), ("truck", "red"),
    ("truck", "yellow"), ("person", "orange"), ("building", "pink"), ("bicycle", "red"),
}

WEATHER = {
    "clear": ["on a sunny day", "in bright daylight", "on a clear day"],
    "cloudy": ["on a cloudy day", "under grey clouds", "on an overcast day"],
    "sunset": ["at sunset", "in the evening", "at dusk"],
    "night": ["at night", "after dark", "in the dark"],
    "rain": ["in the rain", "on a rainy day"],
    "snow": ["in the snow", "in winter"],
    "fog": ["in fog", "on a misty morning"],
}
PLACES = ["a street", "a city street", "a road in town", "a street scene", "a view of a street"]
CONNECT = [" with {}", ", {}", ": {}", " where there is {}"]


def article(noun):
    """"an" before a vowel, else "a"."""
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def name_of(rng, cls, plain=0.4, plural=0.15):
    """One name of a class: its own with probability `plain`, else a synonym or (sometimes) a plural."""
    singles, plurals = NAMES[cls]
    roll = rng.random()
    if roll < plain:
        return singles[0]
    if roll > 1.0 - plural:
        return plurals[rng.integers(len(plurals))]
    return singles[rng.integers(len(singles))]


def phrase(rng, cls, colour=None, plain=0.4):
    """A noun phrase: "car", "red car", "automobile that is red" ... `colour` is a colour's name or None."""
    noun = name_of(rng, cls, plain)
    if colour is None:
        return noun
    word = COLOUR_WORDS[colour][rng.integers(len(COLOUR_WORDS[colour]))]
    if cls == "person":
        return f"{noun} in {word}" if rng.random() < 0.6 else f"{word} {noun}"
    return f"{word} {noun}" if rng.random() < 0.85 else f"{noun} that is {word}"


def templated(rng, text, templates, bare=0.3):
    """`text` alone with probability `bare`, else in one of the templates."""
    if rng.random() < bare:
        return text
    return templates[rng.integers(len(templates))].format(text)


def caption(rng, present, weather):
    """A sentence for a picture or a crop.

    present: [(class name, colour name or None, share of the area)], largest first.
    """
    weights = np.array([area for _, _, area in present]) ** 0.4
    count = min(len(present), int(rng.integers(1, 6)))
    chosen = rng.choice(len(present), count, replace=False, p=weights / weights.sum())
    parts = []
    for i in chosen:
        cls, colour, _ = present[i]
        text = phrase(rng, cls, colour if rng.random() < 0.6 else None)
        parts.append(article(text) if rng.random() < 0.6 else text)
    listing = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
    roll = rng.random()
    if roll < 0.4:
        sentence = listing
    else:
        sentence = PLACES[rng.integers(len(PLACES))] + CONNECT[rng.integers(len(CONNECT))].format(listing)
    if rng.random() < 0.4:
        sentence += " " + WEATHER[weather][rng.integers(len(WEATHER[weather]))]
    return sentence
