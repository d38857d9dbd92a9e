// SPDX-License-Identifier: MIT OR Apache-2.0
//! A fake model whose every answer is known, and a harness around one `gclipsegment` that uses it.
//!
//! The fake's mask of a GRAY8 frame is the frame itself: its size and values say which frame it was made from.
//! Its regions are the labels of the vocabulary that it was asked with.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst_check::Harness;
use gstgclip::engine::Engine;
use gstgclip::meta::Masks;
use gstgclip::model::{Ids, ModelInfo, ModelSpec, Region, Request, Segmentation};
use parking_lot::{Condvar, Mutex};

pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        gst::init().unwrap();
        gstgclip::plugin_register_static().unwrap();
    });
}

/// How the fake behaves; may be changed while it runs.
#[derive(Default)]
pub struct Behaviour {
    /// Batches wait while this is set.
    pub gate_closed: bool,
    pub delay: Duration,
    /// Requests whose first pixel is this fail.
    pub fail_on: Option<u8>,
    /// Batches that hold a request whose first pixel is this panic.
    pub panic_on: Option<u8>,
    /// Regions are what the mask shows, in place of every label with a quarter of the frame.
    pub true_regions: bool,
    pub text_gate_closed: bool,
    pub text_fails: bool,
    /// Sizes of the batches so far.
    pub batches: Vec<usize>,
    /// Frames that have entered the model so far.
    pub entered: usize,
    /// First pixels of the frames that the model has looked at so far.
    pub seen: Vec<u8>,
    pub texts_encoded: usize,
    pub text_calls: usize,
}

#[derive(Default)]
pub struct Control {
    behaviour: Mutex<Behaviour>,
    changed: Condvar,
}

impl Control {
    pub fn set<R>(&self, change: impl FnOnce(&mut Behaviour) -> R) -> R {
        let result = change(&mut self.behaviour.lock());
        self.changed.notify_all();
        result
    }

    /// Waits until the fake is as expected.
    pub fn until(&self, what: &str, condition: impl Fn(&Behaviour) -> bool) {
        let mut behaviour = self.behaviour.lock();
        while !condition(&behaviour) {
            let late = self.changed.wait_for(&mut behaviour, PATIENCE).timed_out();
            assert!(!late, "waited in vain: {what}");
        }
    }

    fn run(&self, requests: Vec<Request>) -> anyhow::Result<Vec<anyhow::Result<Arc<Segmentation>>>> {
        let mut behaviour = self.behaviour.lock();
        behaviour.batches.push(requests.len());
        behaviour.entered += requests.len();
        self.changed.notify_all();
        while behaviour.gate_closed {
            self.changed.wait(&mut behaviour);
        }
        let (delay, fail_on, panic_on) = (behaviour.delay, behaviour.fail_on, behaviour.panic_on);
        let true_regions = behaviour.true_regions;
        drop(behaviour);
        thread::sleep(delay);
        let firsts: Vec<u8> = requests
            .iter()
            .filter_map(|request| Vec::<u8>::try_from(&request.picture.data).ok()?.first().copied())
            .collect();
        self.set(|behaviour| behaviour.seen.extend(firsts));
        let answer = |request: &Request| {
            let pixels: Vec<u8> = Vec::try_from(&request.picture.data)?;
            assert!(panic_on.is_none_or(|value| pixels[0] != value), "the fake panics on this frame");
            anyhow::ensure!(fail_on.is_none_or(|value| pixels[0] != value), "the fake fails on this frame");
            let (width, height) = (request.picture.width, request.picture.height);
            let regions = request.vocabulary.labels.iter().enumerate().map(|(index, label)| Region {
                value: index as u32 + 1,
                label: label.clone(),
                score: 0.5,
                area: 0.25,
                x: 0.25,
                y: 0.0,
                w: 0.5,
                h: 1.0,
            });
            let mut regions: Vec<Region> = regions.collect();
            let mask = pixels[..width * height].to_vec();
            if true_regions {
                for region in &mut regions {
                    let pixels = mask.iter().filter(|&&value| u32::from(value) == region.value).count();
                    region.area = pixels as f64 / mask.len() as f64;
                }
                regions.retain(|region| region.area > 0.0);
            }
            Ok(Arc::new(Segmentation::new(width, height, Ids::U8(mask), regions)))
        };
        Ok(requests.iter().map(answer).collect())
    }

