// SPDX-License-Identifier: MIT OR Apache-2.0
// An RTSP server with cameras that misbehave on command, on gst-rtsp-server. For tests and for trying things out.
//   cc server.c $(pkg-config --cflags --libs gstreamer-rtsp-server-1.0 gstreamer-app-1.0 gio-2.0) -o rtsp-server
//   ./rtsp-server [PORT [USER:PASSWORD [CERTIFICATE KEY]]]    listens on 127.0.0.1; without a port or with 0 on a free
//                                     one; with certificate and key (PEM) for rtsps://
// Prints `ready PORT`, then answers each command on stdin with `ok` or `error: why`; ends when stdin does.
//   serve NAME WIDTH HEIGHT FPS FILE  camera rtsp://127.0.0.1:PORT/NAME plays the first seconds of a video in a loop,
//                                     encoded once as H.264 of this size; clients that play keep the picture they have
//   drop NAME                         closes the connections of this camera's clients
//   remove NAME                       the same, and new clients get 404
//   stall NAME / resume NAME          connections stay, packets stop / go on
//   launch NAME DESCRIPTION           a camera that is this bin of gst-launch, made anew for each client; payloaders are
//                                     called pay0, pay1, ...
//   alter NAME SHARE                  this share (0..1) of what is said to its clients is altered: lines of headers and
//                                     SDP left out, doubled, their numbers and letters replaced
//   damage NAME SHARE                 this share (0..1) of the packets is lost, cut or overwritten with noise
//   clients NAME                      answers `ok N`: how many are playing
#include <gst/app/gstappsink.h>
#include <gst/app/gstappsrc.h>
#include <gst/rtsp-server/rtsp-server.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Long enough to show movement, short enough to be encoded in about a second.
#define SECONDS 6

typedef struct {
  gchar *path;         // "/NAME"
  GPtrArray *frames;   // GstBuffer: one access unit each, the first of them a key frame
  GstCaps *caps;       // of the frames
  guint fps;
  gboolean stalled;
  gdouble damage;      // share of packets
  gdouble alter;       // share of messages
} Camera;

// One client's copy of a camera.
typedef struct {
  GstElement *source;
  gchar *path;
  GPtrArray *frames;
  guint next;
} Feed;

static GstRTSPServer *server;
// Both threads below use these under the lock.
static GMutex lock;
static GHashTable *cameras; // path -> Camera

// What a feed needs to know of its camera now; false when the camera is gone.
static gboolean camera_state(const gchar *path, gboolean *stalled, gdouble *damage) {
  g_mutex_lock(&lock);
  Camera *camera = g_hash_table_lookup(cameras, path);
  if (camera && stalled)
    *stalled = camera->stalled;
  if (camera && damage)
    *damage = camera->damage;
  g_mutex_unlock(&lock);
  return camera != NULL;
}

// --- pictures -------------------------------------------------------------------------------------------------------

