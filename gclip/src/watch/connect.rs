// SPDX-License-Identifier: MIT OR Apache-2.0
//! `--check --connect`: tries every camera and output once, and says what each camera sends.

use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use gst::prelude::*;
use parking_lot::Mutex;
use rumqttc::{Client, Event, MqttOptions, Packet, Transport};

use super::config::{Camera, Config, MqttTarget, Output, Target};
use super::console::Console;
use super::pipeline;
use crate::address::Address;
use crate::nats;
use crate::rtsp::Talk;
use crate::say::say;
use crate::trouble::{first_error, missing_decoder};

/// Cameras that are tried at a time.
const AT_ONCE: usize = 8;
/// Frames are counted for this long after the first.
const COUNT: Duration = Duration::from_secs(2);
/// A broker or webhook has this long to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// # Errors
/// How many could not be reached, after a line about each.
pub fn try_all(config: &Config, console: &Arc<Console>) -> Result<()> {
    let next = Mutex::new(config.cameras.iter());
    let failed = AtomicU64::new(0);
    let tell = |what: &str, name: &str, outcome: Result<String>| match outcome {
        Ok(found) => say!("{what}.{name}: {found}"),
        Err(error) => {
            failed.fetch_add(1, Ordering::Relaxed);
            say!("{what}.{name}: NOT REACHED: {}", console.hide(&format!("{error:#}")));
        }
    };
    if let Some(fleet) = &config.fleet {
        let connected = nats::run(fleet.servers.connect("gclip-check"));
        tell("fleet", &fleet.fleet, connected.map(|_| format!("{} let us in", fleet.servers.shown())));
    }
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(config.cameras.len()) {
            scope.spawn(|| {
                loop {
                    let Some(camera) = next.lock().next() else { return };
                    tell("camera", &camera.name, camera_sends(camera, console));
                }
            });
        }
    });
    for output in &config.outputs {
        tell("output", &output.name, output_answers(output));
    }
    let own = config.cameras.len() + config.outputs.len() + usize::from(config.fleet.is_some());
    let (failed, all) = (failed.into_inner(), own);
    ensure!(failed == 0, "{failed} of {all} cameras and outputs were not reached");
    Ok(())
}

/// What comes of one connection: codec, size, frame rate.
fn camera_sends(camera: &Camera, console: &Console) -> Result<String> {
    let frames = Arc::new(AtomicU64::new(0));
    let (source, talk) = pipeline::source(camera, frames.clone())?;
    let sink = gst::ElementFactory::make("fakesink").property("sync", false).build()?;
    let pipeline = gst::Pipeline::new();
    pipeline.add_many([&source, &sink])?;
    let encoding = Arc::new(Mutex::new(None::<String>));
    if camera.source.address().is_some() {
        let decode = pipeline::decoder(camera)?;
        pipeline.add(&decode)?;
        let (of_pad, to) = (encoding.clone(), decode.downgrade());
        source.connect_pad_added(move |_, pad| {
            let caps = pad.current_caps();
            let name = caps.as_ref().and_then(|caps| caps.structure(0)?.get::<String>("encoding-name").ok());
            *of_pad.lock() = name;
            pipeline::link(pad, to.upgrade());
        });
        let to = sink.downgrade();
        decode.connect_pad_added(move |_, pad| pipeline::link(pad, to.upgrade()));
    } else {
        source.link(&sink)?;
    }
    let outcome = first_frames(camera, &pipeline, &sink, &frames, talk.as_deref(), console);
    if let Some(talk) = &talk {
        talk.leave();
        talk.cut();
    }
    // A state change to NULL cannot fail.
    let _ = pipeline.set_state(gst::State::Null);
    let codec = encoding.lock().take().unwrap_or_else(|| "video".into());
    outcome.map(|found| format!("{codec} {found}"))
}

