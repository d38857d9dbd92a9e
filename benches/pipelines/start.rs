// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long users wait for the first mask, and for `gst-inspect-1.0`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Result, clip};

const ROUNDS: usize = 3;
const PROMPTS: &str = "prompts=ball; person; car; road; tree; sky; building; grass";

pub fn start(model: &Path, folder: &Path) -> Result<()> {
    let video = clip::make(folder, 720)?;
    let tools = Tools::new(folder)?;
    println!("\nfrom the start of the process, in seconds, {ROUNDS} runs each");
    for batch in [1, 4] {
        // The first run has to encode the texts; those behind it find them on disk.
        std::fs::remove_dir_all(&tools.cache).ok();
        let what = format!("gst-launch-1.0 to the first mask, batch-size={batch}");
        let first = tools.first_mask(model, &video, batch)?;
        let more = (0..ROUNDS).map(|_| tools.first_mask(model, &video, batch)).collect::<Result<Vec<_>>>()?;
        println!("  {what}: first start {}, then {}", text(&[first]), text(&more));
    }
    let inspect = |_| tools.timed(tools.command("gst-inspect-1.0").arg("gclipsegment"));
    std::fs::remove_file(&tools.registry).ok();
    let first = inspect(0)?;
    let more = (0..ROUNDS).map(inspect).collect::<Result<Vec<_>>>()?;
    println!("  gst-inspect-1.0 gclipsegment: with a new registry {}, then {}", text(&[first]), text(&more));
    Ok(())
}

fn text(times: &[Duration]) -> String {
    let times: Vec<String> = times.iter().map(|time| format!("{:.2}", time.as_secs_f64())).collect();
    times.join(" ")
}

/// GStreamer's programs with this plugin, and a registry and a text cache of their own.
struct Tools {
    plugins: PathBuf,
    registry: PathBuf,
    cache: PathBuf,
}

impl Tools {
    fn new(folder: &Path) -> Result<Tools> {
        let plugins = folder.join("plugins");
        std::fs::create_dir_all(&plugins)?;
        let bench = std::env::current_exe()?;
        let built = bench.parent().and_then(Path::parent).ok_or("a bench lies in a target folder")?;
        std::fs::copy(built.join("libgstgclip.so"), plugins.join("libgstgclip.so"))?;
        Ok(Tools { plugins, registry: folder.join("registry.bin"), cache: folder.join("cache") })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("GST_PLUGIN_PATH", &self.plugins).env("GST_REGISTRY", &self.registry);
        command.env("XDG_CACHE_HOME", &self.cache).stdout(Stdio::null());
        command
    }

    fn timed(&self, command: &mut Command) -> Result<Duration> {
        let start = Instant::now();
        match command.status()?.success() {
            true => Ok(start.elapsed()),
            false => Err(format!("{command:?} failed").into()),
        }
    }

    fn first_mask(&self, model: &Path, video: &Path, batch: u32) -> Result<Duration> {
        let pipeline = format!(
            "filesrc location={} ! qtdemux ! h264parse ! avdec_h264 ! gclipsegment model={} batch-size={batch}",
            video.display(),
            model.display(),
        );
        let mut command = self.command("gst-launch-1.0");
        command.arg("-v").args(pipeline.split_whitespace()).arg(PROMPTS);
        command.args(["!", "fakesink", "silent=false", "sync=false"]).stdout(Stdio::piped());
        let start = Instant::now();
        let mut process = command.spawn()?;
        let output = BufReader::new(process.stdout.take().ok_or("no output")?);
        let arrived = output.lines().map_while(std::io::Result::ok).find(|line| line.contains("chain  "));
        let time = start.elapsed();
        process.kill()?;
        process.wait()?;
        arrived.map(|_| time).ok_or_else(|| format!("{command:?} shows no frame").into())
    }
}
