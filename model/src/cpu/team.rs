// SPDX-License-Identifier: MIT OR Apache-2.0
//! The threads that libtorch itself works with. Threads of our own would compete with them for the cores.

use std::cell::Cell;
use std::ffi::{c_uint, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{LazyLock, Once, mpsc};
use std::thread::{self, ThreadId};

use anyhow::{Result, bail};
use parking_lot::Mutex;

use super::LIBTORCH;
use crate::preprocess::Picture;

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

/// The next of several things that threads share out among themselves.
pub fn nth<'a, T>(things: &'a [T], next: &AtomicUsize) -> Option<(usize, &'a T)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    things.get(index).map(|thing| (index, thing))
}

/// Runs of pictures that threads share.
struct Runs<'a>(&'a [&'a [&'a Picture]]);

// SAFETY: a picture is numbers and either a tensor or lent memory, neither of which is written to while a model looks. libtorch
// lets any number of threads read a tensor; its counts of references are atomic.
unsafe impl Sync for Runs<'_> {}

impl<'a> Runs<'a> {
    fn all(&self) -> &'a [&'a [&'a Picture]] {
        self.0
    }
}

/// Calls `work` for each run of pictures, several at a time on libtorch's threads, each on one thread alone; the outcomes in
/// their order. Many small operations on one picture take less time so than shared by threads, which have to be woken for each.
pub fn each_alone<R: Send>(runs: &[&[&Picture]], work: impl Fn(&[&Picture]) -> R + Sync) -> Result<Vec<R>> {
    if !is_available() {
        return Ok(runs.iter().map(|run| work(run)).collect());
    }
    let (runs, next) = (Runs(runs), AtomicUsize::new(0));
    let found: Mutex<Vec<(usize, R)>> = Mutex::default();
    run(&|| {
        tch::no_grad(|| {
            while let Some((index, pictures)) = nth(runs.all(), &next) {
                let outcome = work(pictures);
                found.lock().push((index, outcome));
            }
        });
    })?;
    let mut found = found.into_inner();
    found.sort_by_key(|(index, _)| *index);
    Ok(found.into_iter().map(|(_, outcome)| outcome).collect())
}

/// Work for one thread of a team.
struct Alone<'a> {
    caller: ThreadId,
    work: Cell<Option<&'a mut dyn FnMut()>>,
}

/// Calls `work`, and starts no other thread for what it asks of libtorch or of [`run`]: to wake one takes a tenth of a
/// millisecond on a virtual machine, more than many operations on few rows take.
///
/// # Errors
/// OpenMP has not called it.
pub fn alone<R>(work: impl FnOnce() -> R) -> Result<R> {
    let threads = tch::get_num_threads().max(1) as c_uint;
    let Some(parallel) = PARALLEL.filter(|_| threads > 1) else { return Ok(work()) };
    let (mut work, mut outcome) = (Some(work), None);
    let mut call = || outcome = work.take().map(|work| catch_unwind(AssertUnwindSafe(work)));
    let job = Alone { caller: thread::current().id(), work: Cell::new(Some(&mut call)) };
    // Within a team nobody starts another; the others of this one have nothing to do. Of the usual size: OpenMP ends threads that
    // a team leaves out.
    // SAFETY: `enter_alone` gets the job, which outlives the call: GOMP_parallel returns when all threads are done.
    unsafe { parallel(enter_alone, (&raw const job).cast_mut().cast(), threads, 0) };
    match outcome {
        Some(Ok(result)) => Ok(result),
        Some(Err(panic)) => resume_unwind(panic),
        None => bail!("libtorch's threads have not called the work for one of them"),
    }
}

unsafe extern "C" fn enter_alone(job: *mut c_void) {
    // SAFETY: `alone` passes a job that lives until all threads have returned. The thread that made it is the only one that
    // touches the cell; the caller's id is only read.
    let job = unsafe { &*job.cast::<Alone>() };
    if thread::current().id() == job.caller
        && let Some(work) = job.work.take()
    {
        work(); // catches what panics
    }
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

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::*;
    use crate::preprocess::{Colour, PixelFormat};

    /// How many threads [`run`] takes.
    fn threads() -> usize {
        let count = AtomicUsize::new(0);
        run(&|| _ = count.fetch_add(1, Ordering::Relaxed)).unwrap();
        count.into_inner()
    }

    #[test]
    fn alone_is_one_thread_and_this_one() {
        let _ = tch::get_num_threads();
        let before = threads();
        let caller = thread::current().id();
        let (here, within) = alone(|| (thread::current().id(), threads())).unwrap();
        assert_eq!((here, within), (caller, 1));
        assert_eq!(alone(|| alone(threads).unwrap()).unwrap(), 1, "within itself");
        assert_eq!(threads(), before, "afterwards all work again");
    }

    #[test]
    fn a_panic_of_one_alone_is_the_caller_s() {
        let panic = catch_unwind(|| alone(|| panic!("of the work"))).unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"of the work"));
        assert_eq!(alone(|| 7).unwrap(), 7);
    }

    #[test]
    fn pictures_come_back_in_their_order_each_by_one_thread() {
        let picture = |value: i64| {
            let data = Tensor::full([2 * 2 * 3], value, (Kind::Uint8, Device::Cpu));
            let (format, colour) = (PixelFormat::Rgb, Colour::default());
            Picture { format, width: 2, height: 2, colour, data: data.into() }
        };
        let pictures: Vec<Picture> = (0..40).map(picture).collect();
        let each: Vec<[&Picture; 1]> = pictures.iter().map(|picture| [picture]).collect();
        let runs: Vec<&[&Picture]> = each.iter().map(|run| run.as_slice()).collect();
        let found = each_alone(&runs, |run| {
            let bytes = Vec::<u8>::try_from(&run[0].data).unwrap();
            (bytes[0], threads())
        });
        let expected: Vec<(u8, usize)> = (0..40).map(|value| (value, 1)).collect();
        assert_eq!(found.unwrap(), expected);
        let panicked = each_alone(&runs, |run| assert!(run.is_empty()));
        assert!(panicked.unwrap_err().to_string().contains("panicked"));
    }
}
