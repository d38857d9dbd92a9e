// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prometheus metrics over HTTP: the counters of cameras and outputs, and what the shared model does.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use metrics::{counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::PrometheusBuilder;

use super::output::Output;
use super::state::{COUNTERS, CameraState};

/// Statistics of gclipsegment that are the shared model's: name in the metrics, field, description.
const OF_THE_MODEL: [(&str, &str, &str); 2] = [
    ("gclip_model_batches_total", "batches", "Forwards of the shared model"),
    ("gclip_model_frames_total", "batched-frames", "Frames in them, of all cameras together"),
];

/// Serves `http://ADDRESS/metrics` from now on.
///
/// # Errors
/// The address is not free.
pub fn serve(address: SocketAddr) -> Result<()> {
    let builder = PrometheusBuilder::new().with_http_listener(address);
    builder.install().map_err(|error| anyhow!("metrics: cannot listen on {address}: {error}"))?;
    for (name, description) in COUNTERS {
        describe_counter!(name, description);
    }
    for (name, _, description) in OF_THE_MODEL {
        describe_counter!(name, description);
    }
    describe_gauge!("gclip_camera_up", "1 while the camera gives pictures");
    describe_gauge!(
        "gclip_camera_silence_seconds",
        "Time since the newest picture, or since connecting began"
    );
    describe_gauge!("gclip_model_forward_seconds", "Median time of the latest forwards");
    describe_counter!("gclip_output_lines_total", "Lines that arrived");
    describe_counter!(
        "gclip_output_dropped_total",
        "Lines that were lost, as the output did not take them in time"
    );
    describe_gauge!("gclip_output_waiting", "Lines that wait for the output");
    Ok(())
}

pub fn publish(cameras: &[Arc<CameraState>], outputs: &[Output], model: Option<&gst::Structure>) {
    for camera in cameras {
        let labels = [("camera", camera.name.clone())];
        for ((name, _), value) in COUNTERS.iter().zip(camera.counts()) {
            counter!(*name, &labels).absolute(value);
        }
        gauge!("gclip_camera_up", &labels).set(if camera.is_up() { 1.0 } else { 0.0 });
        gauge!("gclip_camera_silence_seconds", &labels).set(camera.now().alive.elapsed().as_secs_f64());
    }
    for output in outputs {
        let labels = [("output", output.name.clone())];
        counter!("gclip_output_lines_total", &labels).absolute(output.queue.delivered());
        counter!("gclip_output_dropped_total", &labels).absolute(output.queue.dropped());
        gauge!("gclip_output_waiting", &labels).set(output.queue.undelivered() as f64);
    }
    let Some(model) = model else { return };
    for (name, field, _) in OF_THE_MODEL {
        if let Ok(value) = model.get::<u64>(field) {
            counter!(name).absolute(value);
        }
    }
    if let Ok(nanoseconds) = model.get::<u64>("forward-p50") {
        gauge!("gclip_model_forward_seconds").set(nanoseconds as f64 / 1e9);
    }
}
