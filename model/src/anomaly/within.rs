// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where in a picture damage is looked for, if not everywhere: where the mask shows a class.

use super::map::{AnomalyMap, TOP, top_mean};
use crate::decode::{Ids, Segmentation};

/// Places at which a patch is looked up in the mask, along each axis: masks may be finer than patches, or coarser.
const SAMPLES: usize = 4;

/// For each patch of a grid of rows and columns whether half of it has this mask value.
pub fn patches_of(value: u32, mask: &Segmentation, (rows, columns): (usize, usize)) -> Vec<bool> {
    let at = |index: usize| -> u32 {
        match &mask.ids {
            Ids::U8(ids) => ids.get(index).copied().map_or(0, u32::from),
            Ids::U16(ids) => ids.get(index).copied().map_or(0, u32::from),
        }
    };
    // The middle of a sample, in pixels of the mask.
    let place = |sample: usize, samples: usize, pixels: usize| (2 * sample + 1) * pixels / (2 * samples);
    let of_patch = |patch: usize| {
        let (row, column) = (patch / columns, patch % columns);
        let samples = (0..SAMPLES * SAMPLES).filter(|sample| {
            let y = place(row * SAMPLES + sample / SAMPLES, rows * SAMPLES, mask.height);
            let x = place(column * SAMPLES + sample % SAMPLES, columns * SAMPLES, mask.width);
            at(y * mask.width + x) == value
        });
        samples.count() * 2 >= SAMPLES * SAMPLES
    };
    (0..rows * columns).map(of_patch).collect()
}

impl AnomalyMap {
    /// The score becomes that of some patches: the mean of the highest hundredth of theirs; 0 of none.
    pub(crate) fn score_within(&mut self, is_within: &[bool]) {
        let values = self.values.iter().zip(is_within).filter(|(_, is_within)| **is_within);
        self.score = top_mean(&values.map(|(&value, _)| value).collect::<Vec<_>>(), TOP);
    }

    /// The values of all other patches become 0.
    pub(crate) fn keep_within(&mut self, is_within: &[bool]) {
        let values = self.values.iter_mut().zip(is_within).filter(|(_, is_within)| !**is_within);
        values.for_each(|(value, _)| *value = 0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_patch_is_enough_in_masks_of_any_size() {
        #[rustfmt::skip]
        let fine = Ids::U8(vec![
            1, 1, 1, 1, 2, 2, 2, 2,
            1, 1, 1, 1, 2, 2, 2, 2,
            1, 1, 2, 2, 2, 2, 2, 1,
            1, 1, 2, 2, 2, 2, 2, 1,
        ]);
        let fine = Segmentation::new(8, 4, fine, vec![]);
        assert_eq!(patches_of(1, &fine, (2, 2)), [true, false, true, false]);
        assert_eq!(patches_of(2, &fine, (2, 2)), [false, true, true, true]);
        assert_eq!(patches_of(7, &fine, (2, 2)), [false; 4]);
        let coarse = Segmentation::new(2, 1, Ids::U16(vec![1, 300]), vec![]);
        assert_eq!(patches_of(300, &coarse, (3, 4)), [[false, false, true, true]; 3].concat());
    }

    #[test]
    fn the_score_is_of_what_is_within() {
        let mut map = AnomalyMap { rows: 1, columns: 4, values: vec![0.9, 0.2, 0.4, 0.1], score: 0.9 };
        let within = [false, true, true, false];
        map.score_within(&within);
        assert_eq!((map.score, map.values[0]), (f64::from(0.4f32), 0.9));
        map.keep_within(&within);
        assert_eq!(map.values, [0.0, 0.2, 0.4, 0.0]);
        map.score_within(&[false; 4]);
        assert_eq!(map.score, 0.0);
    }
}
