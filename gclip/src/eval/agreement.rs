// SPDX-License-Identifier: MIT OR Apache-2.0
//! How far the classes of one run over a video are those of another.

use anyhow::{Result, bail};

/// The classes of every frame of a run: of each frame, runs of equal values in row order.
#[derive(Default)]
pub struct Recording(Vec<Vec<(u16, u32)>>);

impl Recording {
    pub fn add(&mut self, classes: &[u16]) {
        let mut runs: Vec<(u16, u32)> = Vec::new();
        for &class in classes {
            match runs.last_mut() {
                Some((value, length)) if *value == class => *length += 1,
                _ => runs.push((class, 1)),
            }
        }
        self.0.push(runs);
    }
}

/// Counts frame by frame.
pub struct Agreement {
    other: Recording,
    sum: f64,
    frames: usize,
    /// Share and number of the frame that agrees least.
    worst: Option<(f64, usize)>,
}

impl Agreement {
    pub fn with(other: Recording) -> Agreement {
        Agreement { other, sum: 0.0, frames: 0, worst: None }
    }

    /// The next frame.
    ///
    /// # Errors
    /// The other run has no such frame, or it was of another size.
    pub fn add(&mut self, classes: &[u16]) -> Result<()> {
        let number = self.frames;
        let Some(runs) = self.other.0.get(number) else {
            bail!("the run to compare with has only {number} frames");
        };
        let (mut rest, mut equal, mut pixels) = (classes, 0, 0);
        for &(value, length) in runs {
            let length = length as usize;
            let (now, after) = rest.split_at(length.min(rest.len()));
            equal += now.iter().filter(|&&class| class == value).count();
            (rest, pixels) = (after, pixels + length);
        }
        if pixels != classes.len() || pixels == 0 {
            bail!("it has {} pixels, and {pixels} in the run to compare with", classes.len());
        }
        let share = equal as f64 / pixels as f64;
        self.sum += share;
        self.frames += 1;
        if self.worst.is_none_or(|(worst, _)| share < worst) {
            self.worst = Some((share, number));
        }
        Ok(())
    }

    /// Mean share of the pixels, over the frames; `None` without any.
    pub fn mean(&self) -> Option<f64> {
        (self.frames > 0).then(|| self.sum / self.frames as f64)
    }

    pub fn worst(&self) -> Option<(f64, usize)> {
        self.worst
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_by_hand() {
        let mut other = Recording::default();
        for frame in [[1, 1, 2, 2], [3, 3, 3, 3], [5, 6, 5, 6]] {
            other.add(&frame);
        }
        let mut agreement = Agreement::with(other);
        assert_eq!((agreement.mean(), agreement.worst()), (None, None));
        agreement.add(&[1, 1, 2, 2]).unwrap();
        agreement.add(&[3, 3, 3, 4]).unwrap();
        agreement.add(&[6, 6, 6, 6]).unwrap();
        assert_eq!(agreement.mean(), Some((1.0 + 0.75 + 0.5) / 3.0));
        assert_eq!(agreement.worst(), Some((0.5, 2)));
        assert!(agreement.add(&[1, 1, 1, 1]).is_err(), "a frame more");
    }

    #[test]
    fn another_size_is_an_error() {
        let mut other = Recording::default();
        other.add(&[1, 1, 1]);
        assert!(Agreement::with(other).add(&[1, 1]).is_err());
    }
}
