// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the user has set, and what it means to the model, the batcher and the stream.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::machine::{Late, Rules};
use super::{
    Absent, Enrich, Evidence, ExemplarScore, LatePolicy, MaskSize, Messages, MetaFlags, OnError, Positions,
    Precision, Purify, Refine, Synonyms,
};
use crate::batch::SessionOptions;
use crate::engine::Wish;
use crate::gallery::{Source, Wanted};
use crate::model::anomaly::States;
use crate::model::{
    self, Descriptions, ExemplarOptions, InferOptions, MethodSpec, ModelSpec, PrecisionChoice, Prior,
    Prompts, Templates, Thresholds, Window,
};
use crate::presence::{Hysteresis, Zones};

/// Everything a user can set. The defaults of all properties are those of [`Settings::default`].
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub model: Option<String>,
    pub method: String,
    pub method_options: Option<String>,
    pub helper_model: Option<String>,
    pub positions: Positions,
    pub device: String,
    pub precision: Precision,
    pub model_instance_id: Option<String>,

    /// Of `prompts` and `prompts_file`, the one set last is in force and the other is `None`.
    pub prompts: Option<String>,
    pub prompts_file: Option<String>,
    pub background: Option<String>,
    /// As the user wrote them.
    pub prompt_thresholds: Option<String>,
    pub synonyms: Synonyms,
    pub prompt_template: String,
    pub embeddings: Option<String>,
    pub descriptions: Option<String>,
    pub enrich: Enrich,

    /// Of `exemplars` and `exemplars_file`, the one set last is in force and the other is `None`.
    pub exemplars: Option<String>,
    pub exemplars_file: Option<String>,
    pub exemplar_score: ExemplarScore,
    pub exemplar_neighbours: u32,

    /// Things that are looked at for damage, and the file of what they are called then.
    pub anomaly: Option<String>,
    pub anomaly_states: Option<String>,
    /// The class that they are looked for in.
    pub anomaly_within: Option<String>,

    pub policy: Arc<Policy>,
}

/// The part that each frame holds on to.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub infer: InferOptions,
    /// As the user wrote them; what they mean is in `infer.prior` and `infer.refine`.
    pub context_options: Option<String>,
    pub refine_options: Option<String>,
    /// Side of a sliding window and its step in pixels; what they mean together is in `infer.window`.
    pub window: u32,
    pub stride: u32,
    pub batch_size: u32,
    pub batch_timeout: Duration,
    pub max_in_flight: u32,
    /// Time allowed for a forward; `None` measures it.
    pub latency: Option<Duration>,
    pub late: LatePolicy,
    /// Every nth frame is looked at.
    pub inference_interval: u32,
    /// Frames that repeat the last one looked at take its mask.
    pub skip_static: bool,
    pub on_error: OnError,
    pub messages: Messages,
    pub events: Events,
    pub meta: MetaFlags,
}

/// What the element messages tell, and how often.
#[derive(Clone, Debug, PartialEq)]
pub struct Events {
    /// As the user wrote it; what it means is in `zones`.
    pub zones_text: Option<String>,
    pub zones: Arc<Zones>,
    pub hysteresis: Hysteresis,
    /// Score from which on a thing counts as damaged; 0: never.
    pub anomaly_threshold: f64,
    /// `gclip-regions` messages a second; 0 sets no limit.
    pub message_rate: f64,
}

impl Default for Events {
    fn default() -> Self {
        Events {
            zones_text: None,
            zones: Arc::default(),
            hysteresis: Hysteresis::default(),
            anomaly_threshold: 0.0,
            message_rate: 10.0,
        }
    }
}

/// A thing is sound again below this share of the score from which on it is damaged.
const SOUND_AGAIN: f64 = 0.9;

impl Events {
    /// What it takes to be told that a thing is damaged, or sound again; `None`: it is not told. Scores take the place of
    /// areas.
    pub fn of_anomalies(&self) -> Option<Hysteresis> {
        let threshold = self.anomaly_threshold;
        let rule =
            Hysteresis { enter_area: threshold, leave_area: SOUND_AGAIN * threshold, ..self.hysteresis };
        (threshold > 0.0).then_some(rule)
    }

