# SPDX-License-Identifier: MIT OR Apache-2.0
"""Reads the masks of gclipsegment meta=analytics-objects in Python as GStreamer's own analytics metadata (1.26 and
later, packages python3-gi and gir1.2-gst-plugins-bad-1.0): prints the regions of every frame that reaches the appsink
`out` of the pipeline given as argument.
"""
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstVideo", "1.0")
gi.require_version("GstAnalytics", "1.0")
from gi.repository import GLib, Gst, GstAnalytics, GstVideo  # noqa: E402


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
    relations = GstAnalytics.buffer_get_analytics_relation_meta(buffer)
    if relations is None:
        print("no analytics")
        return
    ids = range(GstAnalytics.relation_get_length(relations))

    def of_type(get):
        return [mtd for found, mtd in map(get, ids) if found]

    for segmentation in of_type(relations.get_segmentation_mtd):
        def related(mtd):
            return relations.get_relation(segmentation.id, mtd.id) & GstAnalytics.RelTypes.RELATE_TO

        mask, x, y, w, h = segmentation.get_mask()
        video = GstVideo.buffer_get_video_meta(mask)
        print(f"segmentation of {x},{y} {w}x{h} mask {video.width}x{video.height}")
        values = mask_values(mask)
        classes = next(filter(related, of_type(relations.get_cls_mtd)))
        for i in range(segmentation.get_region_count()):
            value = segmentation.get_region_id(i)
            label = GLib.quark_to_string(classes.get_quark(i))
            print(f"  {label} value {value} level {classes.get_level(i):.3f} pixels {values.count(value)}")
        for thing in filter(related, of_type(relations.get_od_mtd)):
            _, left, top, width, height, level = thing.get_location()
            label = GLib.quark_to_string(thing.get_obj_type())
            print(f"  {label} box {left},{top} {width}x{height} level {level:.3f}")


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
