// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which pixels of what a buffer stores are the frame that the caps describe, and which of them are to be shown.
//!
//! A `GstVideoMeta` may store more than the frame, and a `GstVideoCropMeta` says which rectangle of the stored picture
//! counts. Two readings of the latter are in use: with the caps of the rectangle (`videocrop`, decoders with hardware), where
//! the rectangle *is* the frame, and with the caps of the whole, of which the rectangle is a part.

use anyhow::{Result, ensure};
use gst_video::{VideoCropMeta, VideoInfo, VideoMeta};

/// Some pixels of a stored picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

impl Area {
    fn whole((width, height): (u32, u32)) -> Area {
        Area { x: 0, y: 0, width, height }
    }

    fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// As much of it as a picture of this size has.
    fn inside(self, (width, height): (u32, u32)) -> Area {
        let width = self.width.min(width.saturating_sub(self.x));
        Area { width, height: self.height.min(height.saturating_sub(self.y)), ..self }
    }

    fn fits(&self, (width, height): (u32, u32)) -> bool {
        let end = |start: u32, length: u32| start.checked_add(length);
        end(self.x, self.width).is_some_and(|end| end <= width)
            && end(self.y, self.height).is_some_and(|end| end <= height)
    }
}

/// Where a frame is in the picture that its buffer stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// The frame that the caps describe, whose size it has.
    pub frame: Area,
    /// The part of it that is to be shown.
    pub shown: Area,
}

impl Geometry {
    /// # Errors
    /// The metadata contradict the caps, or nothing is left to be shown.
    pub fn of(buffer: &gst::BufferRef, info: &VideoInfo) -> Result<Geometry> {
        let caps = (info.width(), info.height());
        let stored = match buffer.meta::<VideoMeta>() {
            None => caps,
            Some(meta) => {
                ensure!(
                    meta.format() == info.format() && meta.n_planes() == info.n_planes(),
                    "its video metadata say {:?} in {} planes, its caps {:?}",
                    meta.format(),
                    meta.n_planes(),
                    info.format()
                );
                (meta.width(), meta.height())
            }
        };
        let crop = buffer.meta::<VideoCropMeta>().map(|meta| {
            let (x, y, width, height) = meta.rect();
            Area { x, y, width, height }
        });
        Geometry::new(caps, stored, crop)
    }

    fn new(caps: (u32, u32), stored: (u32, u32), crop: Option<Area>) -> Result<Geometry> {
        ensure!(
            Area::whole(caps).fits(stored),
            "its video metadata say {}x{}, less than the {}x{} of its caps",
            stored.0,
            stored.1,
            caps.0,
            caps.1
        );
        let whole = Area::whole(caps);
        let Some(said) = crop else { return Ok(Geometry { frame: whole, shown: whole }) };
        let crop = said.inside(stored);
        ensure!(
            crop.width > 0 && crop.height > 0,
            "its crop metadata leave nothing of {}x{}: {said:?}",
            stored.0,
            stored.1
        );
        if crop.size() == caps {
            return Ok(Geometry { frame: crop, shown: crop });
        }
        ensure!(
            crop.fits(caps),
            "its crop metadata, {said:?}, are neither the {}x{} of its caps nor a part of them",
            caps.0,
            caps.1
        );
        Ok(Geometry { frame: whole, shown: crop })
    }

    /// Left, top, width and height of what is shown, relative to the frame (0..1).
    pub fn covered(&self) -> [f64; 4] {
        let share = |part: u32, of: u32| f64::from(part) / f64::from(of.max(1));
        let Geometry { frame, shown } = self;
        [
            share(shown.x - frame.x, frame.width),
            share(shown.y - frame.y, frame.height),
            share(shown.width, frame.width),
            share(shown.height, frame.height),
        ]
    }
}

/// Takes the offer to crop by metadata off an ALLOCATION answer. Whoever takes it leaves pixels in the buffer that nobody
/// is to see, and elements that do not know the metadata read the upper left of them.
pub fn refuse_crop_metadata(query: &mut gst::query::Allocation) {
    while let Some(index) = query.find_allocation_meta::<VideoCropMeta>() {
        query.remove_nth_allocation_meta(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORED: (u32, u32) = (128, 96);

    fn area(x: u32, y: u32, width: u32, height: u32) -> Area {
        Area { x, y, width, height }
    }

    #[test]
    fn what_is_stored_beside_the_frame_is_not_read() {
        // Decoders store whole blocks.
        let padded = Geometry::new((120, 90), STORED, None).unwrap();
        assert_eq!((padded.frame, padded.shown), (area(0, 0, 120, 90), area(0, 0, 120, 90)));
        assert!(Geometry::new((130, 96), STORED, None).is_err());
    }

    #[test]
    fn a_crop_of_the_size_of_the_caps_is_the_frame() {
        let crop = area(64, 48, 64, 48);
        let geometry = Geometry::new((64, 48), STORED, Some(crop)).unwrap();
        assert_eq!((geometry.frame, geometry.shown, geometry.covered()), (crop, crop, [0.0, 0.0, 1.0, 1.0]));
        // Also where it says more than there is.
        let more = Geometry::new((64, 48), STORED, Some(area(64, 48, 640, 480))).unwrap();
        assert_eq!(more, geometry);
    }

    #[test]
    fn a_crop_inside_the_caps_is_a_part_of_the_frame() {
        let geometry = Geometry::new(STORED, STORED, Some(area(32, 24, 64, 48))).unwrap();
        assert_eq!(geometry.frame, area(0, 0, 128, 96));
        assert_eq!(geometry.covered(), [0.25, 0.25, 0.5, 0.5]);
        let whole = Geometry::new(STORED, STORED, Some(area(0, 0, 128, 96))).unwrap();
        assert_eq!(whole.covered(), [0.0, 0.0, 1.0, 1.0]);
    }

    #[test]
    fn a_crop_that_makes_no_sense_is_an_error() {
        for crop in [area(0, 0, 0, 10), area(128, 0, 10, 10), area(u32::MAX, u32::MAX, u32::MAX, u32::MAX)] {
            assert!(Geometry::new(STORED, STORED, Some(crop)).is_err(), "{crop:?}");
        }
        // Neither of the size of the caps nor inside them.
        assert!(Geometry::new((64, 48), STORED, Some(area(32, 24, 60, 40))).is_err());
    }
}
