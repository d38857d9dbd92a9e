// SPDX-License-Identifier: MIT OR Apache-2.0
//! The declarations of all properties and signals.

use glib::prelude::*;
use glib::subclass::Signal;
use glib::subclass::prelude::*;
use gst::prelude::*;

use super::properties::{latency_value, limit_value, nanoseconds};
use super::settings::Settings;
use super::{Absent, Evidence, MaskSize, MetaFlags, Purify, Refine};

/// All properties, in the order in which gst-inspect shows those of equal name length: by subject.
pub fn param_specs() -> Vec<glib::ParamSpec> {
    let default = Settings::default();
    let policy = &default.policy;
    let decode = &policy.infer.decode;
    let rule = &policy.events.hysteresis;
    let gate = &policy.infer.gate;
    let text = glib::ParamSpecString::builder;
    vec![
        text("model")
            .nick("Model")
            .blurb("Checkpoint folder, checkpoint file, or Hugging Face id of a CLIP, SigLIP 2 or TIPSv2")
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
        text("helper-model")
            .nick("Helper model")
            .blurb("Folder or Hugging Face id of a DINO or DINOv2 model, for methods that read one beside CLIP (proxyclip)")
            .default_value(default.helper_model.as_deref())
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
        text("prompt-thresholds")
            .nick("Prompt thresholds")
            .blurb("Thresholds of single classes over that of all: label=0.4, label=0.3")
            .default_value(default.prompt_thresholds.as_deref())
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("synonyms", default.synonyms)
            .nick("Synonyms")
            .blurb("What the names of one class are to each other")
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
        text("descriptions")
            .nick("Descriptions")
            .blurb("JSON file of sentences about the classes, {\"name\": [\"sentence\", ...]}, for enrich")
            .default_value(default.descriptions.as_deref())
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("enrich", default.enrich)
            .nick("Enrich")
            .blurb("What the text features of the classes take up")
            .mutable_playing()
            .build(),
        text("exemplars")
            .nick("Exemplars")
            .blurb("Classes by pictures: label=picture[#x,y,w,h][@mask],...;label=...; unsets exemplars-file")
            .default_value(default.exemplars.as_deref())
            .mutable_playing()
            .build(),
        text("exemplars-file")
            .nick("Exemplars file")
            .blurb("File of classes by pictures, made by gclip exemplar with this model and method; unsets exemplars")
            .default_value(default.exemplars_file.as_deref())
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("exemplar-score", default.exemplar_score)
            .nick("Exemplar score")
            .blurb("How a patch of a frame is compared with the pictures of a class")
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt::builder("exemplar-neighbours")
            .nick("Exemplar neighbours")
            .blurb("Parts of the pictures that count for a patch, of exemplar-score=nearest and contrast")
            .minimum(1)
            .maximum(1024)
            .default_value(default.exemplar_neighbours)
            .mutable_playing()
            .build(),
        text("anomaly")
            .nick("Anomaly")
            .blurb("Names of things that are looked at for damage, separated by ';': a map and a score each, beside the masks")
            .default_value(default.anomaly.as_deref())
            .mutable_playing()
            .build(),
        text("anomaly-states")
            .nick("Anomaly states")
            .blurb("File of sentences with {} below [normal] and [abnormal], in the place of WinCLIP's")
            .default_value(default.anomaly_states.as_deref())
            .mutable_playing()
            .build(),
        text("anomaly-within")
            .nick("Anomaly within")
            .blurb("First name of a class of the prompts: damage is looked for in its pixels alone")
            .default_value(default.anomaly_within.as_deref())
            .mutable_playing()
            .build(),
        text("input-size")
            .nick("Input size")
            .blurb("Size at which the model looks: model, native, or a short side in pixels")
            .default_value(Some(policy.infer.input_size.to_string().as_str()))
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
        glib::ParamSpecDouble::builder("context-prior")
            .nick("Context prior")
            .blurb("Share of what the whole picture says in the cosines of each patch; 0 = off")
            .minimum(0.0)
            .maximum(1.0)
            .default_value(policy.infer.prior.weight)
            .mutable_playing()
            .build(),
        text("context-options")
            .nick("Context options")
            .blurb("Switches of the context prior, as key=value,key=value: nudge (share), cut (cosine distance)")
            .default_value(policy.context_options.as_deref())
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("purify", Purify::from(policy.infer.purify))
            .nick("Purify")
            .blurb("What is done with classes that are not in the picture; full: more than doubles the work")
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("refine", Refine::from(policy.infer.refine))
            .nick("Refine")
            .blurb("What sharpens the masks by the edges of the frame")
            .mutable_playing()
            .build(),
        text("refine-options")
            .nick("Refine options")
            .blurb("Switches of the refinement, as key=value,key=value; of tlp: grid, iterations, scaled")
            .default_value(policy.refine_options.as_deref())
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
        glib::ParamSpecDouble::builder("unknown-cosine")
            .nick("Unknown: cosine")
            .blurb("Pixels whose best cosine is below this become background; -1 = off")
            .minimum(-1.0)
            .maximum(1.0)
            .default_value(decode.unknown_cosine)
            .mutable_playing()
            .build(),
        glib::ParamSpecDouble::builder("unknown-margin")
            .nick("Unknown: margin")
            .blurb("Pixels whose best cosine is less than this above that of the next class become background; 0 = off")
            .minimum(0.0)
            .maximum(2.0)
            .default_value(decode.unknown_margin)
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
        glib::ParamSpecBoolean::builder("tag-scores")
            .nick("Tag scores")
            .blurb("Also score how sure it is that the picture shows each class at all (TagCLIP); about doubles the work")
            .default_value(policy.infer.tags)
            .mutable_playing()
            .build(),
        glib::ParamSpecBoolean::builder("score-histograms")
            .nick("Score histograms")
            .blurb("Also count the pixels that each class wins by their score, those below its threshold too")
            .default_value(policy.infer.decode.histograms)
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt::builder("anomaly-baseline")
            .nick("Anomaly baseline")
            .blurb("Masks of the stream that say what is usual in it; scores tell how far from that; 0 = off")
            .maximum(100_000)
            .default_value(policy.infer.anomalies.baseline)
            .mutable_playing()
            .build(),
        glib::ParamSpecDouble::builder("anomaly-drift")
            .nick("Anomaly drift")
            .blurb("Share of the way that what is usual follows the stream each mask, where nothing is unusual; 0 = not at all")
            .minimum(0.0)
            .maximum(1.0)
            .default_value(policy.infer.anomalies.drift)
            .mutable_playing()
            .build(),
        glib::ParamSpecDouble::builder("anomaly-threshold")
            .nick("Anomaly threshold")
            .blurb("Score from which on messages tell that a thing is damaged, below nine tenths of it that it is sound; 0 = never")
            .minimum(0.0)
            .maximum(1.0)
            .default_value(policy.events.anomaly_threshold)
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("absent", Absent::from(gate.absent))
            .nick("Absent")
            .blurb("What becomes of classes that are not in the picture")
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("absent-evidence", Evidence::from(gate.evidence))
            .nick("Absent: evidence")
            .blurb("By what it is judged whether a class is in the picture")
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt::builder("gate-interval")
            .nick("Gate: interval")
            .blurb("Every nth frame that is looked at is judged, with absent=mute and remove")
            .minimum(1)
            .default_value(gate.interval)
            .mutable_playing()
            .build(),
        glib::ParamSpecDouble::builder("gate-enter")
            .nick("Gate: enter")
            .blurb("Evidence from which on a class is there; -1 = as the evidence suits")
            .minimum(-1.0)
            .maximum(1.0)
            .default_value(limit_value(gate.enter))
            .mutable_playing()
            .build(),
        glib::ParamSpecDouble::builder("gate-leave")
            .nick("Gate: leave")
            .blurb("Evidence below which a class is not there; -1 = as the evidence suits")
            .minimum(-1.0)
            .maximum(1.0)
            .default_value(limit_value(gate.leave))
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt::builder("gate-enter-looks")
            .nick("Gate: looks to enter")
            .blurb("Judgements in a row before a class is there")
            .minimum(1)
            .default_value(gate.enter_looks)
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt::builder("gate-leave-looks")
            .nick("Gate: looks to leave")
            .blurb("Judgements in a row before a class is there no longer")
            .minimum(1)
            .default_value(gate.leave_looks)
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
        glib::ParamSpecUInt::builder("helper-interval")
            .nick("Helper interval")
            .blurb("The helper model looks at every nth frame that the model looks at, and at cuts")
            .minimum(1)
            .default_value(policy.infer.helper.interval)
            .mutable_playing()
            .build(),
        glib::ParamSpecBoolean::builder("skip-static")
            .nick("Skip static")
            .blurb("Frames that show what the last frame looked at showed carry its mask and its age")
            .default_value(policy.skip_static)
            .mutable_playing()
            .build(),
        glib::ParamSpecDouble::builder("temporal-smoothing")
            .nick("Temporal smoothing")
            .blurb("How much of the frames before stays where the picture does not change, 0 (nothing) to 1")
            .minimum(0.0)
            .maximum(1.0)
            .default_value(policy.infer.temporal.smoothing)
            .mutable_playing()
            .build(),
        glib::ParamSpecDouble::builder("token-reuse")
            .nick("Token reuse")
            .blurb(
                "Parts of the picture whose input to a block of the model has changed by no more than this share keep \
                 what it gave; 0 = off",
            )
            .minimum(0.0)
            .maximum(1.0)
            .default_value(policy.infer.reuse.threshold)
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt64::builder("token-refresh")
            .nick("Token refresh")
            .blurb("Longest time between looks at the whole picture with token-reuse, in nanoseconds of the stream")
            .default_value(nanoseconds(policy.infer.reuse.refresh))
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
        glib::ParamSpecDouble::builder("message-rate")
            .nick("Message rate")
            .blurb("gclip-regions messages a second at most; 0 = one for every frame")
            .minimum(0.0)
            .maximum(1000.0)
            .default_value(policy.events.message_rate)
            .mutable_playing()
            .build(),
        text("zones")
            .nick("Zones")
            .blurb(
                "Polygons whose changes are told too: name=x,y x,y x,y;name=..., corners 0 to 1 from the top left",
            )
            .default_value(policy.events.zones_text.as_deref())
            .mutable_playing()
            .build(),
        glib::ParamSpecDouble::builder("enter-area")
            .nick("Enter area")
            .blurb("A prompt that covers this share of the picture or zone enters it")
            .minimum(0.0)
            .maximum(1.0)
            .default_value(rule.enter_area)
            .mutable_playing()
            .build(),
        glib::ParamSpecDouble::builder("leave-area")
            .nick("Leave area")
            .blurb("A prompt that covers less than this share of the picture or zone leaves it")
            .minimum(0.0)
            .maximum(1.0)
            .default_value(rule.leave_area)
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt::builder("enter-frames")
            .nick("Enter frames")
            .blurb("Masks in a row that have to show a prompt before it has entered")
            .minimum(1)
            .default_value(rule.enter_frames)
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt::builder("leave-frames")
            .nick("Leave frames")
            .blurb("Masks in a row that have to miss a prompt before it has left")
            .minimum(1)
            .default_value(rule.leave_frames)
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

/// `reload-model`: an action with the new model's name, or NULL to read the present one again.
pub fn signals() -> Vec<Signal> {
    let reload = Signal::builder("reload-model")
        .param_types([Option::<String>::static_type()])
        .return_type::<bool>()
        .action()
        .class_handler(|values| {
            let element = values.first()?.get::<super::Segment>().ok()?;
            let model = values.get(1)?.get::<Option<String>>().ok()?;
            Some(element.imp().reload_model(model).to_value())
        });
    vec![reload.build()]
}
