// SPDX-License-Identifier: MIT OR Apache-2.0
//! The settings as GObject properties: reading and writing them by name.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use glib::prelude::*;

use super::settings::Settings;
use super::{Absent, Evidence, MaskSize, Purify, Refine};
use crate::model::InputSize;

/// What a changed property concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concerns {
    /// Which model is loaded: taken over when the element goes to READY or PAUSED.
    Model,
    /// What is looked for.
    Prompts,
    /// The session's limits, and with them the latency.
    Limits,
    /// How the next frame is looked at.
    Frames,
}

/// What the property `name` concerns.
pub fn concern(name: &str) -> Concerns {
    match name {
        "model" | "method" | "method-options" | "helper-model" | "positions" | "device" | "precision"
        | "model-instance-id" => Concerns::Model,
        "prompts"
        | "prompts-file"
        | "background"
        | "prompt-thresholds"
        | "synonyms"
        | "prompt-template"
        | "embeddings"
        | "descriptions"
        | "enrich"
        | "exemplars"
        | "exemplars-file"
        | "exemplar-score"
        | "exemplar-neighbours"
        | "anomaly"
        | "anomaly-states"
        | "anomaly-within" => Concerns::Prompts,
        "batch-size" | "batch-timeout" | "max-in-flight" | "latency" => Concerns::Limits,
        _ => Concerns::Frames,
    }
}

