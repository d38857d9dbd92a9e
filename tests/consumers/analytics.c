// SPDX-License-Identifier: MIT OR Apache-2.0
// Reads the masks of gclipsegment meta=analytics-objects in C as GStreamer's own analytics metadata (1.26 and later):
// prints the regions of every frame that reaches the appsink `out` of the pipeline given as argument.
//   cc analytics.c $(pkg-config --cflags --libs gstreamer-analytics-1.0 gstreamer-video-1.0) -o analytics
#include <gst/analytics/analytics.h>
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

static void print_segmentation(GstAnalyticsRelationMeta *relations, GstAnalyticsSegmentationMtd *segmentation) {
  gint x = 0, y = 0;
  guint w = 0, h = 0;
  GstBuffer *mask = gst_analytics_segmentation_mtd_get_mask(segmentation, &x, &y, &w, &h);
  GstVideoMeta *video = gst_buffer_get_video_meta(mask);
  printf("segmentation of %d,%d %ux%u mask %ux%u\n", x, y, w, h, video->width, video->height);

  GstAnalyticsMtd classes, object;
  gpointer state = NULL;
  if (!gst_analytics_relation_meta_get_direct_related(relations, segmentation->id, GST_ANALYTICS_REL_TYPE_RELATE_TO,
                                                      gst_analytics_cls_mtd_get_mtd_type(), &state, &classes)) {
    printf("no classes\n");
    return;
  }
  for (gsize i = 0; i < gst_analytics_segmentation_mtd_get_region_count(segmentation); i++) {
    guint value = gst_analytics_segmentation_mtd_get_region_id(segmentation, i);
    printf("  %s value %u level %.3f pixels %u\n", g_quark_to_string(gst_analytics_cls_mtd_get_quark(&classes, i)), value,
           gst_analytics_cls_mtd_get_level(&classes, i), count_pixels(mask, value));
  }
  gst_buffer_unref(mask);

  state = NULL;
  while (gst_analytics_relation_meta_get_direct_related(relations, segmentation->id, GST_ANALYTICS_REL_TYPE_RELATE_TO,
                                                        gst_analytics_od_mtd_get_mtd_type(), &state, &object)) {
    gint left, top, width, height;
    gfloat level;
    gst_analytics_od_mtd_get_location(&object, &left, &top, &width, &height, &level);
    printf("  %s box %d,%d %dx%d level %.3f\n", g_quark_to_string(gst_analytics_od_mtd_get_obj_type(&object)), left, top,
           width, height, level);
  }
}

static void print_masks(GstBuffer *buffer) {
  GstAnalyticsRelationMeta *relations = gst_buffer_get_analytics_relation_meta(buffer);
  GstAnalyticsMtd segmentation;
  gpointer state = NULL;
  if (!relations)
    printf("no analytics\n");
  else
    while (gst_analytics_relation_meta_iterate(relations, &state, gst_analytics_segmentation_mtd_get_mtd_type(),
                                               &segmentation))
      print_segmentation(relations, &segmentation);
}

int main(int argc, char **argv) {
  gst_init(&argc, &argv);
  GError *error = NULL;
  GstElement *pipeline = argc == 2 ? gst_parse_launch(argv[1], &error) : NULL;
  if (!pipeline || error) {
    fprintf(stderr, "%s\n", error ? error->message : "usage: analytics PIPELINE");
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
