// SPDX-License-Identifier: MIT OR Apache-2.0
//! The vision half of a model at work: a batch of requests in, one segmentation each out.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tch::{Device, Kind, Tensor};

use super::anomaly::{self, AnomalyMap, AnomalyScore, Normal, Pair, WINDOWS, Windows, patches_of};
use super::config::Family;
use super::cpu;
use super::cuda::clock::{Clock, Mark};
use super::decode::{Anomaly, Coming, Job, MaskSizes, Segmentation, Tag, begin_batch};
use super::exemplars::{self, Ready};
use super::gate::{self, Evidence};
use super::helper::rate::{self, Rate};
use super::look::{Look, Verdict};
use super::method::{Method, cosines_of_all};
use super::preprocess::{Normalisation, Picture, network_size, preprocess, scaled_size};
use super::prior::{Prior, groups, mix, nudged};
use super::purify::{self, Affinity, Purified, Purify, PurifyOptions, Redundancy};
use super::reuse::{self, Changes, Key, Looked, Reuse, Seen, Since, State, pass};
use super::tagclip::{TagOptions, tag_scores};
use super::temporal;
use super::vision::{Trunk, VisionTower};
use super::windows::slide;
use super::{InferOptions, InputSize, Request, StageTimes, Vocabulary, Window};

/// Windows of one picture in one forward.
const WINDOWS_AT_A_TIME: i64 = 16;

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

/// A batch that has been handed to the device.
pub struct Begun {
    marks: Marks,
    looks: Vec<Look>,
    coming: Coming,
    /// Of the decoding.
    start: Mark,
    /// `None`: some of it is done by the host, when its turn comes.
    end: Option<Mark>,
    streams: Option<Pasts>,
}

/// What streams will remember of a batch that has gone well.
struct Pasts {
    temporal: temporal::Pending,
    gates: gate::Pending,
}

impl Pasts {
    fn commit(self) {
        self.temporal.commit();
        self.gates.commit();
    }
}

impl Begun {
    /// Whether only results have to be waited for.
    pub fn is_under_way(&self) -> bool {
        self.end.is_some() && matches!(self.marks.clock, Clock::Stream(..))
    }
}

/// A vocabulary on the device.
struct Known {
    vocabulary: Weak<Vocabulary>,
    /// `[Q, E]`
    queries: Tensor,
    /// What pictures add to them.
    pictured: Ready,
    /// Queries alike, and the height at which their tree was cut.
    groups: Option<(f64, Arc<Vec<Vec<usize>>>)>,
}

/// The vision half: pictures to masks. Owned by one thread at a time.
pub struct Segmenter {
    tower: VisionTower,
    method: Box<dyn Method>,
    normalisation: Normalisation,
    device: Device,
    tag_options: TagOptions,
    /// Tells the streams' memories this model from others.
    number: u64,
    /// What was worked out once, for as long as someone holds the vocabulary.
    known: Vec<Known>,
}

impl Segmenter {
    pub(super) fn new(
        tower: VisionTower,
        method: Box<dyn Method>,
        normalisation: Normalisation,
        device: Device,
        tag_options: TagOptions,
    ) -> Segmenter {
        static MODELS: AtomicU64 = AtomicU64::new(0);
        let number = MODELS.fetch_add(1, Ordering::Relaxed);
        Segmenter { tower, method, normalisation, device, tag_options, number, known: Vec::new() }
    }

    /// Runs a batch; one segmentation per request, in order.
    pub fn infer(&mut self, requests: &[Request]) -> Result<(Vec<Segmentation>, StageTimes)> {
        let begun = self.begin(requests)?;
        self.finish(requests, begun)
    }

    /// Whether [`begin`](Self::begin) leaves work to a device, so that it is worth while before another batch's
    /// [`finish`](Self::finish).
    pub fn works_ahead(&self) -> bool {
        self.device.is_cuda()
    }

    /// Hands a batch over to the device, and does not wait for a GPU. Several batches may be under way; their streams'
    /// pasts are those that this one left.
    pub fn begin(&mut self, requests: &[Request]) -> Result<Begun> {
        tch::no_grad(|| {
            let mut marks = Marks::new(self.device)?;
            let mut looks = self.look_marked(requests, &mut marks)?;
            let start = marks.clock.mark()?;
            let temporal = temporal::Pending::smooth(&mut looks, requests)?;
            let gates =
                gate::Pending::judge(&mut looks, requests, |request, look| self.evidence(request, look))?;
            let streams = Pasts { temporal, gates };
            for (look, request) in looks.iter_mut().zip(requests) {
                if request.options.purify == Purify::Full {
                    self.purify(request, look)?;
                }
            }
            let jobs: Vec<Job> =
                looks.iter().zip(requests).filter_map(|(look, request)| look.job(request)).collect();
            let coming = begin_batch(&jobs)?;
            let tags = requests.iter().any(|request| request.options.tags);
            let under_way = jobs.len() == requests.len() && !tags;
            let (mut streams, mut end) = (Some(streams), None);
            if under_way {
                // What can still go wrong is the device itself, and then nothing is tried again.
                streams.take().into_iter().for_each(Pasts::commit);
                end = Some(marks.clock.mark()?);
            }
            Ok(Begun { marks, looks, coming, start, end, streams })
        })
    }

