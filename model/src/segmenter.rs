// SPDX-License-Identifier: MIT OR Apache-2.0
//! The vision half of a model at work: a batch of requests in, one segmentation each out.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tch::{Device, Kind, Tensor};

use super::cuda::clock::{Clock, Mark};
use super::decode::{Job, MaskSizes, Segmentation, decode_at, decode_batch};
use super::method::Method;
use super::preprocess::{Normalisation, Picture, network_size, preprocess, scaled_size};
use super::refine::Refined;
use super::tagclip::{Tag, TagOptions, tag_scores};
use super::temporal::{self, PatchLogits};
use super::vision::VisionTower;
use super::windows::slide;
use super::{InputSize, Refine, Request, StageTimes, Vocabulary};

/// Windows of one picture in one forward.
const WINDOWS_AT_A_TIME: i64 = 16;

/// One picture, looked at: its logits, ready to be decoded.
pub struct Look {
    /// Cosines of every query, at any size.
    pub logits: Box<dyn PatchLogits>,
    /// `[1, 3, H, W]`, the normalised picture that the tower saw.
    pub input: Tensor,
    pub sizes: MaskSizes,
}

impl Look {
    /// Refines, upsamples and decides, as the request asks.
    pub fn decode(&self, Request { vocabulary, options, .. }: &Request) -> Result<Segmentation> {
        tch::no_grad(|| {
            let mask = self.sizes.of(options.decode.mask_size);
            match options.refine {
                Refine::None => decode_at(&*self.logits, vocabulary, &options.decode, mask),
                Refine::Pamr => {
                    let refined = Refined::new(&*self.logits, &self.input, mask)?;
                    decode_at(&refined, vocabulary, &options.decode, mask)
                }
            }
        })
    }

    /// What can be decoded together with other pictures of the batch: whole pictures on a GPU.
    fn job<'a>(&'a self, Request { vocabulary, options, .. }: &'a Request) -> Option<Job<'a>> {
        let logits = self.logits.grid().filter(|grid| grid.device().is_cuda())?;
        let size = self.sizes.of(options.decode.mask_size);
        let job = Job { logits, vocabulary, options: &options.decode, size };
        (options.refine == Refine::None && job.suits()).then_some(job)
    }
}

/// When the stages of a batch began and ended. On a GPU, all of it lies in the future at first.
struct Marks {
    clock: Clock,
    preprocess: Vec<(Mark, Mark)>,
    forward: Vec<(Mark, Mark)>,
}

impl Marks {
    fn new(device: Device) -> Result<Marks> {
        Ok(Marks { clock: Clock::of(device)?, preprocess: Vec::new(), forward: Vec::new() })
    }

    /// The times, once the GPU is done; waits for it if need be.
    fn times(&self) -> Result<StageTimes> {
        let sum = |stage: &[(Mark, Mark)]| -> Result<Duration> {
            stage.iter().map(|(start, end)| end.since(start)).sum()
        };
        Ok(StageTimes {
            preprocess: sum(&self.preprocess)?,
            forward: sum(&self.forward)?,
            decode: Duration::ZERO,
        })
    }
}

/// The vision half: pictures to masks. Owned by one thread at a time.
pub struct Segmenter {
    tower: VisionTower,
    method: Box<dyn Method>,
    normalisation: Normalisation,
    device: Device,
    tag_options: TagOptions,
    /// Query features on the device, `[Q, E]`, for as long as someone holds the vocabulary.
    queries: Vec<(Weak<Vocabulary>, Tensor)>,
}

impl Segmenter {
    pub(super) fn new(
        tower: VisionTower,
        method: Box<dyn Method>,
        normalisation: Normalisation,
        device: Device,
        tag_options: TagOptions,
    ) -> Segmenter {
        Segmenter { tower, method, normalisation, device, tag_options, queries: Vec::new() }
    }

    /// Runs a batch; one segmentation per request, in order.
    pub fn infer(&mut self, requests: &[Request]) -> Result<(Vec<Segmentation>, StageTimes)> {
        tch::no_grad(|| self.infer_without_grad(requests))
    }

