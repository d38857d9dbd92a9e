// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames with masks, and `gclipoverlay` in a harness.

use gst::prelude::*;
use gst_video::{VideoFormat, VideoInfo};
use gstgclip::meta::{Masks, Region};

pub const FORMATS: [VideoFormat; 10] = [
    VideoFormat::Rgb,
    VideoFormat::Bgr,
    VideoFormat::Rgba,
    VideoFormat::Bgra,
    VideoFormat::Rgbx,
    VideoFormat::Bgrx,
    VideoFormat::Gray8,
    VideoFormat::I420,
    VideoFormat::Nv12,
    VideoFormat::Yuy2,
];

pub fn init() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        gst::init().unwrap();
        gstgclip::plugin_register_static().unwrap();
    });
}

/// A mask of `width` x `height` cells over the whole frame; class n has label n - 1.
pub fn masks(width: u32, height: u32, values: &[u8], labels: &[&str]) -> Masks {
    let labels: Vec<_> = labels.iter().enumerate().map(|(i, label)| (i as u32 + 1, *label)).collect();
    build(VideoFormat::Gray8, width, height, values.to_vec(), &labels)
}

pub fn masks_16(width: u32, height: u32, values: &[u16], labels: &[(u32, &str)]) -> Masks {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    build(VideoFormat::Gray16Le, width, height, bytes, labels)
}

fn build(format: VideoFormat, width: u32, height: u32, data: Vec<u8>, labels: &[(u32, &str)]) -> Masks {
    init();
    let stride = data.len() as i32 / height as i32;
    let mut mask = gst::Buffer::from_mut_slice(data);
    let flags = gst_video::VideoFrameFlags::empty();
    gst_video::VideoMeta::add_full(mask.make_mut(), flags, format, width, height, &[0], &[stride]).unwrap();
    let region = |&(value, label): &(u32, &str)| Region {
        value,
        label: label.into(),
        score: 0.9,
        area: 0.5,
        x: 0.0,
        y: 0.0,
        w: 1.0,
        h: 1.0,
    };
    Masks::new(1, mask, labels.iter().map(region).collect())
}

pub struct Scene {
    pub info: VideoInfo,
}

impl Scene {
    pub fn new(format: VideoFormat, width: u32, height: u32) -> Self {
        init();
        Self { info: VideoInfo::builder(format, width, height).fps((30, 1)).build().unwrap() }
    }

    pub fn with_colorimetry(format: VideoFormat, width: u32, height: u32, colorimetry: &str) -> Self {
        let mut scene = Self::new(format, width, height);
        let colorimetry = colorimetry.parse().unwrap();
        scene.info =
            VideoInfo::builder(format, width, height).fps((30, 1)).colorimetry(&colorimetry).build().unwrap();
        scene
    }

    /// A frame with a pattern that has no two equal neighbours.
    pub fn frame(&self, masks: Option<&Masks>) -> gst::Buffer {
        let data: Vec<u8> =
            (0..self.info.size()).map(|i| ((i * 89 + i / 61 * 37) % 211 + 20) as u8).collect();
        let mut buffer = gst::Buffer::from_mut_slice(data);
        if let Some(masks) = masks {
            masks.attach(buffer.make_mut());
        }
        buffer
    }

    pub fn overlay(&self, properties: &str) -> Overlay {
        let mut harness = gst_check::Harness::new_parse(&format!("gclipoverlay name=overlay {properties}"));
        harness.set_caps(self.info.to_caps().unwrap(), self.info.to_caps().unwrap());
        Overlay { harness }
    }

    /// A colour as this frame's components, by the formulas of BT.601 / BT.709.
    pub fn store(&self, rgb: [u8; 3]) -> Vec<u8> {
        if self.info.is_rgb() {
            return rgb.to_vec();
        }
        let colorimetry = self.info.colorimetry();
        let (kr, kb) = colorimetry.matrix().kr_kb().unwrap_or((0.299, 0.114));
        let [r, g, b] = rgb.map(|channel| channel as f64 / 255.0);
        let y = kr * r + (1.0 - kr - kb) * g + kb * b;
        let (cb, cr) = ((b - y) / (1.0 - kb) / 2.0, (r - y) / (1.0 - kr) / 2.0);
        let full = colorimetry.range() == gst_video::VideoColorRange::Range0_255;
        let (foot, luma, chroma) = if full { (0.0, 255.0, 255.0) } else { (16.0, 219.0, 224.0) };
        let components = [foot + luma * y, 128.0 + chroma * cb, 128.0 + chroma * cr];
        components[..self.info.n_components().min(3) as usize].iter().map(|c| c.round() as u8).collect()
    }
}

