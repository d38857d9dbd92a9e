// SPDX-License-Identifier: MIT OR Apache-2.0
//! How steady masks are over time.
//!
//! * With labels, mVC of VSPW (Miao et al., CVPR 2021): in every window of C frames, among the pixels whose label is
//!   the same in all C frames, the share whose prediction is the same in all C frames; averaged over the windows.
//!   Whether the prediction is *right* is another question (mIoU). Ignored pixels have no label and do not count.
//! * Without labels, the same over the pixels that stand still, and the flicker rate: of all pixels that stand still
//!   from one frame to the next, the share whose prediction changes.

use super::confusion::NONE;

/// Counts frame by frame. Per pixel only two run lengths are kept, whatever the window: a window of C frames ending
/// here is constant exactly when the run is at least C long.
pub struct Consistency {
    windows: Vec<Window>,
    steady_run: Vec<u32>,
    prediction_run: Vec<u32>,
    previous: Vec<u16>,
    frames: u32,
}

struct Window {
    length: u32,
    /// Sum and number of the shares of the windows that had a steady pixel.
    sum: f64,
    count: u32,
    /// Over all windows: steady pixels, and those whose prediction is constant.
    steady: u64,
    constant: u64,
}

impl Consistency {
    /// `lengths` in frames, such as 8 and 16.
    pub fn new(lengths: &[u32]) -> Consistency {
        let window = |&length| Window { length, sum: 0.0, count: 0, steady: 0, constant: 0 };
        Consistency {
            windows: lengths.iter().map(window).collect(),
            steady_run: Vec::new(),
            prediction_run: Vec::new(),
            previous: Vec::new(),
            frames: 0,
        }
    }

    /// Adds a frame. `steady(pixel)` tells whether the pixel's truth is that of the frame before (for the first
    /// frame: whether it has one), `counts(pixel)` whether it has a truth at all. Every frame has the same size.
    pub fn add(
        &mut self,
        prediction: &[u16],
        steady: impl Fn(usize) -> bool,
        counts: impl Fn(usize) -> bool,
    ) {
        let first = self.frames == 0;
        if first {
            self.steady_run = vec![0; prediction.len()];
            self.prediction_run = vec![0; prediction.len()];
            self.previous = prediction.to_vec();
        }
        self.frames += 1;
        for (pixel, &value) in prediction.iter().enumerate() {
            let run = &mut self.steady_run[pixel];
            *run = match (counts(pixel), !first && steady(pixel)) {
                (false, _) => 0,
                (true, true) => *run + 1,
                (true, false) => 1,
            };
            let run = &mut self.prediction_run[pixel];
            *run = if value == self.previous[pixel] { *run + 1 } else { 1 };
        }
        self.previous.copy_from_slice(prediction);
        for window in self.windows.iter_mut().filter(|window| window.length <= self.frames) {
            let runs = self.steady_run.iter().zip(&self.prediction_run);
            let (steady, constant) = runs.filter(|(run, _)| **run >= window.length).fold(
                (0u64, 0u64),
                |(steady, constant), (_, prediction)| {
                    (steady + 1, constant + u64::from(*prediction >= window.length))
                },
            );
            if steady > 0 {
                window.sum += constant as f64 / steady as f64;
                window.count += 1;
            }
            window.steady += steady;
            window.constant += constant;
        }
    }

    /// Adds a frame with its labels ([`NONE`] = ignored), given those of the frame before.
    pub fn add_labelled(&mut self, prediction: &[u16], labels: &[u16], before: Option<&[u16]>) {
        self.add(
            prediction,
            |pixel| before.is_some_and(|before| before[pixel] == labels[pixel]),
            |pixel| labels[pixel] != NONE,
        );
    }

    /// Mean share over the windows of this length; `None` when no window had a steady pixel.
    pub fn mean(&self, length: u32) -> Option<f64> {
        let window = self.windows.iter().find(|window| window.length == length)?;
        (window.count > 0).then(|| window.sum / f64::from(window.count))
    }

    /// Share of steady pixels, over all windows of this length together, whose prediction is not constant. With
    /// length 2 this is the flicker rate.
    pub fn flicker(&self, length: u32) -> Option<f64> {
        let window = self.windows.iter().find(|window| window.length == length)?;
        (window.steady > 0).then(|| 1.0 - window.constant as f64 / window.steady as f64)
    }
}

