// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is usual in a stream. Neither words nor pictures say absolutely how damaged a thing looks: in one scene 0.7 is everywhere. So
//! the first frames of a stream say what each patch usually scores, by its median and its median deviation (robust against
//! what passes), and from then on a score is how far it is from that.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::map::AnomalyMap;
use crate::Vocabulary;

/// Steps in which the scores of a patch are counted.
const BINS: usize = 64;
/// Makes the median deviation of a normal distribution its standard deviation.
const NORMAL: f64 = 1.4826;
/// Added to the deviation: patches that never change would make anything an anomaly.
const LEAST: f64 = 0.02;
/// Deviations from the usual at which the score is one half.
const HALF: f64 = 3.0;
/// What is usual follows a patch that is no more deviations than this above it: a standing defect does not become usual.
const FOLLOWED: f64 = 1.0;

/// Median and median deviation.
type Usual = (f64, f64);

/// What a stream's frames leave behind for the next. A new one is empty.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Option<Baseline>>);

#[derive(Debug)]
struct Baseline {
    /// What it is of.
    vocabulary: Weak<Vocabulary>,
    frames: u32,
    wanted: u32,
    things: Vec<Thing>,
}

/// Of one thing that is looked for.
#[derive(Debug)]
struct Thing {
    rows: usize,
    columns: usize,
    /// How often each patch scored how much, `[patches, BINS]`.
    counts: Vec<u32>,
    /// Scores of the pictures.
    scores: Vec<f32>,
    /// Of each patch and of the picture, once all frames have been seen.
    usual: Option<(Vec<Usual>, Usual)>,
}

impl Memory {
    /// Takes in the maps of a frame, or, once `wanted` frames have been, puts how unusual they are in their place; until then
    /// everything is usual. Only the patches of `is_within` count, if it is given, and only frames that have some.
    pub fn judge(
        &self,
        maps: &mut [AnomalyMap],
        vocabulary: &Arc<Vocabulary>,
        (wanted, drift): (u32, f64),
        is_within: Option<&[bool]>,
    ) {
        if is_within.is_some_and(|is_within| !is_within.contains(&true)) {
            maps.iter_mut().for_each(AnomalyMap::clear);
            return;
        }
        let mut memory = self.0.lock();
        let fits = |baseline: &Baseline| {
            std::ptr::eq(baseline.vocabulary.as_ptr(), Arc::as_ptr(vocabulary))
                && baseline.wanted == wanted
                && baseline.things.len() == maps.len()
                && baseline
                    .things
                    .iter()
                    .zip(&*maps)
                    .all(|(thing, map)| (thing.rows, thing.columns) == (map.rows, map.columns))
        };
        if !memory.as_ref().is_some_and(fits) {
            let things = maps.iter().map(Thing::new).collect();
            *memory = Some(Baseline { vocabulary: Arc::downgrade(vocabulary), frames: 0, wanted, things });
        }
        let Some(baseline) = memory.as_mut() else { return };
        let learns = baseline.frames < wanted;
        baseline.frames = (baseline.frames + 1).min(wanted);
        for (thing, map) in baseline.things.iter_mut().zip(maps) {
            if learns {
                thing.add(map, is_within);
                map.clear();
            } else {
                thing.judge(map, drift, is_within);
            }
        }
    }
}

impl Thing {
    fn new(map: &AnomalyMap) -> Thing {
        let (rows, columns) = (map.rows, map.columns);
        Thing { rows, columns, counts: vec![0; rows * columns * BINS], scores: Vec::new(), usual: None }
    }

    fn add(&mut self, map: &AnomalyMap, is_within: Option<&[bool]>) {
        for (patch, (counts, &value)) in self.counts.chunks_mut(BINS).zip(&map.values).enumerate() {
            if is_within.is_none_or(|is_within| is_within[patch]) {
                counts[bin(value)] += 1;
            }
        }
        self.scores.push(map.score as f32);
    }

    fn judge(&mut self, map: &mut AnomalyMap, drift: f64, is_within: Option<&[bool]>) {
        let (patches, picture) = self.usual.get_or_insert_with(|| usual(&self.counts, &mut self.scores));
        for (patch, (value, usual)) in map.values.iter_mut().zip(patches).enumerate() {
            if is_within.is_none_or(|is_within| is_within[patch]) {
                *value = unusual(f64::from(*value), usual, drift) as f32;
            }
        }
        map.score = unusual(map.score, picture, drift);
    }
}

impl AnomalyMap {
    fn clear(&mut self) {
        (self.values, self.score) = (vec![0.0; self.values.len()], 0.0);
    }
}

/// Of each patch by its counts, and of the picture by its scores. A patch that was never counted is taken for any other.
fn usual(counts: &[u32], scores: &mut [f32]) -> (Vec<Usual>, Usual) {
    let mut of_any: Option<Usual> = None;
    let mut of_all = || {
        let mut all = [0; BINS];
        counts
            .chunks(BINS)
            .for_each(|patch| all.iter_mut().zip(patch).for_each(|(all, count)| *all += count));
        usual_of_counts(&all)
    };
    let patches = counts.chunks(BINS).map(|counts| match counts.iter().all(|&count| count == 0) {
        false => usual_of_counts(counts),
        true => *of_any.get_or_insert_with(&mut of_all),
    });
    (patches.collect(), spread(scores))
}

fn bin(value: f32) -> usize {
    ((value.clamp(0.0, 1.0) * BINS as f32) as usize).min(BINS - 1)
}