    /// Waits for a batch that was begun with these requests.
    pub fn finish(&mut self, requests: &[Request], begun: Begun) -> Result<(Vec<Segmentation>, StageTimes)> {
        tch::no_grad(|| {
            let Begun { mut marks, looks, coming, start, end, streams } = begun;
            let jobs: Vec<Option<Job>> =
                looks.iter().zip(requests).map(|(look, request)| look.job(request)).collect();
            let together: Vec<Job> = jobs.iter().flatten().copied().collect();
            let mut together = coming.finish(&together)?.into_iter();
            let answers = looks.iter().zip(requests).zip(&jobs).map(|((look, request), job)| match job {
                Some(_) => together.next().context("a picture was not decoded"),
                None => look.decode(request),
            });
            let mut answers = answers.collect::<Result<Vec<Segmentation>>>()?;
            let end = end.map_or_else(|| marks.clock.mark(), Ok)?;
            let decode = end.since(&start)?;
            for ((answer, request), look) in answers.iter_mut().zip(requests).zip(&looks) {
                answer.leave_out(&look.verdict.absent);
                if !request.vocabulary.suspects.is_empty() {
                    answer.anomalies = self.told_anomalies(request, look, answer)?;
                }
                let gate = &request.options.gate;
                if !request.options.tags && gate.is_on() && gate.evidence == Evidence::Tags {
                    let labels = request.vocabulary.labels.iter().cloned();
                    let scores = look.verdict.evidence.iter().copied();
                    answer.tags = labels.zip(scores).map(|(label, score)| Tag { label, score }).collect();
                }
                if request.options.tags {
                    let start = marks.clock.mark()?;
                    answer.tags = self.tags(request, look)?;
                    marks.forward.push((start, marks.clock.mark()?));
                }
            }
            streams.into_iter().for_each(Pasts::commit);
            Ok((answers, StageTimes { decode, ..marks.times()? }))
        })
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
        let asked: Vec<Asked> = requests.iter().map(|request| Asked::whole(request)).collect();
        let logits = self.logits_asked(&input, &asked)?;
        marks.forward.push((start, marks.clock.mark()?));

        let patch = self.tower.config.patch_size as usize;
        let grid = (size.0 / patch, size.1 / patch);
        let looks =
            (0..).zip(logits).zip(pictures).map(|((n, Scored { logits, class, anomalies }), picture)| {
                let sizes = MaskSizes { grid, model: size, frame: (picture.height, picture.width) };
                let (logits, input) = (Box::new(logits), input.f_narrow(0, n, 1)?);
                Ok(Look { logits, input, sizes, class, anomalies, verdict: Verdict::default() })
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
        let mut classes = Vec::new();
        let stitched = slide(&input, window, patch, |crops| {
            let (mut logits, count) = (Vec::new(), crops.size()[0] as usize);
            let asked: Vec<Asked> = (0..count)
                .map(|index| Asked {
                    vocabulary,
                    prior: options.prior,
                    helper: &options.helper,
                    reuse: &options.reuse,
                    with_class: options.gate.goes_by_class(),
                    index,
                    windows: Some((window, count)),
                })
                .collect();
            let batches = crops.f_split(WINDOWS_AT_A_TIME, 0)?;
            for (crops, asked) in batches.iter().zip(asked.chunks(WINDOWS_AT_A_TIME as usize)) {
                for Scored { logits: of_window, class, .. } in self.logits_asked(crops, asked)? {
                    logits.push(of_window);
                    classes.extend(class);
                }
            }
            Ok(Tensor::f_stack(&logits, 0)?) // crops x [Q, h, w] -> [crops, Q, h, w]
        })?;
        marks.forward.push((start, marks.clock.mark()?));
        let grid = (size.0.div_ceil(patch), size.1.div_ceil(patch));
        let sizes = MaskSizes { grid, model: size, frame: (picture.height, picture.width) };
        // What is in any window is in the picture.
        let class = match classes.is_empty() {
            true => None,
            false => Some(Tensor::f_stack(&classes, 0)?.f_amax([0i64].as_slice(), false)?), // [Q]
        };
        Ok(Look {
            logits: Box::new(stitched),
            input,
            sizes,
            class,
            anomalies: Vec::new(),
            verdict: Verdict::default(),
        })
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
            let features = self.method.features(&self.tower, &trunk)?;
            let plain = Prior::default();
            let questions: Vec<Question> =
                vocabularies.iter().map(|vocabulary| (*vocabulary, plain)).collect();
            self.logits_of(&trunk, &features, None, &questions)
        })
    }

