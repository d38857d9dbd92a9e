// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclip exemplar`: example pictures to a file of classes, for elements and commands that then need no pictures.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use gstgclip::gallery::Gallery;
use gstgclip::model::exemplars::Examples;
use gstgclip::model::{InputSize, Picture};

use crate::model_args::ModelArgs;
use crate::say::say;

#[derive(clap::Args)]
pub struct Args {
    /// Classes by pictures: `label=picture[#x,y,w,h][@mask.png],...;label=...`. The box is in shares of the picture, a mask is the
    /// object where it is above 127; without both all of the picture is.
    #[arg(value_name = "LABEL=PICTURE,...")]
    exemplars: Examples,
    /// Short side in pixels, `model` (the checkpoint's own) or `native` (no resize): as the stream is looked at.
    #[arg(long, default_value_t)]
    size: InputSize,
    /// File to write: safetensors with `positives.k` [n, dim], `places.k` [n, 3] and `negatives.k` [m, dim] of class k.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
}

pub fn run(args: &Args) -> Result<()> {
    let model = args.model.load()?;
    let start = Instant::now();
    let mut look = |picture: &Picture, size| model.vision.describe(picture, size);
    let exemplars = Gallery::default().gather(&args.exemplars, args.size, &model.info, &mut look)?;
    exemplars.save(&args.out)?;
    for class in &exemplars.classes {
        say!(
            "{}: {} patches of {} pictures, {} around them",
            class.label,
            class.places.len(),
            class.pictures(),
            class.negatives.len() / exemplars.dim
        );
    }
    say!("{} in {:.2} s, for {}", args.out.display(), start.elapsed().as_secs_f64(), model.info.method);
    Ok(())
}
