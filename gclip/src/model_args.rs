// SPDX-License-Identifier: MIT OR Apache-2.0
//! The arguments that every subcommand with a model shares, and how they become a model with a vocabulary.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use gstgclip::gallery::{Gallery, Source, Wanted};
use gstgclip::model::embeddings::{EmbeddingCache, Embeddings};
use gstgclip::model::exemplars::Examples;
use gstgclip::model::{
    Absent, DecodeOptions, Descriptions, DeviceChoice, Evidence, ExemplarOptions, ExemplarScore, Gate,
    InferOptions, InputSize, MethodSpec, Model, ModelInfo, ModelSpec, Picture, Positions, PrecisionChoice,
    Prior, Prompts, Purify, Refine, Segmenter, Synonyms, Templates, TextEncoder, Thresholds, Vocabulary,
    Window,
};

use crate::say::complain;

#[derive(clap::Args)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    /// Checkpoint folder or file, or a Hugging Face id that is in the local cache (see `gclip pull`).
    #[arg(long)]
    pub model: String,
    /// What to do in the last block.
    #[arg(long, default_value_t = MethodSpec::default().name, value_name = "NAME")]
    pub method: String,
    /// Switches of the method, such as `fuse=6+7,suppress=7-10`.
    #[arg(long, default_value = "", value_name = "KEY=VALUE,...")]
    pub method_options: String,
    /// A DINO or DINOv2 model in Hugging Face's format, folder or id, for methods that read one beside CLIP (proxyclip).
    #[arg(long, value_name = "MODEL")]
    pub helper_model: Option<String>,
    /// Interpolation of the position embeddings for other sizes: plain, scale (as the SCLIP family does) or bilinear (as TagCLIP does).
    #[arg(long, default_value_t)]
    pub positions: Positions,
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, default_value_t)]
    pub device: DeviceChoice,
    /// auto, f32, bf16, f16 or int8.
    #[arg(long, default_value_t)]
    pub precision: PrecisionChoice,
    /// CPU threads of the model; all cores when not given.
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..=1024))]
    pub threads: Option<i32>,
}

#[derive(clap::Args)]
#[command(next_help_heading = "Prompts")]
pub struct WordArgs {
    /// Names that compete for pixels and come out as 0, separated by `,`.
    #[arg(long, default_value = "")]
    pub background: String,
    /// Thresholds of single classes over --threshold, as `person=0.4, car=0.3`.
    #[arg(long, default_value_t, value_name = "LABEL=SHARE,...")]
    pub prompt_thresholds: Thresholds,
    /// What the names of a class are to each other: max (the best one counts) or mean (one query, their mean).
    #[arg(long, default_value_t)]
    pub synonyms: Synonyms,
    #[command(flatten)]
    pub pictures: PictureArgs,
    /// imagenet (the 80 of CLIP), none, one sentence with {}, or a file of them.
    #[arg(long, default_value = "imagenet")]
    pub template: String,
    /// Text embeddings made by `gclip text`; a checkpoint without a text tower needs them.
    #[arg(long, value_name = "FILE")]
    pub embeddings: Option<PathBuf>,
    /// JSON file of sentences about the classes, `{"name": ["sentence", ...]}`, whose attributes they take up (ExCEL).
    #[arg(long, value_name = "FILE", conflicts_with = "embeddings")]
    pub descriptions: Option<PathBuf>,
}

/// Classes by example pictures.
#[derive(clap::Args)]
pub struct PictureArgs {
    /// Classes by pictures, beside those of the prompts: `label=picture[#x,y,w,h][@mask.png],...;label=...`. The box is in shares of
    /// the picture, a mask is the object where it is above 127. A label that is a prompt's too joins it; with `--prompts ""` there
    /// are no words.
    #[arg(long, value_name = "LABEL=PICTURE,...", conflicts_with = "exemplars_file")]
    pub exemplars: Option<Examples>,
    /// The same from a file that `gclip exemplar` has made with this model and method.
    #[arg(long, value_name = "FILE")]
    pub exemplars_file: Option<PathBuf>,
    /// prototype (their mean), nearest (their nearest patches) or contrast (against the nearest ones around the object).
    #[arg(long, default_value_t)]
    pub exemplar_score: ExemplarScore,
    /// Patches that count, of nearest and contrast.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1024), value_name = "N")]
    pub exemplar_neighbours: u16,
}

impl PictureArgs {
    /// `size` is the one in which pictures are looked at.
    pub fn wanted(&self, size: InputSize) -> Option<Wanted> {
        let source = match (&self.exemplars_file, &self.exemplars) {
            (Some(file), _) => Source::File(file.clone()),
            (None, Some(examples)) => Source::Pictures(examples.clone()),
            (None, None) => return None,
        };
        let options =
            ExemplarOptions { score: self.exemplar_score, neighbours: self.exemplar_neighbours.into() };
        Some(Wanted { source, options, size })
    }
}

