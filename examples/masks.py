# SPDX-License-Identifier: MIT OR Apache-2.0
"""Reads the masks in Python with stock GStreamer and numpy: prints the regions of each frame that reaches the appsink
`out`. Needs python3-gst-1.0 (its `map` gives a memoryview, plain python3-gi a copy) and python3-numpy.

    python3 masks.py "filesrc location=a.mp4 ! decodebin ! videoconvert ! videoflip video-direction=auto
        ! gclipsegment model=DIR prompts=cat ! appsink name=out"
"""
import contextlib
import sys

import gi
import numpy as np

gi.require_version("Gst", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import Gst, GstVideo  # noqa: E402


@contextlib.contextmanager
def mask_view(mask):
    """The values of a mask as an array [height, width] over its own memory: no copy, valid inside the `with` alone."""
    video = GstVideo.buffer_get_video_meta(mask)
    kind = np.dtype("u1" if video.format == GstVideo.VideoFormat.GRAY8 else "<u2")
    with mask.map(Gst.MapFlags.READ) as mapped:
        shape, strides = (video.height, video.width), (video.stride[0], kind.itemsize)
        yield np.ndarray(shape, kind, mapped.data, video.offset[0], strides)


def print_masks(buffer):
    meta = buffer.get_custom_meta("GclipSegmentationMeta")
    if meta is None:
        print("no masks")
        return
    masks = meta.get_structure()
    numbers = " ".join(f"{name} {masks.get_value(name)}" for name in ("version", "generation", "age"))
    _, regions = masks.get_array("regions")
    with mask_view(masks.get_value("mask")) as ids:
        print(f"{numbers} mask {ids.shape[1]}x{ids.shape[0]}")
        for i in range(regions.n_values):
            region = regions.get_nth(i).get_value
            print(
                f"  {region('label')} value {region('value')} score {region('score'):.3f}"
                f" area {region('area'):.3f} box {region('x'):.2f},{region('y'):.2f}"
                f" {region('w'):.2f}x{region('h'):.2f} pixels {np.count_nonzero(ids == region('value'))}"
            )


def main():
    Gst.init(None)
    pipeline = Gst.parse_launch(sys.argv[1])
    sink = pipeline.get_by_name("out")
    pipeline.set_state(Gst.State.PLAYING)
    # None at the end of the stream and after an error.
    while (sample := sink.emit("pull-sample")) is not None:
        print_masks(sample.get_buffer())
    error = pipeline.get_bus().pop_filtered(Gst.MessageType.ERROR)
    pipeline.set_state(Gst.State.NULL)
    return 0 if error is None else 1


if __name__ == "__main__":
    sys.exit(main())
