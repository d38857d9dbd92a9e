// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many jobs a worker runs at a time: several, or one that runs alone.
//!
//! While one runs alone none is even taken: whatever is in the hands of a worker that goes down is counted.

use parking_lot::{Condvar, Mutex, MutexGuard};

#[derive(Default)]
pub struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Somebody asks the queue.
    taking: bool,
    running: usize,
    /// One runs alone.
    alone: bool,
}

/// A job may run as long as this is there.
pub struct Pass<'a> {
    gate: &'a Gate,
}

impl Gate {
    /// Waits until something may be taken, and takes it; `take` also says whether it is to run alone. If others run then,
    /// it is given back, and something is taken when they have ended: waiting in the hands of a worker, it would be counted
    /// if one of them brought the worker down.
    pub fn take<T, E>(
        &self,
        mut take: impl FnMut() -> Result<Option<(T, bool)>, E>,
        give_back: impl FnOnce(T),
    ) -> Result<Option<(T, Pass<'_>)>, E> {
        self.wait_until(|state| !state.taking && !state.alone).taking = true;
        let mut taken = take();
        if matches!(taken, Ok(Some((_, true)))) && self.state.lock().running > 0 {
            if let Ok(Some((job, _))) = taken {
                give_back(job);
            }
            drop(self.wait_until(|state| state.running == 0));
            taken = take();
        }
        let mut state = self.state.lock();
        state.taking = false;
        let outcome = taken.map(|taken| {
            let (job, alone) = taken?;
            state.alone = alone;
            state.running += 1;
            Some((job, Pass { gate: self }))
        });
        self.changed.notify_all();
        outcome
    }

    fn wait_until(&self, is_so: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        while !is_so(&state) {
            self.changed.wait(&mut state);
        }
        state
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.state.lock();
        state.running -= 1;
        // Whoever ran alone was the only one.
        state.alone = false;
        self.gate.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    #[test]
    fn one_that_runs_alone_has_nobody_beside_it() {
        let (gate, now, most) =
            (Arc::new(Gate::default()), Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
        let (left, given_back) = (Mutex::new(60usize), AtomicUsize::new(0));
        let again = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    loop {
                        let next = || {
                            let mut left = left.lock();
                            let job = again.lock().pop().unwrap_or_else(|| {
                                *left = left.saturating_sub(1);
                                *left
                            });
                            Ok::<_, ()>(Some((job, job % 7 == 3)))
                        };
                        let taken = gate.take(next, |job| {
                            given_back.fetch_add(1, Ordering::SeqCst);
                            again.lock().push(job);
                        });
                        let (job, _pass) = taken.unwrap().unwrap();
                        if job == 0 {
                            return;
                        }
                        let beside = now.fetch_add(1, Ordering::SeqCst);
                        most.fetch_max(beside + 1, Ordering::SeqCst);
                        assert!(job % 7 != 3 || beside == 0, "{job} runs beside {beside} others");
                        std::thread::sleep(Duration::from_millis(2));
                        assert!(job % 7 != 3 || now.load(Ordering::SeqCst) == 1);
                        now.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) > 1, "the others run beside each other");
        assert!(given_back.load(Ordering::SeqCst) > 0);
    }
}
