// SPDX-License-Identifier: MIT OR Apache-2.0
//! What does batching cost per frame, beside the model's own time?
//!
//! 64 sessions ask a function that answers at once, so that all the time is the batcher's: locks, wake-ups,
//! handing over. `one thread` drives all sessions from one thread, a batch's worth at a time; `64 threads` gives
//! each session a thread that waits for its own answers, as the streams of a pipeline do. The time is per round
//! of 64 frames; `elem/s` is frames. The target is 50 microseconds a frame: more than 20,000 elem/s.
//!
//! Run with `cargo bench --bench batch`.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gstgclip::batch::{Batcher, Session, SessionOptions};

const SESSIONS: usize = 64;

fn sessions(batch_size: usize) -> Vec<Session<u64, u64>> {
    let batcher = Batcher::spawn("bench", |requests: Vec<u64>| Ok(requests.into_iter().map(Ok).collect()));
    let batcher = batcher.expect("a thread");
    let options = SessionOptions { batch_size, batch_timeout: Duration::from_millis(20), max_in_flight: 2 };
    (0..SESSIONS).map(|_| batcher.session(options)).collect()
}

fn one_thread(c: &mut Criterion) {
    let mut group = c.benchmark_group("one thread");
    group.throughput(Throughput::Elements(SESSIONS as u64));
    for batch_size in [1, 8, 64] {
        let sessions = sessions(batch_size);
        group.bench_function(format!("batch-size {batch_size}"), |bencher| {
            bencher.iter(|| {
                let tickets: Vec<_> = sessions.iter().map(|session| session.submit(1)).collect();
                tickets.iter().filter(|ticket| matches!(ticket.wait(None), Some(Ok(_)))).count()
            });
        });
    }
    group.finish();
}

fn a_thread_each(c: &mut Criterion) {
    let mut group = c.benchmark_group("64 threads");
    group.throughput(Throughput::Elements(SESSIONS as u64));
    for batch_size in [8, 64] {
        let sessions = sessions(batch_size);
        group.bench_function(format!("batch-size {batch_size}"), |bencher| {
            bencher.iter_custom(|rounds| {
                let (start, end) = (Barrier::new(SESSIONS + 1), Barrier::new(SESSIONS + 1));
                thread::scope(|scope| {
                    for session in &sessions {
                        let (start, end) = (&start, &end);
                        scope.spawn(move || {
                            start.wait();
                            let mut before = session.submit(0);
                            for round in 1..rounds {
                                // Two in flight: the next one is queued while this one's answer is waited for.
                                let next = session.submit(round);
                                before.wait(None);
                                before = next;
                            }
                            before.wait(None);
                            session.set_quiet();
                            end.wait();
                        });
                    }
                    start.wait();
                    let started = Instant::now();
                    end.wait();
                    started.elapsed()
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, one_thread, a_thread_each);
criterion_main!(benches);
