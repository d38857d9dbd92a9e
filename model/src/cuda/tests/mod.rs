// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pools and their order, on a runtime that is played. What the real one does shows on a machine with a GPU
//! (`benches/gpu.sh`).

mod played;

use std::path::Path;
use std::process::Command;

use anyhow::{anyhow, ensure};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use tch::Kind;

use self::played::{play, with};
use super::*;

/// Packed planes, given as (bytes a row, rows), in ordinary memory with each row padded.
pub fn padded_pixels(packed: &[u8], sizes: &[(usize, usize)], padding: usize) -> LentPixels {
    let (mut memory, mut places, mut rest) = (Vec::new(), Vec::new(), packed);
    for &(row_bytes, rows) in sizes {
        places.push((memory.len(), row_bytes, rows));
        let (plane, after) = rest.split_at(row_bytes * rows);
        for row in plane.chunks(row_bytes) {
            memory.extend_from_slice(row);
            memory.resize(memory.len() + padding, 0xEE);
        }
        rest = after;
    }
    let start = memory.as_ptr() as u64;
    let plane = |(at, row_bytes, rows)| {
        LentPlane::of_bytes(start + at as u64, row_bytes + padding, (row_bytes, rows))
    };
    let planes = places.into_iter().map(plane).collect();
    // SAFETY: the pixels own the memory, and nobody writes to it.
    unsafe { LentPixels::new(tch::Device::Cpu, planes, None, Box::new(memory)) }
}

const PLANES: [(usize, usize); 2] = [(4, 2), (4, 1)];

fn upload(uploader: &std::sync::Arc<Uploader>, value: u8) -> LentPixels {
    uploader
        .upload(&PLANES, |bytes| {
            bytes.fill(value);
            Ok(())
        })
        .unwrap()
}

fn bytes_at(plane: &LentPlane) -> Vec<u8> {
    // SAFETY: an address of the played device is one of the host.
    unsafe { std::slice::from_raw_parts(plane.address as *const u8, plane.stride * plane.rows) }.to_vec()
}

#[test]
fn frames_are_sent_without_waiting_and_compute_waits_for_them() {
    let (runtime, _turn) = play();
    let uploader = Uploader::into(runtime, 3, tch::Device::Cpu).unwrap();
    let pixels = upload(&uploader, 7);
    assert_eq!(pixels.device(), tch::Device::Cuda(3));
    let places: Vec<_> =
        pixels.planes().iter().map(|plane| (plane.stride, plane.row_bytes, plane.rows)).collect();
    assert_eq!(places, [(4, 4, 2), (4, 4, 1)]);
    assert_eq!(pixels.planes()[1].address, pixels.planes()[0].address + 8);
    assert_ne!(bytes_at(&pixels.planes()[0]), [7; 8], "nobody has waited for the copy");
    pixels.hold_compute().unwrap();
    let compute = runtime.compute(3).unwrap();
    with(|played| {
        let (stream, event) = played.waits[0];
        assert_eq!(stream, compute.0 as usize, "the stream that libtorch computes on");
        let sent_on = played.pending[&event];
        assert!(sent_on != 0 && sent_on != stream);
        played.finish(sent_on);
    });
    assert_eq!(bytes_at(&pixels.planes()[0]), [7; 8]);
    assert_eq!(bytes_at(&pixels.planes()[1]), [7; 4]);
    with(|played| assert!(played.used.iter().all(|&device| device == 3)));
}

#[test]
fn a_buffer_under_way_is_not_written_again() {
    let (runtime, _turn) = play();
    let uploader = Uploader::into(runtime, 0, tch::Device::Cpu).unwrap();
    let frames: Vec<LentPixels> = (1..=3).map(|value| upload(&uploader, value)).collect();
    with(|played| {
        assert_eq!(played.host_allocations, 3, "none of the copies is done");
        let stream = *played.pending.values().next().unwrap();
        played.finish(stream);
    });
    for (value, pixels) in (1..).zip(&frames) {
        assert_eq!(bytes_at(&pixels.planes()[0]), [value; 8]);
    }
    // Now all copies are done: their page-locked buffers serve again; the frames still hold their own memory.
    let fourth = upload(&uploader, 4);
    with(|played| assert_eq!(played.host_allocations, 3));
    assert!(frames.iter().all(|frame| frame.planes()[0].address != fourth.planes()[0].address));
}

#[test]
fn memory_of_frames_is_taken_on_the_stream_of_the_copies() {
    let (runtime, _turn) = play();
    let uploader = Uploader::into(runtime, 0, tch::Device::Cpu).unwrap();
    let before = std::thread::spawn(|| runtime_current(runtime)).join().unwrap();
    let pixels = upload(&uploader, 7);
    let sent_on = with(|played| *played.pending.values().next().unwrap());
    with(|played| {
        let last = &played.current[played.current.len() - 2..];
        assert_eq!(last, [sent_on, before], "and the thread's own stream after that");
    });
    drop(pixels);
}

/// The stream of a thread that computes.
fn runtime_current(runtime: &'static Runtime) -> usize {
    runtime.compute(0).unwrap().0 as usize
}

