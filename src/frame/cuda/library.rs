// SPDX-License-Identifier: MIT OR Apache-2.0
//! The functions of `gstreamer-cuda-1.0` and of the CUDA driver that the bridge calls, loaded at run time.
//!
//! Signatures are those of `gst/cuda/*.h` from GStreamer 1.22 to 1.28: what is called here has not changed between
//! them, and what 1.24 added is optional. The driver's follow NVIDIA's CUDA Driver API reference, sections 6.3, 6.5,
//! 6.8. Nothing here is called unless the driver is installed.

use std::ffi::{c_int, c_uint, c_void};
use std::sync::LazyLock;

use anyhow::{Context, Result, ensure};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

/// `GstCudaContext`, `GstCudaStream`: opaque here.
#[repr(C)]
pub struct GstCudaContext(c_void);
#[repr(C)]
pub struct GstCudaStream(c_void);

/// The public head of `GstCudaMemory`, the same from 1.22 on.
#[repr(C)]
pub struct GstCudaMemory {
    memory: gst::ffi::GstMemory,
    pub context: *mut GstCudaContext,
}

/// `GST_MAP_CUDA`: map the memory of the device, not a copy on the host.
pub const MAP_CUDA: u32 = gst::ffi::GST_MAP_FLAG_LAST << 1;

/// A context of the CUDA driver.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DriverContext(pub *mut c_void);

// SAFETY: a handle, which is compared and handed to C; nothing is reached through it.
unsafe impl Send for DriverContext {}
// SAFETY: as above.
unsafe impl Sync for DriverContext {}

pub struct GstCuda {
    is_cuda_memory: unsafe extern "C" fn(*mut gst::ffi::GstMemory) -> c_int,
    context_new_wrapped: unsafe extern "C" fn(*mut c_void, c_int) -> *mut GstCudaContext,
    context_handle: unsafe extern "C" fn(*mut GstCudaContext) -> *mut c_void,
    new_gst_context: unsafe extern "C" fn(*mut GstCudaContext) -> *mut gst::ffi::GstContext,
    /// Since 1.24: before, memory is complete when it is handed on.
    later: Option<SinceOneTwentyFour>,
    /// Never unloaded: GObject types stay registered.
    _library: Library,
}

struct SinceOneTwentyFour {
    memory_stream: unsafe extern "C" fn(*mut GstCudaMemory) -> *mut GstCudaStream,
    stream_handle: unsafe extern "C" fn(*mut GstCudaStream) -> *mut c_void,
    memory_sync: unsafe extern "C" fn(*mut GstCudaMemory),
}

/// GStreamer's CUDA library, if it and a CUDA driver are installed.
pub fn gst_cuda() -> Result<&'static GstCuda> {
    static LIBRARY: LazyLock<Result<GstCuda, String>> =
        LazyLock::new(|| GstCuda::load().map_err(|error| format!("{error:#}")));
    LIBRARY.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}

fn open(name: &str) -> Result<Library> {
    // SAFETY: loading runs the initialisers of a system library, which are meant to be run so.
    unsafe { Library::open(Some(name), RTLD_NOW | RTLD_LOCAL) }
        .with_context(|| format!("{name} does not load"))
}

/// # Safety
/// `T` is the type of the function of this name.
unsafe fn function<T: Copy>(library: &Library, name: &str) -> Result<T> {
    // SAFETY: by this function's own contract; the callers keep the library loaded.
    let symbol = unsafe { library.get::<T>(name.as_bytes()) };
    Ok(*symbol.with_context(|| format!("a library lacks {name}"))?)
}

impl GstCuda {
    fn load() -> Result<GstCuda> {
        // The driver first: without it, nobody need wait for the other, which pulls in OpenGL.
        driver()?;
        let library = open("libgstcuda-1.0.so.0")?;
        // SAFETY: the types are those of the headers named above.
        unsafe {
            let load_library: unsafe extern "C" fn() -> c_int = function(&library, "gst_cuda_load_library")?;
            let memory_init: unsafe extern "C" fn() = function(&library, "gst_cuda_memory_init_once")?;
            let later = || -> Result<SinceOneTwentyFour> {
                Ok(SinceOneTwentyFour {
                    memory_stream: function(&library, "gst_cuda_memory_get_stream")?,
                    stream_handle: function(&library, "gst_cuda_stream_get_handle")?,
                    memory_sync: function(&library, "gst_cuda_memory_sync")?,
                })
            };
            let loaded = GstCuda {
                is_cuda_memory: function(&library, "gst_is_cuda_memory")?,
                context_new_wrapped: function(&library, "gst_cuda_context_new_wrapped")?,
                context_handle: function(&library, "gst_cuda_context_get_handle")?,
                new_gst_context: function(&library, "gst_context_new_cuda_context")?,
                later: later().ok(),
                _library: library,
            };
            ensure!(load_library() != 0, "GStreamer cannot use this CUDA driver");
            memory_init();
            Ok(loaded)
        }
    }

