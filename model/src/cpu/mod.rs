// SPDX-License-Identifier: MIT OR Apache-2.0
//! What libtorch's own operators leave on the table on a CPU: weights laid out once for its matrix kernels, and
//! attention in bf16 that never leaves the cache, and blocks in 8 bits.
//! And its threads, which we want to sleep when there is nothing to do.
//!
//! Everything here is optional. A libtorch without these entry points, or a processor without AVX512-BF16, takes the
//! ordinary operators, with the same results but for rounding.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg_attr(not(target_arch = "x86_64"), path = "elsewhere.rs")]
mod attention;
#[cfg_attr(not(target_arch = "x86_64"), path = "no_int8.rs")]
mod int8;
mod packed;
#[cfg(target_arch = "x86_64")]
mod panels;
mod patches;
#[cfg(target_arch = "x86_64")]
mod softmax;
#[cfg(target_arch = "x86_64")]
mod strips;
#[cfg_attr(
    not(target_arch = "x86_64"),
    expect(dead_code, reason = "only the kernels for x86-64 use all of it")
)]
mod team;
#[cfg(all(test, target_arch = "x86_64"))]
mod tests;
#[cfg(target_arch = "x86_64")]
mod tile;

use std::sync::LazyLock;

use libloading::os::unix::Library;

pub use attention::{Attended, LaidOut, attention, attention_is_available};
pub use int8::{Curve, Int8Block, Parts, int8_is_available};
pub use packed::{Packed, Then};
pub use patches::differing_patches;
pub use team::{alone, each_alone, sleep_while_waiting};

use crate::libtorch;

/// The libtorch that is linked, with what it depends on, for looking up entry points that tch does not bind.
static LIBTORCH: LazyLock<Option<Library>> = LazyLock::new(|| libtorch::library().ok());
