// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the card itself does: the ceilings that everything else is measured against.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gstgclip::model::cuda::{Uploader, runtime};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use crate::{Plan, Result};
use gclip_testing::playing::median;
use gclip_testing::usage;

/// The name of the card, or of the processor.
pub fn name(device: Device) -> String {
    if let Device::Cuda(index) = device {
        let cards = fs::read_dir("/proc/driver/nvidia/gpus").into_iter().flatten().flatten();
        let named = |card: fs::DirEntry| {
            let text = fs::read_to_string(card.path().join("information")).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix("Model:"))?;
            Some(line.trim().to_owned())
        };
        let mut names: Vec<String> = cards.filter_map(named).collect();
        names.sort();
        return names.get(index).cloned().unwrap_or_else(|| format!("CUDA GPU {index}"));
    }
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split(':').nth(1)).map_or("a CPU".into(), |name| name.trim().to_owned())
}

/// Seconds for one run: the median of five stretches, after two runs that do not count.
pub fn seconds(plan: &Plan, mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    for _ in 0..2 {
        run()?;
    }
    plan.finish();
    let start = Instant::now();
    run()?;
    plan.finish();
    let stretch = plan.each() / 5;
    let runs = (stretch.as_secs_f64() / start.elapsed().as_secs_f64().max(1e-7)).clamp(1.0, 1e5) as usize;
    let mut each = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..runs {
            run()?;
        }
        plan.finish();
        each.push(start.elapsed().as_secs_f64() / runs as f64);
    }
    Ok(median(each))
}

/// Seconds until the host has handed one run to the device, which need not have begun it: the median of ten, each with
/// the device at rest. On a CPU, the run itself.
pub fn issue_seconds(plan: &Plan, mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut each = Vec::new();
    for _ in 0..10 {
        plan.finish();
        let start = Instant::now();
        run()?;
        each.push(start.elapsed().as_secs_f64());
    }
    plan.finish();
    Ok(median(each))
}

/// Matrix rates, copy bandwidths, memory.
pub fn measure(plan: &Plan) -> Result<Value> {
    let mut numbers = json!({});
    for (name, kind) in [("f16", Kind::Half), ("bf16", Kind::BFloat16), ("f32", Kind::Float)] {
        // A CPU has no unit for f16: it would take minutes.
        if plan.device.is_cuda() || kind != Kind::Half {
            numbers["matrix_tflops"][name] = json!(matrix_rate(plan, kind)?);
        }
    }
    let bytes: i64 = if plan.quick { 64 << 20 } else { 2 << 30 };
    let source = Tensor::f_randint(256, [bytes], (Kind::Uint8, plan.device))?;
    let mut target = source.f_zeros_like()?;
    let time = seconds(plan, || {
        target.f_copy_(&source)?;
        Ok(())
    })?;
    // Each byte is read once and written once.
    numbers["copy_gb_per_s"] = json!(2.0 * bytes as f64 / time / 1e9);
    if let Device::Cuda(index) = plan.device {
        let (free, total) = runtime()?.memory()?;
        numbers["memory_mib"] = json!({ "free": free >> 20, "total": total >> 20 });
        let uploader = Uploader::new(runtime()?, index)?;
        numbers["upload_gb_per_s"] = json!(upload_rate(plan, &uploader)?);
    }
    Ok(numbers)
}

/// Of a product of square matrices of random numbers, in TFLOP/s.
fn matrix_rate(plan: &Plan, kind: Kind) -> Result<f64> {
    let side: i64 = match (plan.device.is_cuda(), plan.quick) {
        (true, false) => 8192,
        (true, true) => 2048,
        _ => 768,
    };
    let random = || -> Result<Tensor> {
        Ok(Tensor::f_randn([side, side], (Kind::Float, plan.device))?.f_to_kind(kind)?)
    };
    let (a, b) = (random()?, random()?);
    let mut out = a.f_matmul(&b)?;
    let time = seconds(plan, || {
        out = a.f_matmul(&b)?;
        Ok(())
    })?;
    Ok(2.0 * (side as f64).powi(3) / time / 1e12)
}

/// From page-locked memory to the device, frame by frame as the element sends them, without writing the frames.
fn upload_rate(plan: &Plan, uploader: &Arc<Uploader>) -> Result<f64> {
    let planes = [(1920, 1080), (1920, 540)];
    let bytes = planes.iter().map(|(row, rows)| row * rows).sum::<usize>();
    let time = seconds(plan, || {
        for _ in 0..32 {
            drop(uploader.upload(&planes, |_| Ok(()))?);
        }
        Ok(())
    })?;
    Ok(32.0 * bytes as f64 / time / 1e9)
}

/// The process's largest resident memory so far, in MiB.
pub fn peak_mib() -> Option<u64> {
    Some(usage::memory("VmHWM:")? >> 20)
}

/// Memory of the device that is in use, in MiB.
pub fn used_mib(device: Device) -> Option<usize> {
    if !device.is_cuda() {
        return None;
    }
    let (free, total) = runtime().ok()?.memory().ok()?;
    Some((total - free) >> 20)
}

/// Values below which this share of them lie.
pub fn quantile(sorted: &[Duration], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    Some(sorted[(last as f64 * share).round() as usize].as_secs_f64() * 1e3)
}
