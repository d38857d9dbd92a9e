// SPDX-License-Identifier: MIT OR Apache-2.0
//! What comes out of the tower for one picture, before it becomes a mask.

use anyhow::Result;
use tch::Tensor;

use super::anomaly::AnomalyMap;
use super::decode::{Job, MaskSizes, PatchLogits, Segmentation, decode_at};
use super::refine::{Refined, propagate};
use super::{Refine, Request, Vocabulary};

/// What was judged of one look.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Mask values of the classes that are not there.
    pub absent: Vec<u32>,
    /// The moving average of each class, in the order of the labels.
    pub evidence: Vec<f64>,
}

/// One picture, looked at: its logits, ready to be decoded.
pub struct Look {
    /// Cosines of every query, at any size.
    pub logits: Box<dyn PatchLogits>,
    /// `[1, 3, H, W]`, the normalised picture that the tower saw.
    pub input: Tensor,
    pub sizes: MaskSizes,
    /// Cosine of each query with the picture's class token, `[Q]`, where the request's gate goes by it.
    pub class: Option<Tensor>,
    /// How damaged the vocabulary's suspects look, in their order; of a picture in windows, nothing yet.
    pub anomalies: Vec<AnomalyMap>,
    /// Which classes are not there.
    pub verdict: Verdict,
}

impl Look {
    /// Refines, upsamples and decides, as the request asks.
    pub fn decode(&self, Request { vocabulary, options, .. }: &Request) -> Result<Segmentation> {
        tch::no_grad(|| {
            let mask = self.sizes.of(options.decode.mask_size);
            let mut answer = match options.refine {
                Refine::None => decode_at(&*self.logits, vocabulary, &options.decode, mask)?,
                Refine::Pamr => {
                    let refined = Refined::new(&*self.logits, &self.input, mask)?;
                    decode_at(&refined, vocabulary, &options.decode, mask)?
                }
                Refine::Tlp(tlp) => {
                    let (text, scale) = (text(vocabulary)?, options.decode.logit_scale);
                    let refined = propagate(&*self.logits, &self.input, Some(&text), scale, &tlp)?;
                    decode_at(&refined, vocabulary, &options.decode, mask)?
                }
            };
            answer.leave_out(&self.verdict.absent);
            Ok(answer)
        })
    }

    /// What can be decoded together with other pictures of the batch: whole pictures on a GPU.
    pub(super) fn job<'a>(&'a self, Request { vocabulary, options, .. }: &'a Request) -> Option<Job<'a>> {
        let logits = self.logits.grid().filter(|grid| grid.device().is_cuda())?;
        let size = self.sizes.of(options.decode.mask_size);
        let job = Job { logits, vocabulary, options: &options.decode, size };
        (options.refine == Refine::None && job.suits()).then_some(job)
    }
}

/// `[Q, E]`
fn text(vocabulary: &Vocabulary) -> Result<Tensor> {
    let size = [vocabulary.queries() as i64, vocabulary.dim as i64];
    Ok(Tensor::f_from_slice(&vocabulary.features)?.f_reshape(size)?)
}
