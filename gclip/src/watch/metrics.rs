// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prometheus metrics over HTTP: what was last known of cameras, outputs, the shared model and this process. And, for who
//! supervises the program, whether it is alive and ready.

use std::convert::Infallible;
use std::fmt::{self, Display, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::RwLock;

use super::history;
use super::http;
use super::state::{COUNTERS, Status};
use crate::fleet::Standing;
use crate::usage;

/// A client has this long for its question and our answer; one that says nothing is gone after it.
const CONVERSATION: Duration = Duration::from_secs(10);
/// Clients at a time; more are told so.
const CLIENTS: usize = 64;
/// The program's main loop tells what is known twice a second; one that has not for so long hangs.
const ALIVE: Duration = Duration::from_secs(10);
/// Statistics of gclipsegment that are the shared model's: name in the metrics, field, description.
const OF_THE_MODEL: [(&str, &str, &str); 5] = [
    ("gclip_model_batches", "batches", "Forwards of the shared model"),
    ("gclip_model_frames", "batched-frames", "Frames in them, of all cameras together"),
    ("gclip_text_cache_hits", "cache-hits", "Names whose embedding was known already"),
    ("gclip_text_cache_misses", "cache-misses", "Names whose embedding was not known yet"),
    ("gclip_texts_encoded", "texts-encoded", "Texts that went through the text tower"),
];
/// Its medians, in nanoseconds.
const TIMES_OF_THE_MODEL: [(&str, &str, &str); 4] = [
    (
        "gclip_model_queue_seconds",
        "queue-wait-p50",
        "Median time that frames lately waited for their forward",
    ),
    ("gclip_model_preprocess_seconds", "preprocess-p50", "Median time of the latest preparations of a batch"),
    ("gclip_model_forward_seconds", "forward-p50", "Median time of the latest forwards"),
    ("gclip_model_decode_seconds", "decode-p50", "Median time of the latest makings of masks"),
];

/// An output at one moment.
#[derive(Clone, Debug)]
pub struct OutputStatus {
    pub name: String,
    pub delivered: u64,
    pub dropped: u64,
    pub waiting: u64,
}

/// Everything that is known, at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub started: SystemTime,
    pub cameras: Vec<Status>,
    pub outputs: Vec<OutputStatus>,
    pub model: Option<gst::Structure>,
    /// `None` where no history is kept on disk.
    pub history: Option<history::Status>,
    /// `None` where the cameras are this program's alone.
    pub fleet: Option<Standing>,
}

/// The newest snapshot, for who asks, and when it was put there.
#[derive(Clone)]
pub struct Board(Arc<RwLock<(Snapshot, Option<Instant>)>>);

impl Board {
    pub fn new(started: SystemTime) -> Board {
        let nothing =
            Snapshot { started, cameras: vec![], outputs: vec![], model: None, history: None, fleet: None };
        Board(Arc::new(RwLock::new((nothing, None))))
    }

    pub fn put(&self, snapshot: Snapshot) {
        *self.0.write() = (snapshot, Some(Instant::now()));
    }

    pub fn snapshot(&self) -> Snapshot {
        self.0.read().0.clone()
    }

    fn text(&self) -> String {
        self.0.read().0.to_string()
    }

    /// An error says since when the program does nothing.
    pub fn health(&self) -> Result<(), String> {
        match self.0.read().1.map(|at| at.elapsed()) {
            Some(silence) if silence > ALIVE => {
                Err(format!("nothing has happened for {} s", silence.as_secs()))
            }
            _ => Ok(()),
        }
    }

    /// An error says what is not there yet.
    pub fn readiness(&self) -> Result<(), String> {
        self.health()?;
        let (snapshot, put) = &*self.0.read();
        if put.is_none() {
            return Err("no camera has been started yet".into());
        }
        let untried = snapshot.cameras.iter().find(|camera| !camera.has_been_tried());
        untried
            .map_or(Ok(()), |camera| Err(format!("camera {} is being tried for the first time", camera.name)))
    }
}

