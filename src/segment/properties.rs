// SPDX-License-Identifier: MIT OR Apache-2.0
//! The settings as GObject properties: their declarations, and reading and writing them by name.

use std::time::Duration;

use anyhow::{Result, bail};
use glib::prelude::*;
use gst::prelude::*;

use super::settings::{self, Settings};
use super::{MaskSize, MetaFlags, Refine};

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
        "model" | "method" | "method-options" | "positions" | "device" | "precision"
        | "model-instance-id" => Concerns::Model,
        "prompts" | "prompts-file" | "background" | "prompt-template" | "embeddings" => Concerns::Prompts,
        "batch-size" | "batch-timeout" | "max-in-flight" | "latency" => Concerns::Limits,
        _ => Concerns::Frames,
    }
}

impl Settings {
    /// Writes a property. Fails, with nothing changed, on a value that means nothing.
    pub fn set(&mut self, name: &str, value: &glib::Value) -> Result<()> {
        let policy = &mut self.policy;
        match name {
            "model" => self.model = value.get()?,
            "method" => self.method = text_or_default(value, || Settings::default().method)?,
            "method-options" => self.method_options = value.get()?,
            "positions" => self.positions = value.get()?,
            "device" => self.device = text_or_default(value, || Settings::default().device)?,
            "precision" => self.precision = value.get()?,
            "model-instance-id" => self.model_instance_id = value.get()?,
            "prompts" => (self.prompts, self.prompts_file) = (value.get()?, None),
            "prompts-file" => (self.prompts, self.prompts_file) = (None, value.get()?),
            "background" => self.background = value.get()?,
            "prompt-template" => {
                self.prompt_template = text_or_default(value, || Settings::default().prompt_template)?;
            }
            "embeddings" => self.embeddings = value.get()?,
            "input-size" => {
                let text = text_or_default(value, || "model".into())?;
                policy.infer.input_size = settings::parse_input_size(&text)?;
            }
            "window" => policy.set_window(value.get()?, policy.stride)?,
            "stride" => policy.set_window(policy.window, value.get()?)?,
            "refine" => policy.infer.refine = value.get::<Refine>()?.into(),
            "threshold" => policy.infer.decode.threshold = value.get()?,
            "logit-scale" => policy.infer.decode.logit_scale = value.get()?,
            "min-area" => policy.infer.decode.min_area = value.get()?,
            "mask-size" => policy.infer.decode.mask_size = value.get::<MaskSize>()?.into(),
            "batch-size" => policy.batch_size = value.get()?,
            "batch-timeout" => policy.batch_timeout = Duration::from_nanos(value.get()?),
            "max-in-flight" => policy.max_in_flight = value.get()?,
            "latency" => {
                policy.latency = u64::try_from(value.get::<i64>()?).ok().map(Duration::from_nanos);
            }
            "late-policy" => policy.late = value.get()?,
            "inference-interval" => policy.inference_interval = value.get()?,
            "on-error" => policy.on_error = value.get()?,
            "messages" => policy.messages = value.get()?,
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
            "positions" => self.positions.to_value(),
            "device" => self.device.to_value(),
            "precision" => self.precision.to_value(),
            "model-instance-id" => self.model_instance_id.to_value(),
            "prompts" => self.prompts.to_value(),
            "prompts-file" => self.prompts_file.to_value(),
            "background" => self.background.to_value(),
            "prompt-template" => self.prompt_template.to_value(),
            "embeddings" => self.embeddings.to_value(),
            "input-size" => settings::input_size_text(policy.infer.input_size).to_value(),
            "window" => policy.window.to_value(),
            "stride" => policy.stride.to_value(),
            "refine" => Refine::from(policy.infer.refine).to_value(),
            "threshold" => policy.infer.decode.threshold.to_value(),
            "logit-scale" => policy.infer.decode.logit_scale.to_value(),
            "min-area" => policy.infer.decode.min_area.to_value(),
            "mask-size" => MaskSize::from(policy.infer.decode.mask_size).to_value(),
            "batch-size" => policy.batch_size.to_value(),
            "batch-timeout" => nanoseconds(policy.batch_timeout).to_value(),
            "max-in-flight" => policy.max_in_flight.to_value(),
            "latency" => latency_value(policy.latency).to_value(),
            "late-policy" => policy.late.to_value(),
            "inference-interval" => policy.inference_interval.to_value(),
            "on-error" => policy.on_error.to_value(),
            "messages" => policy.messages.to_value(),
            "meta" => policy.meta.to_value(),
            _ => return None,
        })
    }
}