    /// Takes zones over if they mean something; `None` is none.
    pub fn set_zones(&mut self, text: Option<String>) -> Result<()> {
        let zones: Zones = text.as_deref().unwrap_or_default().parse()?;
        (self.zones_text, self.zones) = (text, Arc::new(zones));
        Ok(())
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            model: None,
            method: MethodSpec::default().name,
            method_options: None,
            helper_model: None,
            positions: Positions::default(),
            device: "auto".into(),
            precision: Precision::default(),
            model_instance_id: None,
            prompts: None,
            prompts_file: None,
            background: None,
            prompt_thresholds: None,
            synonyms: Synonyms::default(),
            prompt_template: "imagenet".into(),
            embeddings: None,
            exemplars: None,
            exemplars_file: None,
            exemplar_score: ExemplarScore::default(),
            exemplar_neighbours: ExemplarOptions::default().neighbours as u32,
            descriptions: None,
            enrich: Enrich::default(),
            anomaly: None,
            anomaly_states: None,
            anomaly_within: None,
            policy: Arc::new(Policy {
                infer: InferOptions::default(),
                context_options: None,
                refine_options: None,
                window: 0,
                stride: 0,
                batch_size: 4,
                batch_timeout: Duration::from_millis(20),
                max_in_flight: 8,
                latency: None,
                late: LatePolicy::default(),
                inference_interval: 1,
                skip_static: false,
                on_error: OnError::default(),
                messages: Messages::default(),
                events: Events::default(),
                meta: MetaFlags::CUSTOM,
            }),
        }
    }
}

impl Settings {
    /// The model that these settings name.
    pub fn model_spec(&self) -> Result<ModelSpec> {
        let model = match self.model.as_deref().map(str::trim) {
            None | Some("") => bail!(
                "no model: set the property \"model\" to a checkpoint folder or file, such as \
                 model=./clip-vit-base-patch16"
            ),
            Some(model) => model.to_string(),
        };
        Ok(ModelSpec {
            model,
            method: MethodSpec {
                name: self.method.clone(),
                options: self.method_options.clone().unwrap_or_default(),
            },
            helper: self.helper_model.clone().filter(|helper| !helper.trim().is_empty()),
            device: self.device.parse()?,
            precision: self.precision.into(),
            positions: self.positions.into(),
        })
    }

    /// The prompts that these settings name; reads `prompts-file`.
    pub fn wish(&self) -> Result<Wish> {
        let background = self.background.as_deref().unwrap_or_default();
        let prompts = match (&self.prompts_file, &self.prompts) {
            (Some(file), _) => {
                let text = std::fs::read_to_string(file)
                    .with_context(|| format!("cannot read the prompts file {file}"))?;
                Prompts::parse_file_text(&text, background)
                    .with_context(|| format!("cannot use the prompts file {file}"))?
            }
            (None, Some(text)) => Prompts::parse(text, background)?,
            (None, None) if self.has_exemplars() => Prompts::parse_background(background)?,
            (None, None) => bail!(
                "no prompts: set the property \"prompts\" to what to look for, such as \
                 prompts=\"person; car, truck; sky\""
            ),
        };
        self.wish_for(prompts)
    }

    fn wish_for(&self, mut prompts: Prompts) -> Result<Wish> {
        prompts.thresholds = self.prompt_thresholds.as_deref().unwrap_or_default().parse()?;
        prompts.synonyms = self.synonyms.into();
        let templates = Templates::parse(&self.prompt_template)?;
        let descriptions = match (self.enrich, &self.descriptions) {
            (Enrich::None, _) => None,
            (Enrich::Tse, Some(file)) => Some(Arc::new(Descriptions::read(Path::new(file))?)),
            (Enrich::Tse, None) => {
                bail!("enrich=tse needs sentences: set the property \"descriptions\" to a file of them")
            }
        };
        let embeddings = self.embeddings.as_ref().map(PathBuf::from);
        let states = self.anomaly_states.as_deref().map(|file| States::read(Path::new(file))).transpose()?;
        let states = states.unwrap_or_default();
        Ok(Wish {
            prompts,
            templates,
            embeddings,
            descriptions,
            exemplars: self.exemplars()?,
            anomalies: self.anomalies()?,
            states,
            within: self.anomaly_within.clone(),
        })
    }

