// SPDX-License-Identifier: MIT OR Apache-2.0
//! A CUDA runtime that is played: memory of the host, and streams whose work waits until someone asks for its end.

use std::collections::HashMap;
use std::ffi::{c_char, c_int, c_uint, c_void};

use parking_lot::{Mutex, MutexGuard};

use crate::cuda::runtime::{Functions, Runtime};
use crate::cuda::torch::{Streams, Torch};

/// What has been asked of the played device.
#[derive(Default)]
pub struct Device {
    next: usize,
    /// Copies not done yet, by stream: (to, to's stride, from, from's stride, bytes a row, rows).
    queued: HashMap<usize, Vec<Step>>,
    /// Events recorded and not past.
    pub pending: HashMap<usize, usize>,
    /// (stream, event) pairs of waits.
    pub waits: Vec<(usize, usize)>,
    pub host_allocations: usize,
    /// The stream that libtorch uses, as it was told, from the first on.
    pub current: Vec<usize>,
    /// Flags of the events.
    pub flags: Vec<c_uint>,
    pub bytes: HashMap<usize, usize>,
    pub used: Vec<c_int>,
}

pub enum Step {
    Copy(usize, usize, usize, usize, usize, usize),
    Event(usize),
}

static DEVICE: Mutex<Option<Device>> = Mutex::new(None);
static TURN: Mutex<()> = Mutex::new(());

pub fn with<T>(run: impl FnOnce(&mut Device) -> T) -> T {
    run(DEVICE.lock().get_or_insert_default())
}

impl Device {
    fn name(&mut self) -> usize {
        self.next += 16;
        self.next
    }

    /// Does what a stream has been given.
    pub fn finish(&mut self, stream: usize) {
        for step in self.queued.remove(&stream).unwrap_or_default() {
            match step {
                Step::Copy(to, to_stride, from, from_stride, bytes, rows) => {
                    for row in 0..rows {
                        let (to, from) =
                            ((to + row * to_stride) as *mut u8, (from + row * from_stride) as *const u8);
                        // SAFETY: the tests hand in memory of their own or of this file's allocators.
                        unsafe { std::ptr::copy_nonoverlapping(from, to, bytes) };
                    }
                }
                Step::Event(event) => {
                    self.pending.remove(&event);
                }
            }
        }
    }
}

unsafe extern "C" fn set_device(device: c_int) -> c_int {
    with(|played| played.used.push(device));
    0
}

unsafe extern "C" fn synchronize() -> c_int {
    with(|played| {
        let streams: Vec<usize> = played.queued.keys().copied().collect();
        streams.into_iter().for_each(|stream| played.finish(stream));
    });
    0
}

fn allocate(place: *mut *mut c_void, bytes: usize) -> c_int {
    let memory = Box::leak(vec![0u8; bytes].into_boxed_slice()).as_mut_ptr();
    with(|played| played.bytes.insert(memory as usize, bytes));
    // SAFETY: the caller's place for the result.
    unsafe { *place = memory.cast() };
    0
}

unsafe extern "C" fn host_alloc(place: *mut *mut c_void, bytes: usize, _flags: c_uint) -> c_int {
    with(|played| played.host_allocations += 1);
    allocate(place, bytes)
}

unsafe extern "C" fn free(memory: *mut c_void) -> c_int {
    // The bytes are leaked on purpose: a use after free would otherwise take the test down with it.
    with(|played| if played.bytes.remove(&(memory as usize)).is_some() { 0 } else { 1 })
}

unsafe extern "C" fn memory(free: *mut usize, total: *mut usize) -> c_int {
    // SAFETY: the caller's places for the results.
    unsafe { (*free, *total) = (3 << 20, 8 << 20) };
    0
}

unsafe extern "C" fn copy(
    to: *mut c_void,
    from: *const c_void,
    bytes: usize,
    _kind: c_int,
    stream: *mut c_void,
) -> c_int {
    let step = Step::Copy(to as usize, bytes, from as usize, bytes, bytes, 1);
    with(|played| played.queued.entry(stream as usize).or_default().push(step));
    0
}

unsafe extern "C" fn copy_rows(
    to: *mut c_void,
    to_stride: usize,
    from: *const c_void,
    from_stride: usize,
    bytes: usize,
    rows: usize,
    _kind: c_int,
    stream: *mut c_void,
) -> c_int {
    let step = Step::Copy(to as usize, to_stride, from as usize, from_stride, bytes, rows);
    with(|played| played.queued.entry(stream as usize).or_default().push(step));
    0
}

unsafe extern "C" fn create(place: *mut *mut c_void, flags: c_uint) -> c_int {
    let name = with(|played| {
        played.flags.push(flags);
        played.name()
    });
    // SAFETY: the caller's place for the result.
    unsafe { *place = name as *mut c_void };
    0
}

unsafe extern "C" fn destroy(_handle: *mut c_void) -> c_int {
    0
}

unsafe extern "C" fn event_record(event: *mut c_void, stream: *mut c_void) -> c_int {
    with(|played| {
        played.pending.insert(event as usize, stream as usize);
        played.queued.entry(stream as usize).or_default().push(Step::Event(event as usize));
    });
    0
}

unsafe extern "C" fn event_query(event: *mut c_void) -> c_int {
    with(|played| if played.pending.contains_key(&(event as usize)) { 600 } else { 0 })
}

unsafe extern "C" fn event_synchronize(event: *mut c_void) -> c_int {
    with(|played| {
        if let Some(stream) = played.pending.get(&(event as usize)).copied() {
            played.finish(stream);
        }
    });
    0
}

unsafe extern "C" fn event_elapsed(place: *mut f32, _from: *mut c_void, _to: *mut c_void) -> c_int {
    // SAFETY: the caller's place for the result.
    unsafe { *place = 2.5 };
    0
}

unsafe extern "C" fn stream_wait(stream: *mut c_void, event: *mut c_void, _flags: c_uint) -> c_int {
    with(|played| played.waits.push((stream as usize, event as usize)));
    0
}

unsafe extern "C" fn last_error() -> c_int {
    0
}

unsafe extern "C" fn error_text(_code: c_int) -> *const c_char {
    c"out of memory".as_ptr()
}

unsafe extern "C" fn stream_from_pool(_urgent: bool, _device: c_int, place: *mut *mut c_void) -> c_int {
    let name = with(Device::name);
    // SAFETY: the caller's place for the result.
    unsafe { *place = name as *mut c_void };
    0
}

unsafe extern "C" fn set_current(stream: *mut c_void, _device: c_int) -> c_int {
    with(|played| played.current.push(stream as usize));
    0
}

unsafe extern "C" fn current(_device: c_int, place: *mut *mut c_void) -> c_int {
    let stream = with(|played| played.current.last().copied().unwrap_or(0));
    // SAFETY: the caller's place for the result.
    unsafe { *place = stream as *mut c_void };
    0
}

/// A runtime on a fresh device. One test at a time.
pub fn play() -> (&'static Runtime, MutexGuard<'static, ()>) {
    let turn = TURN.lock();
    *DEVICE.lock() = None;
    let functions = Functions {
        set_device,
        synchronize,
        host_alloc,
        free_host: free,
        memory,
        copy,
        copy_rows,
        event_create: create,
        event_destroy: destroy,
        event_record,
        event_query,
        event_synchronize,
        event_elapsed,
        stream_wait,
        last_error,
        error_text,
    };
    let torch = Torch::of_streams(Streams { from_pool: stream_from_pool, set_current, current });
    (Box::leak(Box::new(Runtime::of_functions(functions, torch))), turn)
}