#[test]
fn each_thread_computes_on_a_stream_of_its_own() {
    let (runtime, _turn) = play();
    let on_a_thread = || {
        std::thread::spawn(move || {
            let (first, again) = (runtime_current(runtime), runtime_current(runtime));
            assert_eq!(first, again, "one for as long as it lives");
            first
        })
    };
    let (one, other) = (on_a_thread().join().unwrap(), on_a_thread().join().unwrap());
    assert!(one != 0 && other != 0 && one != other);
    with(|played| assert_eq!(played.current, [one, other], "libtorch is told once a thread"));
}

#[test]
fn full_pools_wait_for_the_oldest_copy() {
    let (runtime, _turn) = play();
    let uploader = Uploader::into(runtime, 0, tch::Device::Cpu).unwrap();
    let large = [(192 << 10, 2)]; // two fit under the limit of page-locked memory, a third does not
    let send = |value: u8| {
        uploader
            .upload(&large, |bytes| {
                bytes[0] = value;
                Ok(())
            })
            .unwrap()
    };
    let frames = [send(1), send(2), send(3)];
    with(|played| assert_eq!(played.host_allocations, 2));
    assert_eq!(bytes_at(&frames[0].planes()[0])[0], 1, "the oldest copy was waited for");
}

#[test]
fn a_failed_frame_leaves_the_pool_whole() {
    let (runtime, _turn) = play();
    let uploader = Uploader::into(runtime, 0, tch::Device::Cpu).unwrap();
    let failed = uploader.upload(&PLANES, |_| Err(anyhow!("no such plane")));
    assert_eq!(failed.err().unwrap().to_string(), "no such plane");
    let pixels = upload(&uploader, 9);
    with(|played| {
        assert_eq!(played.host_allocations, 1);
        let stream = *played.pending.values().next().unwrap();
        played.finish(stream);
    });
    assert_eq!(bytes_at(&pixels.planes()[0]), [9; 8]);
    drop(pixels);
    drop(uploader);
    with(|played| assert!(played.bytes.is_empty(), "everything is freed: {:?}", played.bytes));
}

#[test]
fn frames_of_another_context_are_copied_row_by_row() {
    let (runtime, _turn) = play();
    let uploader = Uploader::into(runtime, 0, tch::Device::Cpu).unwrap();
    let source: Vec<u8> = (0..60).collect();
    let plane = |start: usize, row_bytes, rows| {
        LentPlane::of_bytes(source[start..].as_ptr() as u64, 10, (row_bytes, rows))
    };
    let words = LentPlane::of_upper_bytes(source.as_ptr() as u64, 10, (3, 2));
    let planes = [plane(0, 3, 2), plane(20, 2, 3), words];
    // SAFETY: `source` outlives the copy.
    let (pixels, read) = unsafe { uploader.copy_from_device(&planes) }.unwrap();
    assert!(!read.is_past().unwrap());
    read.wait().unwrap();
    assert_eq!(bytes_at(&pixels.planes()[0]), [0, 1, 2, 10, 11, 12]);
    assert_eq!(bytes_at(&pixels.planes()[1]), [20, 21, 30, 31, 40, 41]);
    let words = &pixels.planes()[2];
    assert_eq!((words.stride, words.step, words.address % 2), (6, 2, (pixels.planes()[1].address + 7) % 2));
    let upper = |row: usize, word: usize| words.address + (row * words.stride + word * words.step) as u64;
    let places = [upper(0, 0), upper(0, 2), upper(1, 1)];
    // SAFETY: bytes of the words that were copied.
    let values = places.map(|place| unsafe { *(place as *const u8) });
    assert_eq!(values, [1, 5, 13]);
}

#[test]
fn results_come_back_in_one_copy() {
    let (runtime, _turn) = play();
    let stream = runtime.compute(0).unwrap();
    for count in [5usize, 3, 40] {
        let values: Vec<u8> = (0..count as u8).collect();
        // SAFETY: `values` outlives the copy.
        let begun = unsafe { Download::begin_at(runtime, stream, values.as_ptr() as u64, count) }.unwrap();
        with(|played| assert_eq!(played.pending.len(), 1, "nobody waits for it yet"));
        assert_eq!(begun.read(|bytes| Ok(bytes.to_vec())).unwrap(), values);
    }
    with(|played| {
        assert_eq!(played.host_allocations, 2, "a smaller result needs no new buffer");
        assert!(played.flags.iter().all(|flags| flags & 1 == 1), "who waits for it sleeps");
    });
    let tensor = tch::Tensor::from_slice(&[1u8, 2, 3]);
    assert_eq!(Download::begin(&tensor).unwrap().read(|bytes| Ok(bytes.to_vec())).unwrap(), [1, 2, 3]);
    assert!(Download::begin(&tensor.to_kind(Kind::Float)).is_err());
}