    fn encode(&self, texts: &[String]) -> anyhow::Result<Vec<f32>> {
        let mut behaviour = self.behaviour.lock();
        behaviour.text_calls += 1;
        behaviour.texts_encoded += texts.len();
        self.changed.notify_all();
        while behaviour.text_gate_closed {
            self.changed.wait(&mut behaviour);
        }
        anyhow::ensure!(!behaviour.text_fails, "the fake encodes no text");
        Ok(texts.iter().flat_map(|_| [1.0, 0.0]).collect())
    }
}

/// An installed fake model, under an id of its own.
pub struct Fake {
    pub id: String,
    pub control: Arc<Control>,
    _engine: Arc<Engine>,
}

impl Fake {
    pub fn install() -> Fake {
        init();
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let id = format!("fake-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let control = Arc::new(Control::default());
        let spec = ModelSpec { model: "fake".into(), ..ModelSpec::default() };
        let info = ModelInfo {
            hash: id.clone(),
            embed_dim: 2,
            patch_size: 16,
            image_size: 224,
            ..Default::default()
        };
        let (vision, text) = (control.clone(), control.clone());
        let engine = Engine::install(
            &id,
            &spec,
            info,
            Box::new(move |requests| vision.run(requests)),
            Box::new(move |texts: &[String]| text.encode(texts)),
        );
        Fake { id, control, _engine: engine.unwrap() }
    }

    /// A `gclipsegment` on this model that looks for `a` and `b`.
    pub fn element(&self) -> gst::Element {
        gst::ElementFactory::make("gclipsegment")
            .property("model", "fake")
            .property("model-instance-id", &self.id)
            .property("prompts", "a; b")
            .property("prompt-template", "none")
            .build()
            .unwrap()
    }

    /// As [`element`](Self::element), as text for a pipeline in which every frame is looked at, however late it is.
    pub fn description(&self) -> String {
        format!(
            "gclipsegment model=fake model-instance-id={} prompts=\"a; b\" prompt-template=none late-policy=wait",
            self.id
        )
    }

    pub fn rig(&self) -> Rig {
        self.rig_with(|_| ())
    }

    /// A harness around an element whose properties are set before it starts.
    pub fn rig_with(&self, set: impl FnOnce(&gst::Element)) -> Rig {
        let element = self.element();
        set(&element);
        Rig::around(element, SIZE)
    }
}

/// Size of the frames unless a test says otherwise.
pub const SIZE: (u32, u32) = (8, 4);

pub fn caps(width: u32, height: u32) -> gst::Caps {
    gst_video::VideoCapsBuilder::new()
        .format(gst_video::VideoFormat::Gray8)
        .width(width as i32)
        .height(height as i32)
        .framerate(gst::Fraction::new(25, 1))
        .build()
}

/// The nth frame: every pixel is n, at 25 frames a second.
pub fn frame_of(number: u64, (width, height): (u32, u32)) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_mut_slice(vec![number as u8; (width * height) as usize]);
    let fresh = buffer.get_mut().unwrap();
    fresh.set_pts(gst::ClockTime::from_mseconds(40 * number));
    fresh.set_dts(gst::ClockTime::from_mseconds(40 * number));
    fresh.set_duration(gst::ClockTime::from_mseconds(40));
    fresh.set_offset(number);
    buffer
}

pub fn frame(number: u64) -> gst::Buffer {
    frame_of(number, SIZE)
}

/// The number of the frame that a buffer came from, by its pixels.
pub fn number_of(buffer: &gst::Buffer) -> u64 {
    u64::from(buffer.map_readable().unwrap()[0])
}

/// The values of a buffer's mask.
pub fn mask_values(masks: &Masks) -> Vec<u8> {
    masks.mask.map_readable().unwrap().to_vec()
}

