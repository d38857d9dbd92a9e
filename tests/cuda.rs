// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames in the memory of a GPU, without one: GStreamer's own CUDA library runs on a driver that `cuda/driver.c` plays,
//! with the host's memory as the device's, and a fake model reads the frames where they lie.

#[path = "../benches/gpu/cuda_frames.rs"]
mod cuda_frames;

use std::error::Error;
use std::ffi::{c_int, c_void};
use std::process::Command;
use std::sync::{Arc, LazyLock};

use gst_check::Harness;
use gst_video::prelude::*;
use gstgclip::engine::Engine;
use gstgclip::meta::Masks;
use gstgclip::model::{Ids, ModelInfo, ModelSpec, Pixels, Request, Segmentation};
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const WIDTH: usize = 34;
const HEIGHT: usize = 18;

/// The played driver. It has the real one's name, so that whoever opens `libcuda.so.1` after this gets it.
/// `None`: a real driver is installed, which these tests are not for, or a GStreamer that asks more of a driver.
static DRIVER: LazyLock<Option<Library>> = LazyLock::new(|| {
    gst::init().unwrap();
    let (major, minor, ..) = gst::version();
    if (major, minor) >= (1, 24) {
        eprintln!("skipped: the driver is played as GStreamer 1.22 knows it, and this is {major}.{minor}");
        return None;
    }
    // SAFETY: the driver's own library, if there is one.
    if unsafe { Library::open(Some("libcuda.so.1"), RTLD_NOW) }.is_ok() {
        eprintln!("skipped: this machine has a CUDA driver");
        return None;
    }
    let library = concat!(env!("CARGO_TARGET_TMPDIR"), "/libcuda.so.1");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cuda/driver.c");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-w", "-Wl,-soname,libcuda.so.1", "-o", library, source])
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    // SAFETY: the library that has just been built.
    let driver = unsafe { Library::open(Some(library), RTLD_NOW | RTLD_GLOBAL) }.unwrap();
    gstgclip::plugin_register_static().unwrap();
    Some(driver)
});

/// Copies from the played device to the host so far.
fn downloads(driver: &Library) -> c_int {
    // SAFETY: a function of driver.c, with this type.
    unsafe { driver.get::<unsafe extern "C" fn() -> c_int>(b"played_downloads").unwrap()() }
}

fn primary(driver: &Library) -> *mut c_void {
    // SAFETY: a function of driver.c, with this type.
    unsafe { driver.get::<unsafe extern "C" fn() -> *mut c_void>(b"played_primary").unwrap()() }
}

/// The luma of a frame on the played device, whose addresses are the host's, and where its chroma lies.
fn luma_of(request: &Request) -> anyhow::Result<Vec<u8>> {
    let Pixels::Lent(pixels) = &request.picture.data else {
        anyhow::bail!("the frame was copied to the host")
    };
    assert_eq!(pixels.device(), tch::Device::Cuda(0));
    let [luma, chroma] = pixels.planes() else { anyhow::bail!("NV12 has two planes") };
    assert_eq!(
        (luma.row_bytes, luma.rows, chroma.row_bytes, chroma.rows),
        (WIDTH, HEIGHT, WIDTH, HEIGHT / 2)
    );
    assert_eq!((luma.stride, chroma.stride), (512, 512), "the driver's pitch");
    let pixel = |index: usize| {
        let place = luma.address as usize + index / WIDTH * luma.stride + index % WIDTH * luma.step;
        // SAFETY: within the plane, which the picture keeps alive.
        unsafe { *(place as *const u8) }
    };
    Ok((0..WIDTH * HEIGHT).map(pixel).collect())
}

/// A model that answers with the luma of the frame.
fn install(id: &str, device: &str) -> Arc<Engine> {
    let info = ModelInfo { hash: id.into(), embed_dim: 2, device: device.into(), ..ModelInfo::default() };
    let spec = ModelSpec { model: "fake".into(), ..ModelSpec::default() };
    let answer = |request: &Request| {
        let ids = Ids::U8(luma_of(request)?);
        Ok(Arc::new(Segmentation::new(WIDTH, HEIGHT, ids, Vec::new())))
    };
    Engine::install(
        id,
        &spec,
        info,
        Box::new(move |requests| Ok(requests.iter().map(answer).collect())),
        Box::new(|texts: &[String]| Ok([1.0, 0.0].repeat(texts.len()))),
    )
    .unwrap()
}

fn element(id: &str) -> gst::Element {
    gst::ElementFactory::make("gclipsegment")
        .property("model", "fake")
        .property("model-instance-id", id)
        .property("prompts", "a")
        .property("prompt-template", "none")
        .build()
        .unwrap()
}