    /// Names separated by `;` or `,`, each once.
    fn anomalies(&self) -> Result<Vec<String>> {
        let written = self.anomaly.as_deref().unwrap_or_default();
        let mut names = Prompts::parse_background(written).context("in \"anomaly\"")?.background;
        let mut known = HashSet::new();
        names.retain(|name| known.insert(name.clone()));
        Ok(names)
    }

    fn has_exemplars(&self) -> bool {
        self.exemplars.is_some() || self.exemplars_file.is_some()
    }

    /// The classes by pictures that these settings name.
    fn exemplars(&self) -> Result<Option<Wanted>> {
        let source = match (&self.exemplars_file, &self.exemplars) {
            (Some(file), _) => Source::File(PathBuf::from(file)),
            (None, Some(text)) => Source::Pictures(text.parse().context("in \"exemplars\"")?),
            (None, None) => return Ok(None),
        };
        let options = ExemplarOptions {
            score: self.exemplar_score.into(),
            neighbours: self.exemplar_neighbours as usize,
        };
        Ok(Some(Wanted { source, options, size: self.policy.infer.input_size }))
    }

    /// Takes thresholds over if they can be read; `None` is none.
    pub fn set_prompt_thresholds(&mut self, text: Option<String>) -> Result<()> {
        text.as_deref().unwrap_or_default().parse::<Thresholds>()?;
        self.prompt_thresholds = text;
        Ok(())
    }

    /// The prompts of an event, with the templates (and the background, if the event names none) set here.
    pub fn wish_of_event(&self, prompts: &str, background: Option<&str>) -> Result<Wish> {
        let background = background.or(self.background.as_deref()).unwrap_or_default();
        self.wish_for(Prompts::parse(prompts, background)?)
    }
}

impl Policy {
    pub fn session_options(&self) -> SessionOptions {
        SessionOptions {
            batch_size: self.batch_size as usize,
            batch_timeout: self.batch_timeout,
            max_in_flight: self.max_in_flight as usize,
        }
    }

    /// Takes a window and a step over, if they fit each other; step 0 is half a window.
    pub fn set_window(&mut self, window: u32, stride: u32) -> Result<()> {
        let step = if stride == 0 { window.div_ceil(2) } else { stride };
        self.infer.window = Window::from_sizes(window as usize, step as usize)?;
        (self.window, self.stride) = (window, stride);
        Ok(())
    }

    /// Takes a context prior and its switches over, if there are such.
    pub fn set_prior(&mut self, weight: f64, options: Option<String>) -> Result<()> {
        self.infer.prior = Prior::parse(weight, options.as_deref().unwrap_or_default())?;
        self.context_options = options;
        Ok(())
    }

    /// Takes a refinement and its switches over, if there are such.
    pub fn set_refine(&mut self, refine: Refine, options: Option<String>) -> Result<()> {
        let name = match refine {
            Refine::None => "none",
            Refine::Pamr => "pamr",
            Refine::Tlp => "tlp",
        };
        self.infer.refine = model::Refine::parse(name, options.as_deref().unwrap_or_default())?;
        self.refine_options = options;
        Ok(())
    }

    /// What of it the machine decides by.
    pub fn rules(&self) -> Rules {
        Rules {
            late: match self.late {
                LatePolicy::Auto => Late::Auto,
                LatePolicy::Wait => Late::Wait,
                LatePolicy::Reuse => Late::Reuse,
                LatePolicy::Drop => Late::Drop,
            },
            interval: self.inference_interval.into(),
            batch_size: self.batch_size as usize,
            batch_timeout: self.batch_timeout,
            max_in_flight: self.max_in_flight as usize,
            latency: self.latency,
            failure_ends: self.on_error == OnError::Error,
        }
    }
}

