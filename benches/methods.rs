// SPDX-License-Identifier: MIT OR Apache-2.0
//! What does each method cost, and what each of the steps that go with any method?
//!
//! In units of one forward of the plain tower (`method=clip`): the CPU time of its thread for a picture of 336x592 (777
//! patches) and 20 queries, in f32, one thread, ViT-B/16 and a DINOv2 S/14 of random weights. The best of several times, all
//! measured in turn, so that a machine that others use changes no ratio by much.
//!
//! Run with `cargo bench --bench methods`; `-- ROUNDS` sets how many times (5).

#[path = "streams/checkpoint.rs"]
mod checkpoint;

use std::path::Path;
use std::sync::Arc;

use cpu_time::ProcessTime;
use gstgclip::model::refine::{Pamr, TlpOptions, propagate};
use gstgclip::model::{
    DeviceChoice, InferOptions, InputSize, MethodSpec, Model, ModelSpec, Picture, PixelFormat,
    PrecisionChoice, Prior, Purify, Request, Segmenter, Vocabulary,
};
use tch::{Device, Kind, Tensor};

const SIZE: [i64; 2] = [336, 592];
const QUERIES: i64 = 20;
const METHODS: [(&str, &str); 14] = [
    ("clip", ""),
    ("gclip", ""),
    ("maskclip", ""),
    ("sclip", ""),
    ("clearclip", ""),
    ("naclip", ""),
    ("resclip", ""),
    ("scclip", ""),
    ("cliptrase", ""),
    ("pearl", ""),
    ("proxyclip", ""),
    ("proxyclip", "gla=on"),
    ("proxyclip", "grid=clip"),
    ("proxyclip", "gla=on,grid=clip"),
];

fn load(clip: &Path, helper: &Path, method: &str, options: &str) -> Segmenter {
    let text = |path: &Path| path.display().to_string();
    let spec = ModelSpec {
        model: text(clip),
        method: MethodSpec { name: method.into(), options: options.into() },
        helper: (method == "proxyclip").then(|| text(helper)),
        device: DeviceChoice::Cpu,
        precision: PrecisionChoice::F32,
        ..ModelSpec::default()
    };
    Model::load(&spec).expect("a checkpoint of random weights").vision
}

fn vocabulary() -> Arc<Vocabulary> {
    let features = Tensor::randn([QUERIES, 512], (Kind::Float, Device::Cpu));
    let features = &features / features.norm_scalaropt_dim(2, [1], true);
    Arc::new(Vocabulary {
        labels: (0..QUERIES).map(|query| query.to_string()).collect(),
        query_value: (1..=QUERIES as u32).collect(),
        features: Vec::try_from(features.flatten(0, -1)).expect("numbers"),
        dim: 512,
        ..Vocabulary::default()
    })
}

/// Prints the CPU time of one over that of the other, each the least of several times in turn.
fn compare(name: &str, rounds: u32, unit: &mut dyn FnMut(), other: &mut dyn FnMut()) {
    let time = |run: &mut dyn FnMut()| {
        let start = ProcessTime::now();
        run();
        start.elapsed().as_secs_f64()
    };
    let (mut least, mut of_other) = (f64::MAX, f64::MAX);
    for _ in 0..rounds {
        least = least.min(time(unit));
        of_other = of_other.min(time(other));
    }
    println!("  {:<36} {:.3} (of {:.0} ms)", name.trim(), of_other / least, least * 1e3);
}

fn main() {
    let rounds = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(5);
    tch::set_num_threads(1);
    tch::manual_seed(1);
    let _no_grad = tch::no_grad_guard();
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
    let [clip, helper] = [0, 1].map(|index| folders[index].path());
    checkpoint::write(clip).expect("a checkpoint of random weights");
    checkpoint::write_helper(helper).expect("a helper of random weights");

    let words = vocabulary();
    let input = Tensor::randn([1, 3, SIZE[0], SIZE[1]], (Kind::Float, Device::Cpu));
    let mut unit = load(clip, helper, "clip", "");
    let mut forward = || drop(unit.logits(&input, &[&words]).expect("a forward"));
    println!("in units of a forward of method=clip on {}x{}, the best of {rounds}", SIZE[0], SIZE[1]);
    for (method, options) in METHODS {
        let mut other = load(clip, helper, method, options);
        let mut other = || drop(other.logits(&input, &[&words]).expect("a forward"));
        compare(&format!("{method} {options}"), rounds, &mut forward, &mut other);
    }
    let cosines = Tensor::randn([QUERIES, 21, 37], (Kind::Float, Device::Cpu)) * 0.1;
    let text = Tensor::from_slice(&words.features).reshape([QUERIES, 512]);
    let full = cosines.unsqueeze(0).upsample_bilinear2d(SIZE, false, None, None).squeeze_dim(0);
    let options = TlpOptions::default();
    let data = Tensor::randint(256, [SIZE[0] * SIZE[1] * 3], (Kind::Uint8, Device::Cpu));
    let picture = || Picture {
        format: PixelFormat::Rgb,
        width: SIZE[1] as usize,
        height: SIZE[0] as usize,
        colour: Default::default(),
        data: data.shallow_clone().into(),
    };
    let request = |prior: Prior| Request {
        picture: picture(),
        vocabulary: words.clone(),
        options: InferOptions { input_size: InputSize::Native, prior, ..InferOptions::default() },
    };
    let mut other = load(clip, helper, "clip", "");
    let plain_request = request(Prior::default());
    let look = other.look(std::slice::from_ref(&plain_request)).expect("a forward").0.remove(0);
    let mut full_request = request(Prior::default());
    full_request.options.purify = Purify::Full;
    let prior_request = request(Prior { weight: 0.2, nudge: 0.04, ..Prior::default() });
    compare("refine=tlp", rounds, &mut forward, &mut || {
        drop(propagate(&cosines, &input, Some(&text), 40.0, &options).expect("numbers"));
    });
    compare("refine=pamr", rounds, &mut forward, &mut || {
        drop(Pamr::new(&input).and_then(|pamr| pamr.refine(&full)).expect("numbers"));
    });
    compare("clip with preprocessing", rounds, &mut forward, &mut || {
        drop(other.look(std::slice::from_ref(&plain_request)).expect("a forward"));
    });
    compare("the same, context-prior and nudging", rounds, &mut forward, &mut || {
        drop(other.look(std::slice::from_ref(&prior_request)).expect("a forward"));
    });
    compare("clip with preprocessing and decoding", rounds, &mut forward, &mut || {
        drop(other.infer(std::slice::from_ref(&plain_request)).expect("a forward"));
    });
    compare("the same, purify=full", rounds, &mut forward, &mut || {
        drop(other.infer(std::slice::from_ref(&full_request)).expect("a forward"));
    });
    compare("purification, with its own forward", rounds, &mut forward, &mut || {
        drop(other.redundancy(&plain_request, &look).expect("numbers"));
    });
}
