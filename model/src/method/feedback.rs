// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which patches a first segmentation puts together: the discrete half of ResCLIP's semantic feedback refinement.

/// 1 for patches of one label, 0 for others, row-major `[h w, h w]`. With `apart`, patches of one label that a patch of
/// another label separates count `exp(-distance / largest distance)`; distances are Chebyshev's, in patches.
pub fn togetherness(labels: &[i64], (h, w): (usize, usize), apart: bool) -> Vec<f32> {
    let n = labels.len();
    let furthest = h.max(w).saturating_sub(1);
    let steps = fractions(furthest);
    let mut together = vec![0.0; n * n];
    for i in 0..n {
        for j in (0..n).filter(|&j| labels[i] == labels[j]) {
            let (start, end) = ((i / w, i % w), (j / w, j % w));
            let distance = start.0.abs_diff(end.0).max(start.1.abs_diff(end.1));
            let joined = !apart
                || steps.iter().take(distance + 1).all(|&step| {
                    let (row, column) = (between(start.0, end.0, step), between(start.1, end.1, step));
                    labels[row * w + column] == labels[i]
                });
            together[i * n + j] = match joined {
                true => 1.0,
                false => (-(distance as f32) / furthest as f32).exp(),
            };
        }
    }
    together
}

/// Where the published code looks on the way between two patches: in steps of the picture's largest distance, as many
/// as the patches are apart, so that only the furthest pairs are looked at from end to end.
fn fractions(furthest: usize) -> Vec<f32> {
    let step = 1.0 / furthest.max(1) as f32;
    let fraction = |k: usize| match k < furthest.div_ceil(2) {
        true => step * k as f32,
        false => 1.0 - step * (furthest - k) as f32,
    };
    (0..=furthest).map(fraction).collect()
}

fn between(start: usize, end: usize, part: f32) -> usize {
    (start as f32 * (1.0 - part) + end as f32 * part).round_ties_even() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_label_is_together_and_two_are_not() {
        assert_eq!(togetherness(&[1, 2, 1], (1, 3), false), [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0]);
        assert_eq!(togetherness(&[5], (1, 1), true), [1.0]);
        assert!(togetherness(&[], (0, 0), true).is_empty());
    }

    #[test]
    fn another_label_between_sets_patches_apart() {
        // The largest distance is 2, so the ends are looked at in the middle.
        let together = togetherness(&[1, 2, 1], (1, 3), true);
        assert_eq!(together, [1.0, 0.0, (-1f32).exp(), 0.0, 1.0, 0.0, (-1f32).exp(), 0.0, 1.0]);
        // In a row of 5, patches 0 and 2 are looked at in 0, 1/4 and 2/4 of the way: 0, 0.5 and 1, rounded to even.
        let together = togetherness(&[1, 2, 1, 1, 1], (1, 5), true);
        assert_eq!(together[2], (-0.5f32).exp());
        // Patches 0 and 1 of a long row are looked at close to 0 only.
        assert_eq!(togetherness(&[1, 1, 2, 2, 1], (1, 5), true)[1], 1.0);
    }
}
