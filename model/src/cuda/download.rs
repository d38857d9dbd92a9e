// SPDX-License-Identifier: MIT OR Apache-2.0
//! Results from a GPU to the host: the copy is begun when the work is handed over, and waited for when the results are
//! wanted; other work may be handed over in between.

use std::cell::RefCell;

use anyhow::{Result, ensure};
use tch::{Device, Kind, Tensor};

use super::{Event, Runtime, Stream, runtime};

/// Page-locked buffers that a thread keeps: one for each batch that is under way.
const KEPT: usize = 2;

thread_local!(static BUFFERS: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) });

/// Bytes on their way to the host.
pub struct Download(Way);

enum Way {
    /// They were there all the time.
    Host(Vec<u8>),
    Device {
        buffer: Buffer,
        count: usize,
        /// What is copied from, kept until the copy has been waited for.
        _source: Option<Tensor>,
    },
}

impl Download {
    /// Begins to copy the bytes of a contiguous u8 tensor. On a GPU: one copy into page-locked memory, on the stream that
    /// this thread computes on.
    pub fn begin(bytes: &Tensor) -> Result<Download> {
        ensure!(bytes.kind() == Kind::Uint8 && bytes.is_contiguous(), "only packed bytes are copied");
        let count = bytes.numel();
        let Device::Cuda(device) = bytes.device() else {
            let mut values = vec![0u8; count];
            bytes.f_copy_data(&mut values, count)?;
            return Ok(Download(Way::Host(values)));
        };
        let runtime = runtime()?;
        let stream = runtime.compute(device)?;
        // SAFETY: `bytes` is contiguous, and the download keeps it.
        let begun = unsafe { Download::begin_at(runtime, stream, bytes.data_ptr() as u64, count) }?;
        let Download(Way::Device { buffer, count, .. }) = begun else { return Ok(begun) };
        Ok(Download(Way::Device { buffer, count, _source: Some(bytes.shallow_clone()) }))
    }

    /// # Safety
    /// `from` is readable for `count` bytes until the download has been read or dropped.
    pub(super) unsafe fn begin_at(
        runtime: &'static Runtime,
        stream: Stream,
        from: u64,
        count: usize,
    ) -> Result<Download> {
        let kept = BUFFERS.with_borrow_mut(|buffers| {
            let fits = |buffer: &Buffer| buffer.bytes >= count && std::ptr::eq(buffer.runtime, runtime);
            let fits = buffers.iter().position(fits);
            fits.map(|index| buffers.swap_remove(index))
        });
        let buffer = kept.map_or_else(|| Buffer::new(runtime, count), Ok)?;
        // SAFETY: the source by this function's contract; the buffer is this download's alone and long enough, and the event
        // is waited for before anyone reads it.
        unsafe { runtime.copy(buffer.memory as u64, from, count, stream) }?;
        buffer.copied.record(stream)?;
        Ok(Download(Way::Device { buffer, count, _source: None }))
    }

    /// Waits for the bytes and shows them where they lie.
    pub fn read<T>(self, read: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
        match self.0 {
            Way::Host(bytes) => read(&bytes),
            Way::Device { buffer, count, _source } => {
                buffer.copied.wait()?;
                // SAFETY: `count` bytes have just been written, and nobody else holds the buffer.
                let done = read(unsafe { std::slice::from_raw_parts(buffer.memory, count) });
                BUFFERS.with_borrow_mut(|buffers| {
                    buffers.push(buffer);
                    // The smallest goes: the model's thread asks again and again for as much.
                    if buffers.len() > KEPT {
                        buffers.sort_by_key(|buffer| std::cmp::Reverse(buffer.bytes));
                        buffers.truncate(KEPT);
                    }
                });
                done
            }
        }
    }
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
        // A download that nobody reads may still be written to. At the end of the process CUDA may be gone already, which
        // the codes say; the memory is gone with it.
        let _ = self.copied.wait();
        // SAFETY: each copy into it has been waited for.
        let _ = unsafe { self.runtime.free_host(self.memory) };
    }
}