/// Pixels of two RGB frames that stand still: no channel differs by more than `tolerance`.
pub fn still(before: &[u8], now: &[u8], tolerance: u8) -> Vec<bool> {
    let pairs = before.chunks_exact(3).zip(now.chunks_exact(3));
    pairs.map(|(a, b)| a.iter().zip(b).all(|(a, b)| a.abs_diff(*b) <= tolerance)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelled(frames: &[(&[u16], &[u16])], lengths: &[u32]) -> Consistency {
        let mut consistency = Consistency::new(lengths);
        let mut before: Option<&[u16]> = None;
        for (labels, prediction) in frames {
            consistency.add_labelled(prediction, labels, before);
            before = Some(labels);
        }
        consistency
    }

    /// Four frames of three pixels, windows of two, worked out by hand:
    /// label       0 1 2   0 1 2   0 1 1   0 - 1
    /// prediction  0 9 2   0 9 3   1 9 4   1 9 4
    /// window 1: labels constant at 0,1,2; prediction constant at 0,1   -> 2/3
    /// window 2: labels constant at 0,1;   prediction constant at 1     -> 1/2
    /// window 3: labels constant at 0,2 (1 is ignored); both constant   -> 1
    #[test]
    fn windows_of_two_by_hand() {
        let frames: [(&[u16], &[u16]); 4] = [
            (&[0, 1, 2], &[0, 9, 2]),
            (&[0, 1, 2], &[0, 9, 3]),
            (&[0, 1, 1], &[1, 9, 4]),
            (&[0, NONE, 1], &[1, 9, 4]),
        ];
        let consistency = labelled(&frames, &[2, 4]);
        let expected = (2.0 / 3.0 + 1.0 / 2.0 + 1.0) / 3.0;
        assert!((consistency.mean(2).unwrap() - expected).abs() < 1e-12);
        // Of 3 + 2 + 2 steady pixel pairs, 5 kept their prediction.
        assert!((consistency.flicker(2).unwrap() - 2.0 / 7.0).abs() < 1e-12);
        // In the one window of four, only pixel 0 has one label throughout, and its prediction changes.
        assert_eq!(consistency.mean(4), Some(0.0));
    }

    /// The definition itself, window by window, against the run lengths.
    #[test]
    fn run_lengths_agree_with_the_definition() {
        // Every pixel has a rhythm of its own, from three frames to longer than the window.
        let value = |frame: usize, pixel: usize, salt: usize| {
            let rhythm = 3 + pixel * salt % 17;
            let hash = (frame / rhythm * 7919 + pixel * 104_729 + salt * 31) % 97;
            u16::try_from(hash % 3).unwrap()
        };
        let (frames, pixels) = (40, 50);
        let truth: Vec<Vec<u16>> =
            (0..frames).map(|f| (0..pixels).map(|p| value(f, p, 1)).collect()).collect();
        let guess: Vec<Vec<u16>> =
            (0..frames).map(|f| (0..pixels).map(|p| value(f + 2, p, 2)).collect()).collect();
        let pairs: Vec<(&[u16], &[u16])> = truth.iter().zip(&guess).map(|(t, g)| (&t[..], &g[..])).collect();
        let consistency = labelled(&pairs, &[8]);
        let constant = |video: &[Vec<u16>], start: usize, pixel: usize| {
            (start..start + 8).all(|frame| video[frame][pixel] == video[start][pixel])
        };
        let shares: Vec<f64> = (0..=frames - 8)
            .filter_map(|start| {
                let steady: Vec<usize> = (0..pixels).filter(|&p| constant(&truth, start, p)).collect();
                let kept = steady.iter().filter(|&&p| constant(&guess, start, p)).count();
                (!steady.is_empty()).then(|| kept as f64 / steady.len() as f64)
            })
            .collect();
        assert!(shares.len() > 30, "the case must have windows to count");
        let expected = shares.iter().sum::<f64>() / shares.len() as f64;
        assert!(expected > 0.1 && expected < 0.9, "and both kinds of pixels: {expected}");
        assert!((consistency.mean(8).unwrap() - expected).abs() < 1e-12);
    }

    #[test]
    fn too_short_a_video_has_no_number() {
        assert_eq!(labelled(&[(&[0], &[0])], &[2]).mean(2), None);
    }

    #[test]
    fn still_pixels() {
        let before = [10, 10, 10, 200, 0, 0];
        let now = [12, 10, 8, 200, 0, 9];
        assert_eq!(still(&before, &now, 2), [true, false]);
    }
}
