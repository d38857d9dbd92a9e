// SPDX-License-Identifier: MIT OR Apache-2.0
//! One camera's keys, looked up in its own table and then in `[defaults]`.

use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::time::Duration;

use gstgclip::model::{Prompts, Thresholds};
use toml::Spanned;

use super::raw::{self, Mistake};
use super::values::{scratch, source};
use super::{Camera, Output};
use crate::redact::Secrets;

/// A year is as good as never.
const SECONDS: RangeInclusive<f64> = 0.01..=31_536_000.0;
/// Of the jitter buffer, where nothing is said.
const LATENCY: Duration = Duration::from_millis(200);

pub struct Written<'a> {
    pub name: &'a str,
    pub own: &'a raw::Camera,
    /// Where its table stands.
    pub at: Range<usize>,
    pub defaults: &'a raw::Camera,
    /// Whether there are classes by pictures too, whose labels the prompts do not say.
    pub has_pictures: bool,
}

type Found<'a, T> = Option<&'a Spanned<T>>;

impl<'a> Written<'a> {
    /// The camera without its properties of gclipsegment.
    pub fn check(&self, outputs: &[Output], folder: &Path, secrets: &mut Secrets) -> Result<Camera, Mistake> {
        let missing = |key: &str, example: &str| {
            Mistake::new(self.at.clone(), self.key(key), format!("it is missing: write {key} = {example}"))
        };
        let url = self.own.url.as_ref().ok_or_else(|| missing("url", "\"rtsp://host/path\""))?;
        let prompts = self.find(|camera| camera.prompts.as_ref());
        let prompts = prompts.ok_or_else(|| missing("prompts", "\"person; car, truck\""))?;
        let background = self.find(|camera| camera.background.as_ref());
        let retry_min = self.seconds("retry-min", self.find(|camera| camera.retry_min.as_ref()), 1.0)?;
        let retry_login = self.find(|camera| camera.retry_login.as_ref());
        let retry_login = self.seconds("retry-login", retry_login, 300.0)?;
        let retry_max = self.find(|camera| camera.retry_max.as_ref());
        let at_retry_max = retry_max.map_or(self.at.clone(), Spanned::span);
        let retry_max = self.seconds("retry-max", retry_max, 60.0)?;
        if retry_max < retry_min {
            return Err(Mistake::new(at_retry_max, self.key("retry-max"), "it is shorter than retry-min"));
        }
        let timeout = self.seconds("timeout", self.find(|camera| camera.timeout.as_ref()), 10.0)?;
        let latency = self.latency(self.find(|camera| camera.latency.as_ref()), timeout)?;
        let mut classes = self.prompts(prompts, background, folder)?;
        classes.thresholds = self.prompt_thresholds(&classes)?;
        Ok(Camera {
            name: self.name.to_string(),
            source: source(url, &self.key("url"), secrets)?,
            labels: classes.classes.iter().map(|class| class.label.clone()).collect(),
            prompts: classes.to_string(),
            background: background.map(|text| text.get_ref().clone()).unwrap_or_default(),
            doubts: classes.doubts(),
            prompt_thresholds: classes.thresholds,
            zones: self.zones(self.find(|camera| camera.zones.as_ref()))?,
            outputs: self.outputs(outputs)?,
            enabled: self.own.enabled.or(self.defaults.enabled).unwrap_or(true),
            masks: self.own.masks.or(self.defaults.masks).unwrap_or_default(),
            protocols: self.own.protocols.or(self.defaults.protocols).unwrap_or_default(),
            certificate: self.own.certificate.or(self.defaults.certificate).unwrap_or_default(),
            latency,
            timeout,
            retry_min,
            retry_max,
            retry_login,
            decode: self.own.decode.or(self.defaults.decode).unwrap_or_default(),
            fps: self.fps(self.find(|camera| camera.fps.as_ref()))?,
            width: self.width(self.find(|camera| camera.width.as_ref()))?,
            segment: Vec::new(),
        })
    }

    fn key(&self, key: &str) -> String {
        format!("camera.{}.{key}", self.name)
    }

    /// What the camera says, or else the defaults.
    fn find<T>(&self, of: impl Fn(&'a raw::Camera) -> Found<'a, T>) -> Found<'a, T> {
        of(self.own).or_else(|| of(self.defaults))
    }