    pub fn is_cuda_memory(&self, memory: &gst::MemoryRef) -> bool {
        // SAFETY: a valid memory, which is only looked at.
        unsafe { (self.is_cuda_memory)(memory.as_ptr().cast_mut()) != 0 }
    }

    /// The context that the memory belongs to. `memory` must be CUDA memory.
    pub fn context_of(&self, memory: &gst::MemoryRef) -> Result<DriverContext> {
        ensure!(self.is_cuda_memory(memory), "this is no CUDA memory");
        // SAFETY: CUDA memory begins with this structure, whose context lives as long as the memory does.
        unsafe {
            let memory = memory.as_ptr().cast::<GstCudaMemory>();
            ensure!(!(*memory).context.is_null(), "CUDA memory without a context");
            Ok(DriverContext((self.context_handle)((*memory).context)))
        }
    }

    /// The stream whose work the memory waits for; `None`: it is complete.
    pub fn stream_of(&self, memory: &gst::MemoryRef) -> Option<*mut c_void> {
        let later = self.later.as_ref().filter(|_| self.is_cuda_memory(memory))?;
        // SAFETY: CUDA memory, as has just been asked; the stream belongs to it and lives as long.
        unsafe {
            let stream = (later.memory_stream)(memory.as_ptr().cast_mut().cast());
            (!stream.is_null()).then(|| (later.stream_handle)(stream))
        }
    }

    /// Waits, with this thread, until the memory is complete.
    pub fn wait_for(&self, memory: &gst::MemoryRef) {
        if let Some(later) = self.later.as_ref().filter(|_| self.is_cuda_memory(memory)) {
            // SAFETY: CUDA memory, as has just been asked.
            unsafe { (later.memory_sync)(memory.as_ptr().cast_mut().cast()) };
        }
    }

    /// A `GstContext` "gst.cuda.context" around a context of the driver that outlives it.
    pub fn gst_context(&self, handle: DriverContext, device: c_int) -> Result<gst::Context> {
        use gst::glib::translate::from_glib_full;
        // SAFETY: the primary context, which `primary_context` retains for the life of the process. `wrapped` is ours
        // (or null), and the new context takes a reference of its own.
        unsafe {
            let wrapped = (self.context_new_wrapped)(handle.0, device);
            ensure!(!wrapped.is_null(), "GStreamer cannot use the CUDA context of libtorch");
            let context = (self.new_gst_context)(wrapped);
            gst::ffi::gst_object_unref(wrapped.cast());
            ensure!(!context.is_null(), "GStreamer makes no context of it");
            Ok(from_glib_full(context))
        }
    }
}

struct Driver {
    init: unsafe extern "C" fn(c_uint) -> c_int,
    device_get: unsafe extern "C" fn(*mut c_int, c_int) -> c_int,
    primary_retain: unsafe extern "C" fn(*mut *mut c_void, c_int) -> c_int,
    _library: Library,
}

/// The driver's library. Nothing is started yet: a look at the plugin must not wait for a GPU.
fn driver() -> Result<&'static Driver> {
    static DRIVER: LazyLock<Result<Driver, String>> = LazyLock::new(|| {
        let load = || -> Result<Driver> {
            let library = open("libcuda.so.1")?;
            // SAFETY: the types are those of the reference.
            unsafe {
                Ok(Driver {
                    init: function(&library, "cuInit")?,
                    device_get: function(&library, "cuDeviceGet")?,
                    primary_retain: function(&library, "cuDevicePrimaryCtxRetain")?,
                    _library: library,
                })
            }
        };
        load().map_err(|error| format!("{error:#}"))
    });
    DRIVER.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}

/// The device's primary context, which libtorch works in, and the driver's name for the device. It is retained and
/// never released: libtorch does not let go of it either before the process ends.
pub fn primary_context(device: usize) -> Result<(DriverContext, c_int)> {
    let driver = driver()?;
    let (mut name, mut context) = (0, std::ptr::null_mut());
    let index = c_int::try_from(device)?;
    // SAFETY: starting the driver twice is allowed; both are valid places for the results; a device that does not
    // exist gives an error code.
    let code = unsafe {
        match ((driver.init)(0), (driver.device_get)(&mut name, index)) {
            (0, 0) => (driver.primary_retain)(&mut context, name),
            (0, code) | (code, _) => code,
        }
    };
    ensure!(
        code == 0 && !context.is_null(),
        "the CUDA driver has no context for device {device}: error {code}"
    );
    Ok((DriverContext(context), name))
}