fn text_or_default(value: &glib::Value, default: impl FnOnce() -> String) -> Result<String> {
    Ok(value.get::<Option<String>>()?.unwrap_or_else(default))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn latency_value(latency: Option<Duration>) -> i64 {
    latency.map_or(-1, |latency| i64::try_from(latency.as_nanos()).unwrap_or(i64::MAX))
}

/// All properties, in the order in which gst-inspect shows those of equal name length: by subject.
pub fn param_specs() -> Vec<glib::ParamSpec> {
    let default = Settings::default();
    let policy = &default.policy;
    let decode = &policy.infer.decode;
    let text = glib::ParamSpecString::builder;
    vec![
        text("model")
            .nick("Model")
            .blurb("Checkpoint folder, checkpoint file, or Hugging Face id of a CLIP model")
            .default_value(default.model.as_deref())
            .mutable_ready()
            .build(),
        text("method")
            .nick("Method")
            .blurb("What the last block of the vision tower does, such as gclip, clearclip or clip")
            .default_value(Some(default.method.as_str()))
            .mutable_ready()
            .build(),
        text("method-options")
            .nick("Method options")
            .blurb("Switches of the method, as key=value,key=value")
            .default_value(default.method_options.as_deref())
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder_with_default("positions", default.positions)
            .nick("Positions")
            .blurb("How position embeddings are resized to another patch grid")
            .mutable_ready()
            .build(),
        text("device")
            .nick("Device")
            .blurb("Where the model runs: auto, cpu, cuda or cuda:N")
            .default_value(Some(default.device.as_str()))
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder_with_default("precision", default.precision)
            .nick("Precision")
            .blurb("Number format of the model")
            .mutable_ready()
            .build(),
        text("model-instance-id")
            .nick("Model instance id")
            .blurb(
                "Elements with the same id share one loaded model and its batches; NULL = a model of its own",
            )
            .default_value(default.model_instance_id.as_deref())
            .mutable_ready()
            .build(),
        text("prompts")
            .nick("Prompts")
            .blurb(
                "What to look for: classes separated by ';', synonyms of a class by ','; unsets prompts-file",
            )
            .default_value(default.prompts.as_deref())
            .mutable_playing()
            .build(),
        text("prompts-file")
            .nick("Prompts file")
            .blurb("File of prompts, one class a line; read when it is set and at start; unsets prompts")
            .default_value(default.prompts_file.as_deref())
            .mutable_playing()
            .build(),
        text("background")
            .nick("Background")
            .blurb("Names that compete for pixels and come out as background")
            .default_value(default.background.as_deref())
            .mutable_playing()
            .build(),
        text("prompt-template")
            .nick("Prompt template")
            .blurb("Sentences around each name: imagenet, none, sentences with {}, or a file of them")
            .default_value(Some(default.prompt_template.as_str()))
            .mutable_playing()
            .build(),
        text("embeddings")
            .nick("Embeddings")
            .blurb("File of text features made with this model, used in the place of its text tower")
            .default_value(default.embeddings.as_deref())
            .mutable_playing()
            .build(),
        text("input-size")
            .nick("Input size")
            .blurb("Size at which the model looks: model, native, or a short side in pixels")
            .default_value(Some(settings::input_size_text(policy.infer.input_size).as_str()))
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt::builder("window")
            .nick("Window")
            .blurb("Side of a sliding window over the resized frame, in pixels; 0 = the whole frame at once")
            .default_value(policy.window)
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt::builder("stride")
            .nick("Stride")
            .blurb("Step between windows, in pixels; 0 = half a window")
            .default_value(policy.stride)
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("refine", Refine::from(policy.infer.refine))
            .nick("Refine")
            .blurb("What sharpens the masks by the edges of the frame")
            .mutable_playing()
            .build(),
        glib::ParamSpecDouble::builder("threshold")
            .nick("Threshold")
            .blurb("Pixels whose best class is less probable than this become background")
            .minimum(0.0)
            .maximum(1.0)
            .default_value(decode.threshold)
            .mutable_playing()
            .build(),
        glib::ParamSpecDouble::builder("logit-scale")
            .nick("Logit scale")
            .blurb("Cosines are multiplied by this before the softmax")
            .minimum(0.0)
            .maximum(1000.0)
            .default_value(decode.logit_scale)
            .mutable_playing()
            .build(),
        glib::ParamSpecDouble::builder("min-area")
            .nick("Minimum area")
            .blurb("Classes that win a smaller share of the foreground than this are left out")
            .minimum(0.0)
            .maximum(1.0)
            .default_value(decode.min_area)
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("mask-size", MaskSize::from(decode.mask_size))
            .nick("Mask size")
            .blurb("Size of the attached mask")
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt::builder("batch-size")
            .nick("Batch size")
            .blurb("Frames in one forward at most; the largest among the elements of one instance counts")
            .minimum(1)
            .maximum(1024)
            .default_value(policy.batch_size)
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt64::builder("batch-timeout")
            .nick("Batch timeout")
            .blurb("How long a frame waits for others to share its batch (ns)")
            .maximum(i64::MAX as u64)
            .default_value(nanoseconds(policy.batch_timeout))
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt::builder("max-in-flight")
            .nick("Maximum in flight")
            .blurb("Frames inside the element at most, from entering until they have been pushed")
            .minimum(1)
            .maximum(4096)
            .default_value(policy.max_in_flight)
            .mutable_playing()
            .build(),
        glib::ParamSpecInt64::builder("latency")
            .nick("Latency")
            .blurb(
                "Time allowed for a forward, on top of batch-timeout (ns); -1 = as measured, with headroom",
            )
            .minimum(-1)
            .maximum(i64::MAX)
            .default_value(latency_value(policy.latency))
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("late-policy", policy.late)
            .nick("Late policy")
            .blurb("What happens to a frame whose mask is not there in time")
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt::builder("inference-interval")
            .nick("Inference interval")
            .blurb("Every nth frame is looked at; those between carry the newest mask and its age")
            .minimum(1)
            .default_value(policy.inference_interval)
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("on-error", policy.on_error)
            .nick("On error")
            .blurb("What happens when the model fails on a frame")
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("messages", policy.messages)
            .nick("Messages")
            .blurb("Which element messages are posted")
            .mutable_playing()
            .build(),
        glib::ParamSpecFlags::builder::<MetaFlags>("meta")
            .default_value(policy.meta)
            .nick("Meta")
            .blurb("Which metadata is attached")
            .mutable_playing()
            .build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb("Counts since the start, times of the latest batches, text cache, queue level")
            .read_only()
            .build(),
    ]
}
