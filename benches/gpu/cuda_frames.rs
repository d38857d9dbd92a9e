// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames in the memory of a GPU, as a decoder would hand them on: from GStreamer's own CUDA buffer pool.

use gst::glib::translate::from_glib_full;
use gst::prelude::*;
use libloading::os::unix::Library;

use crate::Result;

const CONTEXT: &str = "gst.cuda.context";

/// Copies of `frames` in CUDA memory of `context`, and the caps they have. `caps` are those of the frames.
pub fn on_device(
    context: &gst::Context,
    caps: &gst::Caps,
    frames: &[gst::Buffer],
) -> Result<(gst::Caps, Vec<gst::Buffer>)> {
    let info = gst_video::VideoInfo::from_caps(caps)?;
    let mut on_device = caps.clone();
    on_device.make_mut().set_features_simple(Some(gst::CapsFeatures::new(["memory:CUDAMemory"])));
    let owner = context.structure().get::<gst::Object>(CONTEXT)?;
    // SAFETY: a system library, of which the signature below is stated in gst/cuda/gstcudabufferpool.h; the object is
    // the GstCudaContext that the structure is for, and the pool takes its own reference to it.
    let pool: gst::BufferPool = unsafe {
        let library = Library::new("libgstcuda-1.0.so.0")?;
        let new = library
            .get::<unsafe extern "C" fn(*mut gst::ffi::GstObject) -> *mut gst::ffi::GstBufferPool>(
                b"gst_cuda_buffer_pool_new",
            )?;
        let pool = new(owner.as_ptr());
        std::mem::forget(library);
        if pool.is_null() {
            return Err("GStreamer makes no pool of CUDA memory".into());
        }
        from_glib_full(pool)
    };
    let mut config = pool.config();
    config.set_params(Some(&on_device), u32::try_from(info.size())?, 0, 0);
    config.add_option(gst_video::BUFFER_POOL_OPTION_VIDEO_META);
    pool.set_config(config)?;
    pool.set_active(true)?;
    let copy = |frame: &gst::Buffer| -> Result<gst::Buffer> {
        let mut buffer = pool.acquire_buffer(None)?;
        let source = gst_video::VideoFrameRef::from_buffer_ref_readable(frame, &info)?;
        let target = buffer.get_mut().ok_or("a fresh buffer that is shared")?;
        let mut target = gst_video::VideoFrameRef::from_buffer_ref_writable(target, &info)?;
        source.copy(&mut target)?;
        drop(target);
        Ok(buffer)
    };
    let buffers = frames.iter().map(copy).collect::<Result<Vec<_>>>()?;
    // Buffers that are out keep their memory; none is to be made again.
    std::mem::forget(pool);
    Ok((on_device, buffers))
}
