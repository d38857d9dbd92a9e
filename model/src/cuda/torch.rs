// SPDX-License-Identifier: MIT OR Apache-2.0
//! What libtorch offers beyond its Rust binding: the stream that a thread computes on, and which attention it takes.
//!
//! The functions with C names are those of libtorch's stable interface (`torch/csrc/stable/c/shim.h`,
//! `torch/csrc/inductor/aoti_torch/c/shim.h` of 2.11); 0 is success. The two others are members of `at::Context`, whose
//! first argument is the object.

use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};
use libloading::os::unix::Library;

use super::loaded::{functions, loaded};
use crate::libtorch;

functions! {
    /// Streams, in libtorch_cuda.
    Streams {
        from_pool = "torch_get_cuda_stream_from_pool": fn(bool, c_int, *mut *mut c_void) -> c_int;
        set_current = "torch_set_current_cuda_stream": fn(*mut c_void, c_int) -> c_int;
        current = "aoti_torch_get_current_cuda_stream": fn(c_int, *mut *mut c_void) -> c_int;
    }
}

functions! {
    /// Switches of `at::Context`, in libtorch_cpu.
    Switches {
        context = "_ZN2at13globalContextEv": fn() -> *mut c_void;
        use_cudnn_attention = "_ZN2at7Context14setSDPUseCuDNNEb": fn(*mut c_void, bool) -> ();
    }
}

/// A queue of work of a device, by CUDA's handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream(pub *mut c_void);

// SAFETY: a handle, which any thread may give to the runtime; CUDA's own functions are thread-safe.
unsafe impl Send for Stream {}
// SAFETY: as above; nothing is behind a shared reference but the handle's value.
unsafe impl Sync for Stream {}

/// Streams as libtorch knows them.
#[derive(Clone, Copy)]
pub struct Torch {
    streams: Streams,
}

impl Torch {
    #[cfg(test)]
    pub(super) fn of_streams(streams: Streams) -> Torch {
        Torch { streams }
    }

    /// That of this process.
    ///
    /// # Errors
    /// libtorch's CUDA half has not been loaded, or is of another version.
    pub fn loaded() -> Result<Torch> {
        static STREAMS: OnceLock<Result<(Streams, Library), String>> = OnceLock::new();
        let load = || -> Result<(Streams, Library)> {
            let library = loaded("libtorch_cuda.so")?.context("libtorch's CUDA half has not been loaded")?;
            Ok((Streams::of(&library)?, library))
        };
        match STREAMS.get_or_init(|| load().map_err(|error| format!("{error:#}"))) {
            Ok((streams, _)) => Ok(Torch { streams: *streams }),
            Err(error) => bail!("{error}"),
        }
    }

    /// One of libtorch's streams for this device: it neither waits for the legacy default stream nor is waited for, and
    /// lives as long as the process. libtorch knows whose memory may be used again on it.
    pub fn stream(&self, device: usize) -> Result<Stream> {
        let mut stream = std::ptr::null_mut();
        // SAFETY: `stream` is a valid place for the result.
        let code = unsafe { (self.streams.from_pool)(false, device as c_int, &mut stream) };
        checked("give a stream", code)?;
        Ok(Stream(stream))
    }

    /// Makes what libtorch does on this thread, with this device, go to `stream`; gives the one before.
    pub fn set_current(&self, device: usize, stream: Stream) -> Result<Stream> {
        let device = device as c_int;
        let mut before = std::ptr::null_mut();
        // SAFETY: `before` is a valid place for the result.
        checked("tell its stream", unsafe { (self.streams.current)(device, &mut before) })?;
        // SAFETY: streams come from `stream` or from libtorch itself, and live as long as the process.
        checked("take a stream", unsafe { (self.streams.set_current)(stream.0, device) })?;
        Ok(Stream(before))
    }
}

fn checked(what: &str, code: c_int) -> Result<()> {
    match code {
        0 => Ok(()),
        code => bail!("libtorch cannot {what} of the CUDA device: error {code}"),
    }
}

/// Whether fused attention may be cuDNN's. It makes a plan for each new shape on each thread, in tenths of a second: where
/// batches vary in size, flash attention, which makes none, is the better one. Where neither is available (GPUs before
/// Ampere have no flash attention) libtorch takes its memory-efficient one.
///
/// # Errors
/// libtorch is of another version.
pub fn allow_cudnn_attention(allow: bool) -> Result<()> {
    let library = libtorch::library()?;
    let switches = Switches::of(&library)?;
    // SAFETY: the process's one context, and a plain setter of it; libtorch reads it at each attention.
    unsafe { (switches.use_cudnn_attention)((switches.context)(), allow) };
    Ok(())
}
