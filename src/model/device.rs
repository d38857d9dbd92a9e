// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where and in which number format the model runs.

/// The device a user asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// CUDA when there is a usable GPU, else the CPU.
    #[default]
    Auto,
    Cpu,
    /// The GPU of this index.
    Cuda(usize),
}

/// The number format a user asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrecisionChoice {
    /// f16 on CUDA; bf16 on a CPU with AVX512-BF16 or AMX; else f32.
    #[default]
    Auto,
    F32,
    Bf16,
    F16,
}