pub fn labels(buffer: &gst::Buffer) -> Vec<String> {
    let masks = Masks::from_buffer(buffer).expect("the buffer carries masks");
    masks.regions.into_iter().map(|region| region.label).collect()
}

pub struct Rig {
    pub element: gst::Element,
    pub bus: gst::Bus,
    pub harness: Harness,
}

impl Drop for Rig {
    fn drop(&mut self) {
        // Unread messages hold the element, which holds the bus.
        self.bus.set_flushing(true);
    }
}

impl Rig {
    /// Around an element that starts, for GRAY8 frames of this width and height.
    pub fn around(element: gst::Element, (width, height): (u32, u32)) -> Rig {
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        let mut harness = Harness::with_element(&element, Some("sink"), Some("src"));
        // A harness is a live source unless told otherwise.
        harness.set_live(false);
        harness.set_src_caps(caps(width, height));
        Rig { element, bus, harness }
    }

    pub fn push(&mut self, number: u64) -> Result<gst::FlowSuccess, gst::FlowError> {
        self.harness.push(frame(number))
    }

    pub fn pull(&mut self) -> gst::Buffer {
        self.harness.pull().expect("a buffer leaves")
    }

    /// Feeds frames at a frame rate, as a camera does, and notes how long the longest push took.
    pub fn feed(&self, frames: u64, every: Duration) -> JoinHandle<Duration> {
        let upstream = self.upstream();
        thread::spawn(move || {
            let start = Instant::now();
            let mut longest = Duration::ZERO;
            for number in 0..frames {
                thread::sleep((every * number as u32).saturating_sub(start.elapsed()));
                let pushed = Instant::now();
                upstream.push(frame(number)).unwrap();
                longest = longest.max(pushed.elapsed());
            }
            longest
        })
    }

    /// The pad that pushes into the element, for pushes from another thread.
    pub fn upstream(&self) -> gst::Pad {
        self.harness.srcpad().unwrap()
    }

    pub fn stat<T>(&self, name: &str) -> T
    where
        T: for<'a> glib::value::FromValue<'a> + Send + 'static,
    {
        let stats = self.element.property::<gst::Structure>("stats");
        let value = stats.value(name).unwrap_or_else(|_| panic!("no {name} in {stats}"));
        value.get::<T>().unwrap()
    }

    /// Waits until a count has reached a value.
    pub fn until_stat(&self, name: &str, value: u64) {
        let start = Instant::now();
        while self.stat::<u64>(name) < value {
            assert!(start.elapsed() < PATIENCE, "{name} stays below {value}: {:?}", self.stat::<u64>(name));
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until every frame has left; the last one is counted until its push has returned.
    pub fn until_empty(&self) {
        let start = Instant::now();
        while self.stat::<u64>("queue-level") > 0 {
            assert!(start.elapsed() < PATIENCE, "frames stay inside");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The next message of a type, or none within the patience of a test.
    pub fn message(&self, kind: gst::MessageType) -> Option<gst::Message> {
        self.bus.timed_pop_filtered(gst::ClockTime::from_seconds(20), &[kind])
    }

    pub fn messages(&self, kind: gst::MessageType) -> Vec<gst::Message> {
        std::iter::from_fn(|| self.bus.pop_filtered(&[kind])).collect()
    }

    pub fn error_text(&self) -> String {
        let message = self.message(gst::MessageType::Error).expect("an error message");
        let gst::MessageView::Error(error) = message.view() else { unreachable!() };
        error.error().to_string()
    }

    pub fn warning_text(&self) -> String {
        let message = self.message(gst::MessageType::Warning).expect("a warning message");
        let gst::MessageView::Warning(warning) = message.view() else { unreachable!() };
        warning.error().to_string()
    }

    /// Events that have come out so far, oldest first.
    pub fn events(&mut self) -> Vec<gst::Event> {
        std::iter::from_fn(|| self.harness.try_pull_event()).collect()
    }

    /// Waits for the event of a type and returns it.
    pub fn event(&mut self, kind: gst::EventType) -> gst::Event {
        loop {
            let event = self.harness.pull_event().expect("an event comes out");
            if event.type_() == kind {
                return event;
            }
        }
    }
}