// Decodes the start of a file and encodes it in another size: key frames every second, no reordering, so that the
// frames can be played in a loop and stamped as they are sent.
static gchar *encode(Camera *camera, const gchar *file, guint width, guint height) {
  GError *error = NULL;
  gchar *launch = g_strdup_printf(
      "filesrc name=file ! decodebin ! videorate ! videoscale ! videoconvert"
      " ! video/x-raw,format=I420,width=%u,height=%u,framerate=%u/1,pixel-aspect-ratio=1/1"
      " ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=%u threads=1"
      " ! video/x-h264,stream-format=byte-stream,alignment=au ! appsink name=out sync=false max-buffers=4",
      width, height, camera->fps, camera->fps);
  GstElement *pipeline = gst_parse_launch(launch, &error);
  g_free(launch);
  if (error) {
    gchar *why = g_strdup(error->message);
    g_error_free(error);
    gst_clear_object(&pipeline);
    return why;
  }
  GstElement *source = gst_bin_get_by_name(GST_BIN(pipeline), "file");
  GstElement *sink = gst_bin_get_by_name(GST_BIN(pipeline), "out");
  g_object_set(source, "location", file, NULL);
  gst_element_set_state(pipeline, GST_STATE_PLAYING);
  while (camera->frames->len < SECONDS * camera->fps) {
    GstSample *sample = gst_app_sink_try_pull_sample(GST_APP_SINK(sink), 30 * GST_SECOND);
    if (!sample)
      break;
    if (!camera->caps)
      camera->caps = gst_caps_ref(gst_sample_get_caps(sample));
    GstBuffer *frame = gst_buffer_copy(gst_sample_get_buffer(sample));
    GST_BUFFER_PTS(frame) = GST_BUFFER_DTS(frame) = GST_CLOCK_TIME_NONE;
    g_ptr_array_add(camera->frames, frame);
    gst_sample_unref(sample);
  }
  gst_element_set_state(pipeline, GST_STATE_NULL);
  gst_object_unref(source), gst_object_unref(sink), gst_object_unref(pipeline);
  return camera->frames->len ? NULL : g_strdup_printf("no pictures in %s", file);
}

static gboolean send_next(gpointer data) {
  Feed *feed = data;
  gboolean stalled = FALSE;
  if (!camera_state(feed->path, &stalled, NULL) || stalled || GST_STATE(feed->source) != GST_STATE_PLAYING)
    return G_SOURCE_CONTINUE;
  GstBuffer *frame = gst_buffer_copy(g_ptr_array_index(feed->frames, feed->next));
  feed->next = (feed->next + 1) % feed->frames->len;
  gst_app_src_push_buffer(GST_APP_SRC(feed->source), frame);
  return G_SOURCE_CONTINUE;
}

static void free_feed(gpointer data) {
  Feed *feed = data;
  gst_object_unref(feed->source), g_ptr_array_unref(feed->frames);
  g_free(feed->path);
  g_free(feed);
}

static void remove_timer(gpointer id) { g_source_remove(GPOINTER_TO_UINT(id)); }

// --- packets --------------------------------------------------------------------------------------------------------

// A packet as a bad network leaves it; NULL when it is lost.
static GstBuffer *damaged(GstBuffer *packet) {
  GstMapInfo map;
  gint kind = g_random_int_range(0, 3);
  if (kind == 0)
    return NULL;
  GstBuffer *copy = gst_buffer_copy_deep(packet);
  gsize size = gst_buffer_get_size(copy);
  if (kind == 1 && size > 14) {
    // One in two ends within the headers of its payload.
    gsize longest = g_random_boolean() ? MIN(size, 18) : size;
    gst_buffer_resize(copy, 0, g_random_int_range(13, longest));
  } else if (gst_buffer_map(copy, &map, GST_MAP_WRITE)) {
    // The twelve bytes of the RTP header stay, so that the noise reaches the decoder.
    for (gsize at = 12; at < map.size; at++)
      if (g_random_int_range(0, 4) == 0)
        map.data[at] = g_random_int_range(0, 256);
    gst_buffer_unmap(copy, &map);
  }
  return copy;
}

static GstPadProbeReturn damage_packets(GstPad *pad, GstPadProbeInfo *info, gpointer path) {
  gdouble share = 0;
  (void)pad;
  if (!camera_state(path, NULL, &share) || share <= 0)
    return GST_PAD_PROBE_OK;
  if (GST_PAD_PROBE_INFO_TYPE(info) & GST_PAD_PROBE_TYPE_BUFFER) {
    if (g_random_double() >= share)
      return GST_PAD_PROBE_OK;
    GstBuffer *packet = GST_PAD_PROBE_INFO_BUFFER(info), *worse = damaged(packet);
    if (!worse)
      return GST_PAD_PROBE_DROP;
    gst_buffer_unref(packet);
    GST_PAD_PROBE_INFO_DATA(info) = worse;
    return GST_PAD_PROBE_OK;
  }
  GstBufferList *packets = GST_PAD_PROBE_INFO_BUFFER_LIST(info), *left = gst_buffer_list_new();
  for (guint index = 0; index < gst_buffer_list_length(packets); index++) {
    GstBuffer *packet = gst_buffer_list_get(packets, index);
    GstBuffer *sent = g_random_double() < share ? damaged(packet) : gst_buffer_ref(packet);
    if (sent)
      gst_buffer_list_add(left, sent);
  }
  gst_buffer_list_unref(packets);
  GST_PAD_PROBE_INFO_DATA(info) = left;
  return gst_buffer_list_length(left) > 0 ? GST_PAD_PROBE_OK : GST_PAD_PROBE_DROP;
}

