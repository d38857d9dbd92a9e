// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pools and their order, on a runtime that is played. What the real one does shows on a machine with a GPU
//! (`benches/gpu.sh`).

mod played;

use anyhow::{anyhow, ensure};
use tch::Kind;

use self::played::{play, with};
use super::download::through_page_locked;
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
    let plane = |(at, row_bytes, rows)| LentPlane {
        address: start + at as u64,
        stride: row_bytes + padding,
        row_bytes,
        rows,
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
    let uploader = Uploader::new(runtime, 3).unwrap();
    let pixels = upload(&uploader, 7);
    assert_eq!(pixels.device(), tch::Device::Cuda(3));
    let places: Vec<_> =
        pixels.planes().iter().map(|plane| (plane.stride, plane.row_bytes, plane.rows)).collect();
    assert_eq!(places, [(4, 4, 2), (4, 4, 1)]);
    assert_eq!(pixels.planes()[1].address, pixels.planes()[0].address + 8);
    assert_eq!(bytes_at(&pixels.planes()[0]), [0; 8], "nobody has waited for the copy");
    pixels.hold_compute().unwrap();
    with(|played| {
        let (stream, event) = played.waits[0];
        assert_eq!(stream, 0, "the stream that libtorch computes on");
        let sent_on = played.pending[&event];
        assert_ne!(sent_on, 0);
        played.finish(sent_on);
    });
    assert_eq!(bytes_at(&pixels.planes()[0]), [7; 8]);
    assert_eq!(bytes_at(&pixels.planes()[1]), [7; 4]);
    with(|played| assert!(played.used.iter().all(|&device| device == 3)));
}

#[test]
fn a_buffer_under_way_is_not_written_again() {
    let (runtime, _turn) = play();
    let uploader = Uploader::new(runtime, 0).unwrap();
    let frames: Vec<LentPixels> = (1..=3).map(|value| upload(&uploader, value)).collect();
    with(|played| {
        assert_eq!((played.host_allocations, played.allocations), (3, 3), "none of the copies is done");
        let stream = *played.pending.values().next().unwrap();
        played.finish(stream);
    });
    for (value, pixels) in (1..).zip(&frames) {
        assert_eq!(bytes_at(&pixels.planes()[0]), [value; 8]);
    }
    // Now all copies are done: their page-locked buffers serve again; the frames still hold their own memory.
    let fourth = upload(&uploader, 4);
    with(|played| assert_eq!((played.host_allocations, played.allocations), (3, 4)));
    drop((frames, fourth));
    drop((upload(&uploader, 5), upload(&uploader, 6)));
    with(|played| assert_eq!(played.allocations, 4, "memory of frames that are gone is used again"));
}

#[test]
fn full_pools_wait_for_the_oldest_copy() {
    let (runtime, _turn) = play();
    let uploader = Uploader::new(runtime, 0).unwrap();
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
fn memory_that_nobody_needs_goes_back_to_the_device() {
    let (runtime, _turn) = play();
    let uploader = Uploader::new(runtime, 0).unwrap();
    // An eighth of the played device is a megabyte: nine such frames fit, ten do not.
    let large = [(16 << 10, 7)];
    let frames: Vec<LentPixels> = (0..10).map(|_| uploader.upload(&large, |_| Ok(())).unwrap()).collect();
    let held =
        |played: &mut played::Device| played.bytes.values().filter(|&&bytes| bytes == 112 << 10).count();
    let before = with(held);
    drop(frames);
    let after = with(held);
    assert_eq!(before - after, 1, "nine are kept for the next frames, the tenth is freed");
}

#[test]
fn a_failed_frame_leaves_the_pool_whole() {
    let (runtime, _turn) = play();
    let uploader = Uploader::new(runtime, 0).unwrap();
    let failed = uploader.upload(&PLANES, |_| Err(anyhow!("no such plane")));
    assert_eq!(failed.err().unwrap().to_string(), "no such plane");
    let pixels = upload(&uploader, 9);
    with(|played| {
        assert_eq!((played.host_allocations, played.allocations), (1, 1));
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
    let uploader = Uploader::new(runtime, 0).unwrap();
    let source: Vec<u8> = (0..60).collect();
    let plane = |start: usize, row_bytes, rows| LentPlane {
        address: source[start..].as_ptr() as u64,
        stride: 10,
        row_bytes,
        rows,
    };
    // SAFETY: `source` outlives the copy.
    let (pixels, read) = unsafe { uploader.copy_from_device(&[plane(0, 3, 2), plane(20, 2, 3)]) }.unwrap();
    assert!(!read.is_past().unwrap());
    read.wait().unwrap();
    assert_eq!(bytes_at(&pixels.planes()[0]), [0, 1, 2, 10, 11, 12]);
    assert_eq!(bytes_at(&pixels.planes()[1]), [20, 21, 30, 31, 40, 41]);
}

#[test]
fn results_come_back_in_one_copy() {
    let (runtime, _turn) = play();
    for count in [5usize, 3, 40] {
        let values: Vec<u8> = (0..count as u8).collect();
        // SAFETY: `values` outlives the copy.
        let copied = unsafe { through_page_locked(runtime, values.as_ptr() as u64, count) }.unwrap();
        assert_eq!(copied, values);
    }
    with(|played| assert_eq!(played.host_allocations, 2, "a smaller result needs no new buffer"));
    let tensor = tch::Tensor::from_slice(&[1u8, 2, 3]);
    assert_eq!(download(&tensor).unwrap(), [1, 2, 3]);
    assert!(download(&tensor.to_kind(Kind::Float)).is_err());
}

#[test]
fn marks_of_a_stream_tell_its_own_time() {
    let (runtime, _turn) = play();
    let clock = clock::Clock::Stream(runtime);
    let (start, end) = (clock.mark().unwrap(), clock.mark().unwrap());
    assert_eq!(end.since(&start).unwrap().as_micros(), 2500);
    with(|played| assert!(played.pending.is_empty(), "reading the time waits for it"));
}

#[test]
fn errors_of_the_runtime_are_sentences() {
    let (runtime, _turn) = play();
    // SAFETY: the played device refuses what it did not give.
    let error = unsafe { runtime.free(12) }.unwrap_err();
    assert_eq!(error.to_string(), "CUDA cannot free memory of the device: out of memory");
}

/// The real runtime is here even without a GPU, as libtorch's CPU half is linked with it.
#[test]
fn the_runtime_of_libtorch_has_every_function() -> anyhow::Result<()> {
    let _ = tch::get_num_threads(); // libtorch is there
    let Some(file) = super::runtime::loaded_file("libcudart.so") else {
        eprintln!("skipped: this libtorch is built without CUDA");
        return Ok(());
    };
    let found = runtime()?;
    if !std::path::Path::new("/dev/nvidiactl").exists() {
        let error = found.allocate(16).expect_err("memory of a GPU that is not there").to_string();
        ensure!(error.starts_with("CUDA cannot allocate memory"), "{error} ({})", file.display());
    }
    Ok(())
}
