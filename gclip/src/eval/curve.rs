// SPDX-License-Identifier: MIT OR Apache-2.0
//! How well a score tells two kinds apart, whatever the limit.
//!
//! * AUROC: the probability that one of the abnormal scores higher than one of the normal, ties counting half (Fawcett, "An
//!   introduction to ROC analysis", Pattern Recognition Letters 2006).
//! * PRO: the mean over the abnormal regions (of 8 neighbours) of their share above the limit, integrated over the share of normal
//!   pixels above it from 0 to 0.3, and divided by 0.3 (Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021).

/// Scores from 0 to 1 are told apart as finely as this.
const BINS: usize = 1 << 16;
const MOST_FALSE: f64 = 0.3;

/// Scores, counted by how high they are.
pub struct Curve {
    normal: Vec<u64>,
    abnormal: Vec<u64>,
    /// Of each abnormal pixel, its share of its region.
    shares: Vec<f64>,
    regions: u64,
}

impl Default for Curve {
    fn default() -> Self {
        Curve { normal: vec![0; BINS], abnormal: vec![0; BINS], shares: vec![0.0; BINS], regions: 0 }
    }
}

fn bin(score: f32) -> usize {
    (score.clamp(0.0, 1.0) * (BINS - 1) as f32).round() as usize
}

impl Curve {
    pub fn add(&mut self, score: f32, is_abnormal: bool) {
        let counts = if is_abnormal { &mut self.abnormal } else { &mut self.normal };
        counts[bin(score)] += 1;
    }

    /// The pixels of one picture, row by row.
    pub fn add_picture(&mut self, scores: &[f32], truth: &[bool], width: usize) {
        scores.iter().zip(truth).for_each(|(&score, &is_abnormal)| self.add(score, is_abnormal));
        for region in regions(truth, width) {
            let share = 1.0 / region.len() as f64;
            region.iter().for_each(|&pixel| self.shares[bin(scores[pixel])] += share);
            self.regions += 1;
        }
    }

    /// `None` without both kinds.
    pub fn auroc(&self) -> Option<f64> {
        let sum = |counts: &[u64]| counts.iter().sum::<u64>() as f64;
        let pairs = sum(&self.normal) * sum(&self.abnormal);
        let (mut below, mut right) = (0.0, 0.0);
        for (&normal, &abnormal) in self.normal.iter().zip(&self.abnormal) {
            right += abnormal as f64 * (below + normal as f64 / 2.0);
            below += normal as f64;
        }
        (pairs > 0.0).then(|| right / pairs)
    }

    /// `None` without an abnormal region or a normal pixel.
    pub fn pro(&self) -> Option<f64> {
        let normal = self.normal.iter().sum::<u64>() as f64;
        if normal == 0.0 || self.regions == 0 {
            return None;
        }
        let (mut above, mut overlap, mut area) = (0u64, 0.0, 0.0);
        let (mut x, mut y) = (0.0, 0.0);
        for (&count, &share) in self.normal.iter().zip(&self.shares).rev() {
            if count == 0 && share == 0.0 {
                continue;
            }
            above += count;
            overlap += share;
            let (next, height) = (above as f64 / normal, overlap / self.regions as f64);
            if next >= MOST_FALSE {
                // Up to the limit, along the line between the two.
                let part = if next > x { (MOST_FALSE - x) / (next - x) } else { 0.0 };
                area += (MOST_FALSE - x) * (y + y + (height - y) * part) / 2.0;
                return Some(area / MOST_FALSE);
            }
            area += (next - x) * (y + height) / 2.0;
            (x, y) = (next, height);
        }
        Some((area + (MOST_FALSE - x).max(0.0) * y) / MOST_FALSE)
    }
}

/// Pixels of each connected abnormal region.
fn regions(truth: &[bool], width: usize) -> Vec<Vec<usize>> {
    let mut seen = vec![false; truth.len()];
    let mut regions = Vec::new();
    for start in 0..truth.len() {
        if !truth[start] || seen[start] {
            continue;
        }
        seen[start] = true;
        let (mut region, mut open) = (Vec::new(), vec![start]);
        while let Some(pixel) = open.pop() {
            region.push(pixel);
            let (x, y) = (pixel % width, pixel / width);
            for (row, column) in (y.saturating_sub(1)..=y + 1)
                .flat_map(|row| (x.saturating_sub(1)..=x + 1).map(move |c| (row, c)))
            {
                let next = row * width + column;
                if column < width && truth.get(next).copied().unwrap_or(false) && !seen[next] {
                    seen[next] = true;
                    open.push(next);
                }
            }
        }
        regions.push(region);
    }
    regions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auroc_by_hand() {
        let mut curve = Curve::default();
        for (score, is_abnormal) in [(0.1, false), (0.4, false), (0.35, true), (0.8, true)] {
            curve.add(score, is_abnormal);
        }
        // of four pairs only (0.35, 0.4) is the wrong way round
        assert_eq!(curve.auroc(), Some(0.75));
        let mut ties = Curve::default();
        for is_abnormal in [true, false, false] {
            ties.add(0.5, is_abnormal);
        }
        assert_eq!(ties.auroc(), Some(0.5));
        assert_eq!(Curve::default().auroc(), None);
    }

    #[test]
    fn regions_touch_at_their_corners_and_not_around_the_edge() {
        let truth = [0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 1].map(|value| value == 1);
        let found = regions(&truth, 4);
        assert_eq!(found.len(), 3);
        let joined = [1, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 1].map(|value| value == 1);
        let mut sizes: Vec<usize> = regions(&joined, 4).iter().map(Vec::len).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [1, 3]);
    }

    /// Ten normal pixels, and two regions of two pixels and one.
    #[test]
    fn pro_by_hand() {
        let truth: Vec<bool> = [true, true, false, true].into_iter().chain([false; 9]).collect();
        let scores = [0.9, 0.5, 0.7, 0.6, 0.4, 0.3, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1];
        let mut curve = Curve::default();
        curve.add_picture(&scores, &truth, 13);
        // limits from above: (false, overlap) = 0.9: (0, 1/4); 0.7: (0.1, 1/4); 0.6: (0.1, 3/4); 0.5: (0.1, 1); 0.4: (0.2, 1); 0.3: (0.3, 1)
        let area = 0.1 * 0.25 + 0.1 + 0.1;
        assert!((curve.pro().unwrap() - area / 0.3).abs() < 1e-9, "{:?}", curve.pro());
        assert_eq!(Curve::default().pro(), None);
    }

    /// The limit of the integral lies between two points of the curve.
    #[test]
    fn pro_is_cut_along_the_line() {
        let truth = [true, false, false];
        let mut curve = Curve::default();
        curve.add_picture(&[0.5, 0.5, 0.1], &truth, 3);
        // from (0, 0) straight to (0.5, 1): at 0.3 it is 0.6 high
        assert!((curve.pro().unwrap() - 0.3 * 0.6 / 2.0 / 0.3).abs() < 1e-9);
        let mut perfect = Curve::default();
        perfect.add_picture(&[1.0, 0.0, 0.0], &truth, 3);
        assert!((perfect.pro().unwrap() - 1.0).abs() < 1e-9);
    }
}