    /// The cosines of each picture's patches, of their features `[N, h w, E]`, and of those of the class tokens, `[N, E]`, where
    /// a question has a prior.
    fn logits_of(
        &mut self,
        trunk: &Trunk,
        features: &Tensor,
        classes: Option<&Tensor>,
        questions: &[Question],
    ) -> Result<Vec<Tensor>> {
        if let [(first, _), others @ ..] = questions
            && self.method.compares_patches()
            && others.iter().all(|(other, _)| Arc::ptr_eq(other, first))
            && questions.iter().all(|(_, prior)| !prior.is_on())
        {
            let grid = self.method.grid(trunk)?;
            let logits = cosines_of_all(features, &self.queries(first)?, grid)?; // [N, Q, h, w]
            let logits = self.rescored(logits, features, first)?;
            return Ok(logits.f_unbind(0)?);
        }
        let mut logits = Vec::with_capacity(questions.len());
        for (n, question) in (0..).zip(questions) {
            logits.push(self.logits_of_one(trunk, features, classes, n, *question)?);
        }
        Ok(logits)
    }

    /// As [`logits_of`](Self::logits_of), of picture `n` of the batch alone.
    fn logits_of_one(
        &mut self,
        trunk: &Trunk,
        features: &Tensor,
        classes: Option<&Tensor>,
        n: i64,
        (vocabulary, prior): Question,
    ) -> Result<Tensor> {
        let queries = self.queries(vocabulary)?; // [Q, E]
        let own = features.f_select(0, n)?; // [h w, E]
        let Some(classes) = classes.filter(|_| prior.is_on()) else {
            let cosines = self.method.logits(&self.tower, trunk, features, n, &queries)?;
            return self.rescored(cosines, &own, vocabulary);
        };
        let whole = queries.f_mv(&classes.f_select(0, n)?)?; // [Q]
        let nudged = match prior.nudge > 0.0 {
            false => queries,
            true => {
                let groups = self.groups(vocabulary, prior.cut)?;
                nudged(&queries, &own, &whole, &groups, prior.nudge)?
            }
        };
        let cosines = self.method.logits(&self.tower, trunk, features, n, &nudged)?;
        mix(&self.rescored(cosines, &own, vocabulary)?, &whole, prior.weight)
    }

    /// As [`Segmenter::logits`], with what streams remember of their frames before.
    fn logits_asked(&mut self, input: &Tensor, asked: &[Asked]) -> Result<Vec<Scored>> {
        let mut logits: Vec<Option<Scored>> = asked.iter().map(|_| None).collect();
        for round in rounds(asked, self.tokens(input)?) {
            let part = match round.members.len() == asked.len() {
                true => input.shallow_clone(),
                false => {
                    let members: Vec<i64> = round.members.iter().map(|&member| member as i64).collect();
                    input.f_index_select(0, &Tensor::f_from_slice(&members)?.f_to_device(self.device)?)?
                }
            };
            let found = match round.remembered {
                false => {
                    let members: Vec<&Asked> = round.members.iter().map(|&member| &asked[member]).collect();
                    let mut trunk = self.tower.trunk(&part, &self.method.wanted())?;
                    trunk.is_one_picture = members.iter().all(|asked| asked.windows.is_some());
                    trunk.helper_saw = self.helper_saw(&part, &members)?;
                    let questions: Vec<Question> =
                        members.iter().map(|asked| (asked.vocabulary, asked.prior)).collect();
                    let features = self.method.features(&self.tower, &trunk)?; // [N, h w, E]
                    let classes = self.class_features(&trunk, &members)?;
                    let logits = self.logits_of(&trunk, &features, classes.as_ref(), &questions)?;
                    let cosines = self.class_cosines(classes.as_ref(), &members)?;
                    let anomalies = self.suspects(&features, self.method.grid(&trunk)?, &members)?;
                    let scored = logits.into_iter().zip(cosines).zip(anomalies);
                    scored.map(|((logits, class), anomalies)| Scored { logits, class, anomalies }).collect()
                }
                true => self.logits_of_changes(&part, &round.members, asked)?,
            };
            for (&member, found) in round.members.iter().zip(found) {
                logits[member] = Some(found);
            }
        }
        logits.into_iter().map(|logits| logits.context("a picture without logits")).collect()
    }

