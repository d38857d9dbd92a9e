// SPDX-License-Identifier: MIT OR Apache-2.0
//! Linear layers with weights laid out once for oneDNN's kernels, which otherwise lay them out anew in every call, and
//! with the activation applied before the product is rounded and written.
//!
//! These are the operators that `torch.compile` uses (`mkldnn::_linear_pointwise`). tch does not bind them; libtorch
//! offers them to C in the interface made for compiled models (`torch/csrc/inductor/aoti_torch/c/`).

use std::ffi::{CStr, c_char, c_void};
use std::ptr::{null, null_mut};
use std::sync::LazyLock;

use anyhow::{Result, bail};
use tch::Tensor;
use torch_sys::C_tensor;

use super::LIBTORCH;

/// A pointer to an `at::Tensor`, which is also what tch's tensors hold.
type Handle = *mut c_void;
/// 0 is success.
type Status = i32;

type NewHandle = unsafe extern "C" fn(Handle, *mut Handle) -> Status;
type CallOperator = unsafe extern "C" fn(*const c_char, *const c_char, *mut u64) -> Status;
type LinearPointwise = unsafe extern "C" fn(
    Handle,
    Handle,
    *mut Handle,
    *const c_char,
    *const *const f64,
    i64,
    *const *const c_char,
    *mut Handle,
) -> Status;

struct Api {
    new_handle: NewHandle,
    call_operator: CallOperator,
    linear_pointwise: LinearPointwise,
}

static API: LazyLock<Option<Api>> = LazyLock::new(|| {
    let library = LIBTORCH.as_ref()?;
    // SAFETY: the types are those of shim.h and shim_cpu.h of libtorch 2.11, the version that torch-sys accepts.
    unsafe {
        Some(Api {
            new_handle: *library.get(b"aoti_torch_new_tensor_handle\0").ok()?,
            call_operator: *library.get(b"aoti_torch_call_dispatcher\0").ok()?,
            linear_pointwise: *library.get(b"aoti_torch_cpu__linear_pointwise\0").ok()?,
        })
    }
});

/// What is done to a product, with its bias added, before it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    Nothing,
    /// `x sigmoid(x)`
    Silu,
}

/// The weight of a linear layer in a layout of oneDNN's own.
pub struct Packed {
    api: &'static Api,
    weight: Tensor,
}

impl Packed {
    /// Of a weight `[out, in]`, f32 or bf16, on the CPU. `None` where this libtorch or this processor cannot.
    pub fn new(weight: &Tensor) -> Option<Packed> {
        let api = API.as_ref()?;
        let mut owned: Handle = null_mut();
        // SAFETY: a live tensor goes in, a new handle to it comes out.
        if unsafe { (api.new_handle)(handle(weight), &mut owned) } != 0 {
            return None;
        }
        // The arguments: the tensor, whose handle the callee takes over, and no batch size; the result takes the first
        // place.
        let mut stack = [owned as u64, 0];
        // SAFETY: the stack is as the operator's schema `(Tensor self, SymInt? batch_size) -> Tensor` asks.
        let status = unsafe {
            (api.call_operator)(c"mkldnn::_reorder_linear_weight".as_ptr(), c"".as_ptr(), stack.as_mut_ptr())
        };
        // SAFETY: on success the handle is a new tensor that nobody else owns.
        let packed = (status == 0).then(|| unsafe { Tensor::from_ptr(stack[0] as *mut C_tensor) })?;
        Some(Packed { api, weight: packed })
    }

    /// `[..., in] -> [..., out]`, in the number format of the weights, which `x` and `bias` must have too.
    pub fn linear(&self, x: &Tensor, bias: &Tensor, then: Then) -> Result<Tensor> {
        let then: &CStr = match then {
            Then::Nothing => c"none",
            Then::Silu => c"swish",
        };
        let mut bias = handle(bias);
        let mut output: Handle = null_mut();
        // SAFETY: live tensors, no scalars, no algorithm; `output` is set on success.
        let status = unsafe {
            (self.api.linear_pointwise)(
                handle(x),
                handle(&self.weight),
                &mut bias,
                then.as_ptr(),
                null(),
                0,
                null(),
                &mut output,
            )
        };
        if status != 0 || output.is_null() {
            bail!("libtorch failed in a linear layer of prepared weights, input {:?}", x.size());
        }
        // SAFETY: a new tensor that nobody else owns.
        Ok(unsafe { Tensor::from_ptr(output.cast::<C_tensor>()) })
    }
}

fn handle(tensor: &Tensor) -> Handle {
    tensor.as_ptr().cast_mut().cast()
}
