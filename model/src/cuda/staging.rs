// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames from the host to a GPU while it computes: page-locked buffers, and a stream of their own.
//!
//! A frame is written into a page-locked buffer, once, by the thread that brings it; from there the device copies it
//! by itself. Both kinds of buffers come from pools, as allocating either stops the device. They are not libtorch's:
//! its allocator hands a block out again as soon as its own stream may write to it, not ours.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};

use anyhow::Result;
use parking_lot::Mutex;
use tch::Device;

use super::{Event, LentPixels, LentPlane, Runtime, Stream, runtime};

/// Page-locked memory kept; more is taken only for a single frame that is larger than that. At 25 GB/s to the device,
/// a tenth of it is under way at once. Tests see full pools with small frames.
const PAGE_LOCKED_LIMIT: usize = if cfg!(test) { 1 << 20 } else { 256 << 20 };
/// Unused device memory kept for the next frames: this share of all, as giving it back stops the device.
const IDLE_SHARE: usize = 8;
/// A buffer serves frames down to this share of its size.
const LEAST_USE: usize = 2;

/// Brings frames to one device. Any number of threads may use it at once.
pub struct Uploader {
    runtime: &'static Runtime,
    device: usize,
    stream: Stream,
    idle_limit: usize,
    pools: Mutex<Pools>,
}

#[derive(Default)]
struct Pools {
    /// In the order of their last copies: the first is free first.
    page_locked: VecDeque<PageLocked>,
    page_locked_bytes: usize,
    idle: Vec<Memory>,
    idle_bytes: usize,
}

struct PageLocked {
    memory: *mut u8,
    bytes: usize,
    /// When the device has read it.
    read: Event,
}

// SAFETY: the memory belongs to this value alone, whichever thread holds it.
unsafe impl Send for PageLocked {}

/// Memory of the device.
struct Memory {
    address: u64,
    bytes: usize,
}

/// Memory of the device in use; it goes back to the pool.
struct Lent {
    memory: Option<Memory>,
    uploader: Arc<Uploader>,
}

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
        runtime.use_device(device)?;
        let (_, total) = runtime.memory()?;
        let idle_limit = total / IDLE_SHARE;
        Ok(Arc::new(Uploader {
            runtime,
            device,
            stream: runtime.stream()?,
            idle_limit,
            pools: Mutex::default(),
        }))
    }

    /// Writes a frame with `fill`, into memory of the size of its planes one after the other, and sends it to the device.
    /// Planes are (bytes a row, rows). Does not wait for the copy.
    pub fn upload(
        self: &Arc<Self>,
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

    fn send(
        self: &Arc<Self>,
        planes: &[(usize, usize)],
        bytes: usize,
        staged: &PageLocked,
    ) -> Result<LentPixels> {
        let lent = Lent { memory: Some(self.device_memory(bytes)?), uploader: self.clone() };
        let start = lent.memory.as_ref().map_or(0, |memory| memory.address);
        let ready = self.runtime.event(false)?;
        // SAFETY: `staged` is read until its event, before which the pool gives it to nobody. The device's memory is at
        // least `bytes` long and lent to this frame; a frame before it has been read, or is not wanted.
        unsafe { self.runtime.copy(start, staged.memory as u64, bytes, self.stream) }?;
        staged.read.record(self.stream)?;
        ready.record(self.stream)?;
        // SAFETY: `lent` keeps the memory, which nobody else writes to meanwhile.
        Ok(unsafe {
            LentPixels::new(Device::Cuda(self.device), packed(start, planes), Some(ready), Box::new(lent))
        })
    }

    /// Copies a frame that lies in another context, or on another device, without the host: planes are where it lies.
    ///
    /// # Safety
    /// The planes are readable until the event that comes back is past.
    pub unsafe fn copy_from_device(self: &Arc<Self>, planes: &[LentPlane]) -> Result<(LentPixels, Event)> {
        self.runtime.use_device(self.device)?;
        let sizes: Vec<(usize, usize)> = planes.iter().map(|plane| (plane.row_bytes, plane.rows)).collect();
        let bytes = sizes.iter().map(|(row, rows)| row * rows).sum();
        let lent = Lent { memory: Some(self.device_memory(bytes)?), uploader: self.clone() };
        let start = lent.memory.as_ref().map_or(0, |memory| memory.address);
        let target = packed(start, &sizes);
        for (to, from) in target.iter().zip(planes) {
            let size = (from.row_bytes, from.rows);
            // SAFETY: the source by this function's contract, the target as in `send`.
            unsafe {
                let (to, from) = ((to.address, to.stride), (from.address, from.stride));
                self.runtime.copy_rows(to, from, size, self.stream)
            }?;
        }
        let (ready, read) = (self.runtime.event(false)?, self.runtime.event(false)?);
        ready.record(self.stream)?;
        read.record(self.stream)?;
        // SAFETY: as in `send`.
        let pixels =
            unsafe { LentPixels::new(Device::Cuda(self.device), target, Some(ready), Box::new(lent)) };
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

    fn device_memory(&self, bytes: usize) -> Result<Memory> {
        {
            let mut pools = self.pools.lock();
            let fits = |memory: &Memory| memory.bytes >= bytes && memory.bytes / LEAST_USE <= bytes;
            if let Some(index) = pools.idle.iter().position(fits) {
                let memory = pools.idle.swap_remove(index);
                pools.idle_bytes -= memory.bytes;
                return Ok(memory);
            }
        }
        Ok(Memory { address: self.runtime.allocate(bytes)?, bytes })
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(memory) = self.memory.take() else { return };
        let uploader = &self.uploader;
        let mut pools = uploader.pools.lock();
        if pools.idle_bytes + memory.bytes <= uploader.idle_limit {
            pools.idle_bytes += memory.bytes;
            pools.idle.push(memory);
            return;
        }
        drop(pools);
        // SAFETY: from `allocate`, and out of every pool; freeing waits for work that still reads it.
        let freed = unsafe { uploader.runtime.free(memory.address) };
        // The device is lost if this fails; the next call says so.
        drop(freed);
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
        for memory in pools.idle.drain(..) {
            // SAFETY: from `allocate`, and every frame that used it is gone.
            let _ = unsafe { self.runtime.free(memory.address) };
        }
        // SAFETY: from `stream`, and this was its only owner.
        let _ = unsafe { self.runtime.end_stream(self.stream) };
    }
}

/// Planes one after the other, rows without padding.
fn packed(start: u64, planes: &[(usize, usize)]) -> Vec<LentPlane> {
    let mut address = start;
    let place = |&(row_bytes, rows): &(usize, usize)| {
        let plane = LentPlane { address, stride: row_bytes, row_bytes, rows };
        address += (row_bytes * rows) as u64;
        plane
    };
    planes.iter().map(place).collect()
}
