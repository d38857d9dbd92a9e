// SPDX-License-Identifier: MIT OR Apache-2.0
//! What to do when a batch fails: less at a time when memory runs out, one at a time to find the bad request.

use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Error, Result, anyhow};

use crate::batch::panic_text;

/// Successful calls under a limit before twice as much is tried again.
const PATIENCE: usize = 256;

/// Runs batches in parts that fit into memory.
pub(super) struct Careful {
    /// Requests that go through at once.
    limit: usize,
    /// Calls that have succeeded since the limit was set.
    successes: usize,
}

impl Default for Careful {
    fn default() -> Self {
        Careful { limit: usize::MAX, successes: 0 }
    }
}

impl Careful {
    /// One answer per request. When `infer` fails for lack of memory, the batch is halved until it fits, and
    /// later batches stay that small for a while; when it fails for another reason, each request gets one try
    /// alone, so that a bad one does not fail its neighbours.
    pub fn run<Q, R>(
        &mut self,
        requests: &[Q],
        infer: &mut impl FnMut(&[Q]) -> Result<Vec<R>>,
    ) -> Vec<Result<R>> {
        let mut answers = Vec::with_capacity(requests.len());
        let mut rest = requests;
        while !rest.is_empty() {
            let (part, behind) = rest.split_at(rest.len().min(self.limit));
            match checked(part, infer) {
                Ok(done) => {
                    answers.extend(done.into_iter().map(Ok));
                    self.succeeded();
                    rest = behind;
                }
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
                    for request in part.chunks(1) {
                        let alone = checked(request, infer).map_err(sentence);
                        answers.extend(alone.map_or_else(
                            |error| vec![Err(error)],
                            |done| done.into_iter().map(Ok).collect(),
                        ));
                    }
                    rest = behind;
                }
            }
        }
        answers
    }

    /// Memory may be free again, or pictures smaller: a limit is not for ever.
    fn succeeded(&mut self) {
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