#[test]
fn two_results_may_be_on_their_way() {
    let (runtime, _turn) = play();
    let stream = runtime.compute(0).unwrap();
    let (one, two) = ([1u8; 8], [2u8; 8]);
    // SAFETY: both outlive their copies.
    let begin =
        |from: &[u8]| unsafe { Download::begin_at(runtime, stream, from.as_ptr() as u64, 8) }.unwrap();
    let (first, second) = (begin(&one), begin(&two));
    assert_eq!(first.read(|bytes| Ok(bytes.to_vec())).unwrap(), one);
    assert_eq!(second.read(|bytes| Ok(bytes.to_vec())).unwrap(), two);
    let (third, unread) = (begin(&one), begin(&two));
    with(|played| assert_eq!(played.host_allocations, 2, "their buffers serve the next two"));
    drop(unread);
    with(|played| assert!(played.pending.is_empty(), "a buffer is not given back while it is written to"));
    assert_eq!(third.read(|bytes| Ok(bytes.to_vec())).unwrap(), one);
}

#[test]
fn marks_of_a_stream_tell_its_own_time() {
    let (runtime, _turn) = play();
    let clock = clock::Clock::Stream(runtime, runtime.compute(0).unwrap());
    let (start, end) = (clock.mark().unwrap(), clock.mark().unwrap());
    assert_eq!(end.since(&start).unwrap().as_micros(), 2500);
    with(|played| assert!(played.pending.is_empty(), "reading the time waits for it"));
}

#[test]
fn errors_of_the_runtime_are_sentences() {
    let (runtime, _turn) = play();
    // SAFETY: the played device refuses what it did not give.
    let error = unsafe { runtime.free_host(12 as *mut u8) }.unwrap_err();
    assert_eq!(error.to_string(), "CUDA cannot free page-locked memory: out of memory");
}

/// The real runtime is here even without a GPU, as libtorch's CPU half is linked with it.
#[test]
fn the_runtime_of_libtorch_has_every_function() -> anyhow::Result<()> {
    let _ = tch::get_num_threads(); // libtorch is there
    let Ok(found) = runtime() else {
        eprintln!("skipped: this libtorch is built without CUDA");
        return Ok(());
    };
    if !Path::new("/dev/nvidiactl").exists() {
        let error = found.allocate_host(16).expect_err("memory of a GPU that is not there").to_string();
        ensure!(error.starts_with("CUDA cannot allocate page-locked memory"), "{error}");
    }
    Ok(())
}

/// libtorch's archives give the runtime's file a name of their own, and another plugin may have brought another runtime.
#[test]
fn the_runtime_is_found_through_what_libtorch_is_linked_with() {
    let folder = tempfile::tempdir().unwrap();
    let build = |name: &str, source: &str, link: &[&str]| {
        let (code, library) = (folder.path().join("source.c"), folder.path().join(name));
        std::fs::write(&code, source).unwrap();
        let soname = format!("-Wl,-soname,{name}");
        let mut compiler = Command::new("cc");
        compiler
            .args(["-shared", "-fPIC", "-w", "-Wl,-rpath,$ORIGIN", &soname, "-o"])
            .arg(&library)
            .arg(&code);
        compiler.arg("-L").arg(folder.path()).args(link);
        let built = compiler.output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        library
    };
    // Each function gives the number of its library.
    let names = [
        "SetDevice",
        "DeviceSynchronize",
        "HostAlloc",
        "FreeHost",
        "MemGetInfo",
        "MemcpyAsync",
        "Memcpy2DAsync",
        "EventCreateWithFlags",
        "EventDestroy",
        "EventRecord",
        "EventQuery",
        "EventSynchronize",
        "EventElapsedTime",
        "StreamWaitEvent",
        "GetLastError",
        "GetErrorString",
    ];
    let source = |number: i32| {
        names.map(|name| format!("int cuda{name} (int device) {{ return {number}; }}\n")).concat()
    };
    let other = build("libcudart.so.1", &source(1), &[]);
    build("libcudart-1a2b3c.so.13", &source(13), &[]);
    let user = "int cudaSetDevice (int device); int user (void) { return cudaSetDevice (0); }";
    let user = build("libuser.so", user, &["-l:libcudart-1a2b3c.so.13"]);
    let open = |file: &Path| {
        // SAFETY: a library that has just been built, without initialisers.
        unsafe { Library::open(Some(file), RTLD_NOW | RTLD_LOCAL) }.unwrap()
    };
    let _other = open(&other);
    let user = open(&user);
    let functions = super::runtime::functions_behind(&user).unwrap();
    // SAFETY: the function built above.
    assert_eq!(unsafe { (functions.set_device)(0) }, 13);
}

#[test]
fn cudnn_s_attention_can_be_put_aside() {
    let _ = tch::get_num_threads(); // libtorch is there
    let library = crate::libtorch::library().unwrap();
    // SAFETY: members of at::Context with these types.
    let enabled = || unsafe {
        let context = library.get::<unsafe extern "C" fn() -> *mut u8>(b"_ZN2at13globalContextEv").unwrap();
        let asked =
            library.get::<unsafe extern "C" fn(*const u8) -> bool>(b"_ZNK2at7Context19userEnabledCuDNNSDPEv");
        (asked.unwrap())(context())
    };
    for allow in [false, true] {
        allow_cudnn_attention(allow).unwrap();
        assert_eq!(enabled(), allow);
    }
}