fn host_frame(number: u8) -> gst::Buffer {
    let mut bytes = vec![128; WIDTH * HEIGHT * 3 / 2];
    for (index, byte) in bytes[..WIDTH * HEIGHT].iter_mut().enumerate() {
        *byte = number.wrapping_mul(50).wrapping_add(index as u8);
    }
    // NV12 of GStreamer has rows of whole words; the frame says that these have not.
    let mut buffer = gst::Buffer::from_mut_slice(bytes);
    let fresh = buffer.get_mut().unwrap();
    let (flags, format) = (gst_video::VideoFrameFlags::empty(), gst_video::VideoFormat::Nv12);
    let offsets = [0, WIDTH * HEIGHT];
    let strides = [WIDTH as i32, WIDTH as i32];
    gst_video::VideoMeta::add_full(fresh, flags, format, WIDTH as u32, HEIGHT as u32, &offsets, &strides)
        .unwrap();
    buffer
}

fn host_caps() -> gst::Caps {
    gst_video::VideoCapsBuilder::new()
        .format(gst_video::VideoFormat::Nv12)
        .width(WIDTH as i32)
        .height(HEIGHT as i32)
        .framerate(gst::Fraction::new(25, 1))
        .build()
}

fn features(caps: &gst::Caps) -> Vec<bool> {
    caps.iter_with_features().map(|(_, features)| features.contains("memory:CUDAMemory")).collect()
}

/// The played driver counts for the whole process: who reads its counts is alone.
static COUNTING: parking_lot::Mutex<()> = parking_lot::Mutex::new(());

#[test]
fn frames_in_cuda_memory_are_read_where_they_lie() -> Result<()> {
    let Some(driver) = DRIVER.as_ref() else { return Ok(()) };
    let _alone = COUNTING.lock();
    let _engine = install("cuda-in-place", "cuda:0");
    let element = element("cuda-in-place");
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    element.set_state(gst::State::Ready)?;
    let context = element.context("gst.cuda.context").ok_or("the element shares its context")?;
    let (caps, frames) = cuda_frames::on_device(&context, &host_caps(), &[0, 1, 2].map(host_frame))?;
    let before = downloads(driver);
    let mut harness = Harness::with_element(&element, Some("sink"), Some("src"));
    harness.set_live(false);
    harness.set_src_caps(caps.clone());
    for (number, frame) in (0u64..).zip(&frames) {
        let mut frame = frame.clone();
        frame.make_mut().set_pts(gst::ClockTime::from_mseconds(40 * number));
        harness.push(frame)?;
    }
    harness.push_event(gst::event::Eos::new());
    for number in 0..3u8 {
        let buffer = harness.pull()?;
        let masks = Masks::from_buffer(&buffer).ok_or("a mask")?;
        let expected: Vec<u8> =
            (0..WIDTH * HEIGHT).map(|index| number.wrapping_mul(50).wrapping_add(index as u8)).collect();
        assert!(*masks.mask.map_readable()? == expected, "frame {number}");
        assert_eq!(buffer.n_memory(), 1);
        assert_eq!(
            buffer.peek_memory(0).as_ptr(),
            frames[number as usize].peek_memory(0).as_ptr(),
            "passed on as it is"
        );
    }
    assert_eq!(downloads(driver), before, "no pixel came to the host");
    let stats = element.property::<gst::Structure>("stats");
    let count = |name| stats.get::<u64>(name).unwrap();
    assert_eq!((count("device-frames"), count("device-copies"), count("host-copies")), (3, 0, 0), "{stats}");
    assert_eq!(
        harness.sinkpad().unwrap().current_caps(),
        Some(caps),
        "downstream gets the frames of the device"
    );
    bus.set_flushing(true);
    Ok(())
}

