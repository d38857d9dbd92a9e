// SPDX-License-Identifier: MIT OR Apache-2.0
//! The numbers of tensors, token by token.

use anyhow::{Result, bail};
use tch::{Device, Kind, Tensor};

use super::rows::widen;

/// As the kernels read it: rows one after the other, on the CPU, in f32 or bf16.
pub fn readable(tensor: &Tensor) -> Result<Tensor> {
    let kind = if tensor.kind() == Kind::BFloat16 { Kind::BFloat16 } else { Kind::Float };
    if tensor.device() != Device::Cpu {
        bail!("a product in 8 bits of a tensor on {:?}", tensor.device());
    }
    Ok(tensor.f_to_kind(kind)?.f_contiguous()?)
}

/// Tokens that are read, `[tokens, width]`.
pub enum Tokens<'a> {
    Short(&'a [u16]),
    Whole(&'a [f32]),
}

impl<'a> Tokens<'a> {
    /// Of a tensor that [`readable`] gave.
    pub fn of(tensor: &'a Tensor) -> Tokens<'a> {
        let length = tensor.numel();
        // SAFETY: the tensor is contiguous and of one of these two kinds; nobody writes to it while it is borrowed.
        unsafe {
            match tensor.kind() {
                Kind::BFloat16 => Tokens::Short(slice(tensor, length)),
                _ => Tokens::Whole(slice(tensor, length)),
            }
        }
    }

    /// A token in f32: where it lies, or widened into `room`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub fn row<'b>(&'b self, index: usize, width: usize, room: &'b mut [f32]) -> &'b [f32] {
        match self {
            Tokens::Whole(numbers) => &numbers[index * width..][..width],
            Tokens::Short(numbers) => {
                widen(&numbers[index * width..][..width], room);
                room
            }
        }
    }
}

/// # Safety
/// The tensor has `length` numbers of this type one after the other.
unsafe fn slice<T>(tensor: &Tensor, length: usize) -> &[T] {
    if length == 0 {
        return &[];
    }
    // SAFETY: as the caller promises; a tensor with numbers has an address for them.
    unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<T>(), length) }
}

/// A new tensor that several threads write, each its own tokens.
pub struct Written {
    data: *mut std::ffi::c_void,
    length: usize,
    pub kind: Kind,
}

// SAFETY: what is handed out is for one thread each, as `short` and `whole` say.
unsafe impl Sync for Written {}

impl Written {
    /// Of a contiguous tensor in f32 or bf16 that nobody else uses yet, and that outlives this.
    pub fn of(tensor: &Tensor) -> Written {
        Written { data: tensor.data_ptr(), length: tensor.numel(), kind: tensor.kind() }
    }

    /// # Safety
    /// The tensor is in bf16 and alive, and nobody else has any of these numbers.
    #[expect(
        clippy::mut_from_ref,
        reason = "each thread has numbers of its own, which is what the caller promises"
    )]
    pub unsafe fn short(&self, first: usize, count: usize) -> &mut [u16] {
        assert!(self.kind == Kind::BFloat16 && first + count <= self.length);
        // SAFETY: within the tensor, as asserted, and as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.data.cast::<u16>().add(first), count) }
    }

    /// # Safety
    /// The tensor is in f32 and alive, and nobody else has any of these numbers.
    #[expect(
        clippy::mut_from_ref,
        reason = "each thread has numbers of its own, which is what the caller promises"
    )]
    pub unsafe fn whole(&self, first: usize, count: usize) -> &mut [f32] {
        assert!(self.kind == Kind::Float && first + count <= self.length);
        // SAFETY: within the tensor, as asserted, and as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.data.cast::<f32>().add(first), count) }
    }
}
