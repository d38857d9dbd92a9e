"""Generated street scenes with per-pixel classes and colours: `make_world(seed)`, then `draw(world, height, width)`."""

from .things import World
from .words import CLASSES, COLOUR_NAMES, HELD_OUT, caption
from .world import draw, make_world, present_in

__all__ = ["CLASSES", "COLOUR_NAMES", "HELD_OUT", "World", "caption", "draw", "make_world", "present_in"]