/// One half at three deviations above the median. What is usual follows by a share `drift` of the way.
fn unusual(value: f64, (median, deviation): &mut Usual, drift: f64) -> f64 {
    let distance = (value - *median) / (NORMAL * *deviation + LEAST);
    if drift > 0.0 && distance < FOLLOWED {
        *median += drift * (value - *median);
        *deviation += drift * ((value - *median).abs() - *deviation);
    }
    1.0 / (1.0 + (HALF - distance).exp())
}

/// Median and median deviation of counted values, by the middles of the bins.
fn usual_of_counts(counts: &[u32]) -> (f64, f64) {
    let values = counts.iter().enumerate();
    let mut values: Vec<f32> = values
        .flat_map(|(bin, &count)| std::iter::repeat_n((bin as f32 + 0.5) / BINS as f32, count as usize))
        .collect();
    spread(&mut values)
}

/// Median and median deviation; 0 and 0 of nothing.
fn spread(values: &mut [f32]) -> (f64, f64) {
    let median_of = |values: &mut [f32]| {
        values.sort_unstable_by(f32::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(0.0)
    };
    let median = median_of(values);
    let mut distances: Vec<f32> = values.iter().map(|value| (value - median).abs()).collect();
    (f64::from(median), f64::from(median_of(&mut distances)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(values: [f32; 2]) -> AnomalyMap {
        let score = f64::from(values[0].max(values[1]));
        AnomalyMap { rows: 1, columns: 2, values: values.into(), score }
    }

    fn judged(memory: &Memory, vocabulary: &Arc<Vocabulary>, values: [f32; 2]) -> AnomalyMap {
        judged_by(memory, vocabulary, values, 0.0, None)
    }

    fn judged_by(
        memory: &Memory,
        vocabulary: &Arc<Vocabulary>,
        values: [f32; 2],
        drift: f64,
        is_within: Option<&[bool]>,
    ) -> AnomalyMap {
        let mut maps = [map(values)];
        memory.judge(&mut maps, vocabulary, (10, drift), is_within);
        let [map] = maps;
        map
    }

    #[test]
    fn what_is_usual_follows_the_light_and_no_defect() {
        let scores = |drift: f64| {
            let (memory, vocabulary) = (Memory::default(), Arc::default());
            (0..10).for_each(|_| drop(judged_by(&memory, &vocabulary, [0.2; 2], drift, None)));
            // The first patch brightens slowly by ten deviations, the second has a defect from one frame to the next.
            let last = (0..1000)
                .map(|frame| [0.2 + 0.0002 * frame as f32, 0.4])
                .map(|values| judged_by(&memory, &vocabulary, values, drift, None));
            last.last().unwrap().values
        };
        let (still, followed) = (scores(0.0), scores(0.05));
        assert!(still[0] > 0.99 && followed[0] < 0.2, "{still:?} {followed:?}");
        assert!(still[1] > 0.99 && followed[1] > 0.99, "{still:?} {followed:?}");
    }

    #[test]
    fn only_what_is_within_counts() {
        let (memory, vocabulary) = (Memory::default(), Arc::default());
        let judged = |values, within: &[bool]| judged_by(&memory, &vocabulary, values, 0.0, Some(within));
        // Frames without the thing say nothing of what is usual for it.
        (0..20).for_each(|_| assert_eq!(judged([0.9, 0.9], &[false, false]).score, 0.0));
        (0..10).for_each(|_| assert_eq!(judged([0.2, 0.9], &[true, false]).score, 0.0));
        let usual = judged([0.2, 0.2], &[true, true]);
        assert!(usual.values.iter().all(|&value| value < 0.2), "a patch where it never was: {usual:?}");
        let broken = judged([0.2, 0.6], &[true, true]);
        assert!(broken.values[0] < 0.2 && broken.values[1] > 0.99, "{broken:?}");
    }

    #[test]
    fn what_is_usual_for_a_patch_is_no_anomaly_there() {
        let (memory, vocabulary) = (Memory::default(), Arc::default());
        for frame in 0..10 {
            let noise = 0.01 * (frame % 3) as f32;
            assert_eq!(
                judged(&memory, &vocabulary, [0.7 + noise, 0.1 + noise]),
                AnomalyMap { score: 0.0, ..map([0.0; 2]) }
            );
        }
        let usual = judged(&memory, &vocabulary, [0.71, 0.11]);
        assert!(usual.values.iter().all(|&value| value < 0.2) && usual.score < 0.2, "{usual:?}");
        let unusual = judged(&memory, &vocabulary, [0.71, 0.6]);
        assert!(unusual.values[0] < 0.2 && unusual.values[1] > 0.99, "{unusual:?}");
        let broken = judged(&memory, &vocabulary, [0.95, 0.11]);
        assert!(broken.score > 0.9, "{broken:?}");
    }

    #[test]
    fn it_is_learnt_anew_for_other_words_and_sizes() {
        let (memory, vocabulary) = (Memory::default(), Arc::default());
        (0..11).for_each(|_| drop(judged(&memory, &vocabulary, [0.5; 2])));
        assert!(judged(&memory, &vocabulary, [0.9; 2]).score > 0.9);
        let other = Arc::new(Vocabulary { dim: 1, ..Vocabulary::default() });
        assert_eq!(judged(&memory, &other, [0.9; 2]).score, 0.0);
    }

    #[test]
    fn the_middle_of_few_values() {
        assert_eq!(spread(&mut []), (0.0, 0.0));
        assert_eq!(spread(&mut [3.0]), (3.0, 0.0));
        assert_eq!(spread(&mut [1.0, 9.0, 2.0, 3.0, 4.0]), (3.0, 1.0));
    }
}
