// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a picture was held: EXIF's tag, and the picture turned upright.

use super::rgb::RgbImage;

/// EXIF's number, 1 to 8: which corner of the stored picture is the upper left one of what it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orientation(u8);

impl Orientation {
    pub const UPRIGHT: Orientation = Orientation(1);

    /// What `exif` says, a TIFF file without pictures. None when it says nothing, or is damaged.
    pub fn of_exif(exif: &[u8]) -> Option<Orientation> {
        const TAG: u16 = 0x0112;
        const SHORT: u16 = 3;
        let little = match exif.first_chunk()? {
            b"II*\0" => true,
            b"MM\0*" => false,
            _ => return None,
        };
        let short = |at: usize| {
            let bytes = *exif.get(at..)?.first_chunk()?;
            Some(if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
        };
        let long = |at: usize| {
            let bytes = *exif.get(at..)?.first_chunk()?;
            Some(if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
        };
        let directory = usize::try_from(long(4)?).ok()?;
        // A count of entries, then each of 12 bytes: tag, type, how many, value.
        for entry in 0..usize::from(short(directory)?) {
            let at = directory + 2 + 12 * entry;
            if (short(at)?, short(at + 2)?, long(at + 4)?) == (TAG, SHORT, 1) {
                let value = short(at + 8)?;
                return (1..=8).contains(&value).then_some(Orientation(value as u8));
            }
        }
        None
    }

    /// The picture as it is to be shown.
    pub fn upright(self, image: RgbImage) -> RgbImage {
        if self == Orientation::UPRIGHT {
            return image;
        }
        let (width, height) = (image.width(), image.height());
        let lies = self.0 >= 5;
        let (mirrored, upside_down) = (matches!(self.0, 2 | 3 | 7 | 8), matches!(self.0, 3 | 4 | 6 | 7));
        let (columns, rows) = if lies { (height, width) } else { (width, height) };
        let stored = image.pixels();
        let mut data = Vec::with_capacity(image.as_raw().len());
        for row in 0..rows {
            for column in 0..columns {
                let (x, y) = if lies { (row, column) } else { (column, row) };
                let x = if mirrored { width - 1 - x } else { x };
                let y = if upside_down { height - 1 - y } else { y };
                data.extend(stored[y * width + x]);
            }
        }
        RgbImage::from_raw(columns, rows, data).unwrap_or(image)
    }
}
