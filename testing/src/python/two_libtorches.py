# SPDX-License-Identifier: MIT OR Apache-2.0
"""two_libtorches.py FIRST LIBTORCH PIPELINE: loads that file and plays the pipeline, FIRST ("libtorch" or "pipeline") first.

In one process, as a program does that has a torch of its own. Prints the libraries of torch that are loaded in the end.
"""
import ctypes, sys

first, libtorch, pipeline = sys.argv[1:]
PLAYING, NULL = 4, 1
ERROR_OR_END = 1 << 1 | 1 << 0
MINUTE = 60 * 10**9


def load():
    ctypes.CDLL(libtorch)


def play():
    gst = ctypes.CDLL("libgstreamer-1.0.so.0")
    for name in ("gst_parse_launch", "gst_element_get_bus", "gst_bus_timed_pop_filtered"):
        getattr(gst, name).restype = ctypes.c_void_p
    pointer = ctypes.c_void_p
    gst.gst_init(None, None)
    made = gst.gst_parse_launch(pipeline.encode(), None)
    assert made, "the pipeline cannot be made"
    gst.gst_element_set_state(pointer(made), PLAYING)
    bus = gst.gst_element_get_bus(pointer(made))
    assert gst.gst_bus_timed_pop_filtered(pointer(bus), ctypes.c_uint64(MINUTE), ERROR_OR_END), "it does not end"
    gst.gst_element_set_state(pointer(made), NULL)


for act in (load, play) if first == "libtorch" else (play, load):
    act()
files = {line.split()[-1] for line in open("/proc/self/maps") if ".so" in line}
print("\n".join(sorted(file for file in files if file.rsplit("/", 1)[1].startswith(("libtorch", "libgclip_")))))
