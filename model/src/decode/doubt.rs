// SPDX-License-Identifier: MIT OR Apache-2.0
//! When the winner of a pixel does not get it: it is not probable enough, or the pixel is of nothing that was asked for.
//!
//! The softmax says which class is the most likely of those asked for, and is high on anything when few are. What says that
//! a pixel is none of them is the cosine itself: the best one is low, or no better than that of another class. Both limits
//! depend on the checkpoint, the method and the templates.

use super::{DecodeOptions, Vocabulary};

/// What takes a pixel from its winner.
pub enum Doubt {
    /// Nobody may win.
    OfAll,
    When {
        /// Least probability by mask value.
        probability: Vec<f64>,
        /// Least cosine, and least distance to the next class, times the scale.
        cosine: f32,
        margin: f32,
    },
}

impl Doubt {
    pub fn new(vocabulary: &Vocabulary, options: &DecodeOptions) -> Doubt {
        Doubt::When {
            probability: least_probabilities(vocabulary, options.threshold),
            cosine: least_cosine(options).unwrap_or(f64::NEG_INFINITY) as f32,
            margin: least_margin(options).unwrap_or(0.0) as f32,
        }
    }

    /// Whether it looks at margins.
    pub fn asks_for_margins(&self) -> bool {
        matches!(self, Doubt::When { margin, .. } if *margin > 0.0)
    }

    /// Sets the mask values of pixels in doubt to 0; by the winners' shares of the softmax, their cosines times the scale, and
    /// their distances from the next class, which may be missing.
    pub fn take_away(&self, probability: &[f32], best: &[f32], margin: &[f32], values: &mut [u32]) {
        match self {
            Doubt::OfAll => values.fill(0),
            Doubt::When { probability: least, cosine, margin: least_margin } => {
                for ((value, probability), best) in values.iter_mut().zip(probability).zip(best) {
                    if f64::from(*probability) < least[*value as usize] || best < cosine {
                        *value = 0;
                    }
                }
                for (value, found) in values.iter_mut().zip(margin) {
                    *value = if found < least_margin { 0 } else { *value };
                }
            }
        }
    }
}

/// By mask value, from 0, which is in nobody's way.
pub fn least_probabilities(vocabulary: &Vocabulary, threshold: f64) -> Vec<f64> {
    let own = |class: usize| vocabulary.thresholds.get(class).copied().flatten();
    let classes = (0..vocabulary.labels.len()).map(|class| own(class).unwrap_or(threshold));
    std::iter::once(0.0).chain(classes).collect()
}

/// Times the scale; `None` where any cosine will do.
pub fn least_cosine(options: &DecodeOptions) -> Option<f64> {
    (options.unknown_cosine > -1.0).then_some(options.unknown_cosine * options.logit_scale)
}

/// Times the scale; `None` where any distance will do.
pub fn least_margin(options: &DecodeOptions) -> Option<f64> {
    (options.unknown_margin > 0.0).then_some(options.unknown_margin * options.logit_scale)
}
