/* A GStreamer plugin for the tests of the decoder process: a decoder of streams whose codec names what it does. It
 * decodes nothing. */
#include <errno.h>
#include <fcntl.h>
#include <gst/gst.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define PACKAGE "handloom"

typedef struct {
  GstElement element;
  GstPad *sink, *src;
  char what[5];
} TestDecoder;

typedef struct {
  GstElementClass parent;
} TestDecoderClass;

G_DEFINE_TYPE (TestDecoder, test_decoder, GST_TYPE_ELEMENT)

static GstStaticPadTemplate sink_template = GST_STATIC_PAD_TEMPLATE ("sink",
    GST_PAD_SINK, GST_PAD_ALWAYS,
    GST_STATIC_CAPS ("video/x-gst-fourcc-abrt; video/x-gst-fourcc-segv; "
        "video/x-gst-fourcc-gerr; video/x-gst-fourcc-quit; "
        "video/x-gst-fourcc-leak; video/x-gst-fourcc-huge; "
        "video/x-gst-fourcc-hang; video/x-gst-fourcc-prob"));
static GstStaticPadTemplate src_template = GST_STATIC_PAD_TEMPLATE ("src",
    GST_PAD_SRC, GST_PAD_ALWAYS, GST_STATIC_CAPS ("video/x-raw"));

/* What this thread may do that a decoder has no use for. */
static void
probe (char *out, size_t size)
{
  const char *port = getenv ("TEST_PORT"), *file = getenv ("TEST_FILE");
  struct sockaddr_in to = { .sin_family = AF_INET };
  char made[4096];
  int fd;
  to.sin_port = htons (port ? atoi (port) : 1);
  to.sin_addr.s_addr = htonl (INADDR_LOOPBACK);
  snprintf (out, size, "may:");
  fd = socket (AF_INET, SOCK_STREAM, 0);
  if (fd >= 0)
    strncat (out, " socket", size - strlen (out) - 1);
  if (fd >= 0 && connect (fd, (struct sockaddr *) &to, sizeof to) == 0)
    strncat (out, " connect", size - strlen (out) - 1);
  if (socket (AF_UNIX, SOCK_STREAM, 0) >= 0)
    strncat (out, " unix", size - strlen (out) - 1);
  if (file && open (file, O_RDONLY) >= 0)
    strncat (out, " read", size - strlen (out) - 1);
  snprintf (made, sizeof made, "%s.made", file ? file : "/tmp/test");
  if (open (made, O_WRONLY | O_CREAT, 0600) >= 0)
    strncat (out, " write", size - strlen (out) - 1);
  if (kill (getppid (), 0) == 0)
    strncat (out, " signal", size - strlen (out) - 1);
  fd = fork ();
  if (fd == 0)
    _exit (0);
  if (fd > 0)
    strncat (out, " fork", size - strlen (out) - 1);
  if (execl ("/bin/true", "true", NULL) < 0 && errno != EPERM)
    strncat (out, " exec", size - strlen (out) - 1);
}

static GstFlowReturn
chain (GstPad * pad, GstObject * parent, GstBuffer * buffer)
{
  TestDecoder *self = (TestDecoder *) parent;
  char text[200];
  gst_buffer_unref (buffer);
  for (int i = 0; i < 2000; i++)
    fprintf (stderr, "noise of a decoder, line %d\n", i);
  g_critical ("critical of a decoder");
  if (!strcmp (self->what, "abrt"))
    abort ();
  if (!strcmp (self->what, "segv"))
    *(volatile int *) 8 = 1;
  if (!strcmp (self->what, "gerr"))
    g_error ("fatal error of a decoder");
  if (!strcmp (self->what, "quit"))
    _exit (7);
  if (!strcmp (self->what, "huge"))
    g_malloc ((gsize) 1 << 40);
  while (!strcmp (self->what, "leak"))
    memset (malloc (1 << 20), 1, 1 << 20);
  while (!strcmp (self->what, "hang"))
    sleep (1000);
  probe (text, sizeof text);
  GST_ELEMENT_ERROR (self, STREAM, DECODE, ("%s", text), (NULL));
  return GST_FLOW_ERROR;
}

static gboolean
event (GstPad * pad, GstObject * parent, GstEvent * event)
{
  TestDecoder *self = (TestDecoder *) parent;
  if (GST_EVENT_TYPE (event) == GST_EVENT_CAPS) {
    GstCaps *caps;
    const char *name;
    gst_event_parse_caps (event, &caps);
    name = gst_structure_get_name (gst_caps_get_structure (caps, 0));
    g_strlcpy (self->what, name + strlen (name) - 4, sizeof self->what);
    gst_event_unref (event);
    return TRUE;
  }
  return gst_pad_event_default (pad, parent, event);
}

static void
test_decoder_init (TestDecoder * self)
{
  self->sink = gst_pad_new_from_static_template (&sink_template, "sink");
  gst_pad_set_chain_function (self->sink, chain);
  gst_pad_set_event_function (self->sink, event);
  gst_element_add_pad (&self->element, self->sink);
  self->src = gst_pad_new_from_static_template (&src_template, "src");
  gst_element_add_pad (&self->element, self->src);
}

static void
test_decoder_class_init (TestDecoderClass * class)
{
  GstElementClass *element = GST_ELEMENT_CLASS (class);
  gst_element_class_add_static_pad_template (element, &sink_template);
  gst_element_class_add_static_pad_template (element, &src_template);
  gst_element_class_set_static_metadata (element, "Test decoder",
      "Codec/Decoder/Video", "Fails in a chosen way", "Handloom");
}

/* A decoder that never starts. */
typedef TestDecoder TestBlocker;
typedef TestDecoderClass TestBlockerClass;

G_DEFINE_TYPE (TestBlocker, test_blocker, test_decoder_get_type ())

static GstStaticPadTemplate blocker_template = GST_STATIC_PAD_TEMPLATE ("sink",
    GST_PAD_SINK, GST_PAD_ALWAYS, GST_STATIC_CAPS ("video/x-gst-fourcc-blck"));

static GstStateChangeReturn
change_state (GstElement * element, GstStateChange change)
{
  while (change == GST_STATE_CHANGE_NULL_TO_READY)
    sleep (1000);
  return GST_ELEMENT_CLASS (test_blocker_parent_class)->change_state (element,
      change);
}

static void
test_blocker_init (TestBlocker * self)
{
}

static void
test_blocker_class_init (TestBlockerClass * class)
{
  GstElementClass *element = GST_ELEMENT_CLASS (class);
  gst_element_class_add_static_pad_template (element, &blocker_template);
  element->change_state = change_state;
}

static gboolean
init (GstPlugin * plugin)
{
  return gst_element_register (plugin, "handloomtestdec", GST_RANK_PRIMARY,
      test_decoder_get_type ())
      && gst_element_register (plugin, "handloomtestblock", GST_RANK_PRIMARY,
      test_blocker_get_type ());
}

GST_PLUGIN_DEFINE (GST_VERSION_MAJOR, GST_VERSION_MINOR, handloomtest,
    "Test decoder", init, "1", "Proprietary", "handloom", "https://example.org")
