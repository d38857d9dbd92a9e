// SPDX-License-Identifier: MIT OR Apache-2.0
//! Masks as PNG. The pixel values are the ids; a palette makes them visible without changing them, as in VOC.

use std::path::Path;

use anyhow::Result;
use gstgclip::model::{Ids, Segmentation};

use super::paint::colour;
use crate::output;

pub fn write(path: &Path, answer: &Segmentation) -> Result<()> {
    output::write(path, |file| {
        let mut encoder = png::Encoder::new(file, answer.width.try_into()?, answer.height.try_into()?);
        let bytes = match &answer.ids {
            Ids::U8(ids) => {
                encoder.set_color(png::ColorType::Indexed);
                encoder.set_depth(png::BitDepth::Eight);
                encoder.set_palette((0..=255).flat_map(colour).collect::<Vec<u8>>());
                ids.clone()
            }
            Ids::U16(ids) => {
                encoder.set_color(png::ColorType::Grayscale);
                encoder.set_depth(png::BitDepth::Sixteen);
                ids.iter().flat_map(|id| id.to_be_bytes()).collect()
            }
        };
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&bytes)?;
        Ok(writer.finish()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> (png::ColorType, Vec<u8>) {
        let mut decoder = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(path).unwrap()));
        decoder.set_transformations(png::Transformations::IDENTITY);
        let mut reader = decoder.read_info().unwrap();
        let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
        let frame = reader.next_frame(&mut bytes).unwrap();
        (frame.color_type, bytes)
    }

    #[test]
    fn values_survive_in_both_widths() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.png");
        let answer = |ids| Segmentation::new(3, 2, ids, Vec::new());
        write(&path, &answer(Ids::U8(vec![0, 1, 2, 3, 254, 255]))).unwrap();
        assert_eq!(read(&path), (png::ColorType::Indexed, vec![0, 1, 2, 3, 254, 255]));
        write(&path, &answer(Ids::U16(vec![0, 1, 2, 3, 300, 65535]))).unwrap();
        let (colour, bytes) = read(&path);
        assert_eq!(colour, png::ColorType::Grayscale);
        assert_eq!(bytes, [0, 0, 0, 1, 0, 2, 0, 3, 1, 44, 255, 255]);
    }
}
