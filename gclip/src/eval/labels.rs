// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ground-truth label pictures: PNG with grey values (1 to 16 bits), with palette indices (VOC), or with colours
//! that a table explains (CamVid's own labels).

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::confusion::NONE;

/// Larger label pictures are a mistake or an attack.
const MAX_PIXELS: usize = 1 << 28;

/// Class numbers of one picture, row-major; [`NONE`] where the pixel is ignored.
pub struct Labels {
    pub width: usize,
    pub height: usize,
    pub classes: Vec<u16>,
}

/// What the values of a label picture mean.
#[derive(Clone, Default)]
pub struct LabelRules {
    /// Values that do not count.
    pub ignore: Vec<u16>,
    /// Value 0 is ignored and value n is class n - 1 (mmseg's `reduce_zero_label`).
    pub reduce_zero: bool,
    /// Colour -> value, for labels in colours.
    pub colours: Option<HashMap<[u8; 3], u16>>,
    /// Number of classes.
    pub classes: usize,
}

impl LabelRules {
    /// The class of a value, [`NONE`] when ignored; `Err` with the value when no class has it.
    fn class(&self, value: u16) -> Result<u16, u16> {
        if self.ignore.contains(&value) {
            return Ok(NONE);
        }
        let class = match (self.reduce_zero, value) {
            (true, 0) => return Ok(NONE),
            (true, value) => value - 1,
            (false, value) => value,
        };
        if usize::from(class) < self.classes { Ok(class) } else { Err(value) }
    }

    /// Reads one label picture.
    pub fn read(&self, path: &Path) -> Result<Labels> {
        let (width, height, values) =
            self.read_values(path).with_context(|| format!("cannot read the labels {}", path.display()))?;
        let classes = values
            .into_iter()
            .map(|value| {
                self.class(value).map_err(|value| {
                    anyhow::anyhow!(
                        "{} has the label value {value}, but there are {} classes{}: give it a line in the prompts \
                         file or add --ignore {value}",
                        path.display(),
                        self.classes,
                        if self.reduce_zero { " after value 0 is taken off" } else { "" }
                    )
                })
            })
            .collect::<Result<Vec<u16>>>()?;
        Ok(Labels { width, height, classes })
    }

    /// Raw values: grey levels and palette indices as they are in the file.
    fn read_values(&self, path: &Path) -> Result<(usize, usize, Vec<u16>)> {
        let mut decoder = png::Decoder::new(BufReader::new(File::open(path)?));
        // Without this, the decoder would turn palette indices into colours and stretch 4-bit grey to 8 bits.
        decoder.set_transformations(png::Transformations::IDENTITY);
        let mut reader = decoder.read_info()?;
        let info = reader.info();
        let (width, height) = (info.width as usize, info.height as usize);
        if width.saturating_mul(height) > MAX_PIXELS {
            bail!("it is {width}x{height}, larger than any picture");
        }
        let size = reader.output_buffer_size().context("its size is impossible")?;
        let mut bytes = vec![0; size];
        let frame = reader.next_frame(&mut bytes)?;
        let rows = bytes.chunks_exact(frame.line_size).take(height);
        let mut values = Vec::with_capacity(width * height);
        match (frame.color_type, frame.bit_depth) {
            (png::ColorType::Grayscale | png::ColorType::Indexed, depth) => {
                rows.for_each(|row| unpack(row, depth as usize, width, &mut values));
            }
            (png::ColorType::Rgb | png::ColorType::Rgba, png::BitDepth::Eight) => {
                let colours = self
                    .colours
                    .as_ref()
                    .context("it holds colours: name the file that explains them with --label-colors")?;
                let samples = frame.color_type.samples();
                for pixel in rows.flat_map(|row| row.chunks_exact(samples).take(width)) {
                    let colour = [pixel[0], pixel[1], pixel[2]];
                    let value = colours.get(&colour);
                    values.push(
                        *value.with_context(|| {
                            format!("the colour {colour:?} is in no line of --label-colors")
                        })?,
                    );
                }
            }
            (colour, depth) => bail!("labels in {colour:?} with {depth:?} bits are not known"),
        }
        Ok((width, height, values))
    }
}

/// Appends the samples of one row, most significant bits first, two bytes for 16 bits.
fn unpack(row: &[u8], depth: usize, width: usize, values: &mut Vec<u16>) {
    match depth {
        16 => {
            values.extend(row.chunks_exact(2).take(width).map(|pair| u16::from_be_bytes([pair[0], pair[1]])))
        }
        depth => {
            let (per_byte, mask) = (8 / depth, (1u16 << depth) - 1);
            values.extend((0..width).map(|column| {
                let shift = 8 - depth * (column % per_byte + 1);
                (u16::from(row[column / per_byte]) >> shift) & mask
            }));
        }
    }
}

