// SPDX-License-Identifier: MIT OR Apache-2.0
//! What does the model itself cost: a vision forward by picture size, batch and precision, the text encoder, loading,
//! and memory?
//!
//! `vision` is everything between the normalised picture and the cosines of each patch with 8 prompts: tower, the
//! method's last block, scoring. `elem/s` is pictures. Sides are rounded up to whole patches. `text` encodes one
//! name in the 80 templates, and 64 names as they are; `elem/s` is sentences. `load` reads, checks, hashes and
//! unpacks the checkpoint. `share` is what the forward reaches of the machine's own matrix rate in that precision: the
//! products that it cannot do without, over the best time of three, over the rate of one large square product (`rate`,
//! measured in turn with it). `memory` is the resident size of a process that loads the model and then looks at 8 pictures of 336x592.
//!
//! `int8` is the CPU time of a forward in int8 against bf16, with the shapes of ViT-B/16 and random weights where no model is
//! named, measured in turn; and how many patches keep their best prompt of 8. It has to be asked for: `-- --int8`.
//!
//! Run with `cargo bench --bench model`, on `models/demo` or another checkpoint:
//! `GCLIP_BENCH_MODEL=/path/to/clip-vit-base-patch16 cargo bench --bench model`. One part of it: append
//! `-- 'vision bf16'`.

#[path = "streams/checkpoint.rs"]
mod checkpoint;

use std::sync::Arc;
use std::time::{Duration, Instant};

use cpu_time::ProcessTime;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use gclip_testing::usage;
use gstgclip::model::{Model, ModelSpec, PrecisionChoice, Prompts, Segmenter, Templates, Vocabulary};
use tch::{Device, Kind, Tensor};

/// Height and width.
const SIZES: [(usize, usize); 3] = [(224, 224), (336, 448), (336, 592)];
const BATCHES: [usize; 3] = [1, 4, 8];
const PRECISIONS: [PrecisionChoice; 2] = [PrecisionChoice::F32, PrecisionChoice::Bf16];
/// Asks a process for its memory only.
const MEMORY: &str = "--memory";
/// Asks for int8 against bf16 only.
const INT8: &str = "--int8";
const PROMPTS: &str = "ball; person; car; road; tree; sky; building; grass";

fn spec(precision: PrecisionChoice) -> ModelSpec {
    let demo = gclip_testing::DEMO;
    let model = std::env::var("GCLIP_BENCH_MODEL").unwrap_or_else(|_| demo.to_owned());
    ModelSpec { model, precision, ..ModelSpec::default() }
}

fn load(precision: PrecisionChoice) -> Model {
    Model::load(&spec(precision)).expect("GCLIP_BENCH_MODEL names a checkpoint")
}

fn vocabulary(model: &mut Model) -> Arc<Vocabulary> {
    let prompts = Prompts::parse(PROMPTS, "").expect("valid prompts");
    let text = model.text.as_mut().expect("the checkpoint has a text tower");
    let mut encode = |texts: &[String]| text.encode(texts);
    let vocabulary = Vocabulary::build(&prompts, &Templates::None, model.info.embed_dim, &mut encode);
    Arc::new(vocabulary.expect("the text tower works"))
}

/// Pictures as the tower reads them, `[batch, 3, height, width]`, on the model's device.
fn pictures(model: &Model, batch: usize, (height, width): (usize, usize)) -> Tensor {
    let patch = model.info.patch_size;
    let [height, width] = [height, width].map(|side| (side.div_ceil(patch) * patch) as i64);
    let device = match model.info.device.as_str() {
        "cpu" => Device::Cpu,
        _ => Device::Cuda(0),
    };
    Tensor::randn([batch as i64, 3, height, width], (Kind::Float, device))
}

/// Runs a forward and waits for its end, on a GPU too: one number is read back.
fn forward(vision: &mut Segmenter, input: &Tensor, vocabularies: &[&Arc<Vocabulary>]) -> f64 {
    let logits = vision.logits(input, vocabularies).expect("a forward");
    logits.last().map_or(0.0, |logits| logits.flatten(0, -1).double_value(&[0]))
}