#[derive(clap::Args)]
#[command(next_help_heading = "Looking")]
pub struct LookArgs {
    /// Short side in pixels, `model` (the checkpoint's own) or `native` (no resize).
    #[arg(long, default_value_t)]
    pub size: InputSize,
    /// Side of sliding windows in pixels; 0 looks at the whole picture at once.
    #[arg(long, default_value_t = 0)]
    pub window: usize,
    /// Step between windows; half a window when not given.
    #[arg(long)]
    pub stride: Option<usize>,
    /// Share of what the whole picture says in the cosines of each patch; 0 is off.
    #[arg(long, default_value_t = Prior::default().weight)]
    pub context_prior: f64,
    /// Switches of the context prior, such as `nudge=0.04,cut=0.1`.
    #[arg(long, default_value = "", value_name = "KEY=VALUE,...")]
    pub context_options: String,
    /// none, or full: classes that are not in the picture are found and taken out of it (FreeCP).
    #[arg(long, default_value_t)]
    pub purify: Purify,
    /// none, pamr or tlp: edges follow the picture's own, by the pixel or on a coarse grid.
    #[arg(long, default_value_t)]
    pub refine: Refine,
    /// Switches of the refinement; of tlp: `grid=80,iterations=25,scaled=off`.
    #[arg(long, default_value = "", value_name = "KEY=VALUE,...")]
    pub refine_options: String,
    /// Pixels whose winning probability is below this come out as 0.
    #[arg(long, default_value_t = DecodeOptions::default().threshold)]
    pub threshold: f64,
    /// Pixels whose best cosine is below this come out as 0: they are nothing that was asked for. -1 is off; what suits
    /// depends on the checkpoint, the method and the template.
    #[arg(long, default_value_t = DecodeOptions::default().unknown_cosine, allow_negative_numbers = true)]
    pub unknown_cosine: f64,
    /// Pixels whose best cosine is less than this above that of the next class come out as 0; 0 is off.
    #[arg(long, default_value_t = DecodeOptions::default().unknown_margin)]
    pub unknown_margin: f64,
    /// Cosines are multiplied by this before the softmax.
    #[arg(long, default_value_t = DecodeOptions::default().logit_scale)]
    pub logit_scale: f64,
    /// Classes that win less than this share of all foreground pixels are left out.
    #[arg(long, default_value_t = DecodeOptions::default().min_area)]
    pub min_area: f64,
}

/// What becomes of classes that a picture does not show.
#[derive(clap::Args)]
pub struct GateArgs {
    /// Classes that are not in a picture compete all the same, are muted (their pixels become 0) or removed (others win them).
    #[arg(long, default_value_t, value_name = "compete|mute|remove")]
    pub absent: Absent,
    /// By what that is judged: tags (TagCLIP, one more forward), purify (FreeCP, one more forward) or global (the cosine of the whole picture).
    #[arg(long, default_value_t, value_name = "tags|purify|global")]
    pub absent_evidence: Evidence,
    /// Evidence from which on a class is there; as the evidence suits when not given.
    #[arg(long)]
    pub gate_enter: Option<f64>,
}

impl GateArgs {
    /// Each picture by itself.
    pub fn gate(&self) -> Result<Gate> {
        let enter = self.gate_enter.map(|enter| within("gate-enter", enter, -1.0, 1.0)).transpose()?;
        Ok(Gate { absent: self.absent, evidence: self.absent_evidence, enter, ..Gate::default() })
    }
}

impl ModelArgs {
    pub fn spec(&self) -> ModelSpec {
        ModelSpec {
            model: self.model.clone(),
            method: MethodSpec { name: self.method.clone(), options: self.method_options.clone() },
            helper: self.helper_model.clone(),
            device: self.device,
            precision: self.precision,
            positions: self.positions,
        }
    }

    pub fn load(&self) -> Result<Model> {
        if let Some(threads) = self.threads {
            tch::set_num_threads(threads);
        }
        Model::load(&self.spec())
    }
}