static void forget(gpointer data, GClosure *closure) { (void)closure, g_free(data); }

static void spoil(GstElement *bin, const gchar *path) {
  GstElement *payloader = gst_bin_get_by_name(GST_BIN(bin), "pay0");
  GstPad *pad = gst_element_get_static_pad(payloader, "src");
  gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER | GST_PAD_PROBE_TYPE_BUFFER_LIST, damage_packets, g_strdup(path), g_free);
  gst_object_unref(pad), gst_object_unref(payloader);
}

static void configure(GstRTSPMediaFactory *factory, GstRTSPMedia *media, gpointer path) {
  (void)factory;
  g_mutex_lock(&lock);
  Camera *camera = g_hash_table_lookup(cameras, path);
  if (!camera) {
    g_mutex_unlock(&lock);
    return;
  }
  Feed *feed = g_new0(Feed, 1);
  GstElement *bin = gst_rtsp_media_get_element(media);
  feed->source = gst_bin_get_by_name(GST_BIN(bin), "frames");
  if (!feed->source) {
    // A bin of gst-launch makes its pictures itself.
    g_mutex_unlock(&lock);
    g_free(feed);
    spoil(bin, path);
    gst_object_unref(bin);
    return;
  }
  feed->path = g_strdup(path);
  feed->frames = g_ptr_array_ref(camera->frames);
  g_object_set(feed->source, "caps", camera->caps, NULL);
  guint timer = g_timeout_add_full(G_PRIORITY_DEFAULT, 1000 / camera->fps, send_next, feed, free_feed);
  g_mutex_unlock(&lock);
  // The feed belongs to its timer: GLib frees it when no call of it runs any more.
  g_object_set_data_full(G_OBJECT(media), "timer", GUINT_TO_POINTER(timer), remove_timer);

  spoil(bin, path);
  gst_object_unref(bin);
}

// --- words ----------------------------------------------------------------------------------------------------------

// What a camera says, as one says it whose programmer was in a hurry.
static gchar *altered(const gchar *text, gsize length) {
  gchar *whole = g_strndup(text, length), **lines = g_strsplit(whole, "\r\n", -1);
  GString *worse = g_string_new(NULL);
  for (guint index = 0; lines[index]; index++) {
    gint kind = g_random_int_range(0, 12);
    if (kind == 0)
      continue;
    for (gint times = kind == 1 ? g_random_int_range(2, 40) : 1; times > 0; times--) {
      for (gchar *at = lines[index]; *at; at++) {
        gboolean digit = g_ascii_isdigit(*at), hit = g_random_int_range(0, kind == 2 ? 6 : kind == 3 && digit ? 2 : 400) == 0;
        g_string_append_c(worse, !hit ? *at : digit ? g_random_int_range('0', '9' + 1) : g_random_int_range(' ', 127));
        if (hit && digit && g_random_int_range(0, 4) == 0)
          g_string_append(worse, "99999999999");
      }
      g_string_append(worse, "\r\n");
    }
  }
  g_strfreev(lines), g_free(whole);
  return g_string_free(worse, FALSE);
}