    /// Tokens of a picture of the batch `[N, 3, H, W]`, summed over the blocks.
    fn tokens(&self, input: &Tensor) -> Result<u64> {
        let (_, _, height, width) = input.size4()?;
        let patch = self.tower.config.patch_size;
        let tokens = self.tower.config.lead + (height / patch) * (width / patch);
        Ok(tokens as u64 * self.tower.blocks.len() as u64)
    }

    /// Of pictures of different streams, `[N, 3, H, W]`: works on the tokens that have changed.
    fn logits_of_changes(
        &mut self,
        input: &Tensor,
        members: &[usize],
        asked: &[Asked],
    ) -> Result<Vec<Scored>> {
        let mut before: Vec<(State, Option<Since>)> = Vec::with_capacity(members.len());
        for &member in members {
            let asked = &asked[member];
            let past = asked
                .reuse
                .memory
                .as_ref()
                .and_then(|memory| memory.take(asked.index, &asked.key(input, self.number), asked.reuse));
            let (state, since) = past.map_or((State::default(), None), |past| {
                let (state, since) = past.open();
                (state, Some(since))
            });
            before.push((state, since));
        }
        let mut pictures = Vec::with_capacity(members.len());
        for ((state, since), &member) in before.iter_mut().zip(members) {
            pictures.push(Seen::new(state, asked[member].reuse.threshold, reuse::CUT, since.is_none())?);
        }
        let tokens = self.tokens(input)?;
        let changes = Changes::find(&self.tower, input, &mut pictures)?;
        let logits = match changes.are_few() && !self.device.is_cuda() && !self.method.reads_helper() {
            true => cpu::alone(|| self.logits_of_pass(input, changes, &mut pictures, members, asked))?,
            false => self.logits_of_pass(input, changes, &mut pictures, members, asked),
        }?;
        let work: Vec<(u64, bool)> =
            pictures.iter().map(|picture| (picture.worked as u64, picture.whole)).collect();
        for (((state, since), &member), (worked, whole)) in before.into_iter().zip(members).zip(work) {
            let asked = &asked[member];
            let Some(memory) = &asked.reuse.memory else { continue };
            let key = asked.key(input, self.number);
            let look = Looked { state, key, since, worked, tokens, whole };
            memory.keep(asked.index, asked.reuse, look);
        }
        Ok(logits)
    }

    /// What follows from the changes of these pictures.
    fn logits_of_pass(
        &mut self,
        input: &Tensor,
        changes: Changes,
        pictures: &mut [Seen],
        members: &[usize],
        asked: &[Asked],
    ) -> Result<Vec<Scored>> {
        let mut trunks = pass(&self.tower, &self.method.wanted(), input, changes, pictures)?;
        for (trunk, &member) in trunks.iter_mut().zip(members) {
            trunk.helper_saw = self.helper_saw(&trunk.input, &[&asked[member]])?;
        }
        let mut logits = Vec::with_capacity(members.len());
        for ((trunk, picture), &member) in trunks.iter().zip(pictures).zip(members) {
            let features = reuse::features(&self.tower, &*self.method, trunk, picture)?; // [1, h w, E]
            let asked = &asked[member];
            let classes = self.class_features(trunk, &[asked])?;
            let question = (asked.vocabulary, asked.prior);
            let of_picture = self.logits_of_one(trunk, &features, classes.as_ref(), 0, question)?;
            let class = self.class_cosines(classes.as_ref(), &[asked])?.pop().flatten();
            let anomalies = self.suspects(&features, self.method.grid(trunk)?, &[asked])?;
            let anomalies = anomalies.into_iter().flatten().collect();
            logits.push(Scored { logits: of_picture, class, anomalies });
        }
        Ok(logits)
    }

