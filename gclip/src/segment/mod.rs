// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclip segment`: pictures to masks, overlays, JSON and logits.

mod coco;
mod inputs;
mod logits;
mod mask;
pub mod paint;
mod record;

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use gstgclip::model::{InferOptions, Prompts, Request};
use gstgclip::picture::{self, Opened, Turn};

use crate::model_args::{GateArgs, LookArgs, ModelArgs, Ready, WordArgs};
use crate::say::{complain, say};
use crate::{output, progress};
use inputs::{Input, Target};
pub use record::Record;

#[derive(clap::Args)]
pub struct Args {
    /// PNG and JPEG files, or folders of them (names that begin with a dot are left out). They are turned as their EXIF
    /// orientation says.
    #[arg(required = true)]
    pictures: Vec<PathBuf>,
    #[command(flatten)]
    prompts: PromptArgs,
    /// Write the masks as PNG: pixel value n is the nth class, 0 nothing (palette up to 255 classes, else 16-bit grey).
    #[arg(long, value_name = "FILE|FOLDER", help_heading = "Results")]
    mask: Option<PathBuf>,
    /// Write the pictures tinted with their masks, with a legend, as PNG.
    #[arg(long, value_name = "FILE|FOLDER", help_heading = "Results")]
    overlay: Option<PathBuf>,
    /// Strength of the tint, 0 to 1.
    #[arg(long, default_value_t = 0.5, help_heading = "Results")]
    opacity: f64,
    /// Write one JSON object a picture, one a line; `-` is standard output.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    json: Option<PathBuf>,
    /// Put the masks into the JSON, in COCO's run-length encoding.
    #[arg(long, requires = "json", help_heading = "Results")]
    rle: bool,
    /// Write all that was found as one COCO data set, with run-length masks.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    coco: Option<PathBuf>,
    /// Score how sure it is that each class is in the picture at all (TagCLIP), into the table and the JSON; the
    /// published way looks with --size native.
    #[arg(long, help_heading = "Results")]
    tags: bool,
    /// Write the cosine of every patch with every query, safetensors `logits` [queries, h, w] and `query_class`
    /// [queries]; every pixel with --window.
    #[arg(long, value_name = "FILE|FOLDER", help_heading = "Results")]
    logits: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    words: WordArgs,
    #[command(flatten)]
    look: LookArgs,
    #[command(flatten)]
    gate: GateArgs,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub struct PromptArgs {
    /// What to look for: classes separated by `;`, synonyms by `,`. Or `@FILE`, one class a line.
    #[arg(long)]
    prompts: Option<String>,
    /// A file of classes, one a line, synonyms after commas.
    #[arg(long, value_name = "FILE")]
    prompts_file: Option<PathBuf>,
}

/// Prompts as they are typed, or `@FILE`.
pub fn prompts(typed: &str, background: &str) -> Result<Prompts> {
    PromptArgs { prompts: Some(typed.into()), prompts_file: None }.parse(background)
}

impl PromptArgs {
    /// As [`parse`](Self::parse); with classes by pictures there need be no words.
    fn parse_beside(&self, words: &WordArgs) -> Result<Prompts> {
        let has_pictures = words.pictures.exemplars.is_some() || words.pictures.exemplars_file.is_some();
        match &self.prompts {
            Some(typed) if typed.trim().is_empty() && has_pictures => {
                Prompts::parse_background(&words.background)
            }
            _ => self.parse(&words.background),
        }
    }

    pub fn parse(&self, background: &str) -> Result<Prompts> {
        let typed = self.prompts.as_deref().unwrap_or_default();
        let file = self.prompts_file.clone().or_else(|| typed.strip_prefix('@').map(PathBuf::from));
        let Some(file) = file else { return Prompts::parse(typed, background) };
        let name = file.display();
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("cannot read the prompts file {name}"))?;
        let prompts = Prompts::parse_file_text(&text, background)
            .with_context(|| format!("cannot use the prompts file {name}"))?;
        let lines = text.lines().filter(|line| !line.trim().is_empty()).count();
        if let Some(line) = Prompts::first_shared_line(&text).filter(|_| lines > 1) {
            complain!(
                "gclip: note: line {line} of {name} holds several classes, as `;` separates classes; synonyms are \
                 separated by commas ({} classes in all)",
                prompts.classes.len()
            );
        }
        Ok(prompts)
    }
}

