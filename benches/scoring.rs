// SPDX-License-Identifier: MIT OR Apache-2.0
//! What do the two ends of the model cost on one core: a frame to the tower's input, and patch logits to a mask?
//!
//! `preprocess` brings a 1080p frame to 336x592, the size of a ViT-B/16 with short side 336; the target is 3 ms a
//! frame. `decode` turns a grid of 21x37 patches into ids, scores and boxes at the model's and the frame's size, for 1 to
//! 1,000 classes; the tower beside them takes hundreds of milliseconds. `cosines` is the product of the patches' features
//! with as many queries.
//!
//! Run with `cargo bench --bench scoring`.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use gstgclip::model::decode::{DecodeOptions, decode_at};
use gstgclip::model::preprocess::{Colour, Normalisation, Picture, PixelFormat, preprocess};
use gstgclip::model::{Refine, Vocabulary};
use tch::{Device, Kind, Tensor};

fn frames(c: &mut Criterion) {
    tch::set_num_threads(1);
    let mut group = c.benchmark_group("preprocess 1080p to 336x592");
    let (width, height) = (1920, 1080);
    for (format, bytes) in [
        (PixelFormat::Nv12, width * height * 3 / 2),
        (PixelFormat::I420, width * height * 3 / 2),
        (PixelFormat::Yuy2, width * height * 2),
        (PixelFormat::Rgb, width * height * 3),
        (PixelFormat::Bgrx, width * height * 4),
        (PixelFormat::Gray8, width * height),
    ] {
        let data = Tensor::randint(256, [bytes as i64], (Kind::Uint8, Device::Cpu)).into();
        let picture = Picture { format, width, height, colour: Colour::default(), data };
        let normalisation = Normalisation::default();
        group.bench_function(format!("{format:?}"), |bencher| {
            bencher.iter(|| preprocess(&[&picture], (336, 592), &normalisation, Device::Cpu, Kind::Float));
        });
    }
    group.finish();
}

fn masks(c: &mut Criterion) {
    tch::set_num_threads(1);
    let mut group = c.benchmark_group("decode");
    group.sample_size(10);
    for classes in [1u32, 8, 80, 171, 1000] {
        let vocabulary = Vocabulary {
            labels: (1..=classes).map(|class| class.to_string()).collect(),
            query_value: (1..=classes).collect(),
            features: vec![0.0; classes as usize],
            dim: 1,
            ..Vocabulary::default()
        };
        let logits = Tensor::rand([classes.into(), 21, 37], (Kind::Float, Device::Cpu)) * 0.3;
        for size in [(336, 592), (1080, 1920)] {
            let id = BenchmarkId::new(format!("{classes} classes"), format!("{}x{}", size.0, size.1));
            group.bench_function(id, |bencher| {
                bencher.iter(|| decode_at(&logits, &vocabulary, &DecodeOptions::default(), size));
            });
        }
    }
    group.finish();
}

fn products(c: &mut Criterion) {
    tch::set_num_threads(1);
    let mut group = c.benchmark_group("cosines");
    let features = Tensor::rand([21 * 37, 512], (Kind::Float, Device::Cpu));
    for classes in [1, 8, 80, 171, 1000] {
        let queries = Tensor::rand([classes, 512], (Kind::Float, Device::Cpu));
        group.bench_function(format!("{classes} classes"), |bencher| {
            bencher.iter(|| queries.matmul(&features.transpose(0, 1)));
        });
    }
    group.finish();
}

fn refinement(c: &mut Criterion) {
    tch::set_num_threads(1);
    let mut group = c.benchmark_group(format!("refine {}", Refine::Pamr));
    group.sample_size(10);
    let picture = Tensor::rand([1, 3, 336, 592], (Kind::Float, Device::Cpu));
    let logits = Tensor::rand([8, 336, 592], (Kind::Float, Device::Cpu));
    group.bench_function("8 classes/336x592", |bencher| {
        bencher.iter(|| gstgclip::model::refine::Pamr::new(&picture)?.refine(&logits));
    });
    group.finish();
}

criterion_group!(benches, frames, masks, products, refinement);
criterion_main!(benches);