    /// What the method's helper sees of pictures `[N, 3, H, W]`, or saw of their streams' frames before; `None` where it looks
    /// at all of them anyway.
    fn helper_saw(&self, input: &Tensor, asked: &[&Asked]) -> Result<Option<Tensor>> {
        let remembers = |asked: &&Asked| asked.helper.interval > 1 && asked.helper.memory.is_some();
        if !self.method.reads_helper() || !asked.iter().any(remembers) {
            return Ok(None);
        }
        let keys: Vec<rate::Key> = asked
            .iter()
            .map(|asked| rate::Key {
                model: self.number,
                size: input.size().split_off(1),
                window: asked.index,
                windows: asked.windows.map_or(1, |(_, count)| count),
            })
            .collect();
        let mut saw: Vec<Option<Tensor>> = Vec::with_capacity(asked.len());
        for ((n, asked), key) in (0..).zip(asked).zip(&keys) {
            let Rate { interval, memory } = asked.helper;
            saw.push(match memory {
                Some(memory) => memory.recall(key, &input.f_select(0, n)?, *interval)?,
                None => None,
            });
        }
        let its_turn: Vec<i64> =
            (0i64..).zip(&saw).filter(|(_, saw)| saw.is_none()).map(|(n, _)| n).collect();
        if !its_turn.is_empty() {
            let rows = Tensor::f_from_slice(&its_turn)?.f_to_device(self.device)?;
            let pictures = input.f_index_select(0, &rows)?;
            let sees = self.method.helper_sees(&pictures, self.tower.grid(input)?)?;
            let sees = sees.context("a method without its helper model")?;
            for (row, &n) in (0..).zip(&its_turn) {
                let (sees, at) = (sees.f_select(0, row)?, n as usize);
                if let Some(memory) = asked[at].helper.memory.as_ref().filter(|_| remembers(&asked[at])) {
                    memory.keep(&keys[at], &input.f_select(0, n)?, &sees)?;
                }
                saw[at] = Some(sees);
            }
        }
        let saw: Vec<Tensor> = saw.into_iter().flatten().collect();
        Ok(Some(Tensor::f_stack(&saw, 0)?))
    }

    /// TagCLIP's score of each class of the vocabulary, its best synonym's: is it in the picture at all?
    fn tags(&mut self, request: &Request, look: &Look) -> Result<Vec<Tag>> {
        self.check_is_clip("tags (TagCLIP)")?;
        let vocabulary = &request.vocabulary;
        let input = self.whole_input(request, look)?;
        let queries = self.queries(vocabulary)?;
        let foreground = vocabulary.query_value.iter().take_while(|&&value| value > 0).count();
        let scores = tag_scores(&self.tower, &input, &queries, foreground, &self.tag_options)?;
        let labels = vocabulary.labels.iter().cloned();
        let best = best_of_classes(vocabulary, &scores)?;
        Ok(labels.zip(best).map(|(label, score)| Tag { label, score }).collect())
    }

    /// What the request's gate goes by, for each class.
    fn evidence(&mut self, request: &Request, look: &Look) -> Result<Vec<f64>> {
        match request.options.gate.evidence {
            Evidence::Tags => Ok(self.tags(request, look)?.into_iter().map(|tag| tag.score).collect()),
            Evidence::Purify => {
                Ok(self.redundancy(request, look)?.scores.into_iter().map(f64::from).collect())
            }
            Evidence::Global => {
                let cosines = look.class.as_ref().context("nobody asked the class token")?;
                best_of_classes(&request.vocabulary, &Vec::<f32>::try_from(&cosines.f_contiguous()?)?)
            }
        }
    }

    /// Features of the class tokens, `[N, E]`, where any picture is asked about its own.
    fn class_features(&self, trunk: &Trunk, asked: &[&Asked]) -> Result<Option<Tensor>> {
        let any = asked.iter().any(|asked| asked.with_class || asked.prior.is_on());
        any.then(|| self.tower.class_features(trunk)).transpose()
    }

    /// Cosines of each query with the class token of each picture that was asked so, `[Q]`, of the tokens' features `[N, E]`.
    fn class_cosines(&mut self, classes: Option<&Tensor>, asked: &[&Asked]) -> Result<Vec<Option<Tensor>>> {
        let cosines = (0..).zip(asked).map(|(n, asked)| {
            let Some(classes) = classes.filter(|_| asked.with_class) else { return Ok(None) };
            Ok(Some(self.queries(asked.vocabulary)?.f_mv(&classes.f_select(0, n)?)?))
        });
        cosines.collect()
    }

    /// How redundant each class of the vocabulary is in one picture (FreeCP): is it there at all? Runs the tower once more,
    /// with all of its attention maps; the cosines are those of the look where it was not through windows.
    pub fn redundancy(&mut self, request: &Request, look: &Look) -> Result<Redundancy> {
        self.check_is_clip("purification (FreeCP)")?;
        let Request { vocabulary, options, .. } = request;
        let input = self.whole_input(request, look)?;
        let wanted = purify::wanted(self.tower.blocks.len());
        let maps = self.tower.trunk(&input, &wanted)?;
        let cosines = match options.window {
            None => look.logits.patches().shallow_clone(),
            Some(_) => {
                let trunk = self.tower.trunk(&input, &self.method.wanted())?;
                let features = self.method.features(&self.tower, &trunk)?;
                let classes = options.prior.is_on().then(|| self.tower.class_features(&trunk)).transpose()?;
                let question = (vocabulary, options.prior);
                self.logits_of(&trunk, &features, classes.as_ref(), &[question])?
                    .pop()
                    .context("a picture without logits")?
            }
        }; // [Q, h', w'], on the method's grid
        let (h, w) = maps.grid;
        let cosines = match cosines.size()[1..] == [h, w] {
            true => cosines,
            false => cosines.f_unsqueeze(0)?.f_adaptive_avg_pool2d([h, w])?.f_squeeze_dim(0)?,
        };
        let affinity = Affinity::of(&maps, 0)?;
        Redundancy::of(&cosines, &affinity, &vocabulary.query_value, self.tag_options.logit_scale)
    }