static void alter_message(GstRTSPClient *client, GstRTSPSession *session, GstRTSPMessage *message, gpointer data) {
  const gchar *path = g_object_get_data(G_OBJECT(client), "asked");
  gdouble share = 0;
  (void)session, (void)data;
  g_mutex_lock(&lock);
  Camera *camera = path ? g_hash_table_lookup(cameras, path) : NULL;
  share = camera ? camera->alter : 0;
  g_mutex_unlock(&lock);
  if (g_random_double() >= share)
    return;
  guint8 *body = NULL;
  guint size = 0;
  if (gst_rtsp_message_get_body(message, &body, &size) == GST_RTSP_OK && body && size) {
    gchar *worse = altered((const gchar *)body, size);
    gst_rtsp_message_take_body(message, (guint8 *)worse, strlen(worse));
  }
  // Headers that clients go by.
  static const GstRTSPHeaderField fields[] = {GST_RTSP_HDR_TRANSPORT, GST_RTSP_HDR_SESSION, GST_RTSP_HDR_CONTENT_BASE,
                                              GST_RTSP_HDR_RTP_INFO, GST_RTSP_HDR_RANGE, GST_RTSP_HDR_PUBLIC};
  for (guint index = 0; index < G_N_ELEMENTS(fields); index++) {
    gchar *value = NULL;
    if (gst_rtsp_message_get_header(message, fields[index], &value, 0) != GST_RTSP_OK || g_random_int_range(0, 3))
      continue;
    gchar *worse = g_strchomp(altered(value, strlen(value)));
    gst_rtsp_message_remove_header(message, fields[index], -1);
    if (!strpbrk(worse, "\r\n"))
      gst_rtsp_message_add_header(message, fields[index], worse);
    g_free(worse);
  }
}

// --- clients --------------------------------------------------------------------------------------------------------

static void remember_path(GstRTSPClient *client, GstRTSPContext *context, gpointer data) {
  (void)data;
  g_object_set_data_full(G_OBJECT(client), "path", g_strdup(context->uri->abspath), g_free);
}

static void remember_question(GstRTSPClient *client, GstRTSPContext *context, gpointer data) {
  (void)data;
  g_object_set_data_full(G_OBJECT(client), "asked", g_strdup(context->uri->abspath), g_free);
}

static void greet(GstRTSPServer *of, GstRTSPClient *client, gpointer data) {
  (void)of, (void)data;
  g_signal_connect(client, "describe-request", G_CALLBACK(remember_question), NULL);
  g_signal_connect(client, "play-request", G_CALLBACK(remember_path), NULL);
  g_signal_connect(client, "send-message", G_CALLBACK(alter_message), NULL);
}

typedef struct {
  const gchar *path;
  gboolean close;
  guint count;
} Visit;

static GstRTSPFilterResult visit(GstRTSPServer *of, GstRTSPClient *client, gpointer data) {
  Visit *wanted = data;
  const gchar *path = g_object_get_data(G_OBJECT(client), "path");
  (void)of;
  // The path that was asked for may end in the name of a stream.
  if (!path || !g_str_has_prefix(path, wanted->path) || (path[strlen(wanted->path)] && path[strlen(wanted->path)] != '/'))
    return GST_RTSP_FILTER_KEEP;
  wanted->count++;
  return wanted->close ? GST_RTSP_FILTER_REMOVE : GST_RTSP_FILTER_KEEP;
}

static guint clients_of(const gchar *path, gboolean close) {
  Visit wanted = {path, close, 0};
  g_list_free_full(gst_rtsp_server_client_filter(server, visit, &wanted), g_object_unref);
  return wanted.count;
}

// --- commands -------------------------------------------------------------------------------------------------------

static void free_camera(gpointer data) {
  Camera *camera = data;
  g_ptr_array_unref(camera->frames);
  gst_clear_caps(&camera->caps);
  g_free(camera->path);
  g_free(camera);
}

