// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames from the host to a GPU while it computes: page-locked buffers, and a stream of their own.
//!
//! A frame is written into a page-locked buffer, once, by the thread that brings it; from there the device copies it
//! by itself. These buffers come from a pool, as allocating one stops the device. The device's memory is libtorch's, which
//! gives up what it keeps for itself when there is no other, and hands a block out again in the order of the stream that it
//! was taken on: that is the one of the copies, and a frame is dropped only when what reads it is done.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};

use anyhow::Result;
use parking_lot::Mutex;
use tch::{Device, Kind, Tensor};

use super::{Event, LentPixels, LentPlane, Runtime, Stream, runtime};

/// Page-locked memory kept; more is taken only for a single frame that is larger than that. At 25 GB/s to the device,
/// a tenth of it is under way at once. Tests see full pools with small frames.
const PAGE_LOCKED_LIMIT: usize = if cfg!(test) { 1 << 20 } else { 256 << 20 };
/// A buffer serves frames down to this share of its size.
const LEAST_USE: usize = 2;

/// Brings frames to one device. Any number of threads may use it at once.
pub struct Uploader {
    runtime: &'static Runtime,
    device: usize,
    stream: Stream,
    /// Where the tensors are that hold frames.
    memory: Device,
    pools: Mutex<Pools>,
}

#[derive(Default)]
struct Pools {
    /// In the order of their last copies: the first is free first.
    page_locked: VecDeque<PageLocked>,
    page_locked_bytes: usize,
}

struct PageLocked {
    memory: *mut u8,
    bytes: usize,
    /// When the device has read it.
    read: Event,
}

// SAFETY: the memory belongs to this value alone, whichever thread holds it.
unsafe impl Send for PageLocked {}

/// The uploader of each device, while someone uses it.
static SHARED: Mutex<BTreeMap<usize, Weak<Uploader>>> = Mutex::new(BTreeMap::new());

impl Uploader {
    /// The one that all streams to this device share, with its pools.
    ///
    /// # Errors
    /// CUDA cannot use the device.
    pub fn shared(device: usize) -> Result<Arc<Uploader>> {
        let mut shared = SHARED.lock();
        if let Some(known) = shared.get(&device).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let made = Uploader::new(runtime()?, device)?;
        shared.insert(device, Arc::downgrade(&made));
        Ok(made)
    }

    /// # Errors
    /// CUDA cannot use the device.
    pub fn new(runtime: &'static Runtime, device: usize) -> Result<Arc<Uploader>> {
        Uploader::into(runtime, device, Device::Cuda(device))
    }

    /// As [`new`](Self::new), with frames in tensors of `memory`.
    pub(super) fn into(runtime: &'static Runtime, device: usize, memory: Device) -> Result<Arc<Uploader>> {
        runtime.use_device(device)?;
        let stream = runtime.stream(device)?;
        Ok(Arc::new(Uploader { runtime, device, stream, memory, pools: Mutex::default() }))
    }

    /// Writes a frame with `fill`, into memory of the size of its planes one after the other, and sends it to the device.
    /// Planes are (bytes a row, rows). Does not wait for the copy.
    pub fn upload(
        &self,
        planes: &[(usize, usize)],
        fill: impl FnOnce(&mut [u8]) -> Result<()>,
    ) -> Result<LentPixels> {
        let bytes = planes.iter().map(|(row, rows)| row * rows).sum::<usize>();
        self.runtime.use_device(self.device)?;
        let staged = self.page_locked(bytes)?;
        // SAFETY: the buffer has left the pool, so it is this thread's alone, at least `bytes` long, and the device has
        // read what it held before. Page-locked memory comes zeroed or written: bytes have no invalid values.
        let filled = fill(unsafe { std::slice::from_raw_parts_mut(staged.memory, bytes) });
        let sent = filled.and_then(|()| self.send(planes, bytes, &staged));
        // In any case: a copy that was begun is marked, one that was not does not read.
        self.give_back_page_locked(staged);
        sent
    }

    fn send(&self, planes: &[(usize, usize)], bytes: usize, staged: &PageLocked) -> Result<LentPixels> {
        let memory = self.device_memory(bytes)?;
        let start = memory.data_ptr() as u64;
        let ready = self.runtime.event(false)?;
        // SAFETY: `staged` is read until its event, before which the pool gives it to nobody. The device's memory is
        // `bytes` long and this frame's alone.
        unsafe { self.runtime.copy(start, staged.memory as u64, bytes, self.stream) }?;
        staged.read.record(self.stream)?;
        ready.record(self.stream)?;
        let planes = packed(start, planes.iter().map(|&size| (size, 1)));
        // SAFETY: the tensor keeps the memory, which nobody else writes to meanwhile.
        Ok(unsafe { LentPixels::new(Device::Cuda(self.device), planes, Some(ready), Box::new(memory)) })
    }