    /// The whole picture as the tower reads it, `[1, 3, H, W]`.
    fn whole_input(&self, Request { picture, options, .. }: &Request, look: &Look) -> Result<Tensor> {
        match options.window {
            None => Ok(look.input.shallow_clone()),
            // Windows go over a picture that need not be of whole patches.
            Some(_) => self.preprocess(&[picture], self.network_size(picture, options.input_size)),
        }
    }

    /// Takes the classes that are not in the picture out of a look, as FreeCP does.
    fn purify(&mut self, request: &Request, look: &mut Look) -> Result<()> {
        let query_value = &request.vocabulary.query_value;
        let redundancy = self.redundancy(request, look)?;
        // Of each class the first name.
        let classes = 1..=redundancy.scores.len() as u32;
        let first = |class| query_value.iter().position(|&value| value == class).map(|row| row as i64);
        let rows: Vec<i64> = classes.filter_map(first).collect();
        let rows = Tensor::f_from_slice(&rows)?.f_to_device(self.device)?;
        let names = self.queries(&request.vocabulary)?.f_index_select(0, &rows)?; // [C, E]
        let (input, scale) = (self.whole_input(request, look)?, self.tag_options.logit_scale);
        let options = PurifyOptions::default();
        let staying = purify::staying(&self.tower, &input, &redundancy, &names, scale, &options)?;
        look.logits = Box::new(Purified::new(&redundancy, &staying, query_value)?);
        let absent =
            (1..=redundancy.scores.len() as u32).filter(|&value| !staying.contains(&(value as usize - 1)));
        look.verdict.absent = absent.collect();
        Ok(())
    }

    /// CLIP's own picture features, not normalised, f32: `[N, 3, H, W] -> [N, E]`.
    pub fn encode_image(&self, input: &Tensor) -> Result<Tensor> {
        tch::no_grad(|| self.tower.encode_image(input))
    }

    /// The vocabulary's features on the device, uploaded at its first use.
    fn queries(&mut self, vocabulary: &Arc<Vocabulary>) -> Result<Tensor> {
        Ok(self.known(vocabulary)?.queries.shallow_clone())
    }

    /// Queries alike, worked out at the first use of a vocabulary.
    fn groups(&mut self, vocabulary: &Arc<Vocabulary>, cut: f64) -> Result<Arc<Vec<Vec<usize>>>> {
        let known = self.known(vocabulary)?;
        match &known.groups {
            Some((of, groups)) if *of == cut => Ok(groups.clone()),
            _ => {
                let groups = Arc::new(groups(&vocabulary.features, vocabulary.dim, cut)?);
                known.groups = Some((cut, groups.clone()));
                Ok(groups)
            }
        }
    }

    fn known(&mut self, vocabulary: &Arc<Vocabulary>) -> Result<&mut Known> {
        let same = |known: &Known| std::ptr::eq(known.vocabulary.as_ptr(), Arc::as_ptr(vocabulary));
        if let Some(at) = self.known.iter().position(same) {
            return Ok(&mut self.known[at]);
        }
        let width = self.tower.embed_dim();
        if vocabulary.dim as i64 != width {
            bail!(
                "text features are {} wide, the model's image features {width}: they belong to another model",
                vocabulary.dim
            );
        }
        // A held Weak keeps the address from being given to another vocabulary; forget those that are gone.
        self.known.retain(|known| known.vocabulary.strong_count() > 0);
        let size = [vocabulary.queries() as i64, vocabulary.dim as i64];
        let queries =
            Tensor::f_from_slice(&vocabulary.features)?.f_reshape(size)?.f_to_device(self.device)?;
        let pictured = Ready::of(vocabulary, self.device)?;
        self.known.push(Known { vocabulary: Arc::downgrade(vocabulary), queries, pictured, groups: None });
        self.known.last_mut().context("a vocabulary that was just taken over")
    }

    /// Cosines `[..., Q, h, w]` of features `[..., h w, E]` with what pictures say of the vocabulary's classes.
    fn rescored(
        &mut self,
        cosines: Tensor,
        features: &Tensor,
        vocabulary: &Arc<Vocabulary>,
    ) -> Result<Tensor> {
        if vocabulary.pictured.is_empty() {
            return Ok(cosines);
        }
        self.check_compares_patches()?;
        self.known(vocabulary)?.pictured.rescore(cosines, features)
    }

