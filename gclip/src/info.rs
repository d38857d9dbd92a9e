// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclip info`: what a checkpoint is, what it lacks, and what the method resolves to on it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::Result;
use gstgclip::model::config::Transformer;
use gstgclip::model::weights::{Files, PREPROCESSORS, locate};
use gstgclip::model::{DeviceChoice, MethodSpec, Model, ModelInfo, ModelSpec, Positions, PrecisionChoice};
use serde::Serialize;

use crate::say::say;

#[derive(clap::Args)]
pub struct Args {
    /// Checkpoint folder or file, or a Hugging Face id that is in the local cache.
    model: String,
    /// The method whose options are resolved, such as the blocks that `fuse=auto` finds.
    #[arg(long, default_value_t = MethodSpec::default().name, value_name = "NAME")]
    method: String,
    #[arg(long, default_value = "", value_name = "KEY=VALUE,...")]
    method_options: String,
    /// A DINO or DINOv2 model, for methods that read one beside CLIP.
    #[arg(long, value_name = "MODEL")]
    helper_model: Option<String>,
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, default_value_t)]
    device: DeviceChoice,
    /// auto, f32, bf16, f16 or int8.
    #[arg(long, default_value_t)]
    precision: PrecisionChoice,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    model: String,
    format: &'static str,
    folder: String,
    /// Whose network it is: CLIP, SigLIP or TIPSv2.
    network: &'static str,
    hash: String,
    /// Numbers in the file, by format.
    stored: BTreeMap<String, u64>,
    embed_dim: i64,
    image_size: usize,
    patch_size: i64,
    grid: (i64, i64),
    logit_scale: Option<f64>,
    vision: Tower,
    text: Option<TextTower>,
    method: String,
    device: String,
    precision: String,
    /// With precision int8.
    #[serde(skip_serializing_if = "Option::is_none")]
    int8: Option<Int8>,
    /// What the checkpoint lacks, and what takes its place.
    missing: Vec<String>,
}

#[derive(Serialize)]
struct Tower {
    width: i64,
    layers: i64,
    heads: i64,
    mlp_width: i64,
    activation: String,
    layer_norm_eps: f64,
}

#[derive(Serialize)]
struct Int8 {
    /// Blocks in 8 bits, counted from 0.
    blocks: Vec<usize>,
    /// Blocks before the last that lose too much in 8 bits.
    kept_out: Vec<usize>,
    /// The number format of all others.
    others: String,
}

impl Int8 {
    fn new(blocks: &[usize], layers: i64, others: &str) -> Int8 {
        let before_last = 0..(layers - 1).max(0) as usize;
        Int8 {
            blocks: blocks.to_vec(),
            kept_out: before_last.filter(|block| !blocks.contains(block)).collect(),
            others: others.to_owned(),
        }
    }

    fn text(&self) -> String {
        let list = |blocks: &[usize]| match blocks {
            [] => "none".to_owned(),
            blocks => blocks.iter().map(usize::to_string).collect::<Vec<_>>().join(", "),
        };
        let blocks = format!("blocks {}; the last in {}", list(&self.blocks), self.others);
        match &self.kept_out[..] {
            [] => blocks,
            kept_out => format!("{blocks}, and so {}, which lose too much in 8 bits", list(kept_out)),
        }
    }
}

#[derive(Serialize)]
struct TextTower {
    #[serde(flatten)]
    tower: Tower,
    context_length: i64,
    vocab_size: i64,
}

impl Tower {
    fn new(transformer: &Transformer) -> Tower {
        Tower {
            width: transformer.width,
            layers: transformer.layers,
            heads: transformer.heads,
            mlp_width: transformer.mlp_width,
            activation: format!("{:?}", transformer.activation),
            layer_norm_eps: transformer.eps,
        }
    }

    fn text(&self) -> String {
        format!(
            "width {}, {} layers, {} heads, MLP {}, {}, eps {:e}",
            self.width, self.layers, self.heads, self.mlp_width, self.activation, self.layer_norm_eps
        )
    }
}

pub fn run(args: &Args) -> Result<()> {
    let files = locate(&args.model)?;
    let spec = ModelSpec {
        model: args.model.clone(),
        method: MethodSpec { name: args.method.clone(), options: args.method_options.clone() },
        helper: args.helper_model.clone(),
        device: args.device,
        precision: args.precision,
        positions: Positions::default(),
    };
    let info = Model::load(&spec)?.info;
    let report = Report::new(&args.model, &files, info);
    if args.json {
        say!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        report.print();
    }
    Ok(())
}

