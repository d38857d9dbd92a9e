// SPDX-License-Identifier: MIT OR Apache-2.0
//! The CUDA runtime, as far as it is needed, by the names its library exports.
//!
//! The library is the one that libtorch has loaded: streams, events and addresses of the one mean the same to the
//! other, as both use the primary context of the device. Signatures follow NVIDIA's CUDA Runtime API reference,
//! sections 6.1, 6.4, 6.5, 6.9; they are the same in CUDA 11, 12 and 13.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

type Code = c_int;
const SUCCESS: Code = 0;
/// `cudaErrorNotReady`: work is still under way.
const NOT_READY: Code = 600;
/// `cudaMemcpyDefault`: where the two ends lie follows from their addresses, which are unique in the process.
const FROM_ADDRESSES: c_int = 4;
/// `cudaStreamNonBlocking`: the legacy default stream, on which libtorch computes, neither waits nor is waited for.
const NON_BLOCKING: c_uint = 1;
/// `cudaHostAllocDefault`
const PAGE_LOCKED: c_uint = 0;
/// `cudaEventDisableTiming`
const WITHOUT_TIME: c_uint = 2;

/// Declares the table of functions, and how it is read from a library.
macro_rules! functions {
    ($($name:ident = $symbol:literal: fn($($argument:ty),*) -> $result:ty;)*) => {
        /// The functions of the runtime, under short names.
        #[derive(Clone, Copy)]
        pub(super) struct Functions {
            $(pub $name: unsafe extern "C" fn($($argument),*) -> $result,)*
        }

        impl Functions {
            fn of(library: &Library) -> Result<Functions> {
                Ok(Functions {
                    // SAFETY: the type is that of this function in NVIDIA's reference. The library stays loaded: it
                    // belongs to libtorch, which is never unloaded, and `runtime` keeps its own handle too.
                    $($name: *unsafe { library.get($symbol.as_bytes()) }
                        .with_context(|| format!("the CUDA runtime has no {}", $symbol))?,)*
                })
            }
        }
    };
}

functions! {
    set_device = "cudaSetDevice": fn(c_int) -> Code;
    malloc = "cudaMalloc": fn(*mut *mut c_void, usize) -> Code;
    free = "cudaFree": fn(*mut c_void) -> Code;
    host_alloc = "cudaHostAlloc": fn(*mut *mut c_void, usize, c_uint) -> Code;
    free_host = "cudaFreeHost": fn(*mut c_void) -> Code;
    memory = "cudaMemGetInfo": fn(*mut usize, *mut usize) -> Code;
    copy = "cudaMemcpyAsync": fn(*mut c_void, *const c_void, usize, c_int, *mut c_void) -> Code;
    copy_rows = "cudaMemcpy2DAsync": fn(*mut c_void, usize, *const c_void, usize, usize, usize, c_int, *mut c_void) -> Code;
    stream_create = "cudaStreamCreateWithFlags": fn(*mut *mut c_void, c_uint) -> Code;
    stream_destroy = "cudaStreamDestroy": fn(*mut c_void) -> Code;
    event_create = "cudaEventCreateWithFlags": fn(*mut *mut c_void, c_uint) -> Code;
    event_destroy = "cudaEventDestroy": fn(*mut c_void) -> Code;
    event_record = "cudaEventRecord": fn(*mut c_void, *mut c_void) -> Code;
    event_query = "cudaEventQuery": fn(*mut c_void) -> Code;
    event_synchronize = "cudaEventSynchronize": fn(*mut c_void) -> Code;
    event_elapsed = "cudaEventElapsedTime": fn(*mut f32, *mut c_void, *mut c_void) -> Code;
    stream_wait = "cudaStreamWaitEvent": fn(*mut c_void, *mut c_void, c_uint) -> Code;
    last_error = "cudaGetLastError": fn() -> Code;
    error_text = "cudaGetErrorString": fn(Code) -> *const c_char;
}

/// The CUDA runtime of this process. Every call concerns the device that [`Runtime::use_device`] chose for the thread.
pub struct Runtime {
    functions: Functions,
    _library: Option<Library>,
}

/// The runtime that libtorch uses.
///
/// # Errors
/// libtorch has not loaded it, or it lacks a function.
pub fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    RUNTIME
        .get_or_init(|| load().map_err(|error| format!("{error:#}")))
        .as_ref()
        .map_err(|error| anyhow::anyhow!("{error}"))
}

