// SPDX-License-Identifier: MIT OR Apache-2.0
//! The threads that libtorch itself works with. Threads of our own would compete with them for the cores.

use std::ffi::{c_uint, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Once, mpsc};
use std::thread;

use anyhow::{Result, bail};

use super::LIBTORCH;

/// What compilers call for `#pragma omp parallel`; both GNU's and LLVM's run time have it.
type Parallel = unsafe extern "C" fn(unsafe extern "C" fn(*mut c_void), *mut c_void, c_uint, c_uint);

static PARALLEL: LazyLock<Option<Parallel>> = LazyLock::new(|| {
    let library = LIBTORCH.as_ref()?;
    // SAFETY: the type is that of libgomp's interface to compilers.
    unsafe { library.get(b"GOMP_parallel\0").ok().map(|symbol| *symbol) }
});

struct Job<'a> {
    work: &'a (dyn Fn() + Sync),
    panicked: AtomicBool,
}

pub fn is_available() -> bool {
    PARALLEL.is_some()
}

/// Calls `work` once on each of as many threads as libtorch uses, this one among them, and waits for all.
pub fn run(work: &(dyn Fn() + Sync)) -> Result<()> {
    let Some(parallel) = *PARALLEL else { bail!("libtorch's threads cannot be reached") };
    let job = Job { work, panicked: AtomicBool::new(false) };
    let threads = tch::get_num_threads().max(1) as c_uint;
    // SAFETY: `entry` gets the job, which outlives the call: GOMP_parallel returns when all threads are done.
    unsafe { parallel(entry, (&raw const job).cast_mut().cast(), threads, 0) };
    if job.panicked.into_inner() {
        bail!("a thread of a kernel panicked");
    }
    Ok(())
}

/// Makes libtorch's threads sleep while they wait for each other's next work, so that decoders and other streams have the
/// cores. GNU's OpenMP spins for milliseconds first, unless `OMP_WAIT_POLICY` was set before the process began: too late
/// for a plugin. But it gives up early once it manages more threads than there are cores. So here is a thread with a team
/// of its own, as large, all asleep.
///
/// Who set one of OpenMP's variables for this decides, not we.
pub fn sleep_while_waiting() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        let decided =
            ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"].iter().any(|name| std::env::var_os(name).is_some());
        let Some(parallel) = *PARALLEL else { return };
        if decided {
            return;
        }
        let threads = thread::available_parallelism().map_or(1, usize::from) as c_uint + 1;
        let (ready, is_ready) = mpsc::channel::<()>();
        let team = move || {
            unsafe extern "C" fn nothing(_: *mut c_void) {}
            // SAFETY: the function takes no data and does nothing.
            unsafe { parallel(nothing, std::ptr::null_mut(), threads, 0) };
            drop(ready);
            // The team lives as long as its first thread.
            loop {
                thread::park();
            }
        };
        if thread::Builder::new().name("gclip-openmp".into()).spawn(team).is_ok() {
            // Ends with an error when `ready` is dropped, which is what is waited for.
            let _ended = is_ready.recv();
        }
    });
}

unsafe extern "C" fn entry(job: *mut c_void) {
    // SAFETY: `run` passes a job that lives until all threads have returned; it is only read, or atomic.
    let job = unsafe { &*job.cast::<Job>() };
    // A panic must not unwind through C.
    if catch_unwind(AssertUnwindSafe(job.work)).is_err() {
        job.panicked.store(true, Ordering::Relaxed);
    }
}
