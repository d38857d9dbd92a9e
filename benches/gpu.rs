// SPDX-License-Identifier: MIT OR Apache-2.0
//! How close to the hardware does a GPU come: the model alone, and whole pipelines of one to hundreds of streams?
//!
//! `benches/gpu.sh` runs this with a B/16 of random weights, adds the same model in PyTorch, and prints tables. Alone:
//! `cargo bench --bench gpu -- MODEL --out FILE.json`; `--cpu --quick` tries the logic on a machine without a GPU.
//! What each number means is in `benches/README.md`. The file is written anew after each part, so that a run that is
//! cut off leaves what it has.

#[path = "gpu/card.rs"]
mod card;
#[path = "gpu/cuda_frames.rs"]
mod cuda_frames;
#[path = "gpu/decoder.rs"]
mod decoder;
#[path = "gpu/feed.rs"]
mod feed;
#[path = "gpu/forward.rs"]
mod forward;
#[path = "gpu/frames.rs"]
mod frames;
#[path = "gpu/streams.rs"]
mod streams;

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::{Value, json};
use tch::Device;

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Classes that every part looks for.
pub const PROMPTS: &str = "ball; person; car; road; tree; sky; building; grass";

#[derive(Parser)]
struct Args {
    /// Checkpoint to measure; without one, nothing is run
    model: Option<String>,
    /// A trained checkpoint, whose classes are compared with those of the CPU in f32, too
    #[arg(long)]
    trained: Option<String>,
    /// A picture for those comparisons
    #[arg(long)]
    picture: Option<PathBuf>,
    /// An H.264 file in MP4, for a pipeline with the hardware decoder
    #[arg(long)]
    video: Option<PathBuf>,
    /// Where the numbers go, as JSON
    #[arg(long, default_value = "gpu.json")]
    out: PathBuf,
    /// Measure the CPU in the place of a GPU
    #[arg(long)]
    cpu: bool,
    /// Few and short measurements, to see that everything works
    #[arg(long)]
    quick: bool,
    /// Seconds after which no further measurement begins
    #[arg(long, default_value_t = 220)]
    budget: u64,
    /// What `cargo bench` passes
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is measured, and for how long.
pub struct Plan {
    pub device: Device,
    /// As the element's property.
    pub device_name: String,
    pub model: String,
    pub quick: bool,
    end: Instant,
}

impl Plan {
    /// Whether there is time for another measurement.
    pub fn goes_on(&self) -> bool {
        Instant::now() < self.end
    }

    /// Time for one number.
    pub fn each(&self) -> Duration {
        Duration::from_millis(if self.quick { 100 } else { 600 })
    }

    /// Waits until the device has done everything.
    pub fn finish(&self) {
        if let Device::Cuda(index) = self.device {
            tch::Cuda::synchronize(index as i64);
        }
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    let Some(model) = args.model else {
        println!("run with: benches/gpu.sh, or cargo bench --bench gpu -- MODEL --out FILE.json");
        return Ok(());
    };
    let choice = if args.cpu { "cpu" } else { "cuda" };
    let device = gstgclip::model::device::device(choice.parse()?)?;
    gst::init()?;
    // A bundle brings the plugin as a library, and this program has it inside as well: the inner one counts.
    if gst::ElementFactory::find("gclipsegment").is_none() {
        gstgclip::plugin_register_static()?;
    }
    let plan = Plan {
        device,
        device_name: choice.into(),
        model,
        quick: args.quick,
        end: Instant::now() + Duration::from_secs(args.budget),
    };
    let mut numbers = json!({
        "device": card::name(device),
        "model": plan.model,
        "quick": plan.quick,
        "gstreamer": gst::version_string().to_string(),
        "threads": std::thread::available_parallelism()?.get(),
    });
    let started = Instant::now();
    let (trained, picture) = (args.trained.as_deref(), args.picture.as_deref());
    let video = args.video.as_deref();
    let first: &[(usize, usize)] = if plan.quick { &[(224, 398)] } else { &[forward::TARGET_SIZE] };
    let others: &[(usize, usize)] = if plan.quick { &[] } else { &forward::OTHER_SIZES };
    // What is right comes first, then what decides; a run that is cut off has those.
    let mut parts: Vec<Part> = vec![
        ("correctness", Box::new(|| forward::correctness(&plan, trained, picture))),
        ("card", Box::new(|| card::measure(&plan))),
        ("forward", Box::new(|| forward::throughput(&plan, first))),
        ("streams", Box::new(|| streams::measure(&plan))),
        ("decoder", Box::new(|| decoder::measure(&plan, video))),
        ("attention", Box::new(|| forward::attention(&plan))),
        ("other_sizes", Box::new(|| forward::throughput(&plan, others))),
    ];
    for (name, measure) in &mut parts {
        let part = Instant::now();
        // What fails is written down and does not take the others along.
        numbers[*name] = measure().unwrap_or_else(|error| {
            eprintln!("{name}: {error}");
            json!({ "error": error.to_string() })
        });
        numbers["seconds"][*name] = json!(part.elapsed().as_secs_f64());
        save(&args.out, &numbers)?;
    }
    numbers["seconds"]["all"] = json!(started.elapsed().as_secs_f64());
    save(&args.out, &numbers)
}

type Part<'a> = (&'static str, Box<dyn FnMut() -> Result<Value> + 'a>);

fn save(path: &PathBuf, numbers: &Value) -> Result<()> {
    let partial = path.with_extension("partial");
    fs::write(&partial, serde_json::to_string_pretty(numbers)? + "\n")?;
    Ok(fs::rename(partial, path)?)
}