    /// Copies a frame that lies in another context, or on another device, without the host: planes are where it lies.
    ///
    /// # Safety
    /// The planes are readable until the event that comes back is past.
    pub unsafe fn copy_from_device(&self, planes: &[LentPlane]) -> Result<(LentPixels, Event)> {
        self.runtime.use_device(self.device)?;
        let bytes = planes.iter().map(|plane| plane.stored() * plane.rows).sum();
        let memory = self.device_memory(bytes)?;
        let sizes = planes.iter().map(|plane| ((plane.row_bytes, plane.rows), plane.step));
        let target = packed(memory.data_ptr() as u64, sizes);
        for (to, from) in target.iter().zip(planes) {
            // Whole words, where only a byte of each is read.
            let first = |plane: &LentPlane| (plane.address - (plane.step as u64 - 1), plane.stride);
            let size = (from.stored(), from.rows);
            // SAFETY: the source by this function's contract, the target as in `send`.
            unsafe { self.runtime.copy_rows(first(to), first(from), size, self.stream) }?;
        }
        let (ready, read) = (self.runtime.event(false)?, self.runtime.event(false)?);
        ready.record(self.stream)?;
        read.record(self.stream)?;
        // SAFETY: as in `send`.
        let pixels =
            unsafe { LentPixels::new(Device::Cuda(self.device), target, Some(ready), Box::new(memory)) };
        Ok((pixels, read))
    }

    /// A page-locked buffer that the device has read, at least this long.
    fn page_locked(&self, bytes: usize) -> Result<PageLocked> {
        let mut pools = self.pools.lock();
        loop {
            let fits = |buffer: &PageLocked| buffer.bytes >= bytes && buffer.bytes / LEAST_USE <= bytes;
            for index in 0..pools.page_locked.len() {
                if fits(&pools.page_locked[index])
                    && pools.page_locked[index].read.is_past()?
                    && let Some(buffer) = pools.page_locked.remove(index)
                {
                    return Ok(buffer);
                }
            }
            let none_left = pools.page_locked.is_empty();
            if none_left || pools.page_locked_bytes + bytes <= PAGE_LOCKED_LIMIT {
                pools.page_locked_bytes += bytes;
                drop(pools);
                let made = self
                    .runtime
                    .allocate_host(bytes)
                    .and_then(|memory| Ok(PageLocked { memory, bytes, read: self.runtime.event(false)? }));
                if made.is_err() {
                    self.pools.lock().page_locked_bytes -= bytes;
                }
                return made;
            }
            // Full: wait for the copy that ends first, and use that buffer or make room for another size.
            if let Some(buffer) = pools.page_locked.pop_front() {
                let kept = fits(&buffer);
                if !kept {
                    pools.page_locked_bytes -= buffer.bytes;
                }
                drop(pools);
                buffer.read.wait()?;
                if kept {
                    return Ok(buffer);
                }
                // SAFETY: its last copy is done, and it has left the pool.
                unsafe { self.runtime.free_host(buffer.memory) }?;
                pools = self.pools.lock();
            }
        }
    }

    fn give_back_page_locked(&self, buffer: PageLocked) {
        self.pools.lock().page_locked.push_back(buffer);
    }

    /// `[bytes]` u8, to be written on the stream of the copies.
    fn device_memory(&self, bytes: usize) -> Result<Tensor> {
        let memory = self.runtime.on_stream(self.device, self.stream, || {
            Ok(Tensor::f_empty([bytes as i64], (Kind::Uint8, self.memory))?)
        })?;
        // A played device copies late, and the host's allocator knows no streams.
        #[cfg(test)]
        std::mem::forget(memory.shallow_clone());
        Ok(memory)
    }
}

impl Drop for Uploader {
    fn drop(&mut self) {
        let pools = self.pools.get_mut();
        for buffer in pools.page_locked.drain(..) {
            // A failed wait means a lost device, which copies nothing any more.
            let _ = buffer.read.wait();
            // SAFETY: no copy reads it any more, and nobody else has it.
            let _ = unsafe { self.runtime.free_host(buffer.memory) };
        }
    }
}

/// Planes one after the other, rows without padding: of so many (bytes a row, rows), each byte `step` from the next.
fn packed(start: u64, planes: impl Iterator<Item = ((usize, usize), usize)>) -> Vec<LentPlane> {
    let mut address = start;
    let place = |((row_bytes, rows), step): ((usize, usize), usize)| {
        let stride = row_bytes * step;
        let plane = LentPlane { address: address + (step as u64 - 1), stride, row_bytes, rows, step };
        address += (stride * rows) as u64;
        plane
    };
    planes.map(place).collect()
}
