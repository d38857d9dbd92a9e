// SPDX-License-Identifier: MIT OR Apache-2.0
//! Winning queries on the host: mask values, and the score, area and box of each class.

use anyhow::{Result, bail};
use tch::{Kind, Tensor};

use super::fused::Winners;
use super::{Ids, NOT_NUMBERS, Region, Segmentation};
use crate::model::vocabulary::Vocabulary;

/// Values up to this fit one byte a pixel.
const BYTE_CLASSES: usize = 255;

/// One picture's pixels, row-major.
pub struct Pixels {
    value: Vec<i32>,
    probability: Vec<f32>,
}

impl Pixels {
    pub fn of(winners: Winners, vocabulary: &Vocabulary) -> Pixels {
        let value =
            winners.query.iter().map(|&query| vocabulary.query_value[query as usize] as i32).collect();
        Pixels { value, probability: winners.probability }
    }

    /// Brings `[H, W]` winning queries and their probabilities to the host in one copy.
    pub fn copy_back(query: &Tensor, probability: &Tensor, vocabulary: &Vocabulary) -> Result<Pixels> {
        let values: Vec<i32> = vocabulary.query_value.iter().map(|&value| value as i32).collect();
        let values = Tensor::f_from_slice(&values)?.f_to_device(query.device())?.f_take(query)?;
        let bits = probability.f_view_dtype(Kind::Int)?;
        let both = Tensor::f_stack(&[values, bits], 0)?.f_to_device(tch::Device::Cpu)?; // 2 x [H, W] -> [2, H, W]
        let pixels = both.numel() / 2;
        let mut value = vec![0i32; 2 * pixels];
        both.f_copy_data(&mut value, 2 * pixels)?;
        let probability =
            value.split_off(pixels).into_iter().map(|bits| f32::from_bits(bits as u32)).collect();
        Ok(Pixels { value, probability })
    }

    /// Rows of the queries whose class wins more than `min_area` of all foreground pixels, background included;
    /// `None` if no class that is present falls below.
    pub fn queries_kept(&self, min_area: f64, vocabulary: &Vocabulary) -> Option<Vec<i64>> {
        let mut count = vec![0u64; vocabulary.labels.len() + 1];
        for &value in &self.value {
            count[value as usize] += 1;
        }
        let foreground: u64 = count[1..].iter().sum();
        let small = |value: u32| value > 0 && count[value as usize] as f64 <= min_area * foreground as f64;
        let none_present = !(1..count.len()).any(|value| count[value] > 0 && small(value as u32));
        if none_present {
            return None;
        }
        let rows = (0i64..).zip(&vocabulary.query_value);
        Some(rows.filter(|(_, value)| !small(**value)).map(|(row, _)| row).collect())
    }

    /// Every pixel becomes background.
    pub fn clear(&mut self) {
        self.value.fill(0);
    }

    /// Applies the threshold and gathers the regions.
    pub fn segmentation(
        mut self,
        threshold: f64,
        vocabulary: &Vocabulary,
        height: usize,
        width: usize,
    ) -> Result<Segmentation> {
        let mut found = vec![Extent::default(); vocabulary.labels.len() + 1];
        for (y, (values, probabilities)) in
            self.value.chunks_mut(width.max(1)).zip(self.probability.chunks(width.max(1))).enumerate()
        {
            for (x, (value, &probability)) in values.iter_mut().zip(probabilities).enumerate() {
                if f64::from(probability) < threshold {
                    *value = 0;
                }
                found[*value as usize].add(x, y, probability);
            }
        }
        if found.iter().any(|extent| !extent.score.is_finite()) {
            bail!(NOT_NUMBERS);
        }
        let pixels = (height * width) as f64;
        let present = found.iter().enumerate().skip(1).filter(|(_, extent)| extent.count > 0);
        let mut regions: Vec<Region> = present
            .map(|(value, extent)| Region {
                value: value as u32,
                label: vocabulary.labels[value - 1].clone(),
                score: extent.score / extent.count as f64,
                area: extent.count as f64 / pixels,
                x: extent.left as f64 / width as f64,
                y: extent.top as f64 / height as f64,
                w: (extent.right + 1 - extent.left) as f64 / width as f64,
                h: (extent.bottom + 1 - extent.top) as f64 / height as f64,
            })
            .collect();
        regions.sort_by(|a, b| b.area.total_cmp(&a.area).then(a.value.cmp(&b.value)));
        let ids = if vocabulary.labels.len() <= BYTE_CLASSES {
            Ids::U8(self.value.iter().map(|&value| value as u8).collect())
        } else {
            Ids::U16(self.value.iter().map(|&value| value as u16).collect())
        };
        Ok(Segmentation { width, height, ids, regions })
    }
}

/// What is known of one class while the pixels go by.
#[derive(Clone)]
struct Extent {
    count: u64,
    /// Sum of probabilities.
    score: f64,
    left: usize,
    right: usize,
    top: usize,
    bottom: usize,
}

impl Default for Extent {
    fn default() -> Self {
        Extent { count: 0, score: 0.0, left: usize::MAX, right: 0, top: usize::MAX, bottom: 0 }
    }
}

impl Extent {
    fn add(&mut self, x: usize, y: usize, probability: f32) {
        self.count += 1;
        self.score += f64::from(probability);
        self.left = self.left.min(x);
        self.right = self.right.max(x);
        self.top = self.top.min(y);
        self.bottom = self.bottom.max(y);
    }
}
