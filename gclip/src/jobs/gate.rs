// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many jobs a worker runs at a time: several, or one that runs alone.
//!
//! While one runs alone none is even taken: whatever is in the hands of a worker that goes down is counted.

use parking_lot::{Condvar, Mutex};

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
    /// One wants to run alone, or does.
    alone: bool,
}

/// A job may run as long as this is there.
pub struct Pass<'a> {
    gate: &'a Gate,
    alone: bool,
}

impl Gate {
    /// Waits until something may be taken, and takes it; `take` also says whether it is to run alone. Then waits for
    /// the others to end.
    pub fn take<T, E>(
        &self,
        take: impl FnOnce() -> Result<Option<(T, bool)>, E>,
    ) -> Result<Option<(T, Pass<'_>)>, E> {
        let mut state = self.state.lock();
        while state.taking || state.alone {
            self.changed.wait(&mut state);
        }
        state.taking = true;
        drop(state);
        let taken = take();
        let mut state = self.state.lock();
        state.taking = false;
        let outcome = match taken {
            Ok(Some((taken, true))) => {
                state.alone = true;
                while state.running > 0 {
                    self.changed.wait(&mut state);
                }
                Ok(Some((taken, Pass { gate: self, alone: true })))
            }
            Ok(Some((taken, false))) => {
                state.running += 1;
                Ok(Some((taken, Pass { gate: self, alone: false })))
            }
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        self.changed.notify_all();
        outcome
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.state.lock();
        match self.alone {
            true => state.alone = false,
            false => state.running -= 1,
        }
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
        let left = Mutex::new(60usize);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    loop {
                        let taken = gate.take(|| {
                            let mut left = left.lock();
                            *left = left.saturating_sub(1);
                            Ok::<_, ()>(Some((*left, *left % 7 == 3)))
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
    }
}