// From now on clients find the camera, as this bin.
static void offer(Camera *camera, const gchar *launch) {
  gchar *path = g_strdup(camera->path);
  g_mutex_lock(&lock);
  g_hash_table_replace(cameras, camera->path, camera);
  g_mutex_unlock(&lock);

  GstRTSPMediaFactory *factory = gst_rtsp_media_factory_new();
  gst_rtsp_media_factory_set_launch(factory, launch);
  gst_rtsp_media_factory_add_role(factory, "viewer", GST_RTSP_PERM_MEDIA_FACTORY_ACCESS, G_TYPE_BOOLEAN, TRUE,
                                  GST_RTSP_PERM_MEDIA_FACTORY_CONSTRUCT, G_TYPE_BOOLEAN, TRUE, NULL);
  g_signal_connect_data(factory, "media-configure", G_CALLBACK(configure), g_strdup(path), forget, 0);
  GstRTSPMountPoints *mounts = gst_rtsp_server_get_mount_points(server);
  gst_rtsp_mount_points_add_factory(mounts, path, factory);
  g_object_unref(mounts);
  g_free(path);
}

static gchar *launch(const gchar *path, const gchar *description) {
  Camera *camera = g_new0(Camera, 1);
  camera->path = g_strdup(path);
  camera->frames = g_ptr_array_new_with_free_func((GDestroyNotify)gst_buffer_unref);
  GError *error = NULL;
  // Only to see whether it can be made; GStreamer would tell nobody but its log.
  GstElement *bin = gst_parse_launch(description, &error);
  gst_clear_object(&bin);
  if (error) {
    gchar *why = g_strdup(error->message);
    g_error_free(error);
    free_camera(camera);
    return why;
  }
  offer(camera, description);
  return NULL;
}

static gchar *serve(const gchar *path, guint width, guint height, guint fps, const gchar *file) {
  Camera *camera = g_new0(Camera, 1);
  camera->path = g_strdup(path);
  camera->fps = fps;
  camera->frames = g_ptr_array_new_with_free_func((GDestroyNotify)gst_buffer_unref);
  gchar *error = encode(camera, file, width, height);
  if (error) {
    free_camera(camera);
    return error;
  }
  offer(camera, "( appsrc name=frames is-live=true format=time do-timestamp=true ! h264parse"
                " ! rtph264pay name=pay0 pt=96 config-interval=-1 )");
  return NULL;
}

// Carries out one command; returns the answer.
static gchar *obey(const gchar *line) {
  gchar verb[16], name[64];
  guint width, height, fps, file_at = 0;
  if (sscanf(line, "%15s %63s", verb, name) != 2)
    return g_strdup_printf("error: cannot understand `%s`", line);
  gchar *path = g_strconcat("/", name, NULL), *answer = NULL;
  if (!strcmp(verb, "serve")) {
    if (sscanf(line, "serve %*s %u %u %u %n", &width, &height, &fps, &file_at) != 3 || !file_at || fps < 1 || fps > 1000)
      answer = g_strdup("error: serve NAME WIDTH HEIGHT FPS FILE");
    else {
      gchar *error = serve(path, width, height, fps, line + file_at);
      answer = error ? g_strconcat("error: ", error, NULL) : NULL;
      g_free(error);
    }
  } else if (!strcmp(verb, "launch")) {
    gchar *error = launch(path, line + strlen("launch ") + strlen(name) + 1);
    answer = error ? g_strconcat("error: ", error, NULL) : NULL;
    g_free(error);
  } else if (!camera_state(path, NULL, NULL)) {
    answer = g_strdup_printf("error: no camera %s", name);
  } else if (!strcmp(verb, "clients")) {
    answer = g_strdup_printf("ok %u", clients_of(path, FALSE));
  } else {
    g_mutex_lock(&lock);
    Camera *camera = g_hash_table_lookup(cameras, path);
    if (!strcmp(verb, "stall") || !strcmp(verb, "resume"))
      camera->stalled = verb[0] == 's';
    else if (!strcmp(verb, "damage"))
      camera->damage = g_ascii_strtod(line + strlen("damage ") + strlen(name), NULL);
    else if (!strcmp(verb, "alter"))
      camera->alter = g_ascii_strtod(line + strlen("alter ") + strlen(name), NULL);
    else if (strcmp(verb, "drop") && strcmp(verb, "remove"))
      answer = g_strdup_printf("error: no command %s", verb);
    g_mutex_unlock(&lock);
    if (!strcmp(verb, "remove")) {
      GstRTSPMountPoints *mounts = gst_rtsp_server_get_mount_points(server);
      gst_rtsp_mount_points_remove_factory(mounts, path);
      g_object_unref(mounts);
    }
    if (!strcmp(verb, "drop") || !strcmp(verb, "remove"))
      clients_of(path, TRUE);
  }
  g_free(path);
  return answer ? answer : g_strdup("ok");
}

