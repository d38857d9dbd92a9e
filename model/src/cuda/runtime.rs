// SPDX-License-Identifier: MIT OR Apache-2.0
//! The CUDA runtime, as far as it is needed, by the names its library exports.
//!
//! The library is the one that libtorch is linked with, whatever its file is called (libtorch's archives add a hash to the
//! name) and whatever other runtimes the process has loaded: its functions are looked up through libtorch's own. So
//! streams, events and addresses of the one mean the same to the other, as both use the primary context of the device. Signatures follow NVIDIA's CUDA Runtime API reference,
//! sections 6.1, 6.4, 6.5, 6.9; they are the same in CUDA 11, 12 and 13.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use libloading::os::unix::Library;

use super::loaded::{functions, loaded};
use super::torch::{Stream, Torch};
use crate::libtorch;

type Code = c_int;
const SUCCESS: Code = 0;
/// `cudaErrorNotReady`: work is still under way.
const NOT_READY: Code = 600;
/// `cudaMemcpyDefault`: where the two ends lie follows from their addresses, which are unique in the process.
const FROM_ADDRESSES: c_int = 4;
/// `cudaHostAllocDefault`
const PAGE_LOCKED: c_uint = 0;
/// `cudaEventBlockingSync`: a thread that waits sleeps, in the place of asking again and again.
const SLEEPING: c_uint = 1;
/// `cudaEventDisableTiming`
const WITHOUT_TIME: c_uint = 2;

functions! {
    /// The functions of the runtime, under short names.
    Functions {
    set_device = "cudaSetDevice": fn(c_int) -> Code;
    synchronize = "cudaDeviceSynchronize": fn() -> Code;
    host_alloc = "cudaHostAlloc": fn(*mut *mut c_void, usize, c_uint) -> Code;
    free_host = "cudaFreeHost": fn(*mut c_void) -> Code;
    memory = "cudaMemGetInfo": fn(*mut usize, *mut usize) -> Code;
    copy = "cudaMemcpyAsync": fn(*mut c_void, *const c_void, usize, c_int, *mut c_void) -> Code;
    copy_rows = "cudaMemcpy2DAsync": fn(*mut c_void, usize, *const c_void, usize, usize, usize, c_int, *mut c_void) -> Code;
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
}

/// The CUDA runtime of this process. Every call concerns the device that [`Runtime::use_device`] chose for the thread.
pub struct Runtime {
    functions: Functions,
    _library: Option<Library>,
    /// In the place of the libtorch that is loaded.
    torch: Option<Torch>,
}

/// The runtime that libtorch uses.
///
/// # Errors
/// libtorch is not linked with one, or it lacks a function.
pub fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    RUNTIME
        .get_or_init(|| load().map_err(|error| format!("{error:#}")))
        .as_ref()
        .map_err(|error| anyhow::anyhow!("{error}"))
}

fn load() -> Result<Runtime> {
    // Of the two halves the second counts; a libtorch for CPUs of the same build has the runtime, too.
    let user = match loaded("libc10_cuda.so")? {
        Some(user) => user,
        None => libtorch::library()?,
    };
    let functions = Functions::of(&user).context("libtorch is not linked with a CUDA runtime")?;
    Ok(Runtime { functions, _library: Some(user), torch: None })
}

/// The functions of the runtime that this library is linked with: what it and its own dependencies define, in the order
/// in which the dynamic linker resolves its names.
#[cfg(test)]
pub(super) fn functions_behind(library: &Library) -> Result<Functions> {
    Functions::of(library)
}

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
    pub(super) fn of_functions(functions: Functions, torch: Torch) -> Runtime {
        Runtime { functions, _library: None, torch: Some(torch) }
    }

    fn torch(&self) -> Result<Torch> {
        self.torch.map_or_else(Torch::loaded, Ok)
    }

    /// Makes `device` the one that this thread's calls are about, and gives the stream on which libtorch computes for this
    /// thread. From the first call on, that is one of its own: the legacy default stream, where libtorch starts, waits for
    /// those of other libraries and makes them wait.
    pub fn compute(&self, device: usize) -> Result<Stream> {
        /// Of each runtime (tests have several) and device.
        type Known = Vec<((*const Runtime, usize), Stream)>;
        thread_local!(static STREAMS: RefCell<Known> = const { RefCell::new(Vec::new()) });
        self.use_device(device)?;
        let key = (std::ptr::from_ref(self), device);
        STREAMS.with_borrow_mut(|streams| {
            if let Some((_, stream)) = streams.iter().find(|(of, _)| *of == key) {
                return Ok(*stream);
            }
            let torch = self.torch()?;
            let stream = torch.stream(device)?;
            torch.set_current(device, stream)?;
            streams.push((key, stream));
            Ok(stream)
        })
    }

    /// Runs `run` with `stream` as the one that libtorch uses on this thread: memory that it takes meanwhile is used again
    /// in the order of that stream.
    pub fn on_stream<T>(&self, device: usize, stream: Stream, run: impl FnOnce() -> Result<T>) -> Result<T> {
        let torch = self.torch()?;
        let before = torch.set_current(device, stream)?;
        let done = run();
        torch.set_current(device, before)?;
        done
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

    /// Waits until the device has done everything that this process has given it.
    pub fn settle(&self, device: usize) -> Result<()> {
        self.use_device(device)?;
        // SAFETY: takes nothing.
        self.check("wait for the device", unsafe { (self.functions.synchronize)() })
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

    /// A stream of libtorch's beside those that compute.
    pub fn stream(&self, device: usize) -> Result<Stream> {
        self.torch()?.stream(device)
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
        let flags = SLEEPING | if timed { 0 } else { WITHOUT_TIME };
        let code = unsafe { (self.functions.event_create)(&mut handle, flags) };
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