/// Reads a colour table: `R G B` and anything after it on every line; the nth line is value n - 1.
pub fn read_colours(path: &Path) -> Result<HashMap<[u8; 3], u16>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    (0..=u16::MAX)
        .zip(lines)
        .map(|(value, line)| {
            let mut numbers = line.split_whitespace().map(str::parse::<u8>);
            match (numbers.next(), numbers.next(), numbers.next()) {
                (Some(Ok(r)), Some(Ok(g)), Some(Ok(b))) => Ok(([r, g, b], value)),
                _ => bail!("the line `{line}` of {} does not start with R G B", path.display()),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, width: u32, colour: png::ColorType, depth: png::BitDepth, bytes: &[u8]) {
        let mut encoder = png::Encoder::new(File::create(path).unwrap(), width, 2);
        encoder.set_color(colour);
        encoder.set_depth(depth);
        if colour == png::ColorType::Indexed {
            encoder.set_palette((0..=255u8).flat_map(|i| [i, 255 - i, 7]).collect::<Vec<u8>>());
        }
        encoder.write_header().unwrap().write_image_data(bytes).unwrap();
    }

    fn rules(classes: usize) -> LabelRules {
        LabelRules { ignore: vec![255], classes, ..LabelRules::default() }
    }

    #[test]
    fn every_depth_and_the_palette_keep_their_values() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        use png::{BitDepth, ColorType};
        write(&path, 3, ColorType::Grayscale, BitDepth::Eight, &[0, 1, 2, 3, 4, 255]);
        assert_eq!(rules(5).read(&path).unwrap().classes, [0, 1, 2, 3, 4, NONE]);
        write(&path, 3, ColorType::Indexed, BitDepth::Eight, &[0, 15, 20, 3, 4, 255]);
        assert_eq!(rules(21).read(&path).unwrap().classes, [0, 15, 20, 3, 4, NONE]);
        write(&path, 3, ColorType::Indexed, BitDepth::Four, &[0x12, 0x30, 0x4f, 0x10]);
        assert_eq!(rules(16).read(&path).unwrap().classes, [1, 2, 3, 4, 15, 1]);
        write(&path, 3, ColorType::Grayscale, BitDepth::Two, &[0b0001_1000, 0b1101_0000]);
        assert_eq!(rules(4).read(&path).unwrap().classes, [0, 1, 2, 3, 1, 0]);
        write(&path, 3, ColorType::Grayscale, BitDepth::One, &[0b0110_0000, 0b1000_0000]);
        assert_eq!(rules(2).read(&path).unwrap().classes, [0, 1, 1, 1, 0, 0]);
        write(&path, 3, ColorType::Grayscale, BitDepth::Sixteen, &[1, 0, 0, 2, 0, 255, 0, 0, 0, 1, 1, 44]);
        assert_eq!(rules(301).read(&path).unwrap().classes, [256, 2, NONE, 0, 1, 300]);
    }

    #[test]
    fn reduce_zero_label_shifts_and_ignores() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        write(&path, 2, png::ColorType::Grayscale, png::BitDepth::Eight, &[0, 1, 150, 255]);
        let rules = LabelRules { reduce_zero: true, ..rules(150) };
        assert_eq!(rules.read(&path).unwrap().classes, [NONE, 0, 149, NONE]);
    }

    #[test]
    fn colours_go_through_the_table() {
        let folder = tempfile::tempdir().unwrap();
        let (path, table) = (folder.path().join("a.png"), folder.path().join("label_colors.txt"));
        std::fs::write(&table, "64 128 64\tAnimal\n192 0 128\t\tArchway\n").unwrap();
        let pixels = [[192, 0, 128], [64, 128, 64], [64, 128, 64], [192, 0, 128]];
        write(&path, 2, png::ColorType::Rgb, png::BitDepth::Eight, &pixels.concat());
        let refused = rules(2).read(&path).err().unwrap();
        assert!(format!("{refused:#}").contains("--label-colors"), "{refused:#}");
        let rules = LabelRules { colours: Some(read_colours(&table).unwrap()), ..rules(2) };
        assert_eq!(rules.read(&path).unwrap().classes, [1, 0, 0, 1]);
    }

    #[test]
    fn a_value_without_a_class_names_file_and_value() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("odd.png");
        write(&path, 2, png::ColorType::Grayscale, png::BitDepth::Eight, &[0, 1, 2, 33]);
        let message = format!("{:#}", rules(19).read(&path).err().unwrap());
        assert!(message.contains("odd.png") && message.contains("33") && message.contains("19"), "{message}");
    }
}
