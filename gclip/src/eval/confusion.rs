// SPDX-License-Identifier: MIT OR Apache-2.0
//! Intersection over union, accumulated over all pictures before the division (not averaged over pictures).

/// No class: an ignored pixel in the truth, a pixel that no class won in the prediction.
pub const NONE: u16 = u16::MAX;

/// Pixel counts of every class.
#[derive(Clone, Debug)]
pub struct Confusion {
    /// Pixels of the class that were found (TP).
    hits: Vec<u64>,
    /// Pixels of the class in the truth (TP + FN).
    truth: Vec<u64>,
    /// Pixels given to the class, ignored pixels left out (TP + FP).
    predicted: Vec<u64>,
    /// Pixels that count: not ignored.
    pixels: u64,
}

impl Confusion {
    pub fn new(classes: usize) -> Confusion {
        Confusion { hits: vec![0; classes], truth: vec![0; classes], predicted: vec![0; classes], pixels: 0 }
    }

    /// Counts one picture: class numbers per pixel, or [`NONE`]. Both slices have the same length, and every
    /// number is below `classes`.
    pub fn add(&mut self, truth: &[u16], prediction: &[u16]) {
        for (&truth, &prediction) in truth.iter().zip(prediction) {
            if truth == NONE {
                continue;
            }
            self.pixels += 1;
            self.truth[usize::from(truth)] += 1;
            if prediction != NONE {
                self.predicted[usize::from(prediction)] += 1;
                self.hits[usize::from(prediction)] += u64::from(truth == prediction);
            }
        }
    }

    /// TP / (TP + FP + FN); `None` for a class that is neither in the truth nor predicted.
    pub fn iou(&self, class: usize) -> Option<f64> {
        ratio(self.hits[class], self.truth[class] + self.predicted[class] - self.hits[class])
    }

    /// TP / (TP + FN); `None` for a class that is not in the truth.
    pub fn accuracy(&self, class: usize) -> Option<f64> {
        ratio(self.hits[class], self.truth[class])
    }

    /// Mean of [`Confusion::iou`] over the classes that have one.
    pub fn mean_iou(&self) -> Option<f64> {
        mean((0..self.hits.len()).filter_map(|class| self.iou(class)))
    }

    /// The same over the classes in the truth alone. A class that is not there but wins one pixel counts as 0 in
    /// [`Confusion::mean_iou`], and not here.
    pub fn mean_iou_of_truth(&self) -> Option<f64> {
        let there = (0..self.truth.len()).filter(|&class| self.truth[class] > 0);
        mean(there.filter_map(|class| self.iou(class)))
    }

    /// Mean of [`Confusion::accuracy`] over the classes that have one.
    pub fn mean_accuracy(&self) -> Option<f64> {
        mean((0..self.hits.len()).filter_map(|class| self.accuracy(class)))
    }

    /// Share of the counted pixels whose class was found.
    pub fn pixel_accuracy(&self) -> Option<f64> {
        ratio(self.hits.iter().sum(), self.pixels)
    }

    pub fn pixels(&self) -> u64 {
        self.pixels
    }

    pub fn truth_pixels(&self, class: usize) -> u64 {
        self.truth[class]
    }

    pub fn predicted_pixels(&self, class: usize) -> u64 {
        self.predicted[class]
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two pictures of four pixels, four classes, worked out by hand:
    /// truth      0 0 1 -   1 1 0 2      (- = ignored)
    /// predicted  0 1 1 0   1 - 0 1      (- = no class won)
    /// class 0: TP 2, FP 0 (the ignored pixel does not count), FN 1 -> 2/3
    /// class 1: TP 2, FP 2, FN 1 -> 2/5
    /// class 2: TP 0, FP 0, FN 1 -> 0
    /// class 3: nowhere -> skipped
    #[test]
    fn worked_by_hand_over_two_pictures() {
        let mut confusion = Confusion::new(4);
        confusion.add(&[0, 0, 1, NONE], &[0, 1, 1, 0]);
        confusion.add(&[1, 1, 0, 2], &[1, NONE, 0, 1]);
        assert_eq!(confusion.iou(0), Some(2.0 / 3.0));
        assert_eq!(confusion.iou(1), Some(2.0 / 5.0));
        assert_eq!(confusion.iou(2), Some(0.0));
        assert_eq!(confusion.iou(3), None);
        assert_eq!(confusion.mean_iou(), Some((2.0 / 3.0 + 2.0 / 5.0) / 3.0));
        assert_eq!(confusion.pixel_accuracy(), Some(4.0 / 7.0));
        assert_eq!(confusion.mean_accuracy(), Some((2.0 / 3.0 + 2.0 / 3.0 + 0.0) / 3.0));
    }

    /// Accumulating is not averaging: (1 + 0) / 2 would be 0.5.
    #[test]
    fn large_pictures_weigh_more() {
        let mut confusion = Confusion::new(1);
        confusion.add(&[0], &[0]);
        confusion.add(&[0, 0, 0], &[NONE, NONE, NONE]);
        assert_eq!(confusion.iou(0), Some(0.25));
    }

    #[test]
    fn a_class_predicted_but_absent_counts_as_zero() {
        let mut confusion = Confusion::new(2);
        confusion.add(&[0, 0], &[0, 1]);
        assert_eq!(confusion.iou(1), Some(0.0));
        assert_eq!(confusion.mean_iou(), Some(0.25));
        assert_eq!(confusion.mean_iou_of_truth(), Some(0.5));
    }

    #[test]
    fn nothing_seen_is_no_number() {
        let mut confusion = Confusion::new(2);
        confusion.add(&[NONE, NONE], &[0, 1]);
        assert_eq!((confusion.mean_iou(), confusion.pixel_accuracy()), (None, None));
    }
}