fn load() -> Result<Runtime> {
    let file = loaded_file("libcudart.so").context("libtorch has not loaded the CUDA runtime")?;
    // SAFETY: the library is loaded already, so no initialiser runs a second time: this only adds a handle.
    let library = unsafe { Library::open(Some(&file), RTLD_NOW | RTLD_LOCAL) }?;
    Ok(Runtime { functions: Functions::of(&library)?, _library: Some(library) })
}

/// The file of a loaded library whose name starts so, as in `libcudart.so.13`.
pub fn loaded_file(name: &str) -> Option<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let files = maps.lines().filter_map(|line| Some(PathBuf::from(&line[line.find('/')?..])));
    let named =
        |file: &PathBuf| file.file_name().is_some_and(|found| found.to_string_lossy().starts_with(name));
    files.into_iter().find(named)
}

/// A queue of work of a device, by CUDA's handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream(pub *mut c_void);

impl Stream {
    /// The legacy default stream, on which libtorch computes.
    pub const COMPUTE: Stream = Stream(std::ptr::null_mut());
}

// SAFETY: a handle, which any thread may give to the runtime; CUDA's own functions are thread-safe.
unsafe impl Send for Stream {}
// SAFETY: as above; nothing is behind a shared reference but the handle's value.
unsafe impl Sync for Stream {}

/// A point in the work of a stream.
pub struct Event {
    runtime: &'static Runtime,
    handle: *mut c_void,
}

// SAFETY: a handle, which any thread may give to the runtime.
unsafe impl Send for Event {}
// SAFETY: recording, waiting and asking may happen from several threads at once by CUDA's rules.
unsafe impl Sync for Event {}

impl Runtime {
    #[cfg(test)]
    pub(super) fn of_functions(functions: Functions) -> Runtime {
        Runtime { functions, _library: None }
    }

    fn check(&self, what: &str, code: Code) -> Result<()> {
        if code == SUCCESS {
            return Ok(());
        }
        // SAFETY: takes no pointer; gives a text of static lifetime. `last_error` takes the error off the thread, so
        // that libtorch, which looks there after each of its own calls, does not take it for its own.
        let text = unsafe {
            (self.functions.last_error)();
            (self.functions.error_text)(code)
        };
        if text.is_null() {
            bail!("CUDA cannot {what}: error {code}");
        }
        // SAFETY: not null, and the runtime's texts are C strings that live as long as the library.
        let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
        bail!("CUDA cannot {what}: {text}")
    }

    /// Makes `device` the one that this thread's calls are about.
    pub fn use_device(&self, device: usize) -> Result<()> {
        // SAFETY: takes a number; one that is no device gives an error code.
        self.check("use the device", unsafe { (self.functions.set_device)(device as c_int) })
    }

    /// Memory of the device: its address.
    pub fn allocate(&self, bytes: usize) -> Result<u64> {
        let mut address = std::ptr::null_mut();
        // SAFETY: `address` is a valid place for the result.
        self.check("allocate memory on the device", unsafe { (self.functions.malloc)(&mut address, bytes) })?;
        Ok(address as u64)
    }

    /// # Safety
    /// `address` is from [`Runtime::allocate`] and nobody uses that memory any more.
    pub unsafe fn free(&self, address: u64) -> Result<()> {
        // SAFETY: by this function's own contract.
        self.check("free memory of the device", unsafe { (self.functions.free)(address as *mut c_void) })
    }

    /// Page-locked memory of the host, which the device copies from and to by itself.
    pub fn allocate_host(&self, bytes: usize) -> Result<*mut u8> {
        let mut memory = std::ptr::null_mut();
        // SAFETY: `memory` is a valid place for the result.
        let code = unsafe { (self.functions.host_alloc)(&mut memory, bytes, PAGE_LOCKED) };
        self.check("allocate page-locked memory", code)?;
        Ok(memory.cast())
    }

    /// # Safety
    /// `memory` is from [`Runtime::allocate_host`], and neither the host nor a copy under way uses it any more.
    pub unsafe fn free_host(&self, memory: *mut u8) -> Result<()> {
        // SAFETY: by this function's own contract.
        self.check("free page-locked memory", unsafe { (self.functions.free_host)(memory.cast()) })
    }

    /// Free and total bytes of the device.
    pub fn memory(&self) -> Result<(usize, usize)> {
        let (mut free, mut total) = (0, 0);
        // SAFETY: both are valid places for the results.
        self.check("ask for memory", unsafe { (self.functions.memory)(&mut free, &mut total) })?;
        Ok((free, total))
    }

