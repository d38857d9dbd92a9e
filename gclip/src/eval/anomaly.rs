// SPDX-License-Identifier: MIT OR Apache-2.0
//! Anomalies against pictures in which they are marked: AUROC of pictures and pixels, and PRO.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gstgclip::model::anomaly::{Normal, Pair, States};
use gstgclip::model::embeddings::EmbeddingCache;
use gstgclip::model::{AnomalyMap, AnomalyScore, Model};
use gstgclip::picture;
use serde::Serialize;
use tch::Tensor;

use super::Args;
use super::curve::Curve;
use super::images;
use super::labels::LabelRules;
use super::pairs::{self, Pairs};
use super::report::{percent, write_json};
use crate::progress;
use crate::say::say;

#[derive(clap::Args)]
pub struct AnomalyArgs {
    /// Measure how damaged things look instead of what they are: the name of the thing. Labels are 0 where it is sound.
    #[arg(long, value_name = "NAME", requires = "images", requires = "labels", conflicts_with = "video")]
    anomaly: Option<String>,
    /// Pictures of sound things to compare with, or a folder of them.
    #[arg(long, value_name = "PATH", requires = "anomaly")]
    anomaly_normal: Vec<PathBuf>,
    /// By the sentences of sound and damaged things, by the pictures of sound ones, or by both; what there is when not given.
    #[arg(long, value_enum, requires = "anomaly")]
    anomaly_by: Option<By>,
    /// dense (the method's patches) or windows (WinCLIP's, each seen alone; about ten times the work).
    #[arg(long, default_value_t, requires = "anomaly", value_name = "dense|windows")]
    anomaly_score: AnomalyScore,
    /// File of sentences with {}, below the headings [normal] and [abnormal].
    #[arg(long, value_name = "FILE", requires = "anomaly")]
    anomaly_states: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum By {
    Words,
    Pictures,
    Both,
}

/// Shares from 0 to 1; `null` where there was nothing to measure.
#[derive(Serialize)]
struct Report {
    picture_auroc: Option<f64>,
    pixel_auroc: Option<f64>,
    pro: Option<f64>,
    pictures: usize,
    abnormal_pictures: usize,
    /// Of sound things, that were compared with.
    normal_pictures: usize,
    frames_per_second: f64,
    method: String,
}

impl AnomalyArgs {
    pub fn is_wanted(&self) -> bool {
        self.anomaly.is_some()
    }
}

pub fn run(args: &Args, images: &Path, labels: &Path) -> Result<()> {
    let wanted = &args.anomaly;
    let name = wanted.anomaly.as_deref().unwrap_or_default().trim();
    ensure!(!name.is_empty(), "--anomaly is empty: give the name of the thing");
    let by = wanted.anomaly_by.unwrap_or(if wanted.anomaly_normal.is_empty() { By::Words } else { By::Both });
    ensure!(
        by == By::Words || !wanted.anomaly_normal.is_empty(),
        "there are no pictures of sound things: give them with --anomaly-normal"
    );
    let states = wanted.anomaly_states.as_deref().map(States::read).transpose()?.unwrap_or_default();
    let only = args.list.as_deref().map(pairs::read_list).transpose()?;
    let Pairs { mut pairs, .. } = pairs::find(images, labels, only.as_ref())?;
    pairs.truncate(args.limit.unwrap_or(usize::MAX));

    let Model { info, vision, text } = args.model.load()?;
    let pair = match by {
        By::Pictures => None,
        By::Words | By::Both => {
            let mut text = text.context("the model has no text tower: compare by pictures alone")?;
            let (cache, names) = (EmbeddingCache::shared(), [name.to_string()]);
            Some(Pair::new(&states, |templates| {
                cache.features(&info.hash, templates, info.embed_dim, &names, &mut |texts| text.encode(texts))
            })?)
        }
    };
    let size = args.look.size;
    let mut normal = Normal::new(wanted.anomaly_score);
    let mut sound = 0;
    if by != By::Words {
        for path in pictures(&wanted.anomaly_normal)? {
            let image = images::read(&path)?;
            vision.learn(&mut normal, &picture::for_model(&image)?, size)?;
            sound += 1;
        }
    }
    let normal = (by != By::Words).then_some(&normal);

    let (mut by_picture, mut by_pixel) = (Curve::default(), Curve::default());
    let (mut abnormal_pictures, mut time) = (0, Duration::ZERO);
    let rules =
        LabelRules { ignore: Vec::new(), reduce_zero: false, colours: None, classes: usize::from(u16::MAX) };
    let bar = progress::counter(pairs.len())?;
    for pair_of_files in &pairs {
        let image = images::read(&pair_of_files.picture)?;
        let truth = rules.read(&pair_of_files.labels)?;
        let is_abnormal: Vec<bool> = truth.classes.iter().map(|&value| value != 0).collect();
        let start = Instant::now();
        let map = vision
            .anomalies(&picture::for_model(&image)?, size, wanted.anomaly_score, pair.as_ref(), normal)
            .with_context(|| format!("cannot look at {}", pair_of_files.picture.display()))?;
        time += start.elapsed();
        let any = is_abnormal.contains(&true);
        abnormal_pictures += usize::from(any);
        by_picture.add(map.score as f32, any);
        by_pixel.add_picture(&full_size(&map, (truth.width, truth.height))?, &is_abnormal, truth.width);
        bar.inc(1);
    }
    bar.finish_and_clear();

    let report = Report {
        picture_auroc: by_picture.auroc(),
        pixel_auroc: by_pixel.auroc(),
        pro: by_pixel.pro(),
        pictures: pairs.len(),
        abnormal_pictures,
        normal_pictures: sound,
        frames_per_second: pairs.len() as f64 / time.as_secs_f64().max(1e-9),
        method: info.method,
    };
    for (what, value) in [
        ("AUROC of pictures", report.picture_auroc),
        ("AUROC of pixels", report.pixel_auroc),
        ("PRO, up to 30 % false", report.pro),
    ] {
        say!("{what:<24} {:>8}", percent(value));
    }
    say!(
        "\n{} pictures, {abnormal_pictures} of them with an anomaly; {sound} of sound things to compare with; {:.2} a second",
        report.pictures,
        report.frames_per_second
    );
    args.json.as_deref().map_or(Ok(()), |path| write_json(&report, path))
}

/// Files, and those of folders.
fn pictures(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for path in paths {
        if path.is_dir() {
            let files = super::files_below(path, &["png", "jpg", "jpeg"])?;
            ensure!(!files.is_empty(), "the folder {} holds no PNG or JPEG picture", path.display());
            all.extend(files.into_iter().map(|file| path.join(file)));
        } else {
            all.push(path.clone());
        }
    }
    Ok(all)
}

/// Bilinear, between the centres of the patches; `size` is width and height.
fn full_size(map: &AnomalyMap, (width, height): (usize, usize)) -> Result<Vec<f32>> {
    let grid = Tensor::f_from_slice(&map.values)?.f_reshape([1, 1, map.rows as i64, map.columns as i64])?;
    let full = grid.f_upsample_bilinear2d([height as i64, width as i64], false, None, None)?;
    Ok(Vec::try_from(&full.f_flatten(0, -1)?.f_contiguous()?)?)
}