/// Where each kind of result goes.
struct Targets {
    mask: Option<Target>,
    overlay: Option<Target>,
    logits: Option<Target>,
}

pub fn run(args: &Args) -> Result<()> {
    if !(0.0..=1.0).contains(&args.opacity) {
        bail!("--opacity is {}; it must be from 0 to 1", args.opacity);
    }
    let prompts = args.prompts.parse_beside(&args.words)?;
    let options = InferOptions { tags: args.tags, gate: args.gate.gate()?, ..args.look.options()? };
    let (inputs, many) = inputs::collect(&args.pictures)?;
    let target = |path: &Option<PathBuf>| path.as_ref().map(|path| Target::new(path, many)).transpose();
    let targets =
        Targets { mask: target(&args.mask)?, overlay: target(&args.overlay)?, logits: target(&args.logits)? };

    let to_stdout = args.json.as_deref().is_some_and(|path| path.as_os_str() == "-");
    for path in args.json.iter().filter(|_| !to_stdout).chain(&args.coco) {
        inputs::check_folder_of(path)?;
    }

    let start = Instant::now();
    let mut ready = Ready::load(&args.model, &args.words, &prompts, args.look.size)?;
    let loading = start.elapsed();

    let bar = progress::counter(inputs.len())?;
    let (mut lines, mut dataset, mut failures) = (Vec::new(), coco::Dataset::default(), 0);
    let start = Instant::now();
    for input in &inputs {
        match one(args, input, &mut ready, &prompts, &options, &targets, &mut dataset) {
            Ok(record) if to_stdout => writeln!(std::io::stdout(), "{}", record.to_line()?)?,
            Ok(record) => {
                if many {
                    bar.suspend(|| say!("{}", record.summary()));
                } else {
                    record.print_table();
                }
                lines.push(record.to_line()?);
            }
            Err(error) if many => {
                failures += 1;
                bar.suspend(|| complain!("gclip: {error:#}"));
            }
            Err(error) => return Err(error),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if let Some(path) = args.json.as_ref().filter(|_| !to_stdout) {
        output::write(path, |file| lines.iter().try_for_each(|line| Ok(writeln!(file, "{line}")?)))?;
    }
    if let Some(path) = &args.coco {
        output::write(path, |file| dataset.write(&ready.vocabulary.labels, file))?;
    }
    if !to_stdout {
        say!(
            "\nloaded in {:.2} s ({} prompt names encoded, the others cached); {} pictures in {:.2} s",
            loading.as_secs_f64(),
            ready.encoded,
            inputs.len() - failures,
            start.elapsed().as_secs_f64()
        );
        say!("{} on {} in {}", ready.info.method, ready.info.device, ready.info.precision);
    }
    if failures > 0 {
        bail!("{failures} of {} pictures failed", inputs.len());
    }
    Ok(())
}

/// Segments one picture and writes what was asked for.
fn one(
    args: &Args,
    input: &Input,
    ready: &mut Ready,
    prompts: &Prompts,
    options: &InferOptions,
    targets: &Targets,
    dataset: &mut coco::Dataset,
) -> Result<Record> {
    let Opened { image, doubt } = picture::read(&input.path, Turn::AsShown)?;
    if let Some(doubt) = doubt {
        complain!("gclip: {}: {doubt}", input.path.display());
    }
    let requests = [Request {
        picture: picture::for_model(&image)?,
        vocabulary: ready.vocabulary.clone(),
        options: options.clone(),
    }];
    let segmenting = || format!("cannot segment {}", input.path.display());
    let (mut answers, times) = ready.vision.infer(&requests).with_context(segmenting)?;
    let answer = answers.pop().with_context(segmenting)?;
    if let Some(target) = &targets.mask {
        mask::write(&target.file(input, "png")?, &answer)?;
    }
    if let Some(target) = &targets.overlay {
        let painted = paint::paint(&image, &answer, args.opacity)?;
        output::write(&target.file(input, "png")?, |file| painted.write_png(file))?;
    }
    if let Some(target) = &targets.logits {
        logits::write(&target.file(input, "safetensors")?, ready, &requests[0]).with_context(segmenting)?;
    }
    if args.coco.is_some() {
        dataset.add(input, &image, &answer);
    }
    let path = input.path.display().to_string();
    Ok(Record::new(path, &image, answer, Some(times), prompts, &ready.info, args.rle))
}