impl LookArgs {
    /// The options with masks of the picture's own size.
    pub fn options(&self) -> Result<InferOptions> {
        let decode = DecodeOptions {
            threshold: share("threshold", self.threshold)?,
            unknown_cosine: within("unknown-cosine", self.unknown_cosine, -1.0, 1.0)?,
            unknown_margin: within("unknown-margin", self.unknown_margin, 0.0, 2.0)?,
            logit_scale: self.logit_scale,
            min_area: share("min-area", self.min_area)?,
            histograms: false,
            mask_size: gstgclip::model::MaskSize::Frame,
        };
        if !(self.logit_scale.is_finite() && self.logit_scale > 0.0) {
            bail!("--logit-scale is {}; it must be above 0", self.logit_scale);
        }
        let stride = self.stride.unwrap_or(self.window.div_ceil(2));
        let window = Window::from_sizes(self.window, stride)?;
        Ok(InferOptions {
            input_size: self.size,
            window,
            prior: Prior::parse(share("context-prior", self.context_prior)?, &self.context_options)?,
            purify: self.purify,
            refine: Refine::parse(&self.refine.to_string(), &self.refine_options)?,
            decode,
            ..InferOptions::default()
        })
    }
}

fn share(name: &str, value: f64) -> Result<f64> {
    within(name, value, 0.0, 1.0)
}

fn within(name: &str, value: f64, least: f64, most: f64) -> Result<f64> {
    if !(least..=most).contains(&value) {
        bail!("--{name} is {value}; it must be from {least} to {most}");
    }
    Ok(value)
}

impl WordArgs {
    /// The prompts with what is said about them here. What of them will not do what it says is told.
    pub fn complete(&self, prompts: &Prompts) -> Prompts {
        let thresholds = self.prompt_thresholds.clone();
        let prompts = Prompts { thresholds, synonyms: self.synonyms, ..prompts.clone() };
        tell_doubts(&prompts);
        prompts
    }
}

/// Says what of the prompts will not do what it says.
pub fn tell_doubts(prompts: &Prompts) {
    prompts.doubts().iter().for_each(|doubt| complain!("gclip: note: {doubt}"));
}

/// A model that knows what to look for.
pub struct Ready {
    pub info: ModelInfo,
    pub vision: Segmenter,
    pub vocabulary: Arc<Vocabulary>,
    /// Names that had to be encoded; the others came from the cache or the embeddings file.
    pub encoded: u64,
}

impl Ready {
    /// `size` is the one in which example pictures are looked at.
    pub fn load(model: &ModelArgs, words: &WordArgs, prompts: &Prompts, size: InputSize) -> Result<Ready> {
        // What is cheap to check comes before the checkpoint is read.
        let templates = Templates::parse(&words.template)?;
        let prompts = &words.complete(prompts);
        let descriptions = words.descriptions.as_deref().map(Descriptions::read).transpose()?;
        let Model { info, vision, text } = model.load()?;
        let (mut vocabulary, encoded) = match &words.embeddings {
            _ if prompts.names_nothing() => (Vocabulary { dim: info.embed_dim, ..Vocabulary::default() }, 0),
            Some(file) => {
                let embeddings = Embeddings::load(file, &info.vision_hash, info.embed_dim)?;
                let vocabulary = embeddings
                    .select(prompts)
                    .with_context(|| format!("cannot use the embeddings in {}", file.display()))?;
                (vocabulary, 0)
            }
            None => encode(&info, text, &templates, prompts, descriptions.as_ref())?,
        };
        if let Some(wanted) = words.pictures.wanted(size) {
            let mut look = |picture: &Picture, size| vision.describe(picture, size);
            let exemplars = Gallery::default().exemplars(&wanted, &info, &mut look)?;
            vocabulary = exemplars.join(&vocabulary, &prompts.thresholds, wanted.options)?;
        }
        if let Some(useless) = vocabulary.useless_thresholds(&prompts.thresholds).first() {
            bail!("--prompt-thresholds: {useless}");
        }
        Ok(Ready { info, vision, vocabulary: Arc::new(vocabulary), encoded })
    }
}

/// Encodes prompts, by way of the cache; also how many names the cache did not have.
pub fn encode(
    info: &ModelInfo,
    text: Option<TextEncoder>,
    templates: &Templates,
    prompts: &Prompts,
    descriptions: Option<&Descriptions>,
) -> Result<(Vocabulary, u64)> {
    let mut text = text.context(
        "the model has no text tower: give --embeddings FILE, made by `gclip text` with the whole model",
    )?;
    let cache = EmbeddingCache::shared();
    let mut features = |names: &[String], templates: &Templates| {
        cache.features(&info.hash, templates, info.embed_dim, names, &mut |texts| text.encode(texts))
    };
    let mut vocabulary = Vocabulary::from_names(prompts, info.embed_dim, |names| features(names, templates))?;
    if let Some(descriptions) = descriptions {
        let sentences = |sentences: &[String]| features(sentences, &Templates::None);
        descriptions.enrich(&mut vocabulary, prompts, sentences)?;
    }
    if let Some(warning) = cache.take_warning() {
        complain!("gclip: {warning}");
    }
    Ok((vocabulary, cache.counters().misses))
}
