// SPDX-License-Identifier: MIT OR Apache-2.0
//! The vision half of a model at work: a batch of requests in, one segmentation each out.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Instant;

use anyhow::{Context, Result};
use tch::{Cuda, Device, Tensor};

use super::decode::{Segmentation, decode};
use super::method::Method;
use super::preprocess::{Normalisation, Picture, network_size, preprocess};
use super::vision::VisionTower;
use super::{InputSize, Request, StageTimes, Vocabulary};

/// The vision half: pictures to masks. Owned by one thread at a time.
pub struct Segmenter {
    tower: VisionTower,
    method: Box<dyn Method>,
    normalisation: Normalisation,
    device: Device,
    /// Query features on the device, `[Q, E]`, for as long as someone holds the vocabulary.
    queries: Vec<(Weak<Vocabulary>, Tensor)>,
}

impl Segmenter {
    pub(super) fn new(
        tower: VisionTower,
        method: Box<dyn Method>,
        normalisation: Normalisation,
        device: Device,
    ) -> Segmenter {
        Segmenter { tower, method, normalisation, device, queries: Vec::new() }
    }

    /// Runs a batch; one segmentation per request, in order.
    pub fn infer(&mut self, requests: &[Request]) -> Result<(Vec<Segmentation>, StageTimes)> {
        tch::no_grad(|| self.infer_without_grad(requests))
    }

    fn infer_without_grad(&mut self, requests: &[Request]) -> Result<(Vec<Segmentation>, StageTimes)> {
        let mut times = StageTimes::default();
        let mut groups: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
        for (index, request) in requests.iter().enumerate() {
            let size = self.network_size(&request.picture, request.options.input_size);
            groups.entry(size).or_default().push(index);
        }
        let mut answers: Vec<Option<Segmentation>> = requests.iter().map(|_| None).collect();
        for (size, members) in groups {
            let start = Instant::now();
            let pictures: Vec<&Picture> = members.iter().map(|&index| &requests[index].picture).collect();
            let input = self.preprocess(&pictures, size)?;
            self.synchronise();
            times.preprocess += start.elapsed();

            let start = Instant::now();
            let vocabularies: Vec<&Arc<Vocabulary>> =
                members.iter().map(|&index| &requests[index].vocabulary).collect();
            let logits = self.logits(&input, &vocabularies)?;
            self.synchronise();
            times.forward += start.elapsed();

            let start = Instant::now();
            for (&index, logits) in members.iter().zip(&logits) {
                let Request { picture, vocabulary, options } = &requests[index];
                let answer =
                    decode(logits, vocabulary, &options.decode, (picture.height, picture.width), size)?;
                answers[index] = Some(answer);
            }
            times.decode += start.elapsed();
        }
        let answers = answers.into_iter().map(|answer| answer.context("a request without an answer"));
        Ok((answers.collect::<Result<_>>()?, times))
    }

    /// (height, width) at which the tower looks at a picture.
    pub fn network_size(&self, picture: &Picture, size: InputSize) -> (usize, usize) {
        let config = &self.tower.config;
        let short = config.grid.0.min(config.grid.1) * config.patch_size;
        network_size((picture.width, picture.height), size, short as usize, config.patch_size as usize)
    }

    /// Pictures as the tower reads them, `[N, 3, height, width]`.
    pub fn preprocess(&self, pictures: &[&Picture], size: (usize, usize)) -> Result<Tensor> {
        preprocess(pictures, size, &self.normalisation, self.device, self.tower.kind)
    }

    /// One forward for all pictures, `[N, 3, H, W]`, then each against its own vocabulary: N times `[Q, h, w]` cosines.
    pub fn logits(&mut self, input: &Tensor, vocabularies: &[&Arc<Vocabulary>]) -> Result<Vec<Tensor>> {
        tch::no_grad(|| {
            let trunk = self.tower.trunk(input, &self.method.wanted())?;
            let features = self.method.features(&self.tower, &trunk)?; // [N, h w, E]
            let mut logits = Vec::with_capacity(vocabularies.len());
            for (n, vocabulary) in (0..).zip(vocabularies) {
                let queries = self.queries(vocabulary)?;
                logits.push(self.method.logits(&self.tower, &trunk, &features, n, &queries)?);
            }
            Ok(logits)
        })
    }

    /// CLIP's own picture features, not normalised, f32: `[N, 3, H, W] -> [N, E]`.
    pub fn encode_image(&self, input: &Tensor) -> Result<Tensor> {
        tch::no_grad(|| self.tower.encode_image(input))
    }

    /// The vocabulary's features on the device, uploaded at its first use.
    fn queries(&mut self, vocabulary: &Arc<Vocabulary>) -> Result<Tensor> {
        let known =
            |entry: &&(Weak<Vocabulary>, Tensor)| std::ptr::eq(entry.0.as_ptr(), Arc::as_ptr(vocabulary));
        if let Some((_, queries)) = self.queries.iter().find(known) {
            return Ok(queries.shallow_clone());
        }
        // A held Weak keeps the address from being given to another vocabulary; forget those that are gone.
        self.queries.retain(|(vocabulary, _)| vocabulary.strong_count() > 0);
        let size = [vocabulary.queries() as i64, vocabulary.dim as i64];
        let queries =
            Tensor::f_from_slice(&vocabulary.features)?.f_reshape(size)?.f_to_device(self.device)?;
        self.queries.push((Arc::downgrade(vocabulary), queries.shallow_clone()));
        Ok(queries)
    }

    /// CUDA works in the background; stage times are only true once it is done.
    fn synchronise(&self) {
        if let Device::Cuda(index) = self.device {
            Cuda::synchronize(index as i64);
        }
    }
}
