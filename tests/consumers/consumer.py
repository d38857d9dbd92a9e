# SPDX-License-Identifier: MIT OR Apache-2.0
"""Reads GclipSegmentationMeta in Python with stock GStreamer (python3-gi is enough): prints the regions of every
frame that reaches the appsink `out` of the pipeline given as argument.

    python3 consumer.py "filesrc location=a.mp4 ! decodebin ! videoconvert
        ! gclipsegment model=DIR prompts=cat ! appsink name=out"
"""
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import Gst, GstVideo  # noqa: E402


def mask_values(mask):
    """All values of a mask, row by row, without the padding."""
    video = GstVideo.buffer_get_video_meta(mask)
    code = "B" if video.format == GstVideo.VideoFormat.GRAY8 else "H"
    ok, mapped = mask.map(Gst.MapFlags.READ)
    if not ok:
        return []
    try:
        data, values = memoryview(mapped.data), []
        for y in range(video.height):
            start = video.offset[0] + y * video.stride[0]
            values += data[start:start + video.width * (2 if code == "H" else 1)].cast(code)
        return values
    finally:
        mask.unmap(mapped)


def print_masks(buffer):
    meta = buffer.get_custom_meta("GclipSegmentationMeta")
    if meta is None:
        print("no masks")
        return
    masks = meta.get_structure()
    mask = masks.get_value("mask")
    video = GstVideo.buffer_get_video_meta(mask)
    numbers = " ".join(f"{name} {masks.get_value(name)}" for name in ("version", "generation", "age"))
    print(f"{numbers} mask {video.width}x{video.height}")
    values = mask_values(mask)
    _, regions = masks.get_array("regions")
    for i in range(regions.n_values):
        region = regions.get_nth(i)
        value = region.get_value
        print(
            f"  {value('label')} value {value('value')} score {value('score'):.3f} area {value('area'):.3f}"
            f" box {value('x'):.2f},{value('y'):.2f} {value('w'):.2f}x{value('h'):.2f}"
            f" pixels {values.count(value('value'))}"
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


sys.exit(main())