static gpointer read_commands(gpointer loop) {
  gchar line[4096];
  while (fgets(line, sizeof line, stdin)) {
    gchar *answer = obey(g_strchomp(line));
    printf("%s\n", answer);
    fflush(stdout);
    g_free(answer);
  }
  g_main_loop_quit(loop);
  return NULL;
}

// Lets in who knows the password, over TLS if there is a certificate; returns what is wrong with that.
static gchar *guard(const gchar *user_and_password, const gchar *certificate, const gchar *key) {
  gchar **parts = g_strsplit(user_and_password, ":", 2), *basic = gst_rtsp_auth_make_basic(parts[0], parts[1] ? parts[1] : "");
  GstRTSPToken *token = gst_rtsp_token_new(GST_RTSP_TOKEN_MEDIA_FACTORY_ROLE, G_TYPE_STRING, "viewer", NULL);
  GstRTSPAuth *auth = gst_rtsp_auth_new();
  gst_rtsp_auth_add_basic(auth, basic, token);
  gchar *why = NULL;
  if (certificate) {
    GError *error = NULL;
    GTlsCertificate *tls = g_tls_certificate_new_from_files(certificate, key, &error);
    gst_rtsp_auth_set_tls_certificate(auth, tls);
    why = error ? g_strdup(error->message) : NULL;
    g_clear_error(&error);
    g_clear_object(&tls);
  }
  gst_rtsp_server_set_auth(server, auth);
  g_object_unref(auth), gst_rtsp_token_unref(token);
  g_free(basic), g_strfreev(parts);
  return why;
}

int main(int argc, char **argv) {
  gst_init(NULL, NULL);
  cameras = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, free_camera);
  server = gst_rtsp_server_new();
  gst_rtsp_server_set_address(server, "127.0.0.1");
  gst_rtsp_server_set_service(server, argc > 1 ? argv[1] : "0");
  g_signal_connect(server, "client-connected", G_CALLBACK(greet), NULL);
  // A thread per client: one that waits for a stalled camera holds up nobody else.
  GstRTSPThreadPool *threads = gst_rtsp_server_get_thread_pool(server);
  gst_rtsp_thread_pool_set_max_threads(threads, -1);
  g_object_unref(threads);
  gchar *why = argc > 2 ? guard(argv[2], argc > 4 ? argv[3] : NULL, argc > 4 ? argv[4] : NULL) : NULL;
  if (why) {
    fprintf(stderr, "rtsp-server: %s\n", why);
    return 1;
  }
  if (!gst_rtsp_server_attach(server, NULL)) {
    fprintf(stderr, "rtsp-server: cannot listen on port %s\n", argc > 1 ? argv[1] : "0");
    return 1;
  }
  printf("ready %d\n", gst_rtsp_server_get_bound_port(server));
  fflush(stdout);
  GMainLoop *loop = g_main_loop_new(NULL, FALSE);
  g_thread_unref(g_thread_new("commands", read_commands, loop));
  g_main_loop_run(loop);
  return 0;
}
