// SPDX-License-Identifier: MIT OR Apache-2.0
//! Colours: the palette, what a user writes, and how a colour is stored in a frame.

use std::collections::HashMap;

/// Red, green, blue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rgb(pub [u8; 3]);

impl Rgb {
    pub const BLACK: Rgb = Rgb([0; 3]);

    /// `#rgb` or `#rrggbb`; the `#` may be left out.
    pub fn parse(text: &str) -> Option<Rgb> {
        let digits = text.trim().trim_start_matches('#');
        if !digits.is_ascii() {
            return None;
        }
        let byte = |text: &str| u8::from_str_radix(text, 16).ok();
        match digits.len() {
            6 => Some(Rgb([byte(&digits[0..2])?, byte(&digits[2..4])?, byte(&digits[4..6])?])),
            3 => Some(Rgb([byte(&digits[0..1])? * 17, byte(&digits[1..2])? * 17, byte(&digits[2..3])? * 17])),
            _ => None,
        }
    }

    /// Towards black: 1 keeps the colour.
    pub fn shade(self, share: f64) -> Rgb {
        Rgb(self.0.map(|channel| (channel as f64 * share).round().clamp(0.0, 255.0) as u8))
    }
}

/// Colours that stay apart when laid half transparent over a picture, neighbours furthest.
const PALETTE: [[u8; 3]; 16] = [
    [255, 82, 82],
    [41, 182, 246],
    [255, 202, 40],
    [102, 217, 110],
    [186, 104, 255],
    [255, 138, 48],
    [38, 222, 202],
    [255, 105, 180],
    [92, 107, 255],
    [205, 220, 57],
    [226, 64, 251],
    [0, 200, 120],
    [30, 120, 255],
    [255, 171, 145],
    [198, 120, 64],
    [148, 226, 255],
];

/// The nth colour of the palette; after the chosen ones, hues by the golden angle in three brightnesses.
pub fn palette(index: usize) -> Rgb {
    if let Some(&colour) = PALETTE.get(index) {
        return Rgb(colour);
    }
    let hue = (index as f64 * 0.618_033_988_75).fract() * 6.0;
    let value = [1.0, 0.72, 0.86][index % 3];
    let channel = |offset: f64| {
        let ramp = (((hue + offset) % 6.0) - 3.0).abs() - 1.0;
        let full = ramp.clamp(0.0, 1.0);
        ((0.25 + 0.75 * full) * value * 255.0).round() as u8
    };
    Rgb([channel(0.0), channel(4.0), channel(2.0)])
}

/// Gives every label a colour and never changes it: the palette colour of its class number, or, when prompts have
/// changed and another label has that one, the next free colour.
#[derive(Default)]
pub struct Palette {
    by_label: HashMap<String, usize>,
}

impl Palette {
    /// Labels remembered at most; a program that invents prompts for ever starts again from an empty memory.
    const MEMORY: usize = 4096;

    pub fn colour(&mut self, label: &str, value: u32) -> Rgb {
        if let Some(&index) = self.by_label.get(label) {
            return palette(index);
        }
        if self.by_label.len() >= Self::MEMORY {
            self.by_label.clear();
        }
        let mut index = value.saturating_sub(1) as usize;
        while self.by_label.values().any(|&taken| taken == index) {
            index += 1;
        }
        self.by_label.insert(label.to_owned(), index);
        palette(index)
    }
}

/// How a frame stores colours; taken from its caps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ColourSpace {
    Rgb,
    /// Y'CbCr by the luma weights of red and blue (BT.601, BT.709, ...) and the range; GRAY8 is its first component.
    Yuv {
        kr: f64,
        kb: f64,
        full_range: bool,
    },
}

impl ColourSpace {
    /// Components of a colour that is premultiplied by `alpha`, all 0..1; the result is premultiplied, 0..255.
    pub fn premultiplied(&self, [r, g, b]: [f64; 3], alpha: f64) -> [f64; 3] {
        match *self {
            ColourSpace::Rgb => [r * 255.0, g * 255.0, b * 255.0],
            ColourSpace::Yuv { kr, kb, full_range } => {
                let luma = kr * r + (1.0 - kr - kb) * g + kb * b;
                let (cb, cr) = ((b - luma) / (2.0 - 2.0 * kb), (r - luma) / (2.0 - 2.0 * kr));
                let (foot, luma_range, chroma_range) =
                    if full_range { (0.0, 255.0, 255.0) } else { (16.0, 219.0, 224.0) };
                [
                    foot * alpha + luma_range * luma,
                    128.0 * alpha + chroma_range * cb,
                    128.0 * alpha + chroma_range * cr,
                ]
            }
        }
    }

    /// Components of an opaque colour.
    pub fn components(&self, Rgb(rgb): Rgb) -> [u8; 3] {
        self.premultiplied(rgb.map(|channel| channel as f64 / 255.0), 1.0)
            .map(|component| component.round().clamp(0.0, 255.0) as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_people_write() {
        assert_eq!(Rgb::parse(" #ff8000"), Some(Rgb([255, 128, 0])));
        assert_eq!(Rgb::parse("0af"), Some(Rgb([0, 170, 255])));
        for wrong in ["", "#12345", "#gg0000", "red", "#ÿÿÿ"] {
            assert_eq!(Rgb::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_label_keeps_its_colour_when_the_prompts_change() {
        let mut palette_ = Palette::default();
        let (sky, car) = (palette_.colour("sky", 1), palette_.colour("car", 2));
        assert_eq!((sky, car), (palette(0), palette(1)));
        assert_eq!(palette_.colour("car", 1), car);
        assert_eq!(palette_.colour("tree", 1), palette(2), "the first two are taken");
    }

    #[test]
    fn palette_colours_are_all_different() {
        let colours: std::collections::HashSet<Rgb> = (0..64).map(palette).collect();
        assert_eq!(colours.len(), 64);
    }

    #[test]
    fn yuv_by_matrix_and_range() {
        let bt709 = ColourSpace::Yuv { kr: 0.2126, kb: 0.0722, full_range: false };
        let bt601 = ColourSpace::Yuv { kr: 0.299, kb: 0.114, full_range: false };
        let full = ColourSpace::Yuv { kr: 0.299, kb: 0.114, full_range: true };
        assert_eq!(bt709.components(Rgb([255, 255, 255])), [235, 128, 128]);
        assert_eq!(bt709.components(Rgb([255, 0, 0])), [63, 102, 240]);
        assert_eq!(bt601.components(Rgb([255, 0, 0])), [81, 90, 240]);
        assert_eq!(full.components(Rgb([255, 0, 0])), [76, 85, 255]);
        assert_eq!(full.components(Rgb::BLACK), [0, 128, 128]);
        assert_eq!(ColourSpace::Rgb.components(Rgb([1, 2, 3])), [1, 2, 3]);
    }
}
