// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames that are in the memory of a GPU (`memory:CUDAMemory`), handed to libtorch where they lie.
//!
//! An address of CUDA memory is good in one context. GStreamer's CUDA elements make a context of their own unless a
//! neighbour offers one; libtorch works in the primary context of its device. So this side offers the primary
//! context, as a `GstContext` "gst.cuda.context", to whoever asks: a decoder that takes it decodes into memory that
//! libtorch reads directly. Memory of another context, or of another GPU, is copied once from device to device, which
//! unified addressing is meant to allow between any two contexts of a process; where the driver refuses that once, such
//! frames pass through the host.
//!
//! A frame may still be in the making on a stream of its producer (GStreamer 1.24 and later): an event of that stream
//! holds libtorch's stream back, and no thread waits.

mod library;

use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use gst::glib::translate::ToGlibPtr;
use gst_video::{VideoFormat, VideoInfo, ffi};
use tch::Device;

use self::library::{DriverContext, GstCuda, MAP_CUDA, gst_cuda, primary_context};
use super::geometry::Area;
use super::lent_planes;
use super::mapped::extents;
use super::pack::has_samples_of_upper_bytes;
use crate::model::cuda::{LentPixels, Stream, Uploader, runtime};

/// The caps feature of frames in the memory of a GPU.
pub const FEATURE: &str = "memory:CUDAMemory";

/// Formats that GStreamer keeps in CUDA memory (1.22) and that the model reads. The two deep ones are what decoders give of
/// 10-bit and 12-bit streams.
pub const FORMATS: [VideoFormat; 10] = [
    VideoFormat::Nv12,
    VideoFormat::P01010le,
    VideoFormat::P016Le,
    VideoFormat::I420,
    VideoFormat::Rgba,
    VideoFormat::Bgra,
    VideoFormat::Rgbx,
    VideoFormat::Bgrx,
    VideoFormat::Rgb,
    VideoFormat::Bgr,
];

/// Whether GStreamer's CUDA library and a CUDA driver are there.
pub fn is_available() -> bool {
    gst_cuda().is_ok()
}

/// The way from GStreamer's CUDA memory to the model's device.
pub struct Bridge {
    library: &'static GstCuda,
    device: usize,
    primary: DriverContext,
    context: gst::Context,
    /// Whether frames of other contexts can be copied on the device, as far as is known.
    copies: AtomicBool,
}

/// How a frame's pixels came to be where the model reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// They are read where the producer put them.
    InPlace,
    /// Copied from another context or GPU, not by way of the host.
    DeviceCopy,
}

impl Bridge {
    /// # Errors
    /// There is no CUDA driver, no CUDA library of GStreamer, or no such device.
    pub fn new(device: usize) -> Result<Bridge> {
        let library = gst_cuda()?;
        let (primary, name) = primary_context(device)?;
        let context = library.gst_context(primary, name)?;
        Ok(Bridge { library, device, primary, context, copies: AtomicBool::new(true) })
    }

    /// The context to offer to other elements.
    pub fn context(&self) -> &gst::Context {
        &self.context
    }

    /// The CUDA memory of a frame, if that is what it is made of.
    fn memory<'a>(&self, buffer: &'a gst::BufferRef) -> Option<&'a gst::MemoryRef> {
        let memory = (buffer.n_memory() == 1).then(|| buffer.peek_memory(0))?;
        self.library.is_cuda_memory(memory).then_some(memory)
    }

    pub fn is_device_frame(&self, buffer: &gst::BufferRef) -> bool {
        self.memory(buffer).is_some()
    }

    /// The pixels of an area of what a frame in CUDA memory stores. `sizes` are the samples a row and the rows of each
    /// plane; `uploader` is asked for only when the frame has to be copied. `None`: it has to pass through the host.
    pub fn pixels(
        &self,
        buffer: &gst::Buffer,
        info: &VideoInfo,
        area: Area,
        sizes: &[(usize, usize)],
        uploader: impl FnOnce() -> Result<Arc<Uploader>>,
    ) -> Result<Option<(LentPixels, Way)>> {
        let memory = self.memory(buffer).context("the frame is not in CUDA memory")?;
        let context = self.library.context_of(memory)?;
        if context != self.primary && !self.copies.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let mapped = Mapped::new(buffer, info)?;
        let words = has_samples_of_upper_bytes(info.format());
        let planes = lent_planes(&extents(&mapped.0, info, area)?, sizes, words)?;
        if context == self.primary {
            let ready = match self.library.stream_of(memory) {
                Some(stream) => {
                    let runtime = runtime()?;
                    runtime.use_device(self.device)?;
                    let event = runtime.event(false)?;
                    event.record(Stream(stream))?;
                    Some(event)
                }
                None => None,
            };
            let device = Device::Cuda(self.device);
            // SAFETY: `mapped` keeps the buffer, so its pool does not hand it out again, and the mapping, so nobody else
            // maps it for writing. The memory is of the primary context, and complete when the event is past.
            let pixels = unsafe { LentPixels::new(device, planes, ready, Box::new(mapped)) };
            return Ok(Some((pixels, Way::InPlace)));
        }
        // An event of a stream orders streams of its own context only, so this one is waited for.
        self.library.wait_for(memory);
        let uploader = uploader()?;
        let copy = || -> Result<LentPixels> {
            // SAFETY: `mapped` keeps the memory readable until the copy has been waited for.
            let (pixels, copied) = unsafe { uploader.copy_from_device(&planes) }?;
            copied.wait()?;
            Ok(pixels)
        };
        match copy() {
            Ok(pixels) => Ok(Some((pixels, Way::DeviceCopy))),
            Err(error) => {
                // Once is enough: the next frame of such a context would be refused in the same way.
                self.copies.store(false, Ordering::Relaxed);
                gst::warning!(
                    gst::CAT_PERFORMANCE,
                    "frames of another CUDA context pass through the host from now on: {error:#}"
                );
                Ok(None)
            }
        }
    }
}

/// A frame, mapped for reading on the device.
struct Mapped(ffi::GstVideoFrame);

// SAFETY: the frame and its maps belong to this value alone; mapping and unmapping may happen on different threads.
unsafe impl Send for Mapped {}

impl Mapped {
    fn new(buffer: &gst::Buffer, info: &VideoInfo) -> Result<Mapped> {
        let mut frame = MaybeUninit::zeroed();
        let flags = gst::ffi::GST_MAP_READ | MAP_CUDA;
        // SAFETY: `frame` is a place for the result, the others are valid; the frame takes its own reference to the
        // buffer. Reading needs no exclusive buffer.
        let done = unsafe {
            ffi::gst_video_frame_map(frame.as_mut_ptr(), info.to_glib_none().0, buffer.as_mut_ptr(), flags)
        };
        ensure!(done != 0, "a frame in CUDA memory cannot be mapped on its device");
        // SAFETY: it has been filled in, as `done` says.
        Ok(Mapped(unsafe { frame.assume_init() }))
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: mapped once in `new`, and unmapped once here.
        unsafe { ffi::gst_video_frame_unmap(&mut self.0) };
    }
}
