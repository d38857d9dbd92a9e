// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclip text`: prompts to a file of text embeddings, for checkpoints without a text tower and for other programs.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use gstgclip::model::embeddings::Embeddings;
use gstgclip::model::{Descriptions, Templates};

use crate::model_args::{ModelArgs, encode, tell_doubts};
use crate::say::say;
use crate::segment::PromptArgs;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    prompts: PromptArgs,
    /// Names that compete for pixels and come out as 0, separated by `,`.
    #[arg(long, default_value = "")]
    background: String,
    /// imagenet (the 80 of CLIP), none, one sentence with {}, or a file of them.
    #[arg(long, default_value = "imagenet")]
    template: String,
    /// JSON file of sentences about the classes, `{"name": ["sentence", ...]}`, whose attributes they take up (ExCEL).
    #[arg(long, value_name = "FILE")]
    descriptions: Option<PathBuf>,
    /// File to write: safetensors with `features` [queries, dim] and `query_class` [queries].
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
}

pub fn run(args: &Args) -> Result<()> {
    let prompts = args.prompts.parse(&args.background)?;
    let templates = Templates::parse(&args.template)?;
    tell_doubts(&prompts);
    let descriptions = args.descriptions.as_deref().map(Descriptions::read).transpose()?;
    let model = args.model.load()?;
    let text =
        model.text.with_context(|| format!("{} has no text tower to encode with", args.model.model))?;
    let start = Instant::now();
    let (vocabulary, encoded) = encode(&model.info, Some(text), &templates, &prompts, descriptions.as_ref())?;
    Embeddings::new(&model.info.vision_hash, &templates.id(), &prompts, &vocabulary)?.save(&args.out)?;
    say!(
        "{} names of {} classes, {} wide, in {:.2} s ({encoded} encoded, the others cached)",
        vocabulary.queries(),
        vocabulary.labels.len(),
        vocabulary.dim,
        start.elapsed().as_secs_f64()
    );
    say!("wrote {}", args.out.display());
    Ok(())
}
