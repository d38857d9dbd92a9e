// SPDX-License-Identifier: MIT OR Apache-2.0
//! What libtorch's Rust binding does not offer of CUDA: streams, events and page-locked memory.
//!
//! * `loaded`: libraries of libtorch that the process has loaded, and the functions that they export
//! * `runtime`: the functions of the CUDA runtime that libtorch itself has loaded, called by name
//! * `pixels`: a frame in the memory of a GPU, and tensors that read it where it lies
//! * `staging`: frames from the host to a GPU, on a stream beside the one that computes
//! * `download`: results from a GPU to the host, through page-locked memory
//! * `clock`: times of stages that run in the background
//! * `torch`: streams as libtorch knows them
//!
//! A thread that runs a model computes on a stream of its own ([`Runtime::compute`]). Everything here stays in order with it
//! through events; no thread waits for the GPU but the one that wants results. Nothing is linked: without a GPU,
//! nothing of this is called.

pub(super) mod clock;
mod download;
mod loaded;
mod pixels;
mod runtime;
mod staging;
#[cfg(test)]
pub(super) mod tests;
mod torch;

pub(super) use download::Download;
pub use pixels::{LentPixels, LentPlane};
pub use runtime::{Event, Runtime, runtime};
pub use staging::Uploader;
pub use torch::{Stream, allow_cudnn_attention};
