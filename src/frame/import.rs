// SPDX-License-Identifier: MIT OR Apache-2.0
//! The way from a buffer to the device of the model, with the fewest copies.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Result, anyhow};
use gst_video::video_frame::IsVideoFrame;

use super::cuda::{self, Bridge, Way};
use super::holds::Hold;
use super::pack::has_samples_of_a_byte;
use super::{FORMATS, Geometry, Mapped, colour, lent, pack, picture, pixel_format};
use crate::model::cuda::Uploader;
use crate::model::preprocess::plane_sizes;
use crate::model::{Picture, Pixels};

/// How many frames took which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    /// They were in the memory of the host and were read there.
    pub host_frames: u64,
    /// Their pixels were copied once in the memory of the host: deep samples, memory that too many others hold, or on
    /// their way to a GPU, also from a CUDA context whose frames cannot be copied on the device.
    pub host_copies: u64,
    /// They were in the memory of the model's GPU, and stayed there.
    pub device_frames: u64,
    /// Of those, the ones that belonged to another CUDA context or GPU, and were copied to the model's.
    pub device_copies: u64,
}

/// Brings frames to the device of one model.
pub struct Importer {
    /// The model's GPU.
    gpu: Option<usize>,
    /// Made for the first frame that needs it.
    uploader: OnceLock<Result<Arc<Uploader>, String>>,
    bridge: Option<Bridge>,
    /// Why a model on a GPU has no bridge.
    unbridged: Option<String>,
    host_frames: AtomicU64,
    host_copies: AtomicU64,
    device_frames: AtomicU64,
    device_copies: AtomicU64,
}

/// What the sink takes on this machine: frames in the memory of a GPU first, where there is one.
pub fn caps() -> gst::Caps {
    let host = gst_video::VideoCapsBuilder::new().format_list(FORMATS).build();
    if !cuda::is_available() {
        return host;
    }
    let mut caps =
        gst_video::VideoCapsBuilder::new().features([cuda::FEATURE]).format_list(cuda::FORMATS).build();
    caps.make_mut().append(host);
    caps
}

/// The caps without those of frames in the memory of a GPU.
pub fn host_caps(caps: &gst::CapsRef) -> gst::Caps {
    caps.iter_with_features()
        .filter(|(_, features)| !features.contains(cuda::FEATURE))
        .map(|(structure, features)| (structure.to_owned(), features.to_owned()))
        .collect()
}

impl Importer {
    /// For a model on this device, as `ModelInfo` names it: `cpu`, `cuda:0` ...
    pub fn new(device: &str) -> Importer {
        let gpu = device.strip_prefix("cuda:").and_then(|index| index.parse().ok());
        let (bridge, unbridged) = match gpu.map(Bridge::new) {
            Some(Ok(bridge)) => (Some(bridge), None),
            Some(Err(error)) => (None, Some(format!("{error:#}"))),
            None => (None, None),
        };
        Importer {
            gpu,
            uploader: OnceLock::new(),
            bridge,
            unbridged,
            host_frames: AtomicU64::new(0),
            host_copies: AtomicU64::new(0),
            device_frames: AtomicU64::new(0),
            device_copies: AtomicU64::new(0),
        }
    }

    /// Whether frames may come in the memory of a GPU.
    pub fn takes_device_memory(&self) -> bool {
        self.bridge.is_some()
    }

    /// Why frames may not come in the memory of the model's GPU, if it has one.
    pub fn why_no_device_memory(&self) -> Option<&str> {
        self.unbridged.as_deref()
    }

    /// Whether the model reads the pixels of a buffer where they lie, in the memory of a GPU.
    pub fn is_on_device(&self, buffer: &gst::BufferRef) -> bool {
        self.bridge.as_ref().is_some_and(|bridge| bridge.is_device_frame(buffer))
    }

    /// The CUDA context to offer to other elements, so that their frames need no copy.
    pub fn context(&self) -> Option<&gst::Context> {
        self.bridge.as_ref().map(Bridge::context)
    }

    /// What is shown of a buffer: its pixels where they are if that is the memory of the model's device, else copied once; to a GPU by
    /// way of page-locked memory, without waiting for it. The picture holds the buffer until it is dropped.
    ///
    /// # Errors
    /// The buffer is no frame of `info`, its memory is smaller than its metadata say, its format is not among [`FORMATS`],
    /// or CUDA fails.
    pub fn picture(&self, buffer: &gst::Buffer, info: &gst_video::VideoInfo) -> Result<Picture> {
        if let Some(bridge) = self.bridge.as_ref().filter(|bridge| bridge.is_device_frame(buffer)) {
            let shown = Geometry::of(buffer, info)?.shown;
            let (width, height) = (shown.width as usize, shown.height as usize);
            let format = pixel_format(info.format())?;
            let sizes = plane_sizes(format, width, height);
            if let Some((pixels, way)) = bridge.pixels(buffer, info, shown, &sizes, || self.uploader())? {
                self.device_frames.fetch_add(1, Ordering::Relaxed);
                self.device_copies.fetch_add(u64::from(way == Way::DeviceCopy), Ordering::Relaxed);
                let colour = colour(&info.colorimetry());
                return Ok(Picture { format, width, height, colour, data: Pixels::Lent(pixels) });
            }
        }
        if self.gpu.is_none()
            && has_samples_of_a_byte(info.format())
            && let Some(hold) = Hold::on(buffer)
        {
            let picture = lent(buffer.clone(), hold, info)?;
            self.host_frames.fetch_add(1, Ordering::Relaxed);
            return Ok(picture);
        }
        let frame = Mapped::read_shown(buffer, info)?;
        let picture = match self.gpu {
            None => picture(&frame)?,
            Some(_) => self.upload(&frame)?,
        };
        self.host_copies.fetch_add(1, Ordering::Relaxed);
        Ok(picture)
    }

    fn upload<F: IsVideoFrame>(&self, frame: &Mapped<F>) -> Result<Picture> {
        let (width, height) = (frame.width(), frame.height());
        let video_format = frame.info().format();
        let format = pixel_format(video_format)?;
        let sizes = plane_sizes(format, width, height);
        let rows = |plane: usize| frame.rows(plane);
        let pixels = self.uploader()?.upload(&sizes, |target| pack(video_format, rows, &sizes, target))?;
        let colour = colour(&frame.info().colorimetry());
        Ok(Picture { format, width, height, colour, data: Pixels::Lent(pixels) })
    }

    fn uploader(&self) -> Result<Arc<Uploader>> {
        let make = || Uploader::shared(self.gpu.unwrap_or(0)).map_err(|error| format!("{error:#}"));
        let uploader = self.uploader.get_or_init(make);
        uploader.clone().map_err(|error| anyhow!("{error}"))
    }

    pub fn ways(&self) -> Ways {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Ways {
            host_frames: read(&self.host_frames),
            host_copies: read(&self.host_copies),
            device_frames: read(&self.device_frames),
            device_copies: read(&self.device_copies),
        }
    }
}