/// Serves `http://ADDRESS/metrics`, `/healthz` and `/readyz` from now on.
///
/// # Errors
/// The address is not free.
pub fn serve(address: SocketAddr, board: Board) -> Result<()> {
    http::serve("metrics", address, (CLIENTS, http::Full::Wait), move |stream, _| {
        let board = board.clone();
        async move {
            let answer = service_fn(|request| {
                let answer = answer(&request, &board);
                async move { Ok::<_, Infallible>(answer) }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            let conversation = http.keep_alive(false).serve_connection(TokioIo::new(stream), answer);
            // A client that leaves in the middle, or says nothing, has no answer.
            let _ = tokio::time::timeout(CONVERSATION, conversation).await;
        }
    })
    .map(|_| ())
    .with_context(|| format!("metrics: cannot listen on {address}"))
}

fn answer(request: &Request<Incoming>, board: &Board) -> Response<Full<Bytes>> {
    let probed = |outcome: Result<(), String>| match outcome {
        Ok(()) => (StatusCode::OK, "yes\n".to_string()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why + "\n"),
    };
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics" | "/") => (StatusCode::OK, board.text()),
        (&Method::GET | &Method::HEAD, "/healthz") => probed(board.health()),
        (&Method::GET | &Method::HEAD, "/readyz") => probed(board.readiness()),
        (&Method::GET | &Method::HEAD, _) => {
            (StatusCode::NOT_FOUND, "only /metrics, /healthz and /readyz are here\n".to_string())
        }
        _ => (StatusCode::METHOD_NOT_ALLOWED, "metrics can only be read\n".to_string()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// Prometheus' text format.
struct Page<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Page<'_, '_> {
    fn about(&mut self, name: &str, kind: &str, description: &str) -> fmt::Result {
        writeln!(self.0, "# HELP {name} {description}\n# TYPE {name} {kind}")
    }

    fn value(&mut self, name: &str, label: Option<(&str, &str)>, value: impl Display) -> fmt::Result {
        match label {
            Some((key, of)) => writeln!(self.0, "{name}{{{key}=\"{}\"}} {value}", Escaped(of)),
            None => writeln!(self.0, "{name} {value}"),
        }
    }

    /// A metric of each camera; those without a value are left out.
    fn cameras<V: Display>(
        &mut self,
        cameras: &[Status],
        (name, kind, description): (&str, &str, &str),
        value: impl Fn(&Status) -> Option<V>,
    ) -> fmt::Result {
        self.about(name, kind, description)?;
        for camera in cameras {
            if let Some(value) = value(camera) {
                self.value(name, Some(("camera", &camera.name)), value)?;
            }
        }
        Ok(())
    }
}

/// A label's value.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            c => f.write_char(c),
        })
    }
}

impl Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut page = Page(f);
        let cameras = &self.cameras;
        for (index, (name, description)) in COUNTERS.iter().enumerate() {
            let name = format!("{name}_total");
            page.cameras(cameras, (&name, "counter", description), |camera| {
                camera.counts.get(index).copied()
            })?;
        }
        let gauge = |name, description| (name, "gauge", description);
        page.cameras(cameras, gauge("gclip_camera_up", "1 while the camera gives pictures"), |camera| {
            Some(u8::from(camera.is_up()))
        })?;
        let silence = "Time since the newest picture, or since connecting began";
        page.cameras(cameras, gauge("gclip_camera_silence_seconds", silence), |camera| {
            Some(camera.silence.as_secs_f64())
        })?;
        let age = "Time since the frame that the newest masks are made from";
        page.cameras(cameras, gauge("gclip_camera_mask_age_seconds", age), |camera| {
            camera.mask_age.map(|age| age.as_secs_f64())
        })?;
        let rate = "Frames that the camera sends a second, lately";
        page.cameras(cameras, gauge("gclip_camera_source_frames_per_second", rate), |camera| {
            Some(camera.source_rate)
        })?;
        page.cameras(
            cameras,
            gauge("gclip_camera_masks_per_second", "Masks that are made a second, lately"),
            |camera| Some(camera.mask_rate),
        )?;
        let failure = "gclip_camera_last_failure_seconds";
        page.about(failure, "gauge", "Time since the last failure, and its reason")?;
        for camera in cameras {
            if let Some((why, ago)) = &camera.last_failure {
                let (name, why, ago) = (Escaped(&camera.name), Escaped(why), ago.as_secs_f64());
                writeln!(page.0, "{failure}{{camera=\"{name}\",reason=\"{why}\"}} {ago}")?;
            }
        }
        self.outputs(&mut page)?;
        self.model(&mut page)?;
        self.history(&mut page)?;
        self.fleet(&mut page)?;
        self.process(&mut page)
    }
}

impl Snapshot {
    fn outputs(&self, page: &mut Page) -> fmt::Result {
        let mut all = |name, kind, description, value: fn(&OutputStatus) -> u64| {
            page.about(name, kind, description)?;
            let mut outputs = self.outputs.iter();
            outputs.try_for_each(|output| page.value(name, Some(("output", &output.name)), value(output)))
        };
        all("gclip_output_lines_total", "counter", "Lines that arrived", |output| output.delivered)?;
        let lost = "Lines that were lost, as the output did not take them";
        all("gclip_output_dropped_total", "counter", lost, |output| output.dropped)?;
        all("gclip_output_waiting", "gauge", "Lines that wait for the output", |output| output.waiting)
    }