impl Settings {
    /// Writes a property. Fails, with nothing changed, on a value that means nothing.
    pub fn set(&mut self, name: &str, value: &glib::Value) -> Result<()> {
        let policy = Arc::make_mut(&mut self.policy);
        match name {
            "model" => self.model = value.get()?,
            "method" => self.method = text_or_default(value, || Settings::default().method)?,
            "method-options" => self.method_options = value.get()?,
            "helper-model" => self.helper_model = value.get()?,
            "positions" => self.positions = value.get()?,
            "device" => self.device = text_or_default(value, || Settings::default().device)?,
            "precision" => self.precision = value.get()?,
            "model-instance-id" => self.model_instance_id = value.get()?,
            "prompts" => (self.prompts, self.prompts_file) = (value.get()?, None),
            "prompts-file" => (self.prompts, self.prompts_file) = (None, value.get()?),
            "background" => self.background = value.get()?,
            "prompt-thresholds" => self.set_prompt_thresholds(value.get()?)?,
            "synonyms" => self.synonyms = value.get()?,
            "prompt-template" => {
                self.prompt_template = text_or_default(value, || Settings::default().prompt_template)?;
            }
            "embeddings" => self.embeddings = value.get()?,
            "exemplars" => (self.exemplars, self.exemplars_file) = (not_empty(value)?, None),
            "exemplars-file" => (self.exemplars, self.exemplars_file) = (None, not_empty(value)?),
            "anomaly" => self.anomaly = not_empty(value)?,
            "anomaly-states" => self.anomaly_states = not_empty(value)?,
            "anomaly-within" => self.anomaly_within = not_empty(value)?,
            "exemplar-score" => self.exemplar_score = value.get()?,
            "exemplar-neighbours" => self.exemplar_neighbours = value.get()?,
            "descriptions" => self.descriptions = value.get()?,
            "enrich" => self.enrich = value.get()?,
            "input-size" => {
                let default = || InputSize::default().to_string();
                policy.infer.input_size = text_or_default(value, default)?.parse()?;
            }
            "window" => policy.set_window(value.get()?, policy.stride)?,
            "stride" => policy.set_window(policy.window, value.get()?)?,
            "context-prior" => policy.set_prior(value.get()?, policy.context_options.clone())?,
            "context-options" => policy.set_prior(policy.infer.prior.weight, value.get()?)?,
            "purify" => policy.infer.purify = value.get::<Purify>()?.into(),
            "refine" => policy.set_refine(value.get()?, policy.refine_options.clone())?,
            "refine-options" => policy.set_refine(policy.infer.refine.into(), value.get()?)?,
            "threshold" => policy.infer.decode.threshold = value.get()?,
            "unknown-cosine" => policy.infer.decode.unknown_cosine = value.get()?,
            "unknown-margin" => policy.infer.decode.unknown_margin = value.get()?,
            "logit-scale" => policy.infer.decode.logit_scale = value.get()?,
            "min-area" => policy.infer.decode.min_area = value.get()?,
            "tag-scores" => policy.infer.tags = value.get()?,
            "score-histograms" => policy.infer.decode.histograms = value.get()?,
            "anomaly-baseline" => policy.infer.anomalies.baseline = value.get()?,
            "anomaly-drift" => policy.infer.anomalies.drift = value.get()?,
            "anomaly-threshold" => policy.events.anomaly_threshold = value.get()?,
            "absent" => policy.infer.gate.absent = value.get::<Absent>()?.into(),
            "absent-evidence" => policy.infer.gate.evidence = value.get::<Evidence>()?.into(),
            "gate-interval" => policy.infer.gate.interval = value.get()?,
            "gate-enter" => policy.infer.gate.enter = limit(value.get()?),
            "gate-leave" => policy.infer.gate.leave = limit(value.get()?),
            "gate-enter-looks" => policy.infer.gate.enter_looks = value.get()?,
            "gate-leave-looks" => policy.infer.gate.leave_looks = value.get()?,
            "mask-size" => policy.infer.decode.mask_size = value.get::<MaskSize>()?.into(),
            "batch-size" => policy.batch_size = value.get()?,
            "batch-timeout" => policy.batch_timeout = Duration::from_nanos(value.get()?),
            "max-in-flight" => policy.max_in_flight = value.get()?,
            "latency" => {
                policy.latency = u64::try_from(value.get::<i64>()?).ok().map(Duration::from_nanos);
            }
            "late-policy" => policy.late = value.get()?,
            "inference-interval" => policy.inference_interval = value.get()?,
            "skip-static" => policy.skip_static = value.get()?,
            "helper-interval" => policy.infer.helper.interval = value.get()?,
            "temporal-smoothing" => policy.infer.temporal.smoothing = value.get()?,
            "token-reuse" => policy.infer.reuse.threshold = value.get()?,
            "token-refresh" => policy.infer.reuse.refresh = Duration::from_nanos(value.get()?),
            "on-error" => policy.on_error = value.get()?,
            "messages" => policy.messages = value.get()?,
            "message-rate" => policy.events.message_rate = value.get()?,
            "zones" => policy.events.set_zones(value.get()?)?,
            "enter-area" => policy.events.hysteresis.enter_area = value.get()?,
            "leave-area" => policy.events.hysteresis.leave_area = value.get()?,
            "enter-frames" => policy.events.hysteresis.enter_frames = value.get()?,
            "leave-frames" => policy.events.hysteresis.leave_frames = value.get()?,
            "meta" => policy.meta = value.get()?,
            other => bail!("no property {other}"),
        }
        Ok(())
    }