    fn check_is_clip(&self, what: &str) -> Result<()> {
        match self.tower.family {
            Family::Clip => Ok(()),
            other => bail!(
                "{what} read the class token of CLIP's vision tower, and this checkpoint is a {}: leave them off",
                other.name()
            ),
        }
    }

    fn check_compares_patches(&self) -> Result<()> {
        if self.method.compares_patches() {
            return Ok(());
        }
        bail!(
            "{} decides by more than the features of a patch, so it has no classes from pictures: take another method, such \
             as gclip",
            self.method.describe()
        )
    }

    /// How damaged the suspects of each picture's vocabulary look, of its patches' features `[N, h w, E]`. Windows tell nothing.
    fn suspects(
        &self,
        features: &Tensor,
        grid: (i64, i64),
        asked: &[&Asked],
    ) -> Result<Vec<Vec<AnomalyMap>>> {
        let maps = (0..).zip(asked).map(|(n, asked)| {
            if asked.vocabulary.suspects.is_empty() || asked.windows.is_some() {
                return Ok(Vec::new());
            }
            let features = vec![features.f_select(0, n)?.f_to_kind(Kind::Float)?];
            let seen = anomaly::Seen { grid, features, score: AnomalyScore::Dense };
            self.suspects_in(&seen, asked.vocabulary)
        });
        maps.collect()
    }

    fn suspects_in(&self, seen: &anomaly::Seen, vocabulary: &Vocabulary) -> Result<Vec<AnomalyMap>> {
        let scale = self.tag_options.logit_scale;
        vocabulary.suspects.iter().map(|suspect| seen.map(Some(&suspect.pair), scale, None)).collect()
    }

    /// The maps of a request, with what is usual in its stream taken off. A picture in windows is looked at whole once more.
    fn told_anomalies(&self, request: &Request, look: &Look, mask: &Segmentation) -> Result<Vec<Anomaly>> {
        let Request { picture, vocabulary, options } = request;
        let mut maps = match options.window {
            None => look.anomalies.clone(),
            Some(_) => {
                let seen = self.seen(picture, options.input_size, AnomalyScore::Dense)?;
                self.suspects_in(&seen, vocabulary)?
            }
        };
        let grid = maps.first().map(|map| (map.rows, map.columns));
        let is_within = vocabulary.within.zip(grid).map(|(value, grid)| patches_of(value, mask, grid));
        if let Some(is_within) = &is_within {
            maps.iter_mut().for_each(|map| map.score_within(is_within));
        }
        if let Some(memory) = &options.anomalies.memory {
            let rules = (options.anomalies.baseline, options.anomalies.drift);
            memory.judge(&mut maps, vocabulary, rules, is_within.as_deref());
        }
        if let Some(is_within) = &is_within {
            maps.iter_mut().for_each(|map| map.keep_within(is_within));
        }
        let labels = vocabulary.suspects.iter().map(|suspect| suspect.label.clone());
        Ok(labels.zip(maps).map(|(label, map)| Anomaly { label, map }).collect())
    }

    /// How damaged each patch of a picture looks, that is looked at whole: by words, by pictures of sound things, or by both.
    ///
    /// # Errors
    /// Neither is given, the pictures were looked at in another way, or the model fails.
    pub fn anomalies(
        &self,
        picture: &Picture,
        size: InputSize,
        score: AnomalyScore,
        pair: Option<&Pair>,
        normal: Option<&Normal>,
    ) -> Result<AnomalyMap> {
        tch::no_grad(|| self.seen(picture, size, score)?.map(pair, self.tag_options.logit_scale, normal))
    }

    /// Adds a picture of a sound thing to those that anomalies are held against.
    ///
    /// # Errors
    /// The model fails.
    pub fn learn(&self, normal: &mut Normal, picture: &Picture, size: InputSize) -> Result<()> {
        tch::no_grad(|| normal.add(&self.seen(picture, size, normal.score())?))
    }

    fn seen(&self, picture: &Picture, size: InputSize, score: AnomalyScore) -> Result<anomaly::Seen> {
        let input = self.preprocess(&[picture], self.network_size(picture, size))?;
        let (grid, features) = match score {
            AnomalyScore::Dense => {
                let trunk = self.tower.trunk(&input, &self.method.wanted())?;
                (
                    self.method.grid(&trunk)?,
                    vec![self.method.features(&self.tower, &trunk)?.f_select(0, 0)?.f_to_kind(Kind::Float)?],
                )
            }
            AnomalyScore::Windows => {
                self.check_is_clip("anomalies by windows (WinCLIP)")?;
                let of = |size| Windows::features(&self.tower, &input, size);
                (self.tower.grid(&input)?, WINDOWS.into_iter().map(of).collect::<Result<_>>()?)
            }
        };
        Ok(anomaly::Seen { grid, features, score })
    }