    fn model(&self, page: &mut Page) -> fmt::Result {
        let Some(model) = &self.model else { return Ok(()) };
        for (name, field, description) in OF_THE_MODEL {
            if let Ok(value) = model.get::<u64>(field) {
                let name = format!("{name}_total");
                page.about(&name, "counter", description)?;
                page.value(&name, None, value)?;
            }
        }
        for (name, field, description) in TIMES_OF_THE_MODEL {
            if let Ok(nanoseconds) = model.get::<u64>(field) {
                page.about(name, "gauge", description)?;
                page.value(name, None, nanoseconds as f64 / 1e9)?;
            }
        }
        if let Ok(fill) = model.get::<f64>("mean-batch-fill") {
            page.about("gclip_model_batch_frames", "gauge", "Frames in a forward, on average")?;
            page.value("gclip_model_batch_frames", None, fill)?;
        }
        Ok(())
    }

    fn history(&self, page: &mut Page) -> fmt::Result {
        let Some(history) = &self.history else { return Ok(()) };
        for (name, kind, description, value) in [
            ("gclip_history_events_total", "counter", "Events that were kept on disk", history.events),
            (
                "gclip_history_lost_events_total",
                "counter",
                "Events that could not be kept",
                history.lost_events,
            ),
            ("gclip_history_snapshots_total", "counter", "Events kept with a snapshot", history.snapshots),
            (
                "gclip_history_lost_snapshots_total",
                "counter",
                "Events that should have had a snapshot",
                history.lost_snapshots,
            ),
            (
                "gclip_history_lost_minutes_total",
                "counter",
                "Minutes of cameras whose statistics could not be kept",
                history.lost_minutes,
            ),
            ("gclip_history_database_bytes", "gauge", "Size of the database, lately", history.database_bytes),
            ("gclip_history_snapshot_bytes", "gauge", "Size of all snapshots", history.snapshot_bytes),
        ] {
            page.about(name, kind, description)?;
            page.value(name, None, value)?;
        }
        Ok(())
    }

    fn fleet(&self, page: &mut Page) -> fmt::Result {
        let Some(fleet) = &self.fleet else { return Ok(()) };
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        for (name, kind, description, value) in [
            (
                "gclip_fleet_member",
                "gauge",
                "1 while this worker is in the fleet",
                u64::from(fleet.is_member),
            ),
            ("gclip_fleet_workers", "gauge", "Workers in the fleet", number(fleet.workers)),
            ("gclip_fleet_cameras", "gauge", "Cameras of the fleet", number(fleet.cameras)),
            ("gclip_fleet_alone", "gauge", "1 while the servers do not answer", u64::from(fleet.holds)),
            ("gclip_fleet_taken_total", "counter", "Cameras that this worker has taken", fleet.taken),
            ("gclip_fleet_lost_total", "counter", "Times that others took over all that it had", fleet.lost),
        ] {
            page.about(name, kind, description)?;
            page.value(name, None, value)?;
        }
        Ok(())
    }

    /// By the names that Prometheus' own libraries use.
    fn process(&self, page: &mut Page) -> fmt::Result {
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let name = "process_start_time_seconds";
        page.about(name, "gauge", "When the program was started, since 1970")?;
        page.value(name, None, started)?;
        let name = "process_cpu_seconds_total";
        page.about(name, "counter", "CPU time of the threads that are alive")?;
        page.value(name, None, usage::threads().map(|(_, seconds)| seconds).sum::<f64>())?;
        for (name, line, description) in [
            ("process_resident_memory_bytes", "VmRSS:", "Memory in use"),
            ("process_virtual_memory_bytes", "VmSize:", "Address space in use"),
        ] {
            if let Some(bytes) = usage::memory(line) {
                page.about(name, "gauge", description)?;
                page.value(name, None, bytes)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::state::{CameraState, Phase};

    #[test]
    fn ready_is_when_every_camera_has_been_tried_and_alive_as_long_as_something_happens() {
        let board = Board::new(SystemTime::now());
        assert_eq!(board.health(), Ok(()), "the model is being loaded");
        assert!(board.readiness().unwrap_err().contains("no camera has been started"));
        let (gate, yard) = (CameraState::new("gate"), CameraState::new("yard"));
        let put = || {
            let cameras = vec![gate.status(), yard.status()];
            board.put(Snapshot {
                started: SystemTime::now(),
                cameras,
                outputs: vec![],
                model: None,
                history: None,
                fleet: None,
            });
        };
        gate.enter(Phase::Playing);
        put();
        assert!(board.readiness().unwrap_err().contains("camera yard"));
        yard.enter(Phase::Waiting { until: Instant::now(), why: "gone".into() });
        put();
        assert_eq!(board.readiness(), Ok(()), "one that is away is no reason to wait");
        yard.enter(Phase::Connecting);
        put();
        assert_eq!(board.readiness(), Ok(()), "it is tried again");
        board.0.write().1 = Instant::now().checked_sub(2 * ALIVE);
        assert!(board.health().unwrap_err().contains("nothing has happened"));
        assert!(board.readiness().is_err());
    }
}