pub struct Overlay {
    harness: gst_check::Harness,
}

impl Overlay {
    pub fn element(&self) -> gst::Element {
        self.harness
            .element()
            .unwrap()
            .downcast::<gst::Bin>()
            .map_or_else(|element| element, |bin| bin.by_name("overlay").unwrap())
    }

    pub fn set_caps(&mut self, scene: &Scene) {
        self.harness.set_caps(scene.info.to_caps().unwrap(), scene.info.to_caps().unwrap());
    }

    /// From now on downstream answers that it takes overlay compositions.
    pub fn take_compositions(&mut self) {
        self.harness.add_propose_allocation_meta(gst_video::VideoOverlayCompositionMeta::meta_api(), None);
    }

    pub fn try_push(&mut self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        self.harness.push(buffer)
    }

    pub fn push(&mut self, buffer: gst::Buffer) -> gst::Buffer {
        self.harness.push_and_pull(buffer).unwrap()
    }
}

pub fn bytes(buffer: &gst::Buffer) -> Vec<u8> {
    buffer.map_readable().unwrap().to_vec()
}

/// The pixels of a frame, read component by component.
pub struct Pixels {
    info: VideoInfo,
    data: Vec<u8>,
}

impl Pixels {
    pub fn of(scene: &Scene, buffer: &gst::Buffer) -> Self {
        Self { info: scene.info.clone(), data: bytes(buffer) }
    }

    fn place(&self, component: usize, x: usize, y: usize) -> usize {
        let format = self.info.format_info();
        let plane = format.plane()[component] as usize;
        let (x, y) = (x >> format.w_sub()[component], y >> format.h_sub()[component]);
        self.info.offset()[plane]
            + y * self.info.stride()[plane] as usize
            + x * format.pixel_stride()[component] as usize
            + format.poffset()[component] as usize
    }

    /// The colour components (not alpha) of a pixel.
    pub fn at(&self, x: usize, y: usize) -> Vec<u8> {
        let components = (self.info.n_components() as usize).min(3);
        (0..components).map(|component| self.data[self.place(component, x, y)]).collect()
    }

    /// All bytes that are no colour of any pixel: alpha, unused bytes, row padding.
    pub fn other_bytes(&self) -> Vec<u8> {
        let mut colour = vec![false; self.data.len()];
        let (width, height) = (self.info.width() as usize, self.info.height() as usize);
        for (component, y) in
            (0..(self.info.n_components() as usize).min(3)).flat_map(|c| (0..height).map(move |y| (c, y)))
        {
            for x in 0..width {
                colour[self.place(component, x, y)] = true;
            }
        }
        self.data.iter().zip(colour).filter(|(_, colour)| !colour).map(|(&byte, _)| byte).collect()
    }
}

/// Draws and counts the pixels that changed in the left and in the right half.
pub fn changed(scene: &Scene, properties: &str, masks: &gstgclip::meta::Masks) -> [usize; 2] {
    let before = scene.frame(Some(masks));
    let after = scene.overlay(properties).push(before.copy_deep().unwrap());
    let (before, after) = (Pixels::of(scene, &before), Pixels::of(scene, &after));
    assert_eq!(before.other_bytes(), after.other_bytes(), "{properties}: alpha and padding");
    let (width, height) = (scene.info.width() as usize, scene.info.height() as usize);
    let count = |columns: std::ops::Range<usize>| {
        columns
            .flat_map(|x| (0..height).map(move |y| (x, y)))
            .filter(|&(x, y)| before.at(x, y) != after.at(x, y))
            .count()
    };
    // Without the two columns at the border, which both halves share.
    [count(0..width / 2 - 2), count(width / 2 + 2..width)]
}
