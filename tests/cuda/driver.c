/* SPDX-License-Identifier: MIT OR Apache-2.0
 * A CUDA driver for machines without a GPU: one device, whose memory is that of the host. Enough of it for the CUDA
 * library of GStreamer 1.22 to make contexts, pools and frames, so that what the element does with them can be tested. It counts
 * the copies from the "device" to the host. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int Result;
typedef uintptr_t Address;

typedef struct {
  size_t src_x, src_y;
  int src_type; /* 1 host, 2 device */
  const void *src_host;
  Address src_device;
  void *src_array;
  size_t src_pitch;
  size_t dst_x, dst_y;
  int dst_type;
  void *dst_host;
  Address dst_device;
  void *dst_array;
  size_t dst_pitch;
  size_t width, height;
} Copy2D;

static int downloads, primary, contexts;

int played_downloads (void) { return downloads; }
void *played_primary (void) { return &primary; }

Result cuInit (unsigned flags) { return 0; }
Result cuGetErrorName (Result code, const char **text) { *text = "PLAYED_ERROR"; return 0; }
Result cuGetErrorString (Result code, const char **text) { *text = "an error that is played"; return 0; }
Result cuDriverGetVersion (int *version) { *version = 13000; return 0; }
Result cuDeviceGetCount (int *count) { *count = 1; return 0; }
Result cuDeviceGet (int *device, int index) { *device = index; return index == 0 ? 0 : 101; }
Result cuDeviceGetName (char *name, int length, int device) { snprintf (name, length, "a played GPU"); return 0; }
Result cuDeviceGetAttribute (int *value, int which, int device) { *value = 512; return 0; }
Result cuDeviceCanAccessPeer (int *can, int device, int peer) { *can = 0; return 0; }
Result cuDevicePrimaryCtxRetain (void **context, int device) { *context = &primary; return 0; }
Result cuCtxCreate_v2 (void **context, unsigned flags, int device) { *context = malloc (1); contexts++; return 0; }
Result cuCtxDestroy_v2 (void *context) { free (context); contexts--; return 0; }
Result cuCtxPushCurrent_v2 (void *context) { return 0; }
Result cuCtxPopCurrent_v2 (void **context) { return 0; }
Result cuCtxEnablePeerAccess (void *context, unsigned flags) { return 0; }
Result cuCtxDisablePeerAccess (void *context) { return 0; }
Result cuMemAlloc_v2 (Address *address, unsigned bytes) { *address = (Address) malloc (bytes); return 0; }
Result cuMemFree_v2 (Address address) { free ((void *) address); return 0; }
Result cuMemAllocHost_v2 (void **memory, unsigned bytes) { *memory = malloc (bytes); return 0; }
Result cuMemFreeHost (void *memory) { free (memory); return 0; }

Result cuMemAllocPitch_v2 (Address *address, size_t *pitch, size_t width, size_t height, unsigned element)
{
  *pitch = (width + 511) / 512 * 512;
  *address = (Address) malloc (*pitch * height);
  memset ((void *) *address, 0xEE, *pitch * height);
  return 0;
}

Result cuMemcpy2D_v2 (const Copy2D *copy)
{
  const char *from = copy->src_type == 1 ? copy->src_host : (const char *) copy->src_device;
  char *to = copy->dst_type == 1 ? copy->dst_host : (char *) copy->dst_device;
  if (copy->src_type == 2 && copy->dst_type == 1)
    downloads++;
  for (size_t row = 0; row < copy->height; row++)
    memcpy (to + (copy->dst_y + row) * copy->dst_pitch + copy->dst_x,
        from + (copy->src_y + row) * copy->src_pitch + copy->src_x, copy->width);
  return 0;
}

Result cuMemcpy2DAsync_v2 (const Copy2D *copy, void *stream) { return cuMemcpy2D_v2 (copy); }
Result cuStreamCreate (void **stream, unsigned flags) { *stream = malloc (1); return 0; }
Result cuStreamDestroy (void *stream) { free (stream); return 0; }
Result cuStreamSynchronize (void *stream) { return 0; }

/* Named by the library when it loads, and never called by what is tested. */
#define NEVER(name) Result name (void) { return 801; }
NEVER (cuGLGetDevices_v2)
NEVER (cuGraphicsGLRegisterBuffer)
NEVER (cuGraphicsGLRegisterImage)
NEVER (cuGraphicsMapResources)
NEVER (cuGraphicsResourceGetMappedPointer_v2)
NEVER (cuGraphicsResourceSetMapFlags_v2)
NEVER (cuGraphicsSubResourceGetMappedArray)
NEVER (cuGraphicsUnmapResources)
NEVER (cuGraphicsUnregisterResource)
NEVER (cuLaunchKernel)
NEVER (cuModuleGetFunction)
NEVER (cuModuleLoadData)
NEVER (cuModuleUnload)
NEVER (cuTexObjectCreate)
NEVER (cuTexObjectDestroy)