    /// Reads a property; `None` if there is none of this name among the settings.
    pub fn get(&self, name: &str) -> Option<glib::Value> {
        let policy = &self.policy;
        Some(match name {
            "model" => self.model.to_value(),
            "method" => self.method.to_value(),
            "method-options" => self.method_options.to_value(),
            "helper-model" => self.helper_model.to_value(),
            "positions" => self.positions.to_value(),
            "device" => self.device.to_value(),
            "precision" => self.precision.to_value(),
            "model-instance-id" => self.model_instance_id.to_value(),
            "prompts" => self.prompts.to_value(),
            "prompts-file" => self.prompts_file.to_value(),
            "background" => self.background.to_value(),
            "prompt-thresholds" => self.prompt_thresholds.to_value(),
            "synonyms" => self.synonyms.to_value(),
            "prompt-template" => self.prompt_template.to_value(),
            "embeddings" => self.embeddings.to_value(),
            "exemplars" => self.exemplars.to_value(),
            "exemplars-file" => self.exemplars_file.to_value(),
            "anomaly" => self.anomaly.to_value(),
            "anomaly-states" => self.anomaly_states.to_value(),
            "anomaly-within" => self.anomaly_within.to_value(),
            "exemplar-score" => self.exemplar_score.to_value(),
            "exemplar-neighbours" => self.exemplar_neighbours.to_value(),
            "descriptions" => self.descriptions.to_value(),
            "enrich" => self.enrich.to_value(),
            "input-size" => policy.infer.input_size.to_string().to_value(),
            "window" => policy.window.to_value(),
            "stride" => policy.stride.to_value(),
            "context-prior" => policy.infer.prior.weight.to_value(),
            "context-options" => policy.context_options.to_value(),
            "purify" => Purify::from(policy.infer.purify).to_value(),
            "refine" => Refine::from(policy.infer.refine).to_value(),
            "refine-options" => policy.refine_options.to_value(),
            "threshold" => policy.infer.decode.threshold.to_value(),
            "unknown-cosine" => policy.infer.decode.unknown_cosine.to_value(),
            "unknown-margin" => policy.infer.decode.unknown_margin.to_value(),
            "logit-scale" => policy.infer.decode.logit_scale.to_value(),
            "min-area" => policy.infer.decode.min_area.to_value(),
            "tag-scores" => policy.infer.tags.to_value(),
            "score-histograms" => policy.infer.decode.histograms.to_value(),
            "anomaly-baseline" => policy.infer.anomalies.baseline.to_value(),
            "anomaly-drift" => policy.infer.anomalies.drift.to_value(),
            "anomaly-threshold" => policy.events.anomaly_threshold.to_value(),
            "absent" => Absent::from(policy.infer.gate.absent).to_value(),
            "absent-evidence" => Evidence::from(policy.infer.gate.evidence).to_value(),
            "gate-interval" => policy.infer.gate.interval.to_value(),
            "gate-enter" => limit_value(policy.infer.gate.enter).to_value(),
            "gate-leave" => limit_value(policy.infer.gate.leave).to_value(),
            "gate-enter-looks" => policy.infer.gate.enter_looks.to_value(),
            "gate-leave-looks" => policy.infer.gate.leave_looks.to_value(),
            "mask-size" => MaskSize::from(policy.infer.decode.mask_size).to_value(),
            "batch-size" => policy.batch_size.to_value(),
            "batch-timeout" => nanoseconds(policy.batch_timeout).to_value(),
            "max-in-flight" => policy.max_in_flight.to_value(),
            "latency" => latency_value(policy.latency).to_value(),
            "late-policy" => policy.late.to_value(),
            "inference-interval" => policy.inference_interval.to_value(),
            "skip-static" => policy.skip_static.to_value(),
            "helper-interval" => policy.infer.helper.interval.to_value(),
            "temporal-smoothing" => policy.infer.temporal.smoothing.to_value(),
            "token-reuse" => policy.infer.reuse.threshold.to_value(),
            "token-refresh" => nanoseconds(policy.infer.reuse.refresh).to_value(),
            "on-error" => policy.on_error.to_value(),
            "messages" => policy.messages.to_value(),
            "message-rate" => policy.events.message_rate.to_value(),
            "zones" => policy.events.zones_text.to_value(),
            "enter-area" => policy.events.hysteresis.enter_area.to_value(),
            "leave-area" => policy.events.hysteresis.leave_area.to_value(),
            "enter-frames" => policy.events.hysteresis.enter_frames.to_value(),
            "leave-frames" => policy.events.hysteresis.leave_frames.to_value(),
            "meta" => policy.meta.to_value(),
            _ => return None,
        })
    }
}

/// Nothing written is nothing set.
fn not_empty(value: &glib::Value) -> Result<Option<String>> {
    Ok(value.get::<Option<String>>()?.filter(|text| !text.trim().is_empty()))
}

fn text_or_default(value: &glib::Value, default: impl FnOnce() -> String) -> Result<String> {
    Ok(value.get::<Option<String>>()?.unwrap_or_else(default))
}

/// Below 0 is none: as the evidence says.
fn limit(value: f64) -> Option<f64> {
    (value >= 0.0).then_some(value)
}

pub fn limit_value(limit: Option<f64>) -> f64 {
    limit.unwrap_or(-1.0)
}

pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

pub fn latency_value(latency: Option<Duration>) -> i64 {
    latency.map_or(-1, |latency| i64::try_from(latency.as_nanos()).unwrap_or(i64::MAX))
}