impl Report {
    fn new(model: &str, files: &Files, info: ModelInfo) -> Report {
        let architecture = info.architecture;
        let vision = architecture.vision;
        Report {
            model: model.to_string(),
            format: match files {
                Files::HuggingFace { .. } => "Hugging Face",
                Files::OpenClip { .. } => "open_clip",
                Files::TorchScript { .. } => "OpenAI TorchScript",
            },
            folder: files.folder().display().to_string(),
            stored: stored_numbers(files),
            hash: info.hash,
            network: architecture.family.name(),
            embed_dim: architecture.embed_dim,
            image_size: info.image_size,
            patch_size: vision.patch_size,
            grid: vision.grid,
            logit_scale: info.logit_scale,
            vision: Tower::new(&vision.transformer),
            missing: missing(files, architecture.text.is_some(), info.logit_scale),
            text: architecture.text.map(|text| TextTower {
                tower: Tower::new(&text.transformer),
                context_length: text.context_length,
                vocab_size: text.vocab_size,
            }),
            method: info.method,
            int8: info.int8_blocks.map(|blocks| Int8::new(&blocks, vision.transformer.layers, &info.short)),
            device: info.device,
            precision: info.precision,
        }
    }

    fn print(&self) {
        let line = |name: &str, value: &str| say!("{name:<12} {value}");
        line("model", &self.model);
        line("format", &format!("{} in {}", self.format, self.folder));
        line("network", self.network);
        line("hash", &self.hash);
        let stored: Vec<String> = self
            .stored
            .iter()
            .map(|(kind, count)| format!("{:.1} M numbers in {kind}", *count as f64 / 1e6))
            .collect();
        if !stored.is_empty() {
            line("stored", &stored.join(", "));
        }
        line(
            "input",
            &format!(
                "short side {} px, patches of {} px, trained on {}x{}",
                self.image_size, self.patch_size, self.grid.0, self.grid.1
            ),
        );
        line("vision", &self.vision.text());
        if let Some(text) = &self.text {
            let sizes = format!(", {} tokens of {}", text.context_length, text.vocab_size);
            line("text", &(text.tower.text() + &sizes));
        }
        line("joint", &format!("{} wide", self.embed_dim));
        if let Some(scale) = self.logit_scale {
            line("logit scale", &format!("{scale:.2}"));
        }
        line("method", &self.method);
        line("runs on", &format!("{} in {}", self.device, self.precision));
        if let Some(int8) = &self.int8 {
            line("int8", &int8.text());
        }
        for lack in &self.missing {
            line("missing", lack);
        }
    }
}

fn missing(files: &Files, has_text: bool, logit_scale: Option<f64>) -> Vec<String> {
    let mut lacks = Vec::new();
    if !has_text {
        lacks.push(
            "text tower: prompts need --embeddings FILE, made by `gclip text` with the whole model".into(),
        );
    }
    if let Files::HuggingFace { folder } = files
        && !PREPROCESSORS.iter().any(|name| folder.join(name).is_file())
    {
        lacks.push("preprocessor_config.json: CLIP's own mean and deviation are used".into());
    }
    if has_text
        && !files.folder().join("tokenizer.json").is_file()
        && !files.folder().join("vocab.json").is_file()
    {
        lacks.push("tokenizer files: CLIP's own vocabulary is used".into());
    }
    if logit_scale.is_none() {
        lacks.push("logit_scale".into());
    }
    lacks
}

/// How many numbers of each format the safetensors files hold, from their headers.
fn stored_numbers(files: &Files) -> BTreeMap<String, u64> {
    let mut stored = BTreeMap::new();
    if let Files::TorchScript { .. } = files {
        return stored;
    }
    let entries = std::fs::read_dir(files.folder()).into_iter().flatten().flatten();
    let weights = entries.map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.ends_with(".safetensors")
            && name.starts_with("open_clip") == matches!(files, Files::OpenClip { .. })
    });
    for header in weights.filter_map(|path| read_header(&path)) {
        for (_, tensor) in header.tensors() {
            let count: usize = tensor.shape.iter().product();
            *stored.entry(format!("{:?}", tensor.dtype).to_lowercase()).or_default() += count as u64;
        }
    }
    stored
}

/// The model loaded before, so its headers are sound; what cannot be read here is left out.
fn read_header(path: &Path) -> Option<safetensors::tensor::Metadata> {
    let mut file = File::open(path).ok()?;
    let mut length = [0; 8];
    file.read_exact(&mut length).ok()?;
    let mut json = Vec::new();
    file.take(u64::from_le_bytes(length)).read_to_end(&mut json).ok()?;
    serde_json::from_slice(&json).ok()
}