    fn prompts(
        &self,
        prompts: &Spanned<String>,
        background: Found<String>,
        folder: &Path,
    ) -> Result<Prompts, Mistake> {
        let mistake =
            |error: anyhow::Error| Mistake::new(prompts.span(), self.key("prompts"), format!("{error:#}"));
        let background = background.map_or("", |text| text.get_ref());
        let Some(file) = prompts.get_ref().strip_prefix('@') else {
            return Prompts::parse(prompts.get_ref(), background).map_err(mistake);
        };
        let path = folder.join(file);
        let text = std::fs::read_to_string(&path);
        let text =
            text.map_err(|error| mistake(anyhow::anyhow!("cannot read {}: {error}", path.display())))?;
        // Read once: all connections to all cameras that name the file look for the same.
        Prompts::parse_file_text(&text, background).map_err(mistake)
    }

    /// Those of the defaults count for cameras that have such a class.
    fn prompt_thresholds(&self, prompts: &Prompts) -> Result<Thresholds, Mistake> {
        let read = |written: Found<String>| match written {
            None => Ok(Thresholds::default()),
            Some(text) => text.get_ref().parse::<Thresholds>().map_err(|error| {
                Mistake::new(text.span(), self.key("prompt-thresholds"), format!("{error:#}"))
            }),
        };
        let Some(written) = &self.own.prompt_thresholds else {
            let of_defaults = read(self.defaults.prompt_thresholds.as_ref())?;
            return Ok(of_defaults.filtered(|label| self.has_pictures || prompts.has_label(label)));
        };
        let thresholds = read(Some(written))?;
        let is_unknown = |label: &&str| !self.has_pictures && !prompts.has_label(label);
        let unknown = thresholds.labels().find(is_unknown).map(str::to_owned);
        match unknown {
            Some(label) => {
                let what = format!("\"{label}\" is the label of no prompt of this camera");
                Err(Mistake::new(written.span(), self.key("prompt-thresholds"), what))
            }
            None => Ok(thresholds),
        }
    }

    fn zones(&self, zones: Found<String>) -> Result<String, Mistake> {
        let Some(zones) = zones else { return Ok(String::new()) };
        let tried = scratch()?.try_set(&format!("zones={}", zones.get_ref()));
        tried.map_err(|what| Mistake::new(zones.span(), self.key("zones"), what))?;
        Ok(zones.get_ref().clone())
    }

    /// Names of the outputs; all when the camera names none.
    fn outputs(&self, outputs: &[Output]) -> Result<Vec<String>, Mistake> {
        let Some(names) = self.own.outputs.as_ref().or(self.defaults.outputs.as_ref()) else {
            return Ok(outputs.iter().map(|output| output.name.clone()).collect());
        };
        let known = |name: &Spanned<String>| {
            let found = outputs.iter().find(|output| output.name == *name.get_ref());
            found.map(|output| output.name.clone()).ok_or_else(|| {
                let known: Vec<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
                let what = format!("there is no [output.{}], only {}", name.get_ref(), known.join(", "));
                Mistake::new(name.span(), self.key("outputs"), what)
            })
        };
        names.iter().map(known).collect()
    }

    fn seconds(&self, key: &str, written: Found<f64>, default: f64) -> Result<Duration, Mistake> {
        let seconds = written.map_or(default, |seconds| *seconds.get_ref());
        match written {
            Some(written) if !SECONDS.contains(&seconds) => {
                Err(Mistake::new(written.span(), self.key(key), "it must be from 0.01 seconds to a year"))
            }
            _ => Ok(Duration::from_secs_f64(seconds)),
        }
    }

    fn latency(&self, written: Found<u32>, timeout: Duration) -> Result<Duration, Mistake> {
        let Some(written) = written else { return Ok(LATENCY) };
        let latency = Duration::from_millis((*written.get_ref()).into());
        if latency >= timeout {
            let what = "it is not below timeout: the camera would be given up before its first picture";
            return Err(Mistake::new(written.span(), self.key("latency"), what));
        }
        Ok(latency)
    }

    fn fps(&self, written: Found<f64>) -> Result<Option<gst::Fraction>, Mistake> {
        let Some(written) = written else { return Ok(None) };
        let fps = *written.get_ref();
        if !(0.01..=1000.0).contains(&fps) {
            return Err(Mistake::new(
                written.span(),
                self.key("fps"),
                "it must be from 0.01 to 1000 frames a second",
            ));
        }
        Ok(Some(gst::Fraction::new((fps * 100.0).round() as i32, 100)))
    }

    fn width(&self, written: Found<u32>) -> Result<Option<u32>, Mistake> {
        match written {
            Some(width) if !(16..=16384).contains(width.get_ref()) => {
                Err(Mistake::new(width.span(), self.key("width"), "it must be from 16 to 16384 pixels"))
            }
            width => Ok(width.map(|width| *width.get_ref())),
        }
    }
}
