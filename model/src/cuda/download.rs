// SPDX-License-Identifier: MIT OR Apache-2.0
//! Results from a GPU to the host.

use std::cell::RefCell;

use anyhow::{Context, Result, ensure};
use tch::{Device, Kind, Tensor};

use super::{Event, Runtime, Stream, runtime};

/// The bytes of a contiguous u8 tensor. On a GPU: one copy through page-locked memory, and the one wait of a batch.
pub fn download(bytes: &Tensor) -> Result<Vec<u8>> {
    ensure!(bytes.kind() == Kind::Uint8 && bytes.is_contiguous(), "only packed bytes are copied");
    let count = bytes.numel();
    match bytes.device() {
        Device::Cuda(device) => {
            let runtime = runtime()?;
            runtime.use_device(device)?;
            // SAFETY: `bytes` is contiguous and lives to the end of this function, which waits for the copy.
            unsafe { through_page_locked(runtime, bytes.data_ptr() as u64, count) }
        }
        _ => {
            let mut values = vec![0u8; count];
            bytes.f_copy_data(&mut values, count)?;
            Ok(values)
        }
    }
}

/// # Safety
/// `from` is readable for `count` bytes until this returns.
pub(super) unsafe fn through_page_locked(
    runtime: &'static Runtime,
    from: u64,
    count: usize,
) -> Result<Vec<u8>> {
    // One buffer a thread: the model's thread asks again and again for as much.
    thread_local!(static BUFFER: RefCell<Option<Buffer>> = const { RefCell::new(None) });
    BUFFER.with_borrow_mut(|buffer| {
        if buffer.as_ref().is_none_or(|buffer| buffer.bytes < count) {
            *buffer = None;
            *buffer = Some(Buffer::new(runtime, count)?);
        }
        let buffer = buffer.as_mut().context("a buffer was made above")?;
        // SAFETY: the source by this function's contract; the buffer is this thread's and long enough, and the wait
        // below ends the copy before anyone reads it.
        unsafe { runtime.copy(buffer.memory as u64, from, count, Stream::COMPUTE) }?;
        buffer.copied.record(Stream::COMPUTE)?;
        buffer.copied.wait()?;
        // SAFETY: `count` bytes have just been written, and nobody else holds the buffer.
        Ok(unsafe { std::slice::from_raw_parts(buffer.memory, count) }.to_vec())
    })
}

struct Buffer {
    runtime: &'static Runtime,
    memory: *mut u8,
    bytes: usize,
    copied: Event,
}

impl Buffer {
    fn new(runtime: &'static Runtime, bytes: usize) -> Result<Buffer> {
        let copied = runtime.event(false)?;
        Ok(Buffer { runtime, memory: runtime.allocate_host(bytes)?, bytes, copied })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: each copy into it has been waited for. At the end of the process CUDA may be gone already, which the
        // code says; the memory is gone with it.
        let _ = unsafe { self.runtime.free_host(self.memory) };
    }
}