    fn infer_without_grad(&mut self, requests: &[Request]) -> Result<(Vec<Segmentation>, StageTimes)> {
        let mut marks = Marks::new(self.device)?;
        let mut looks = self.look_marked(requests, &mut marks)?;
        let start = marks.clock.mark()?;
        let streams = temporal::Pending::smooth(&mut looks, requests)?;
        let jobs: Vec<Option<Job>> =
            looks.iter().zip(requests).map(|(look, request)| look.job(request)).collect();
        let together: Vec<Job> = jobs.iter().flatten().copied().collect();
        let mut together = decode_batch(&together)?.into_iter();
        let answers = looks.iter().zip(requests).zip(&jobs).map(|((look, request), job)| match job {
            Some(_) => together.next().context("a picture was not decoded"),
            None => look.decode(request),
        });
        let mut answers = answers.collect::<Result<Vec<Segmentation>>>()?;
        let end = marks.clock.mark()?;
        let decode = end.since(&start)?;
        for ((answer, request), look) in answers.iter_mut().zip(requests).zip(&looks) {
            if request.options.tags {
                let start = marks.clock.mark()?;
                answer.tags = self.tags(request, look)?;
                marks.forward.push((start, marks.clock.mark()?));
            }
        }
        streams.commit();
        Ok((answers, StageTimes { decode, ..marks.times()? }))
    }

    /// Everything but the decoding: the logits of each request. Pictures that are looked at in the same size share
    /// one forward; a picture in windows is a batch of its own.
    pub fn look(&mut self, requests: &[Request]) -> Result<(Vec<Look>, StageTimes)> {
        tch::no_grad(|| {
            let mut marks = Marks::new(self.device)?;
            let looks = self.look_marked(requests, &mut marks)?;
            Ok((looks, marks.times()?))
        })
    }

    fn look_marked(&mut self, requests: &[Request], marks: &mut Marks) -> Result<Vec<Look>> {
        let mut batches: BTreeMap<(bool, (usize, usize)), Vec<usize>> = BTreeMap::new();
        for (index, request) in requests.iter().enumerate() {
            let Request { picture, options, .. } = request;
            let key = match options.window {
                None => (false, self.network_size(picture, options.input_size)),
                Some(_) => (true, (index, 0)),
            };
            batches.entry(key).or_default().push(index);
        }
        let mut looks: Vec<Option<Look>> = requests.iter().map(|_| None).collect();
        for ((windowed, size), members) in batches {
            if windowed {
                for index in members {
                    looks[index] = Some(self.look_through_windows(&requests[index], marks)?);
                }
            } else {
                let batch: Vec<&Request> = members.iter().map(|&index| &requests[index]).collect();
                for (index, look) in members.into_iter().zip(self.look_whole(&batch, size, marks)?) {
                    looks[index] = Some(look);
                }
            }
        }
        let looks = looks.into_iter().map(|look| look.context("a request without an answer"));
        looks.collect()
    }

    fn look_whole(
        &mut self,
        requests: &[&Request],
        size: (usize, usize),
        marks: &mut Marks,
    ) -> Result<Vec<Look>> {
        let start = marks.clock.mark()?;
        let pictures: Vec<&Picture> = requests.iter().map(|request| &request.picture).collect();
        let input = self.preprocess(&pictures, size)?; // [N, 3, H, W]
        let looked_at = marks.clock.mark()?;
        marks.preprocess.push((start, looked_at));

        let start = marks.clock.mark()?;
        let vocabularies: Vec<&Arc<Vocabulary>> =
            requests.iter().map(|request| &request.vocabulary).collect();
        let logits = self.logits(&input, &vocabularies)?;
        marks.forward.push((start, marks.clock.mark()?));

        let patch = self.tower.config.patch_size as usize;
        let grid = (size.0 / patch, size.1 / patch);
        let looks = (0..).zip(logits).zip(pictures).map(|((n, logits), picture)| {
            let sizes = MaskSizes { grid, model: size, frame: (picture.height, picture.width) };
            Ok(Look { logits: Box::new(logits), input: input.f_narrow(0, n, 1)?, sizes })
        });
        looks.collect()
    }

