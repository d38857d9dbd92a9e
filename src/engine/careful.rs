// SPDX-License-Identifier: MIT OR Apache-2.0
//! What to do when a batch fails: less at a time when memory runs out, one at a time to find the bad request, and nothing
//! at all any more when the GPU is lost.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use anyhow::{Error, Result, anyhow};

use crate::batch::{Fatal, panic_text};

/// Successful calls under a limit before twice as much is tried again.
const PATIENCE: usize = 256;

/// Runs batches in parts that fit into memory.
pub(super) struct Careful {
    /// Requests that go through at once.
    limit: usize,
    /// Calls that have succeeded since the limit was set.
    successes: usize,
    /// Why there is no use in trying any more.
    lost: Option<Fatal>,
}

impl Default for Careful {
    fn default() -> Self {
        Careful { limit: usize::MAX, successes: 0, lost: None }
    }
}

impl Careful {
    /// One answer per request. When `infer` fails for lack of memory, the batch is halved until it fits, and
    /// later batches stay that small for a while; when it fails for another reason, each request gets one try
    /// alone, so that a bad one does not fail its neighbours. A fault after which CUDA answers nothing else in this process
    /// is not tried again: it is the answer to everything from then on.
    pub fn run<Q, R>(
        &mut self,
        requests: &[Q],
        infer: &mut impl FnMut(&[Q]) -> Result<Vec<R>>,
    ) -> Vec<Result<R>> {
        let mut answers = Vec::with_capacity(requests.len());
        let mut rest = requests;
        while !rest.is_empty() {
            if let Some(lost) = &self.lost {
                answers.extend(rest.iter().map(|_| Err(lost.clone().into())));
                break;
            }
            let (part, behind) = rest.split_at(rest.len().min(self.limit));
            match checked(part, infer) {
                Ok(done) => {
                    answers.extend(done.into_iter().map(Ok));
                    self.succeeded();
                    rest = behind;
                }
                Err(error) if is_lost(&error) => self.lost = Some(lost(&error)),
                Err(error) if part.len() == 1 => {
                    answers.push(Err(sentence(error)));
                    rest = behind;
                }
                // The same requests again, in smaller parts.
                Err(error) if is_out_of_memory(&error) => {
                    self.limit = part.len() / 2;
                    self.successes = 0;
                }
                Err(_) => {
                    for (index, request) in part.chunks(1).enumerate() {
                        match checked(request, infer) {
                            Ok(done) => answers.extend(done.into_iter().map(Ok)),
                            Err(error) if is_lost(&error) => {
                                self.lost = Some(lost(&error));
                                answers.extend(part[index..].iter().map(|_| Err(lost(&error).into())));
                                break;
                            }
                            Err(error) => answers.push(Err(sentence(error))),
                        }
                    }
                    rest = behind;
                }
            }
        }
        answers
    }

    /// Whether so many requests would go through at once.
    pub fn takes(&self, requests: usize) -> bool {
        self.lost.is_none() && requests <= self.limit
    }

    /// Memory may be free again, or pictures smaller: a limit is not for ever.
    pub fn succeeded(&mut self) {
        self.successes += 1;
        if self.limit != usize::MAX && self.successes >= PATIENCE {
            self.limit = self.limit.saturating_mul(2);
            self.successes = 0;
        }
    }
}

fn checked<Q, R>(requests: &[Q], infer: &mut impl FnMut(&[Q]) -> Result<Vec<R>>) -> Result<Vec<R>> {
    // A panic is one request's bad luck too, and no reason to fail its neighbours.
    let answers = catch_unwind(AssertUnwindSafe(|| infer(requests)))
        .unwrap_or_else(|panic| Err(anyhow!("panic: {}", panic_text(panic.as_ref()))))?;
    if answers.len() != requests.len() {
        return Err(anyhow!("the model gave {} answers for {} pictures", answers.len(), requests.len()));
    }
    Ok(answers)
}

/// libtorch has no error codes here; these are the words of its allocators and of cuBLAS and cuDNN.
fn is_out_of_memory(error: &Error) -> bool {
    let text = format!("{error:#}").to_lowercase();
    ["out of memory", "can't allocate memory", "not enough memory", "status_alloc_failed"]
        .iter()
        .any(|words| text.contains(words))
}

/// Faults that CUDA keeps: every later call of the process has the same answer (CUDA Runtime API reference, 6.36, "must be
/// terminated and relaunched"). libtorch tells them by CUDA's own texts.
fn is_lost(error: &Error) -> bool {
    let text = format!("{error:#}").to_lowercase();
    let faults = [
        "illegal memory access",
        "illegal instruction",
        "misaligned address",
        "invalid program counter",
        "operation not supported on global/shared address space",
        "hardware stack error",
        "launch failure",
        "launch timed out",
        "launch failed",
        "device-side assert",
        "uncorrectable ecc",
        "uncorrectable nvlink",
        "context is destroyed",
        "gpu is lost",
        "fallen off the bus",
        "contained error",
    ];
    // libtorch: "CUDA error: ..."; cuBLAS and cuDNN give codes of their own; this crate: "CUDA cannot ...".
    (text.contains("cuda") || text.contains("cublas") || text.contains("cudnn"))
        && faults.iter().any(|fault| text.contains(fault))
}

static FAULT: OnceLock<String> = OnceLock::new();

/// Why no model on a GPU works in this process any more; `None`: nothing of that kind has happened.
pub fn gpu_fault() -> Option<&'static str> {
    FAULT.get().map(String::as_str)
}

fn lost(error: &Error) -> Fatal {
    let text = format!("{error:#}");
    let first = text.lines().next().unwrap_or("unknown error").trim();
    let text =
        format!("the GPU has failed, and this process cannot use it any more: start it anew ({first})");
    Fatal(FAULT.get_or_init(|| text).clone())
}

/// One sentence for the user: what libtorch says goes on with its own call stack.
fn sentence(error: Error) -> Error {
    let text = format!("{error:#}");
    let first = text.lines().next().unwrap_or("unknown error").trim();
    if is_out_of_memory(&error) {
        anyhow!(
            "not enough memory for even one picture; a smaller input-size, sliding windows or precision=f16 \
             need less ({first})"
        )
    } else {
        anyhow!("{first}")
    }
}