// The enumerations of the properties and those of the model are two types each: the model knows no GObject.

impl From<MaskSize> for model::MaskSize {
    fn from(size: MaskSize) -> Self {
        match size {
            MaskSize::Grid => model::MaskSize::Grid,
            MaskSize::Model => model::MaskSize::Model,
            MaskSize::Frame => model::MaskSize::Frame,
        }
    }
}

impl From<model::MaskSize> for MaskSize {
    fn from(size: model::MaskSize) -> Self {
        match size {
            model::MaskSize::Grid => MaskSize::Grid,
            model::MaskSize::Model => MaskSize::Model,
            model::MaskSize::Frame => MaskSize::Frame,
        }
    }
}

impl From<Purify> for model::Purify {
    fn from(purify: Purify) -> Self {
        match purify {
            Purify::None => model::Purify::None,
            Purify::Full => model::Purify::Full,
        }
    }
}

impl From<model::Purify> for Purify {
    fn from(purify: model::Purify) -> Self {
        match purify {
            model::Purify::None => Purify::None,
            model::Purify::Full => Purify::Full,
        }
    }
}

impl From<model::Refine> for Refine {
    fn from(refine: model::Refine) -> Self {
        match refine {
            model::Refine::None => Refine::None,
            model::Refine::Pamr => Refine::Pamr,
            model::Refine::Tlp(_) => Refine::Tlp,
        }
    }
}

impl From<Synonyms> for model::Synonyms {
    fn from(synonyms: Synonyms) -> Self {
        match synonyms {
            Synonyms::Max => model::Synonyms::Max,
            Synonyms::Mean => model::Synonyms::Mean,
        }
    }
}

impl From<ExemplarScore> for model::ExemplarScore {
    fn from(score: ExemplarScore) -> Self {
        match score {
            ExemplarScore::Prototype => model::ExemplarScore::Prototype,
            ExemplarScore::Nearest => model::ExemplarScore::Nearest,
            ExemplarScore::Contrast => model::ExemplarScore::Contrast,
        }
    }
}

impl From<Absent> for model::Absent {
    fn from(absent: Absent) -> Self {
        match absent {
            Absent::Compete => model::Absent::Compete,
            Absent::Mute => model::Absent::Mute,
            Absent::Remove => model::Absent::Remove,
        }
    }
}

impl From<model::Absent> for Absent {
    fn from(absent: model::Absent) -> Self {
        match absent {
            model::Absent::Compete => Absent::Compete,
            model::Absent::Mute => Absent::Mute,
            model::Absent::Remove => Absent::Remove,
        }
    }
}

impl From<Evidence> for model::Evidence {
    fn from(evidence: Evidence) -> Self {
        match evidence {
            Evidence::Tags => model::Evidence::Tags,
            Evidence::Purify => model::Evidence::Purify,
            Evidence::Global => model::Evidence::Global,
        }
    }
}

impl From<model::Evidence> for Evidence {
    fn from(evidence: model::Evidence) -> Self {
        match evidence {
            model::Evidence::Tags => Evidence::Tags,
            model::Evidence::Purify => Evidence::Purify,
            model::Evidence::Global => Evidence::Global,
        }
    }
}

impl From<Positions> for model::Positions {
    fn from(positions: Positions) -> Self {
        match positions {
            Positions::Plain => model::Positions::Plain,
            Positions::Scale => model::Positions::Scale,
            Positions::Bilinear => model::Positions::Bilinear,
        }
    }
}

impl From<Precision> for PrecisionChoice {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::Auto => PrecisionChoice::Auto,
            Precision::F32 => PrecisionChoice::F32,
            Precision::Bf16 => PrecisionChoice::Bf16,
            Precision::F16 => PrecisionChoice::F16,
            Precision::Int8 => PrecisionChoice::Int8,
        }
    }
}
