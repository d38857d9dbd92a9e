// SPDX-License-Identifier: MIT OR Apache-2.0
//! Classes that a picture does not show at all lose their pixels. Every query of a softmax wins some, whether it is there or
//! not; with the true classes alone the same methods are worth far more (FreeCP, Chen et al., ICCV 2025, arXiv 2508.00557;
//! TagCLIP, Lin et al., AAAI 2024, arXiv 2312.12828).
//!
//! Whether a class is there is judged by evidence of the whole picture, every few looks of a stream: its moving average is
//! held against two limits, some times in a row, so that a class neither flickers nor is lost with one dark frame. The
//! state is the stream's, and changes only once a batch has gone well, as in [`temporal`](super::temporal).

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Weak};

use anyhow::{Error, Result, bail};
use parking_lot::Mutex;
use tch::Tensor;

use super::look::{Look, Verdict};
use super::{Request, Vocabulary};

/// Share of the past in the moving average of the evidence.
const PAST: f64 = 0.7;
/// A cosine below all others: such a query has no part in the softmax.
const REMOVED: f64 = -10.0;

/// What becomes of a class that is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Absent {
    /// Nothing: it takes part as all others do, and nothing is judged.
    #[default]
    Compete,
    /// It takes part, and its pixels become background.
    Mute,
    /// It takes no part: others win its pixels.
    Remove,
}

/// By what a class is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Evidence {
    /// TagCLIP's score, 0 to 1: a second forward where it is looked for.
    #[default]
    Tags,
    /// FreeCP's redundancy score, 0 to 1/2: another forward where it is looked for, with all of its attention maps.
    Purify,
    /// The cosine of the picture's class token with the class: nearly free, and led by what is largest.
    Global,
}

impl Evidence {
    /// From where on a class is there, and below which it is not, unless the user says otherwise.
    pub fn limits(self) -> (f64, f64) {
        match self {
            Evidence::Tags => (0.5, 0.3),
            Evidence::Purify => (0.15, 0.1),
            Evidence::Global => (0.25, 0.2),
        }
    }
}

macro_rules! named {
    ($kind:ident, $what:literal, $($value:ident = $name:literal),*) => {
        impl FromStr for $kind {
            type Err = Error;

            fn from_str(text: &str) -> Result<$kind> {
                match text {
                    $($name => Ok($kind::$value),)*
                    other => bail!("\"{other}\" is no {}: {}", $what, [$($name),*].join(", ")),
                }
            }
        }

        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($kind::$value => $name),* })
            }
        }
    };
}

named!(Absent, "way with absent classes", Compete = "compete", Mute = "mute", Remove = "remove");
named!(Evidence, "evidence", Tags = "tags", Purify = "purify", Global = "global");

/// How a request's absent classes are found, and what becomes of them.
#[derive(Clone, Debug)]
pub struct Gate {
    pub absent: Absent,
    pub evidence: Evidence,
    /// Every nth look of a stream is judged.
    pub interval: u32,
    /// From where on a class is there, and below which it is not; `None`: as the evidence says.
    pub enter: Option<f64>,
    pub leave: Option<f64>,
    /// Judgements in a row that it takes.
    pub enter_looks: u32,
    pub leave_looks: u32,
    /// The stream's; `None`: each picture is judged by itself.
    pub memory: Option<Arc<Memory>>,
}

impl Default for Gate {
    fn default() -> Self {
        let (absent, evidence) = (Absent::default(), Evidence::default());
        Gate {
            absent,
            evidence,
            interval: 10,
            enter: None,
            leave: None,
            enter_looks: 1,
            leave_looks: 3,
            memory: None,
        }
    }
}

impl PartialEq for Gate {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.memory, &other.memory) {
            (Some(mine), Some(theirs)) => Arc::ptr_eq(mine, theirs),
            (mine, theirs) => mine.is_none() && theirs.is_none(),
        };
        same && self.rules() == other.rules()
    }
}

