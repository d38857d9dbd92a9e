// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where does the time of whole pipelines go, from an H.264 file to masks on frames, with the shapes of ViT-B/16?
//!
//! * `profile`: one stream of 720p and of 1080p at full speed. CPU time a frame by stage; what is not the model's
//!   forward must be at most 10 % at 1080p. Threads are told apart by their names, the stages inside the model's
//!   thread by their share of its time.
//! * `files`, `cameras`: 1, 4 and 16 streams of 720p on one model, as files at full speed, and as cameras at 10 frames a
//!   second whose frames carry the newest mask when theirs is late. Masks and frames a second and busy cores, as it
//!   comes and with other settings of OpenMP's threads and the decoder's.
//! * `start`: `gst-launch-1.0` from its start to the first mask, when text features are cached and when not, and
//!   `gst-inspect-1.0`.
//!
//! Each measurement is a process of its own, and settings take turns. The video is the demo's, scaled and encoded
//! anew; `GCLIP_BENCH_VIDEO=file.mp4` takes another, `GCLIP_BENCH_MODEL=folder` another checkpoint than random weights.
//!
//! Run with `cargo bench --bench pipelines` (about 12 minutes on 2 cores), or one part: `-- profile`.

#[path = "streams/checkpoint.rs"]
mod checkpoint;
#[path = "pipelines/clip.rs"]
mod clip;
#[path = "pipelines/load.rs"]
mod load;
#[path = "pipelines/start.rs"]
mod start;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use gclip_testing::playing::median;
use load::{Load, Measured};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const PARTS: [&str; 4] = ["profile", "files", "cameras", "start"];
const STREAMS: [usize; 3] = [1, 4, 16];
const ROUNDS: usize = 3;
/// What may be spent outside the forward, at 1080p.
const OUTSIDE: f64 = 0.10;

/// What users might set: a name, variables of the process, threads of each decoder (0: the decoder's own choice).
type Setting = (&'static str, &'static [(&'static str, &'static str)], u32);
const SETTINGS: [Setting; 4] = [
    ("as it comes", &[], 0),
    ("decoders with max-threads=1", &[], 1),
    ("OMP_NUM_THREADS=1", &[("OMP_NUM_THREADS", "1")], 0),
    ("OpenMP spins (GOMP_SPINCOUNT=300000)", &[("GOMP_SPINCOUNT", "300000")], 0),
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--measure") {
        let load: Load = serde_json::from_str(arguments.get(at + 1).ok_or("--measure takes a load")?)?;
        println!("{}", serde_json::to_string(&load.measure()?)?);
        return Ok(());
    }
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("run with: cargo bench --bench pipelines");
        return Ok(());
    }
    let named = |part: &str| arguments.iter().any(|argument| argument == part);
    let all = !PARTS.into_iter().any(named);
    let wants = |part: &str| all || named(part);
    gst::init()?;
    let folder = tempfile::tempdir()?;
    let model = match std::env::var_os("GCLIP_BENCH_MODEL") {
        Some(model) => PathBuf::from(model),
        None => {
            checkpoint::write(folder.path())?;
            folder.path().to_owned()
        }
    };
    if wants("profile") {
        profile(&model, folder.path())?;
    }
    for (part, paced) in [("files", false), ("cameras", true)] {
        if wants(part) {
            streams(&model, folder.path(), paced)?;
        }
    }
    if wants("start") {
        start::start(&model, folder.path())?;
    }
    Ok(())
}

fn profile(model: &Path, folder: &Path) -> Result<()> {
    for height in [720, 1080] {
        let video = clip::make(folder, height)?;
        let load = Load {
            model: model.to_owned(),
            video,
            streams: 1,
            paced: false,
            decoder_threads: 0,
            seconds: 20,
        };
        let measured = run(&load, &[])?;
        let total = measured.cpu_ms();
        println!("\n{height}p, one stream, {:.2} frames/s: CPU time a frame", measured.frames_per_second);
        for (stage, milliseconds) in &measured.stages {
            println!("  {stage:<38} {milliseconds:>8.2} ms  {:>5.1} %", 100.0 * milliseconds / total);
        }
        let outside = 1.0 - measured.forward_ms() / total;
        let verdict = if outside <= OUTSIDE { "met" } else { "missed" };
        println!("  outside the forward {:.1} % (target at 1080p: 10 %, {verdict})", 100.0 * outside);
    }
    Ok(())
}

fn streams(model: &Path, folder: &Path, paced: bool) -> Result<()> {
    let video = clip::make(folder, 720)?;
    let how = if paced { "cameras of 10 frames/s" } else { "files at full speed" };
    println!("\n720p, {how}\n{:<38} streams  masks/s  frames/s  busy cores", "");
    for streams in STREAMS {
        let mut runs: Vec<Vec<Measured>> = SETTINGS.iter().map(|_| Vec::new()).collect();
        for _ in 0..ROUNDS {
            for ((_, variables, decoder_threads), runs) in SETTINGS.iter().zip(&mut runs) {
                let load = Load {
                    model: model.to_owned(),
                    video: video.clone(),
                    streams,
                    paced,
                    decoder_threads: *decoder_threads,
                    seconds: 6,
                };
                runs.push(run(&load, variables)?);
            }
        }
        for ((name, ..), runs) in SETTINGS.iter().zip(&runs) {
            println!(
                "{name:<38} {streams:>7}  {:>7.2}  {:>8.1}  {:>10.2}",
                median(runs.iter().map(|run| run.masks_per_second)),
                median(runs.iter().map(|run| run.frames_per_second)),
                median(runs.iter().map(|run| run.busy_cores)),
            );
        }
    }
    Ok(())
}

/// In a process of its own: OpenMP reads its variables when the process begins.
fn run(load: &Load, variables: &[(&str, &str)]) -> Result<Measured> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--measure", &serde_json::to_string(load)?]).envs(variables.iter().copied());
    let output = command.output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