    fn look_through_windows(&mut self, request: &Request, marks: &mut Marks) -> Result<Look> {
        let Request { picture, vocabulary, options } = request;
        let window = options.window.context("a request without windows")?;
        let start = marks.clock.mark()?;
        let size = scaled_size((picture.width, picture.height), options.input_size, self.short_side());
        let input = self.preprocess(&[picture], size)?; // [1, 3, H, W]
        let looked_at = marks.clock.mark()?;
        marks.preprocess.push((start, looked_at));

        let start = marks.clock.mark()?;
        let patch = self.tower.config.patch_size as usize;
        let stitched = slide(&input, window, patch, |crops| {
            let mut logits = Vec::new();
            for crops in crops.f_split(WINDOWS_AT_A_TIME, 0)? {
                let vocabularies = vec![vocabulary; crops.size()[0] as usize];
                logits.extend(self.logits(&crops, &vocabularies)?);
            }
            Ok(Tensor::f_stack(&logits, 0)?) // crops x [Q, h, w] -> [crops, Q, h, w]
        })?;
        marks.forward.push((start, marks.clock.mark()?));
        let grid = (size.0.div_ceil(patch), size.1.div_ceil(patch));
        let sizes = MaskSizes { grid, model: size, frame: (picture.height, picture.width) };
        Ok(Look { logits: Box::new(stitched), input, sizes })
    }

    fn short_side(&self) -> usize {
        self.tower.config.short_side as usize
    }

    /// (height, width) at which the tower looks at a whole picture.
    pub fn network_size(&self, picture: &Picture, size: InputSize) -> (usize, usize) {
        let patch = self.tower.config.patch_size as usize;
        network_size((picture.width, picture.height), size, self.short_side(), patch)
    }

    /// Pictures as the tower reads them, `[N, 3, height, width]`.
    pub fn preprocess(&self, pictures: &[&Picture], size: (usize, usize)) -> Result<Tensor> {
        preprocess(pictures, size, &self.normalisation, self.device, Kind::Float)
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

    /// TagCLIP's score of each class of the vocabulary, its best synonym's: is it in the picture at all?
    fn tags(&mut self, request: &Request, look: &Look) -> Result<Vec<Tag>> {
        let Request { picture, vocabulary, options } = request;
        let input = match options.window {
            None => look.input.shallow_clone(),
            // Windows go over a picture that need not be of whole patches.
            Some(_) => self.preprocess(&[picture], self.network_size(picture, options.input_size))?,
        }; // [1, 3, H, W]
        let queries = self.queries(vocabulary)?;
        let foreground = vocabulary.query_value.iter().take_while(|&&value| value > 0).count();
        let scores = tag_scores(&self.tower, &input, &queries, foreground, &self.tag_options)?;
        let mut best = vec![0f32; vocabulary.labels.len()];
        for (score, &value) in scores.iter().zip(&vocabulary.query_value) {
            let class = best.get_mut(value as usize - 1).context("a query of a class without a label")?;
            *class = class.max(*score);
        }
        let labels = vocabulary.labels.iter().cloned();
        Ok(labels.zip(best).map(|(label, score)| Tag { label, score: score.into() }).collect())
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
        let width = self.tower.embed_dim();
        if vocabulary.dim as i64 != width {
            bail!(
                "text features are {} wide, the model's image features {width}: they belong to another model",
                vocabulary.dim
            );
        }
        // A held Weak keeps the address from being given to another vocabulary; forget those that are gone.
        self.queries.retain(|(vocabulary, _)| vocabulary.strong_count() > 0);
        let size = [vocabulary.queries() as i64, vocabulary.dim as i64];
        let queries =
            Tensor::f_from_slice(&vocabulary.features)?.f_reshape(size)?.f_to_device(self.device)?;
        self.queries.push((Arc::downgrade(vocabulary), queries.shallow_clone()));
        Ok(queries)
    }
}