type Rules = (Absent, Evidence, u32, (Option<f64>, Option<f64>), (u32, u32));

impl Gate {
    pub fn is_on(&self) -> bool {
        self.absent != Absent::Compete
    }

    /// Whether the class token has to be asked.
    pub(crate) fn goes_by_class(&self) -> bool {
        self.is_on() && self.evidence == Evidence::Global
    }

    fn rules(&self) -> Rules {
        let Gate { absent, evidence, interval, enter, leave, enter_looks, leave_looks, memory: _ } = *self;
        (absent, evidence, interval, (enter, leave), (enter_looks, leave_looks))
    }

    /// From where on a class is there, and below which it is not.
    fn limits(&self) -> (f64, f64) {
        let (enter, leave) = self.evidence.limits();
        let enter = self.enter.unwrap_or(enter);
        (enter, self.leave.unwrap_or(leave).min(enter))
    }

    /// The state of a class after one more piece of evidence.
    fn observe(&self, before: Option<&Class>, evidence: f64) -> Class {
        let (enter, leave) = self.limits();
        let Some(before) = before else {
            return Class { evidence, is_there: evidence >= enter, streak: 0 };
        };
        let mean = PAST * before.evidence + (1.0 - PAST) * evidence;
        let (against, needed) = match before.is_there {
            true => (mean < leave, self.leave_looks),
            false => (mean >= enter, self.enter_looks),
        };
        let streak = if against { before.streak + 1 } else { 0 };
        match streak >= needed.max(1) {
            true => Class { evidence: mean, is_there: !before.is_there, streak: 0 },
            false => Class { evidence: mean, is_there: before.is_there, streak },
        }
    }
}

/// What is known of one class.
#[derive(Clone, Debug, PartialEq)]
struct Class {
    /// Its moving average.
    evidence: f64,
    is_there: bool,
    /// Judgements in a row that said otherwise.
    streak: u32,
}

/// What a stream's looks leave behind for the next. A new one is empty.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Option<Past>>);

#[derive(Clone, Debug)]
struct Past {
    /// Whose classes these are.
    vocabulary: Weak<Vocabulary>,
    rules: Rules,
    /// By class.
    classes: Vec<Class>,
    /// Looks since the last judgement.
    age: u32,
}

impl Past {
    fn fits(&self, request: &Request) -> bool {
        std::ptr::eq(self.vocabulary.as_ptr(), Arc::as_ptr(&request.vocabulary))
            && self.rules == request.options.gate.rules()
    }
}

/// What the streams' states will be once their batch has gone well.
#[derive(Default)]
pub struct Pending(Vec<(Arc<Memory>, Past)>);

impl Pending {
    /// Judges the looks of a batch, in its order, and takes what is absent out of their logits. `evidence` gives that of each
    /// class in one picture.
    pub fn judge(
        looks: &mut [Look],
        requests: &[Request],
        mut evidence: impl FnMut(&Request, &Look) -> Result<Vec<f64>>,
    ) -> Result<Pending> {
        let mut pending = Pending::default();
        for (look, request) in looks.iter_mut().zip(requests) {
            let gate = &request.options.gate;
            if !gate.is_on() {
                continue;
            }
            let before = gate.memory.as_ref().and_then(|memory| pending.past(memory));
            let past = match before.filter(|past| past.fits(request)) {
                Some(past) if past.age + 1 < gate.interval => Past { age: past.age + 1, ..past },
                before => {
                    let found = evidence(request, look)?;
                    let known = |class: usize| before.as_ref().and_then(|past| past.classes.get(class));
                    let observe = |(class, &found): (usize, &f64)| gate.observe(known(class), found);
                    let classes = found.iter().enumerate().map(observe).collect();
                    let vocabulary = Arc::downgrade(&request.vocabulary);
                    Past { vocabulary, rules: gate.rules(), classes, age: 0 }
                }
            };
            look.verdict = verdict(&past.classes);
            if gate.absent == Absent::Remove {
                remove(look, &request.vocabulary)?;
            }
            if let Some(memory) = &gate.memory {
                pending.0.retain(|(of, _)| !Arc::ptr_eq(of, memory));
                pending.0.push((memory.clone(), past));
            }
        }
        Ok(pending)
    }

