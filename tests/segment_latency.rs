// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `gclipsegment` says about its latency, against what a live pipeline with a model four times too slow and a
//! synchronising sink measures. The same for minutes and for 64 cameras: `benches/live.rs`.

use std::sync::Arc;
use std::time::Duration;

use gclip_testing::fake::*;
use gst::prelude::*;
use parking_lot::Mutex;

/// Running time at which a frame passed, less its own: how late it is there.
type Delays = Arc<Mutex<Vec<(gst::ClockTime, Duration)>>>;

/// Notes the delay of every frame that passes the pad.
fn delays(pad: &gst::Pad, pipeline: &gst::Pipeline) -> Delays {
    let delays = Delays::default();
    let (noted, pipeline) = (delays.clone(), pipeline.downgrade());
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let now = pipeline.upgrade().and_then(|pipeline| pipeline.current_running_time());
        if let (Some(buffer), Some(now)) = (info.buffer(), now)
            && let Some(pts) = buffer.pts()
        {
            noted.lock().push((pts, Duration::from(now.saturating_sub(pts))));
        }
        gst::PadProbeReturn::Ok
    });
    delays
}

fn median(values: &[Duration]) -> Duration {
    let mut values = values.to_vec();
    values.sort();
    values[values.len() / 2]
}

#[test]
fn a_model_four_times_too_slow_makes_no_growing_delay_and_the_latency_is_true() {
    let fake = Fake::install();
    fake.control.set(|b| b.delay = Duration::from_millis(160));
    let pipeline = gst::Pipeline::new();
    let make = gst::ElementFactory::make;
    let source = make("videotestsrc").property("is-live", true).build().unwrap();
    source.set_property_from_str("pattern", "black");
    let filter = make("capsfilter").property("caps", caps(32, 16)).build().unwrap();
    let segment = fake.element();
    segment.set_property("batch-size", 1u32);
    let sink = make("fakesink").property("sync", true).property("qos", true).build().unwrap();
    // A sink that waits for the time of a frame holds up who pushes it: that is no time of the element's.
    let queue = make("queue").build().unwrap();
    pipeline.add_many([&source, &filter, &segment, &queue, &sink]).unwrap();
    gst::Element::link_many([&source, &filter, &segment, &queue, &sink]).unwrap();
    let entering = delays(&segment.static_pad("sink").unwrap(), &pipeline);
    let leaving = delays(&segment.static_pad("src").unwrap(), &pipeline);
    pipeline.set_state(gst::State::Playing).unwrap();

    // As every application has to: what elements report as changed is asked for again.
    let bus = pipeline.bus().unwrap();
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while let Some(left) = end.checked_duration_since(std::time::Instant::now()) {
        let kinds = [gst::MessageType::Latency, gst::MessageType::Error];
        let wait = gst::ClockTime::try_from(left).unwrap();
        match bus.timed_pop_filtered(wait, &kinds).as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Latency(_)) => drop(pipeline.recalculate_latency()),
            Some(gst::MessageView::Error(error)) => panic!("{error:?}"),
            _ => (),
        }
    }
    let own = {
        let asked = |pad: &str| {
            let mut query = gst::query::Latency::new();
            let pad = segment.static_pad(pad).unwrap();
            let answered = if pad.direction() == gst::PadDirection::Src {
                pad.query(&mut query)
            } else {
                pad.peer_query(&mut query)
            };
            assert!(answered && query.result().0);
            query.result().1
        };
        Duration::from(asked("src") - asked("sink"))
    };
    let stats = segment.property::<gst::Structure>("stats");
    pipeline.set_state(gst::State::Null).unwrap();
    let count = |name: &str| stats.get::<u64>(name).unwrap();
    assert!(count("frames") > 250, "{stats}");
    assert_eq!(count("dropped"), 0);
    assert!(count("skipped-late") > count("frames") / 2, "the model is too slow for most: {stats}");
    // The latency is worth its while: those that the model looks at wait for their own masks.
    let own_masks = count("frames") - count("reused");
    assert!(own_masks * 2 > count("inferred"), "{stats}");

    // How long each frame stayed, in the order of the frames.
    let (entering, leaving) = (entering.lock(), leaving.lock());
    let stays: Vec<Duration> = leaving
        .iter()
        .filter_map(|(pts, left)| {
            let entered = entering.iter().find(|(other, _)| other == pts)?;
            Some(left.saturating_sub(entered.1))
        })
        .collect();
    let steady = &stays[stays.len() / 4..];
    let (early, late) = steady.split_at(steady.len() / 2);
    let longest = steady.iter().max().unwrap();
    println!("reported {own:?}, longest {longest:?}, medians {:?} {:?}", median(early), median(late));
    assert!(median(late) < median(early) + Duration::from_millis(60), "the delay grows");
    // The scheduler of a busy machine may hold single frames up: one in fifty may be later than reported.
    let later = steady.iter().filter(|stay| **stay > own).count();
    assert!(
        later * 50 <= steady.len(),
        "{later} of {} frames stayed longer than the reported {own:?}",
        steady.len()
    );
    let longest = stays.iter().max().unwrap();
    assert!(own <= longest.mul_f64(1.5), "reported {own:?}, measured {longest:?}");
}