    pub fn stream(&self) -> Result<Stream> {
        let mut handle = std::ptr::null_mut();
        // SAFETY: `handle` is a valid place for the result.
        let code = unsafe { (self.functions.stream_create)(&mut handle, NON_BLOCKING) };
        self.check("make a stream", code)?;
        Ok(Stream(handle))
    }

    /// # Safety
    /// `stream` is from [`Runtime::stream`], and nobody names it any more. Work it was given still gets done.
    pub unsafe fn end_stream(&self, stream: Stream) -> Result<()> {
        // SAFETY: by this function's own contract.
        self.check("end a stream", unsafe { (self.functions.stream_destroy)(stream.0) })
    }

    /// Copies `bytes` from one address to another, in the order of `stream`.
    ///
    /// # Safety
    /// Both are readable, or writable, for `bytes` until the stream has passed this point.
    pub unsafe fn copy(&self, to: u64, from: u64, bytes: usize, stream: Stream) -> Result<()> {
        // SAFETY: by this function's own contract.
        let code = unsafe {
            (self.functions.copy)(to as *mut c_void, from as *const c_void, bytes, FROM_ADDRESSES, stream.0)
        };
        self.check("copy", code)
    }

    /// Copies `rows` rows of `bytes`, each `from_stride` after the one before, to rows `to_stride` apart.
    ///
    /// # Safety
    /// As [`Runtime::copy`], for every row.
    pub unsafe fn copy_rows(
        &self,
        (to, to_stride): (u64, usize),
        (from, from_stride): (u64, usize),
        (bytes, rows): (usize, usize),
        stream: Stream,
    ) -> Result<()> {
        // SAFETY: by this function's own contract.
        let code = unsafe {
            let (to, from) = (to as *mut c_void, from as *const c_void);
            (self.functions.copy_rows)(
                to,
                to_stride,
                from,
                from_stride,
                bytes,
                rows,
                FROM_ADDRESSES,
                stream.0,
            )
        };
        self.check("copy rows", code)
    }

    /// An event; `timed` ones cost a little more, and know when they came to pass.
    pub fn event(&'static self, timed: bool) -> Result<Event> {
        let mut handle = std::ptr::null_mut();
        // SAFETY: `handle` is a valid place for the result.
        let code =
            unsafe { (self.functions.event_create)(&mut handle, if timed { 0 } else { WITHOUT_TIME }) };
        self.check("make an event", code)?;
        Ok(Event { runtime: self, handle })
    }
}

impl Event {
    pub(super) fn runtime(&self) -> &'static Runtime {
        self.runtime
    }

    /// Marks what `stream` has been given so far. The stream must be of the device and context of the event.
    pub fn record(&self, stream: Stream) -> Result<()> {
        // SAFETY: the event lives, and a stream's handle is valid as long as its owner lives.
        let code = unsafe { (self.runtime.functions.event_record)(self.handle, stream.0) };
        self.runtime.check("mark a stream", code)
    }

    /// Lets `stream` go on only after this point. The caller does not wait.
    pub fn hold(&self, stream: Stream) -> Result<()> {
        // SAFETY: as in `record`.
        let code = unsafe { (self.runtime.functions.stream_wait)(stream.0, self.handle, 0) };
        self.runtime.check("order two streams", code)
    }

    /// Waits, with this thread, for the point to come.
    pub fn wait(&self) -> Result<()> {
        // SAFETY: the event lives.
        self.runtime.check("wait", unsafe { (self.runtime.functions.event_synchronize)(self.handle) })
    }

    /// Whether the point has come.
    pub fn is_past(&self) -> Result<bool> {
        // SAFETY: the event lives. "Not yet" is reported as an error, which must not stay on the thread.
        match unsafe { (self.runtime.functions.event_query)(self.handle) } {
            NOT_READY => {
                // SAFETY: takes nothing.
                unsafe { (self.runtime.functions.last_error)() };
                Ok(false)
            }
            code => self.runtime.check("ask for a point in time", code).map(|()| true),
        }
    }

    /// Time from `earlier` to this point; both were made with time and lie in the past.
    pub fn since(&self, earlier: &Event) -> Result<Duration> {
        let mut milliseconds = 0f32;
        // SAFETY: both events live, and `milliseconds` is a valid place for the result.
        let code =
            unsafe { (self.runtime.functions.event_elapsed)(&mut milliseconds, earlier.handle, self.handle) };
        self.runtime.check("tell the time", code)?;
        Ok(Duration::from_secs_f64(f64::from(milliseconds.max(0.0)) / 1000.0))
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: made by the runtime and destroyed once; CUDA keeps it until work that names it is done.
        unsafe { (self.runtime.functions.event_destroy)(self.handle) };
    }
}