    /// What the stream's newest look left: in this batch, or before.
    fn past(&self, memory: &Arc<Memory>) -> Option<Past> {
        let here = self.0.iter().find(|(of, _)| Arc::ptr_eq(of, memory)).map(|(_, past)| past.clone());
        here.or_else(|| memory.0.lock().clone())
    }

    pub fn commit(self) {
        for (memory, past) in self.0 {
            *memory.0.lock() = Some(past);
        }
    }
}

fn verdict(classes: &[Class]) -> Verdict {
    let absent = (1u32..).zip(classes).filter(|(_, class)| !class.is_there).map(|(value, _)| value);
    Verdict { absent: absent.collect(), evidence: classes.iter().map(|class| class.evidence).collect() }
}

/// Queries of absent classes win nothing, and the softmax is over the others.
fn remove(look: &mut Look, vocabulary: &Vocabulary) -> Result<()> {
    let absent = &look.verdict.absent;
    let queries = (0i64..).zip(&vocabulary.query_value).filter(|(_, value)| absent.contains(value));
    let queries: Vec<i64> = queries.map(|(query, _)| query).collect();
    // Where nothing is left to win, all of it is background whatever the cosines say.
    if queries.is_empty() || queries.len() == vocabulary.queries() {
        return Ok(());
    }
    let patches = look.logits.patches(); // [..., Q, rows, columns]
    let queries = Tensor::f_from_slice(&queries)?.f_to_device(patches.device())?;
    let axis = patches.dim() as i64 - 3;
    look.logits = look.logits.with_patches(patches.f_index_fill(axis, &queries, REMOVED)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::MaskSizes;
    use crate::preprocess::Picture;
    use crate::{Ids, InferOptions};

    fn gate(absent: Absent) -> Gate {
        Gate { absent, interval: 1, enter_looks: 2, leave_looks: 2, ..Gate::default() }
    }

    fn request(gate: Gate, vocabulary: &Arc<Vocabulary>) -> Request {
        let options = InferOptions { gate, ..InferOptions::default() };
        Request { picture: Picture::grey(16, 0).unwrap(), vocabulary: vocabulary.clone(), options }
    }

    fn vocabulary() -> Arc<Vocabulary> {
        Arc::new(Vocabulary {
            labels: vec!["a".into(), "b".into()],
            query_value: vec![1, 1, 2, 0],
            features: vec![1.0; 4],
            dim: 1,
            ..Vocabulary::default()
        })
    }

    /// a wins the left patch, b the right one, in which the background is second.
    fn look() -> Look {
        let logits = Tensor::from_slice(&[0.5f32, 0.1, 0.2, 0.1, 0.1, 0.5, 0.0, 0.3]).reshape([4, 1, 2]);
        let input = Tensor::zeros([1, 3, 16, 32], (tch::Kind::Float, tch::Device::Cpu));
        let sizes = MaskSizes { grid: (1, 2), model: (1, 2), frame: (1, 2) };
        Look {
            logits: Box::new(logits),
            input,
            sizes,
            verdict: Verdict::default(),
            anomalies: Vec::new(),
            class: None,
        }
    }

    fn ids(look: &Look, request: &Request) -> Vec<u8> {
        match look.decode(request).unwrap().ids {
            Ids::U8(ids) => ids,
            Ids::U16(_) => Vec::new(),
        }
    }

    fn judged(absent: Absent, evidence: [f64; 2]) -> (Vec<u8>, Look) {
        let request = request(gate(absent), &vocabulary());
        let mut looks = [look()];
        Pending::judge(&mut looks, std::slice::from_ref(&request), |_, _| Ok(evidence.to_vec())).unwrap();
        let [look] = looks;
        (ids(&look, &request), look)
    }

    #[test]
    fn absent_classes_compete_are_muted_or_removed() {
        assert_eq!(judged(Absent::Compete, [0.9, 0.0]).0, [1, 2]);
        assert_eq!(judged(Absent::Mute, [0.9, 0.9]).0, [1, 2]);
        assert_eq!(judged(Absent::Mute, [0.9, 0.0]).0, [1, 0]);
        assert_eq!(judged(Absent::Remove, [0.9, 0.0]).0, [1, 0], "the background is next");
        assert_eq!(judged(Absent::Remove, [0.0, 0.9]).0, [2, 2], "b is next");
        assert_eq!(judged(Absent::Mute, [0.0, 0.9]).0, [0, 2]);
    }

    #[test]
    fn a_picture_of_nothing_is_all_background() {
        for absent in [Absent::Mute, Absent::Remove] {
            let (ids, look) = judged(absent, [0.0, 0.0]);
            assert_eq!((ids, look.verdict.absent), (vec![0, 0], vec![1, 2]));
        }
        let only = Arc::new(Vocabulary { query_value: vec![1, 1, 2, 2], ..(*vocabulary()).clone() });
        let request = request(gate(Absent::Remove), &only);
        let mut looks = [look()];
        Pending::judge(&mut looks, std::slice::from_ref(&request), |_, _| Ok(vec![0.0; 2])).unwrap();
        let answer = looks[0].decode(&request).unwrap();
        assert_eq!(
            (answer.ids, answer.regions.len()),
            (Ids::U8(vec![0, 0]), 0),
            "without a background name too"
        );
    }

    #[test]
    fn it_takes_some_judgements_in_a_row_to_enter_and_to_leave() {
        let gate = gate(Absent::Mute);
        let mut class = None;
        let mut states = Vec::new();
        for evidence in [0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0] {
            let next = gate.observe(class.as_ref(), evidence);
            states.push(next.is_there);
            class = Some(next);
        }
        // means: 0, .3, .51 (1), .657 (2: enters), .76, .53, .37, .26 (1), .18 (2: leaves)
        let expected = [false, false, false, true, true, true, true, true, false, false, false];
        assert_eq!(states, expected);
        // Between the limits everything stays.
        let there = Class { evidence: 0.4, is_there: true, streak: 0 };
        let gone = Class { is_there: false, ..there.clone() };
        assert!(gate.observe(Some(&there), 0.4).is_there && !gate.observe(Some(&gone), 0.4).is_there);
    }

    #[test]
    fn streams_are_judged_every_few_looks_and_only_once_a_batch_has_gone_well() {
        let vocabulary = vocabulary();
        let memory = Arc::new(Memory::default());
        let gate = Gate { interval: 3, memory: Some(memory.clone()), ..gate(Absent::Mute) };
        let requests: Vec<Request> = (0..4).map(|_| request(gate.clone(), &vocabulary)).collect();
        let mut judgements = 0;
        let mut batch = |commit: bool, requests: &[Request]| {
            let mut looks: Vec<Look> = requests.iter().map(|_| look()).collect();
            let mut count = 0;
            let pending = Pending::judge(&mut looks, requests, |_, _| {
                count += 1;
                Ok(vec![1.0, 0.0])
            })
            .unwrap();
            if commit {
                pending.commit();
            }
            judgements += count;
            (count, looks.iter().map(|look| look.verdict.absent.clone()).collect::<Vec<_>>())
        };
        let (count, absent) = batch(false, &requests);
        assert_eq!((count, absent), (2, vec![vec![2]; 4]));
        assert_eq!(batch(true, &requests).0, 2, "nothing was kept of a batch that failed");
        assert_eq!(batch(true, &requests[..2]).0, 0, "looks of the last judgement: 1 and 2");
        assert_eq!(batch(true, &requests[..1]).0, 1);
        let other = Arc::new((*vocabulary).clone());
        assert_eq!(batch(true, &[request(gate.clone(), &other)]).0, 1, "other words are judged anew");
    }
}