    /// The patches of a picture that is looked at whole, as the method sees them: what exemplars are made of.
    ///
    /// # Errors
    /// The method does not compare patches, or the model fails.
    pub fn describe(&self, picture: &Picture, size: InputSize) -> Result<exemplars::Looked> {
        self.check_compares_patches()?;
        tch::no_grad(|| {
            let input = self.preprocess(&[picture], self.network_size(picture, size))?;
            let trunk = self.tower.trunk(&input, &self.method.wanted())?;
            let features = self.method.features(&self.tower, &trunk)?.f_select(0, 0)?; // [h w, E]
            let features =
                Vec::<f32>::try_from(&features.f_to_kind(Kind::Float)?.f_flatten(0, -1)?.f_contiguous()?)?;
            if features.iter().any(|value| !value.is_finite()) {
                bail!("the model gives features that are not numbers for this picture");
            }
            Ok(exemplars::Looked { features, grid: self.method.grid(&trunk)? })
        })
    }
}

/// The greatest score of each class's queries, in the order of the labels.
fn best_of_classes(vocabulary: &Vocabulary, scores: &[f32]) -> Result<Vec<f64>> {
    let mut best = vec![f64::NEG_INFINITY; vocabulary.labels.len()];
    for (score, &value) in scores.iter().zip(&vocabulary.query_value).take_while(|(_, value)| **value > 0) {
        let class = best.get_mut(value as usize - 1).context("a query of a class without a label")?;
        *class = class.max(f64::from(*score));
    }
    Ok(best)
}

/// What a picture or window scored.
struct Scored {
    logits: Tensor,
    /// Cosines with the class token, `[Q]`, where they were asked for.
    class: Option<Tensor>,
    anomalies: Vec<AnomalyMap>,
}

/// What is looked for, and how much the whole picture says about it.
type Question<'a> = (&'a Arc<Vocabulary>, Prior);

/// One picture of a forward, or one window of a picture.
struct Asked<'a> {
    vocabulary: &'a Arc<Vocabulary>,
    prior: Prior,
    helper: &'a Rate,
    reuse: &'a Reuse,
    /// Whether the class token is asked too.
    with_class: bool,
    /// Which window of its picture it is, of how many of which kind.
    index: usize,
    windows: Option<(Window, usize)>,
}

impl<'a> Asked<'a> {
    fn whole(request: &'a Request) -> Asked<'a> {
        let Request { vocabulary, options, .. } = request;
        let with_class = options.gate.goes_by_class();
        let InferOptions { prior, helper, reuse, .. } = options;
        Asked { vocabulary, prior: *prior, helper, reuse, with_class, index: 0, windows: None }
    }

    /// What its past must be of; `input` is the batch `[N, 3, H, W]`.
    fn key(&self, input: &Tensor, model: u64) -> Key {
        let size = input.size().split_off(1);
        let threshold = self.reuse.threshold;
        Key { model, size, windows: self.windows, threshold, vocabulary: Arc::downgrade(self.vocabulary) }
    }
}

/// Pictures that go through the tower together.
struct Round {
    /// Their places in the batch.
    members: Vec<usize>,
    /// Whether they are compared with their streams' frames before.
    remembered: bool,
}

/// Which pictures go through the tower together: first all that remember nothing, then a frame of each stream at a time,
/// as it is compared with the one before it. `tokens` is how many a picture has, summed over the blocks.
fn rounds(asked: &[Asked], tokens: u64) -> Vec<Round> {
    let mut plain = Vec::new();
    let mut remembered: Vec<(Round, Vec<(*const reuse::Memory, usize)>)> = Vec::new();
    for (member, Asked { reuse, index, .. }) in asked.iter().enumerate() {
        let Some(memory) = &reuse.memory else {
            plain.push(member);
            continue;
        };
        if reuse.threshold <= 0.0 {
            memory.forget();
            plain.push(member);
        } else if memory.rests() {
            memory.count_whole(tokens);
            plain.push(member);
        } else {
            let stream = (Arc::as_ptr(memory), *index);
            match remembered.iter_mut().find(|(_, streams)| !streams.contains(&stream)) {
                Some((round, streams)) => {
                    round.members.push(member);
                    streams.push(stream);
                }
                None => {
                    remembered.push((Round { members: vec![member], remembered: true }, vec![stream]));
                }
            }
        }
    }
    let plain = (!plain.is_empty()).then_some(Round { members: plain, remembered: false });
    plain.into_iter().chain(remembered.into_iter().map(|(round, _)| round)).collect()
}
