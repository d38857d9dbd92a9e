// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclipsegment` with a model that cannot keep up, through the plugin: what `docs/live.md` promises.

use std::time::{Duration, Instant};

use gclip_testing::fake::*;
use gst::prelude::*;
use gstgclip::meta::Masks;

const MS: fn(u64) -> Duration = Duration::from_millis;

/// A live stream of GRAY8 frames whose caps name this rate.
fn camera_rig(fake: &Fake, rate: gst::Fraction, set: impl FnOnce(&gst::Element)) -> Rig {
    let mut rig = fake.rig_with(set);
    rig.harness.set_live(true);
    let caps = gst_video::VideoCapsBuilder::new()
        .format(gst_video::VideoFormat::Gray8)
        .width(SIZE.0 as i32)
        .height(SIZE.1 as i32)
        .framerate(rate)
        .build();
    rig.harness.set_src_caps(caps);
    rig
}

#[test]
fn a_camera_whose_rate_is_unknown_or_absurd_neither_lags_nor_starves() {
    for rate in [gst::Fraction::new(0, 1), gst::Fraction::new(90_000, 1)] {
        let fake = Fake::install();
        // Ten times too slow for 25 frames a second.
        fake.control.set(|b| b.delay = MS(400));
        let mut rig = camera_rig(&fake, rate, |_| ());
        let feeder = rig.feed(75, MS(40));
        let longest = feeder.join().unwrap();
        assert!(longest < MS(200), "{rate}: the camera was held up for {longest:?}");
        // What is inside is no more than the last moments.
        assert!(rig.stat::<u64>("queue-level") <= 8);
        let mut newest = 0;
        let mut oldest = 0;
        for number in 0..75 {
            let buffer = rig.pull();
            assert_eq!(number_of(&buffer), number);
            if let Some(masks) = Masks::from_buffer(&buffer) {
                newest = u64::from(mask_values(&masks)[0]);
                oldest = oldest.max(number - newest);
            }
        }
        // A forward is 10 frames, and another may be waited for.
        assert!(newest > 45 && oldest <= 25, "{rate}: the newest is of {newest}, the oldest {oldest} behind");
        assert!(rig.stat::<u64>("inferred") >= 5);
    }
}

#[test]
fn what_the_model_has_worked_on_is_what_the_drop_policy_lets_pass() {
    for latency in [-1i64, 50_000_000, 2_000_000_000] {
        let fake = Fake::install();
        fake.control.set(|b| b.delay = MS(150));
        let mut rig = camera_rig(&fake, gst::Fraction::new(30, 1), |e| {
            e.set_property_from_str("late-policy", "drop");
            e.set_property("latency", latency);
        });
        let longest = rig.feed(90, MS(33)).join().unwrap();
        assert!(longest < MS(100), "the camera was held up for {longest:?}");
        rig.harness.push_event(gst::event::Eos::new());
        rig.event(gst::EventType::Eos);
        let [frames, dropped, inferred] = ["frames", "dropped", "inferred"].map(|name| rig.stat::<u64>(name));
        assert_eq!(frames + dropped, 90);
        assert!(
            inferred >= 8 && frames + 6 >= inferred,
            "{latency}: of {inferred} masks {frames} were of use"
        );
        let mut last = None;
        while let Some(buffer) = rig.harness.try_pull() {
            if let Some(masks) = Masks::from_buffer(&buffer) {
                let of = mask_values(&masks)[0];
                assert!(last < Some(of), "{latency}: a mask that another frame has carried");
                last = Some(of);
            }
        }
    }
}

#[test]
fn an_overloaded_model_looks_at_the_newest_frame_at_each_streams_turn() {
    let fake = Fake::install();
    fake.control.set(|b| b.delay = MS(80));
    let one_by_one = |e: &gst::Element| e.set_property("batch-size", 1u32);
    let rigs: Vec<Rig> = (0..4).map(|_| camera_rig(&fake, gst::Fraction::new(25, 1), one_by_one)).collect();
    let feeders: Vec<_> = rigs.iter().map(|rig| rig.feed(100, MS(40))).collect();
    feeders.into_iter().for_each(|feeder| assert!(feeder.join().unwrap() < MS(200)));
    for mut rig in rigs {
        let (mut ages, mut newest) = (Vec::new(), None);
        for number in 0..100 {
            let Some(masks) = Masks::from_buffer(&rig.pull()) else { continue };
            let of = u64::from(mask_values(&masks)[0]);
            if newest.replace(of) != Some(of) && number > 50 {
                ages.push(number - of);
            }
        }
        ages.sort();
        // A turn comes after 8 frames; who waited for it in the queue would have been behind by as much again.
        assert!(ages.len() >= 3 && ages[ages.len() / 2] <= 6, "frames behind when first used: {ages:?}");
    }
}

#[test]
fn a_small_pool_upstream_costs_one_timeout_and_not_one_a_batch() {
    let fake = Fake::install();
    let rig = fake.rig_with(|e| {
        e.set_property("batch-size", 8u32);
        e.set_property("max-in-flight", 16u32);
        e.set_property("batch-timeout", 400_000_000u64);
    });
    let caps = caps(SIZE.0, SIZE.1);
    let pool = gst_video::VideoBufferPool::new();
    let mut config = pool.config();
    config.set_params(Some(&caps), 32, 4, 4);
    pool.set_config(config).unwrap();
    pool.set_active(true).unwrap();
    let pad = rig.element.static_pad("src").unwrap();
    // Nobody behind keeps the buffers.
    pad.add_probe(gst::PadProbeType::BUFFER, |_, info| {
        info.data = None;
        gst::PadProbeReturn::Handled
    });
    let upstream = rig.upstream();
    let start = Instant::now();
    for number in 0..60 {
        let mut buffer = pool.acquire_buffer(None).unwrap();
        buffer.get_mut().unwrap().set_pts(gst::ClockTime::from_mseconds(40 * number));
        upstream.push(buffer).unwrap();
    }
    rig.until_empty();
    // Without it, fifteen batches of four wait for 6 s.
    assert!(start.elapsed() < MS(2500), "{:?}", start.elapsed());
    pool.set_active(false).unwrap();
}
