// SPDX-License-Identifier: MIT OR Apache-2.0
// Reads the masks in C with stock GStreamer: prints the regions of each frame that reaches the appsink `out`.
//   cc masks.c $(pkg-config --cflags --libs gstreamer-1.0 gstreamer-video-1.0) -o masks
//   ./masks "filesrc location=a.mp4 ! decodebin ! videoconvert ! videoflip video-direction=auto ! gclipsegment model=DIR prompts=cat ! appsink name=out"
#include <gst/gst.h>
#include <gst/video/video.h>
#include <stdio.h>

// Pixels of the mask that have a value.
static guint count_pixels(GstBuffer *mask, guint value) {
  GstVideoMeta *video = gst_buffer_get_video_meta(mask);
  GstMapInfo map;
  guint count = 0;
  if (!video || !gst_buffer_map(mask, &map, GST_MAP_READ))
    return 0;
  for (guint y = 0; y < video->height; y++) {
    const guint8 *row = map.data + video->offset[0] + (gsize)y * video->stride[0];
    for (guint x = 0; x < video->width; x++)
      count += value == (video->format == GST_VIDEO_FORMAT_GRAY8 ? row[x] : GST_READ_UINT16_LE(row + 2 * x));
  }
  gst_buffer_unmap(mask, &map);
  return count;
}

static void print_masks(GstBuffer *buffer) {
  GstCustomMeta *meta = gst_buffer_get_custom_meta(buffer, "GclipSegmentationMeta");
  if (!meta) {
    printf("no masks\n");
    return;
  }
  GstStructure *masks = gst_custom_meta_get_structure(meta);
  GstBuffer *mask = NULL;
  guint version = 0;
  guint64 generation = 0, age = 0;
  if (!gst_structure_get(masks, "version", G_TYPE_UINT, &version, "generation", G_TYPE_UINT64, &generation, "age",
                         G_TYPE_UINT64, &age, "mask", GST_TYPE_BUFFER, &mask, NULL)) {
    printf("malformed masks\n");
    return;
  }
  GstVideoMeta *video = gst_buffer_get_video_meta(mask);
  printf("version %u generation %" G_GUINT64_FORMAT " age %" G_GUINT64_FORMAT " mask %ux%u\n", version, generation,
         age, video->width, video->height);

  const GValue *regions = gst_structure_get_value(masks, "regions");
  for (guint i = 0; i < gst_value_array_get_size(regions); i++) {
    const GstStructure *region = gst_value_get_structure(gst_value_array_get_value(regions, i));
    guint value = 0;
    gdouble score = 0, area = 0, x = 0, y = 0, w = 0, h = 0;
    gst_structure_get(region, "value", G_TYPE_UINT, &value, "score", G_TYPE_DOUBLE, &score, "area", G_TYPE_DOUBLE,
                      &area, "x", G_TYPE_DOUBLE, &x, "y", G_TYPE_DOUBLE, &y, "w", G_TYPE_DOUBLE, &w, "h",
                      G_TYPE_DOUBLE, &h, NULL);
    printf("  %s value %u score %.3f area %.3f box %.2f,%.2f %.2fx%.2f pixels %u\n",
           gst_structure_get_string(region, "label"), value, score, area, x, y, w, h, count_pixels(mask, value));
  }
  gst_buffer_unref(mask);
}

int main(int argc, char **argv) {
  gst_init(&argc, &argv);
  GError *error = NULL;
  GstElement *pipeline = argc == 2 ? gst_parse_launch(argv[1], &error) : NULL;
  if (!pipeline || error) {
    fprintf(stderr, "%s\n", error ? error->message : "usage: masks PIPELINE");
    return 2;
  }
  GstElement *sink = gst_bin_get_by_name(GST_BIN(pipeline), "out");
  gst_element_set_state(pipeline, GST_STATE_PLAYING);
  GstSample *sample = NULL;
  // NULL at the end of the stream and after an error.
  while (g_signal_emit_by_name(sink, "pull-sample", &sample), sample) {
    print_masks(gst_sample_get_buffer(sample));
    gst_sample_unref(sample);
  }
  GstMessage *message = gst_bus_pop_filtered(GST_ELEMENT_BUS(pipeline), GST_MESSAGE_ERROR);
  gst_element_set_state(pipeline, GST_STATE_NULL);
  gst_object_unref(sink);
  gst_object_unref(pipeline);
  return message != NULL;
}
