// SPDX-License-Identifier: MIT OR Apache-2.0
//! From GStreamer's description of a frame to the planes that the painters know.

use super::colour::ColourSpace;
use super::paint::{Plane, PlaneLayout};
use gst_video::VideoColorRange;

/// The formats that can be drawn on.
pub const FORMATS: [gst_video::VideoFormat; 10] = [
    gst_video::VideoFormat::Rgb,
    gst_video::VideoFormat::Bgr,
    gst_video::VideoFormat::Rgba,
    gst_video::VideoFormat::Bgra,
    gst_video::VideoFormat::Rgbx,
    gst_video::VideoFormat::Bgrx,
    gst_video::VideoFormat::Gray8,
    gst_video::VideoFormat::I420,
    gst_video::VideoFormat::Nv12,
    gst_video::VideoFormat::Yuy2,
];

/// A frame as a set of planes. Two for YUY2, although its samples share one memory plane: luma and chroma differ in size.
#[derive(Clone, Debug, PartialEq)]
pub struct FrameLayout {
    pub width: usize,
    pub height: usize,
    pub planes: Vec<PlaneLayout>,
    pub space: ColourSpace,
}

impl FrameLayout {
    pub fn of(info: &gst_video::VideoInfo) -> Self {
        let format = info.format_info();
        let mut planes: Vec<PlaneLayout> = Vec::new();
        // The alpha of RGBA, its fourth component, is not a colour: it stays as it is.
        for component in 0..(format.n_components() as usize).min(3) {
            let memory = format.plane()[component] as usize;
            let step = [1 << format.w_sub()[component], 1 << format.h_sub()[component]];
            let pixel_stride = format.pixel_stride()[component] as usize;
            let place = (format.poffset()[component] as usize, component);
            match planes.iter_mut().find(|plane| (plane.memory, plane.step) == (memory, step)) {
                Some(plane) => plane.components.push(place),
                None => planes.push(PlaneLayout { memory, step, pixel_stride, components: vec![place] }),
            }
        }
        // In the order of memory, so that painters may take packed samples as plain bytes.
        planes.iter_mut().for_each(|plane| plane.components.sort_unstable());
        let (width, height) = (info.width() as usize, info.height() as usize);
        Self { width, height, planes, space: colour_space(info) }
    }

    /// A picture of the frame's size that starts transparent, for a `GstVideoOverlayComposition`:
    /// BGRA, premultiplied, its alpha painted like a colour.
    pub fn transparent(width: usize, height: usize) -> Self {
        let components = vec![(0, 2), (1, 1), (2, 0), (3, 3)];
        let plane = PlaneLayout { memory: 0, step: [1, 1], pixel_stride: 4, components };
        Self { width, height, planes: vec![plane], space: ColourSpace::Rgb }
    }

    /// Plane number `index` in its mapped memory.
    pub fn plane<'a>(&'a self, index: usize, data: &'a mut [u8], stride: usize) -> Plane<'a> {
        let layout = &self.planes[index];
        let [step_x, step_y] = layout.step;
        Plane {
            data,
            stride,
            width: self.width.div_ceil(step_x),
            height: self.height.div_ceil(step_y),
            layout,
        }
    }
}

fn colour_space(info: &gst_video::VideoInfo) -> ColourSpace {
    if info.is_rgb() {
        return ColourSpace::Rgb;
    }
    let colorimetry = info.colorimetry();
    // Caps without a matrix, and GRAY8 that says "rgb": BT.601 as everywhere in GStreamer.
    let (kr, kb) = colorimetry.matrix().kr_kb().unwrap_or((0.299, 0.114));
    ColourSpace::Yuv { kr, kb, full_range: colorimetry.range() == VideoColorRange::Range0_255 }
}