/// Each precision in a process of its own: what is freed stays with a process, for its next model.
fn memory(_: &mut Criterion) {
    println!("memory of a process, in MiB");
    for precision in PRECISIONS {
        let bench = std::env::current_exe().expect("a bench is a file");
        let status = std::process::Command::new(bench).args([MEMORY, &precision.to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "memory in {precision} was not measured");
    }
}

fn memory_of(precision: PrecisionChoice) {
    let before = usage::memory("VmRSS:");
    let mut model = load(precision);
    let words = vocabulary(&mut model);
    let after = usage::memory("VmRSS:");
    let input = pictures(&model, 8, (336, 592));
    let loading = usage::memory("VmHWM:");
    // Starts the highest resident size anew.
    let fresh = std::fs::write("/proc/self/clear_refs", "5").is_ok();
    forward(&mut model.vision, &input, &[&words; 8]);
    println!(
        "  {precision}: {} with the model loaded ({} before, {} at most meanwhile), {} at most with 8 pictures of 336x592",
        mebibytes(after),
        mebibytes(before),
        mebibytes(loading),
        mebibytes(usage::memory("VmHWM:").filter(|_| fresh)),
    );
}

fn mebibytes(bytes: Option<u64>) -> String {
    bytes.map_or("unknown".into(), |bytes| (bytes >> 20).to_string())
}

fn vision(c: &mut Criterion) {
    for precision in PRECISIONS {
        let mut model = load(precision);
        let words = vocabulary(&mut model);
        let mut group = c.benchmark_group(format!("vision {precision}"));
        group.sample_size(10).warm_up_time(Duration::from_millis(500));
        group.measurement_time(Duration::from_secs(3));
        for size in SIZES {
            for batch in BATCHES {
                let input = pictures(&model, batch, size);
                let words = vec![&words; batch];
                group.throughput(Throughput::Elements(batch as u64));
                let id = BenchmarkId::new(format!("{}x{}", size.0, size.1), format!("batch {batch}"));
                group.bench_function(id, |bencher| {
                    bencher.iter(|| forward(&mut model.vision, &input, &words));
                });
            }
        }
        group.finish();
    }
}

/// Floating-point operations of one forward for which there is no way around: a multiplication and an addition for each
/// product of the patch embedding, the blocks and the last block's attention. Softmax, norms and the like are not counted.
fn operations(model: &Model, (height, width): (usize, usize)) -> f64 {
    let patch = model.info.patch_size;
    let vision = model.info.architecture.vision;
    let d = vision.transformer.width as f64;
    let mlp = vision.transformer.mlp_width as f64;
    let tokens = (1 + height.div_ceil(patch) * width.div_ceil(patch)) as f64;
    let embedding = tokens * d * (3 * patch * patch) as f64;
    let block = tokens * d * (4.0 * d + 2.0 * mlp) + 2.0 * tokens * tokens * d;
    // GCLIP's last block: queries and values, one product of them with the mean map, the projections.
    let last = tokens * d * (3.0 * d + model.info.embed_dim as f64) + 2.0 * tokens * tokens * d;
    2.0 * (embedding + (vision.transformer.layers - 1) as f64 * block + last)
}

/// The best of a few runs, in seconds.
fn best(runs: usize, mut run: impl FnMut()) -> f64 {
    let time = |()| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    std::iter::repeat_n((), runs).map(time).fold(f64::MAX, f64::min)
}

/// Not Criterion's: what counts is the ratio of two measurements in turn, on a machine that others may use.
fn share(_: &mut Criterion) {
    println!("share of the machine's matrix rate (GFLOP/s), {} threads", tch::get_num_threads());
    for (precision, kind) in PRECISIONS.into_iter().zip([Kind::Float, Kind::BFloat16]) {
        let mut model = load(precision);
        let words = vocabulary(&mut model);
        let square = Tensor::randn([2048, 2048], (Kind::Float, Device::Cpu)).to_kind(kind);
        let square_operations = 2.0 * 2048f64.powi(3);
        for size in SIZES {
            for batch in BATCHES {
                let input = pictures(&model, batch, size);
                let words = vec![&words; batch];
                forward(&mut model.vision, &input, &words);
                let (mut rate, mut reached) = (0f64, 0f64);
                for _ in 0..3 {
                    rate = rate.max(square_operations / best(3, || drop(square.matmul(&square))));
                    let seconds = best(1, || {
                        forward(&mut model.vision, &input, &words);
                    });
                    reached = reached.max(batch as f64 * operations(&model, size) / seconds);
                }
                println!(
                    "  {precision} {}x{} batch {batch}: {:.0} of {:.0}, {:.0} %",
                    size.0,
                    size.1,
                    reached / 1e9,
                    rate / 1e9,
                    100.0 * reached / rate
                );
            }
        }
    }
}

fn int8() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = std::env::var("GCLIP_BENCH_MODEL").unwrap_or_else(|_| {
        checkpoint::write(folder.path()).expect("a checkpoint of random weights");
        folder.path().display().to_string()
    });
    let [mut short, mut int8] = [PrecisionChoice::Bf16, PrecisionChoice::Int8].map(|precision| {
        let start = Instant::now();
        let model = Model::load(&ModelSpec { model: model.clone(), precision, ..ModelSpec::default() });
        println!("  {precision}: loaded in {:.1} s", start.elapsed().as_secs_f64());
        model.expect("a checkpoint, and a CPU with AVX512-VNNI")
    });
    println!("  blocks in 8 bits: {:?}", int8.info.int8_blocks);
    let words = vocabulary(&mut short);
    for batch in BATCHES {
        let input = pictures(&short, batch, (336, 592));
        let words = vec![&words; batch];
        let [expected, found] = [&mut short, &mut int8].map(|model| {
            let logits = model.vision.logits(&input, &words).expect("a forward");
            Tensor::stack(&logits, 0).argmax(1, false)
        });
        let kept = found.eq_tensor(&expected).to_kind(Kind::Float).mean(Kind::Float).double_value(&[]);
        let mut least = [f64::MAX; 2];
        for _ in 0..7 {
            for (least, model) in least.iter_mut().zip([&mut short, &mut int8]) {
                let start = ProcessTime::now();
                forward(&mut model.vision, &input, &words);
                *least = least.min(start.elapsed().as_secs_f64() * 1e3 / batch as f64);
            }
        }
        println!(
            "  336x592 batch {batch}: CPU time a picture {:.0} ms in bf16, {:.0} ms in int8, x{:.2}; {:.1} % of the patches keep their prompt",
            least[0],
            least[1],
            least[0] / least[1],
            100.0 * kept
        );
    }
}

fn text(c: &mut Criterion) {
    let mut encoder = load(PrecisionChoice::F32).text.expect("the checkpoint has a text tower");
    let sentences: Vec<String> = Templates::Imagenet.fill("traffic light").collect();
    let names: Vec<String> = (0..64).map(|number| format!("thing {number}")).collect();
    let mut group = c.benchmark_group("text");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    for (what, texts) in [("1 name in 80 templates", sentences), ("64 names", names)] {
        group.throughput(Throughput::Elements(texts.len() as u64));
        group.bench_function(what, |bencher| bencher.iter(|| encoder.encode(&texts)));
    }
    group.finish();
}

fn loading(c: &mut Criterion) {
    let mut group = c.benchmark_group("load");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    for precision in PRECISIONS {
        group.bench_function(precision.to_string(), |bencher| bencher.iter(|| load(precision)));
    }
    group.finish();
}

criterion_group!(benches, memory, share, loading, text, vision);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == MEMORY) {
        let precision = arguments.get(at + 1).and_then(|precision| precision.parse().ok());
        return memory_of(precision.expect("--memory takes a precision"));
    }
    if arguments.iter().any(|argument| argument == INT8) {
        return int8();
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
}