/// What a decoder gives of a 10-bit stream: words, of which the model reads the upper bytes where they lie.
#[test]
fn ten_bit_frames_are_read_in_place_too() -> Result<()> {
    let Some(driver) = DRIVER.as_ref() else { return Ok(()) };
    let _alone = COUNTING.lock();
    for (id, format) in
        [("cuda-p010", gst_video::VideoFormat::P01010le), ("cuda-p016", gst_video::VideoFormat::P016Le)]
    {
        let _engine = install(id, "cuda:0");
        let element = element(id);
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        element.set_state(gst::State::Ready)?;
        let context = element.context("gst.cuda.context").ok_or("the element shares its context")?;
        let info = gst_video::VideoInfo::builder(format, WIDTH as u32, HEIGHT as u32)
            .fps(gst::Fraction::new(25, 1))
            .build()?;
        let mut buffer = gst::Buffer::with_size(info.size())?;
        {
            let fresh = buffer.get_mut().ok_or("a fresh buffer")?;
            let mut frame = gst_video::VideoFrameRef::from_buffer_ref_writable(fresh, &info)?;
            let stride = frame.plane_stride()[0] as usize;
            for (y, row) in frame.plane_data_mut(0)?.chunks_mut(stride).enumerate().take(HEIGHT) {
                for (x, word) in row.chunks_exact_mut(2).enumerate().take(WIDTH) {
                    word.copy_from_slice(&[0xc0, (y * WIDTH + x) as u8]);
                }
            }
        }
        let (caps, frames) = cuda_frames::on_device(&context, &info.to_caps()?, &[buffer])?;
        let before = downloads(driver);
        let mut harness = Harness::with_element(&element, Some("sink"), Some("src"));
        harness.set_live(false);
        harness.set_src_caps(caps);
        let mut frame = frames[0].clone();
        frame.make_mut().set_pts(gst::ClockTime::ZERO);
        harness.push(frame)?;
        harness.push_event(gst::event::Eos::new());
        let buffer = harness.pull()?;
        let masks = Masks::from_buffer(&buffer).ok_or("a mask")?;
        let expected: Vec<u8> = (0..WIDTH * HEIGHT).map(|index| index as u8).collect();
        assert!(*masks.mask.map_readable()? == expected, "{format}");
        assert_eq!(downloads(driver), before, "no pixel came to the host");
        bus.set_flushing(true);
    }
    Ok(())
}

#[test]
fn the_primary_context_is_offered_to_whoever_asks() -> Result<()> {
    let Some(driver) = DRIVER.as_ref() else { return Ok(()) };
    let _engine = install("cuda-context", "cuda:0");
    let element = element("cuda-context");
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    let mut query = gst::query::Context::new("gst.cuda.context");
    assert!(!element.query(&mut query), "nothing is offered before a model is loaded");
    element.set_state(gst::State::Ready)?;
    let message = bus.pop_filtered(&[gst::MessageType::HaveContext]).ok_or("a HAVE_CONTEXT message")?;
    let gst::MessageView::HaveContext(message) = message.view() else { unreachable!() };
    let posted = message.context();
    for pad in ["sink", "src"] {
        let mut query = gst::query::Context::new("gst.cuda.context");
        assert!(element.static_pad(pad).unwrap().query(&mut query), "{pad}");
        let context = query.context_owned().ok_or("a context")?;
        assert_eq!(context.as_ptr(), posted.as_ptr());
        let wrapped = context.structure().get::<gst::Object>("gst.cuda.context")?;
        // SAFETY: a function of gst/cuda/gstcudacontext.h, on an object of its type.
        let handle = unsafe {
            let library = Library::new("libgstcuda-1.0.so.0")?;
            let get = library.get::<unsafe extern "C" fn(*mut gst::ffi::GstObject) -> *mut c_void>(
                b"gst_cuda_context_get_handle",
            )?;
            get(wrapped.as_ptr())
        };
        assert_eq!(handle, primary(driver), "the context that libtorch works in");
    }
    let mut other = gst::query::Context::new("gst.gl.GLDisplay");
    assert!(!element.static_pad("sink").unwrap().query(&mut other), "other contexts are not ours");
    element.set_state(gst::State::Null)?;
    bus.set_flushing(true);
    Ok(())
}

#[test]
fn device_memory_is_offered_first_and_only_for_a_model_on_a_gpu() -> Result<()> {
    if DRIVER.is_none() {
        return Ok(());
    }
    for (device, expected) in [("cuda:0", vec![true, false]), ("cpu", vec![false])] {
        let id = format!("cuda-caps-{device}");
        let _engine = install(&id, device);
        let element = element(&id);
        let pad = element.static_pad("sink").unwrap();
        assert_eq!(features(&pad.pad_template_caps()), [true, false], "what this machine has");
        element.set_state(gst::State::Ready)?;
        assert_eq!(features(&pad.query_caps(None)), expected, "{device}");
        let mut caps = host_caps();
        assert!(pad.query_accept_caps(&caps), "{device}");
        caps.make_mut().set_features_simple(Some(gst::CapsFeatures::new(["memory:CUDAMemory"])));
        assert_eq!(pad.query_accept_caps(&caps), expected[0], "{device}");
        element.set_state(gst::State::Null)?;
    }
    Ok(())
}