fn first_frames(
    camera: &Camera,
    pipeline: &gst::Pipeline,
    sink: &gst::Element,
    frames: &AtomicU64,
    talk: Option<&Talk>,
    console: &Console,
) -> Result<String> {
    let bus = pipeline.bus().context("the pipeline has no bus")?;
    let pad = sink.static_pad("sink").context("fakesink has no sink pad")?;
    let came = Arc::new(Mutex::new(None::<Instant>));
    let first = came.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        first.lock().get_or_insert_with(Instant::now);
        gst::PadProbeReturn::Ok
    });
    let begin = Instant::now();
    if pipeline.set_state(gst::State::Playing).is_err() {
        return Err(first_error(&bus));
    }
    let mut counted = None::<(Instant, u64)>;
    loop {
        let wanted = [gst::MessageType::Eos, gst::MessageType::Error, gst::MessageType::Element];
        let message = bus.timed_pop_filtered(gst::ClockTime::from_mseconds(50), &wanted);
        let silence = if came.lock().is_some() { Duration::ZERO } else { begin.elapsed() };
        if let Some(why) = pipeline::given_up(camera, talk, silence) {
            return Err(why);
        }
        match message.as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Eos(_)) => bail!("the camera has ended the stream"),
            Some(gst::MessageView::Error(error)) => {
                return Err(pipeline::explain(error, camera, talk, console));
            }
            Some(gst::MessageView::Element(element)) => {
                if let Some(what) = element.structure().and_then(missing_decoder) {
                    return Err(anyhow!("{what}"));
                }
            }
            _ => {}
        }
        if counted.is_none() && came.lock().is_some() {
            counted = Some((Instant::now(), frames.load(Ordering::Relaxed)));
        }
        match counted {
            Some((since, before)) if since.elapsed() >= COUNT => {
                let sent = frames.load(Ordering::Relaxed).saturating_sub(before);
                let rate = sent as f64 / since.elapsed().as_secs_f64();
                let caps = pad.current_caps();
                let info = caps.as_ref().and_then(|caps| gst_video::VideoInfo::from_caps(caps).ok());
                let info = info.context("what comes is no video")?;
                let wait = came.lock().map_or(Duration::ZERO, |came| came.duration_since(begin));
                let announced = match info.fps() {
                    fps if fps.numer() > 0 => {
                        format!("{:.2}", f64::from(fps.numer()) / f64::from(fps.denom()))
                    }
                    _ => "no rate".into(),
                };
                return Ok(format!(
                    "{}x{}, {rate:.1} frames/s (announced: {announced}), first picture after {:.1} s",
                    info.width(),
                    info.height(),
                    wait.as_secs_f64()
                ));
            }
            _ => {}
        }
    }
}

fn output_answers(output: &Output) -> Result<String> {
    match &output.target {
        Target::Stdout => Ok("standard output".into()),
        Target::File(path) => {
            let new = !path.exists();
            super::output::Ready::new(output)?;
            if new {
                // It was only to be seen whether it can be made.
                let _ = std::fs::remove_file(path);
            }
            Ok(format!("{} can be written", path.display()))
        }
        Target::Mqtt(target) => broker_answers(target),
        Target::Nats(target) => {
            let servers = &target.servers;
            nats::run(servers.connect("gclip-check"))?;
            Ok(format!("{} let us in", servers.shown()))
        }
        Target::Webhook(target) => {
            let address = &target.address;
            let https = address.location.starts_with("https:");
            reach(address, if https { 443 } else { 80 })?;
            Ok(format!("{address} takes connections; nothing was sent"))
        }
    }
}

fn broker_answers(target: &MqttTarget) -> Result<String> {
    let usual = if target.trusted.is_some() { 8883 } else { 1883 };
    let name = format!("gclip-check-{}", std::process::id());
    let mut options = MqttOptions::new(name, &target.broker.host, target.broker.port.unwrap_or(usual));
    if let Some(trusted) = &target.trusted {
        options.set_transport(Transport::tls(trusted.clone(), None, None));
    }
    if let Some(user) = &target.broker.user {
        options.set_credentials(user, target.broker.password.as_deref().unwrap_or_default());
    }
    let (client, mut connection) = Client::new(options, 1);
    let end = Instant::now() + ANSWER;
    while Instant::now() < end {
        match connection.recv_timeout(ANSWER) {
            Ok(Ok(Event::Incoming(Packet::ConnAck(_)))) => {
                // A courtesy.
                let _ = client.disconnect();
                return Ok(format!("{} lets us in", target.broker));
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(Error::new(error).context(target.broker.to_string())),
            Err(_) => break,
        }
    }
    bail!("{} does not answer", target.broker)
}

fn reach(address: &Address, usual: u16) -> Result<()> {
    let host = address.host.trim_matches(['[', ']']);
    let mut last = anyhow!("there is no host called {host}");
    for place in (host, address.port.unwrap_or(usual)).to_socket_addrs().into_iter().flatten() {
        match std::net::TcpStream::connect_timeout(&place, ANSWER) {
            Ok(_) => return Ok(()),
            Err(error) => last = anyhow!("no connection to {place}: {error}"),
        }
    }
    Err(last)
}
