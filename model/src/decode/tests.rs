// SPDX-License-Identifier: MIT OR Apache-2.0
use tch::Tensor;

use super::*;

fn vocabulary(labels: &[&str], query_value: &[u32]) -> Vocabulary {
    Vocabulary {
        labels: labels.iter().map(|label| label.to_string()).collect(),
        query_value: query_value.to_vec(),
        features: vec![0.0; query_value.len()],
        dim: 1,
        ..Vocabulary::default()
    }
}

fn logits(rows: &[&[f32]], h: i64, w: i64) -> Tensor {
    Tensor::from_slice(&rows.concat()).view([rows.len() as i64, h, w])
}

fn options() -> DecodeOptions {
    DecodeOptions { mask_size: MaskSize::Grid, ..DecodeOptions::default() }
}

fn ids(segmentation: &Segmentation) -> Vec<u32> {
    match &segmentation.ids {
        Ids::U8(ids) => ids.iter().map(|&id| id.into()).collect(),
        Ids::U16(ids) => ids.iter().map(|&id| id.into()).collect(),
    }
}

#[test]
fn best_query_decides_the_class() {
    let vocabulary = vocabulary(&["tree", "sky"], &[1, 1, 2, 0]);
    let logits = logits(
        &[&[0.9, 0.0, 0.0, 0.0], &[0.0, 0.8, 0.0, 0.0], &[0.5, 0.5, 0.7, 0.1], &[0.0, 0.0, 0.0, 0.6]],
        2,
        2,
    );
    let out = decode(&logits, &vocabulary, &options(), (9, 9), (9, 9)).unwrap();
    assert_eq!(ids(&out), [1, 1, 2, 0]);
    assert_eq!((out.width, out.height), (2, 2));
    assert_eq!(out.regions.len(), 2);
    let tree = &out.regions[0];
    assert_eq!((tree.label.as_str(), tree.value, tree.area), ("tree", 1, 0.5));
    assert_eq!((tree.x, tree.y, tree.w, tree.h), (0.0, 0.0, 1.0, 0.5));
    let sky = &out.regions[1];
    assert_eq!((sky.x, sky.y, sky.w, sky.h), (0.0, 0.5, 0.5, 0.5));
    // softmax over the four queries, scale 40
    let expected = 1.0 / (1.0 + 3.0 * (-0.7f64 * 40.0).exp());
    assert!((sky.score - expected).abs() < 1e-6, "{}", sky.score);
}

#[test]
fn unsure_pixels_become_background() {
    let vocabulary = vocabulary(&["a", "b"], &[1, 2]);
    let logits = logits(&[&[0.50, 0.9], &[0.49, 0.1]], 1, 2);
    let options = DecodeOptions { threshold: 0.7, ..options() };
    let out = decode(&logits, &vocabulary, &options, (1, 2), (1, 2)).unwrap();
    assert_eq!(ids(&out), [0, 1]);
    assert_eq!(out.regions.len(), 1);
}

#[test]
fn a_class_may_have_a_threshold_of_its_own() {
    let mut vocabulary = vocabulary(&["a", "b"], &[1, 2]);
    // a wins the first pixel with 0.6, b the second with 0.6
    let ahead = (0.6f32 / 0.4).ln() / 40.0;
    let logits = logits(&[&[ahead, 0.0], &[0.0, ahead]], 1, 2);
    let of = |vocabulary: &Vocabulary, threshold: f64| {
        let options = DecodeOptions { threshold, ..options() };
        ids(&decode(&logits, vocabulary, &options, (1, 2), (1, 2)).unwrap())
    };
    assert_eq!(of(&vocabulary, 0.5), [1, 2]);
    vocabulary.thresholds = vec![Some(0.7), None];
    assert_eq!(of(&vocabulary, 0.5), [0, 2], "it does not fall to the second best");
    assert_eq!(of(&vocabulary, 0.7), [0, 0]);
    vocabulary.thresholds = vec![Some(0.5), None];
    assert_eq!(of(&vocabulary, 0.7), [1, 0], "it may be below that of all");
}

#[test]
fn what_is_none_of_the_classes_is_background() {
    let vocabulary = vocabulary(&["a", "b"], &[1, 1, 2, 0]);
    //  sure, low, close, close to its own synonym, close to the background
    let rows: [&[f32]; 4] = [
        &[0.30, 0.10, 0.30, 0.30, 0.30],
        &[0.05, 0.05, 0.05, 0.29, 0.05],
        &[0.10, 0.05, 0.29, 0.10, 0.10],
        &[0.10, 0.05, 0.10, 0.10, 0.29],
    ];
    let logits = logits(&rows, 1, 5);
    for source in [&logits as &dyn Logits, &Opaque(logits.shallow_clone())] {
        let of = |unknown_cosine: f64, unknown_margin: f64| {
            let options = DecodeOptions { unknown_cosine, unknown_margin, ..options() };
            ids(&decode_at(source, &vocabulary, &options, (1, 5)).unwrap())
        };
        assert_eq!(of(-1.0, 0.0), [1, 1, 1, 1, 1]);
        assert_eq!(of(0.2, 0.0), [1, 0, 1, 1, 1]);
        assert_eq!(of(-1.0, 0.02), [1, 1, 0, 1, 0]);
        assert_eq!(of(0.2, 0.02), [1, 0, 0, 1, 0]);
        assert_eq!(of(0.9, 0.0), [0; 5]);
    }
}

#[test]
fn a_class_alone_has_nobody_near() {
    let only = vocabulary(&["a"], &[1, 1]);
    let logits = logits(&[&[0.3], &[0.3]], 1, 1);
    let options = DecodeOptions { unknown_margin: 0.5, ..options() };
    assert_eq!(ids(&decode(&logits, &only, &options, (1, 1), (1, 1)).unwrap()), [1]);
}

#[test]
fn small_classes_give_way_to_the_next_best() {
    let vocabulary = vocabulary(&["a", "b", "c"], &[1, 2, 3]);
    let logits = logits(&[&[0.9, 0.9, 0.9, 0.1], &[0.1, 0.1, 0.1, 0.9], &[0.0, 0.0, 0.0, 0.8]], 1, 4);
    let keep = decode(&logits, &vocabulary, &options(), (1, 4), (1, 4)).unwrap();
    assert_eq!(ids(&keep), [1, 1, 1, 2]);
    // b wins a quarter of the foreground, which is not more than 0.25; c wins nothing: both lose their scores.
    let out =
        decode(&logits, &vocabulary, &DecodeOptions { min_area: 0.25, ..options() }, (1, 4), (1, 4)).unwrap();
    assert_eq!(ids(&out), [1, 1, 1, 1]);
    let first = 1.0 / (1.0 + (-32f64).exp() + (-36f64).exp());
    let last = (-32f64).exp() / (1.0 + (-4f64).exp() + (-32f64).exp());
    assert!((out.regions[0].score - (3.0 * first + last) / 4.0).abs() < 1e-6);
}

#[test]
fn sizes_of_the_mask() {
    let vocabulary = vocabulary(&["a", "b"], &[1, 2]);
    let logits = logits(&[&[1.0, 0.0], &[0.0, 1.0]], 1, 2);
    for (mask_size, size) in
        [(MaskSize::Grid, (2, 1)), (MaskSize::Model, (32, 16)), (MaskSize::Frame, (101, 50))]
    {
        let options = DecodeOptions { mask_size, ..options() };
        let out = decode(&logits, &vocabulary, &options, (50, 101), (16, 32)).unwrap();
        assert_eq!((out.width, out.height), size);
        assert_eq!(ids(&out).len(), size.0 * size.1);
        // the border lies in the middle; an exact tie there stays with the first class
        assert_eq!(ids(&out)[size.0 / 2 - 1], 1);
        assert_eq!(ids(&out)[size.0 - size.0 / 2], 2);
    }
}

/// A source that is not a plain grid, so that decoding takes the general way, in chunks.
struct Opaque(Tensor);

impl Logits for Opaque {
    fn queries(&self) -> usize {
        self.0.queries()
    }

    fn upsampled(&self, rows: &[i64], size: [i64; 2]) -> Result<Tensor> {
        self.0.upsampled(rows, size)
    }
}

/// Both ways of decoding against the plain softmax, with enough queries at one size to need several chunks.
#[test]
fn both_ways_give_the_plain_answer() {
    tch::manual_seed(1);
    let (queries, classes, size) = (110, 90, (60, 70));
    let query_value: Vec<u32> = (0..queries).map(|query| query % (classes + 1)).collect();
    let labels: Vec<String> = (0..classes).map(|class| class.to_string()).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let vocabulary = vocabulary(&labels, &query_value);
    let logits = Tensor::rand([queries.into(), 7, 8], (Kind::Float, tch::Device::Cpu));
    let plain = class_probabilities(&logits, &vocabulary, 40.0, size).unwrap();
    for min_area in [0.0, 0.01] {
        let options = DecodeOptions { threshold: 0.3, min_area, ..options() };
        let (best, class) = if min_area == 0.0 {
            plain.max_dim(0, false)
        } else {
            // as published: classes at or below the share of the foreground are zeroed, then the best of the rest
            let first = plain.argmax(0, false).view([-1]).bincount(None::<Tensor>, i64::from(classes) + 1);
            let foreground = first.narrow(0, 1, classes.into()).sum(Kind::Int64);
            let kept = first.gt_tensor(&(foreground * min_area)).to_kind(Kind::Float);
            let _ = kept.get(0).fill_(1.0);
            (&plain * kept.view([-1, 1, 1])).max_dim(0, false)
        };
        let expected = class.where_scalarother(&best.ge(0.3), 0).view([-1]);
        for source in [&logits as &dyn Logits, &Opaque(logits.shallow_clone())] {
            let out = decode_at(source, &vocabulary, &options, size).unwrap();
            let got: Vec<i64> = ids(&out).into_iter().map(i64::from).collect();
            let different =
                Tensor::from_slice(&got).not_equal_tensor(&expected).sum(Kind::Int64).int64_value(&[]);
            // rounding differs where two classes score the same to the last bits, or at the threshold
            assert!(different < 3, "{different} pixels differ, min-area {min_area}");
        }
    }
}

#[test]
fn histograms_count_what_a_threshold_takes_too() {
    let vocabulary = vocabulary(&["a", "b", "c"], &[1, 2, 0, 3]);
    // Between two queries that are alone the winner has 1 / (1 + exp(-40 d)): 0.5 at 0, 0.731 at 1/40, 1 far away.
    let near = 1.0 / 40.0;
    let low = -9.0;
    let logits = logits(
        &[&[0.0, near, 1.0, 0.0, 0.0], &[0.0, 0.0, 0.0, near, low], &[low, low, low, low, 1.0], &[low; 5]],
        1,
        5,
    );
    let asked = DecodeOptions { threshold: 0.9, histograms: true, ..options() };
    let out = decode(&logits, &vocabulary, &asked, (1, 5), (1, 5)).unwrap();
    assert_eq!(ids(&out), [0, 0, 1, 0, 0]);
    let found: Vec<_> = out
        .histograms
        .iter()
        .map(|one| {
            let bins = one.pixels.iter().enumerate().filter(|(_, pixels)| **pixels > 0);
            (one.value, one.label.as_str(), bins.map(|(bin, pixels)| (bin, *pixels)).collect::<Vec<_>>())
        })
        .collect();
    // 0.5, 0.731 and 1 twenty-fifths; what the background wins is no class's, and `c` wins nothing.
    assert_eq!(found, [(1, "a", vec![(12, 1), (18, 1), (24, 1)]), (2, "b", vec![(18, 1)])]);
    let out = decode(&logits, &vocabulary, &options(), (1, 5), (1, 5)).unwrap();
    assert_eq!(out.histograms, []);
}

#[test]
fn many_classes_need_two_bytes() {
    let query_value: Vec<u32> = (1..=300).collect();
    let labels: Vec<String> = query_value.iter().map(u32::to_string).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let vocabulary = vocabulary(&labels, &query_value);
    let logits =
        Tensor::from_slice(&(0..300).map(|i| i as f32 / 300.0).collect::<Vec<_>>()).view([300, 1, 1]);
    let out = decode(&logits, &vocabulary, &options(), (1, 1), (1, 1)).unwrap();
    assert_eq!(out.ids, Ids::U16(vec![300]));
}

#[test]
fn broken_logits_are_an_error() {
    let vocabulary = vocabulary(&["a", "b"], &[1, 2]);
    let nan = logits(&[&[f32::NAN], &[0.0]], 1, 1);
    let error = decode(&nan, &vocabulary, &options(), (1, 1), (1, 1)).unwrap_err();
    assert!(error.to_string().contains("not numbers"), "{error}");
    let short = logits(&[&[0.0]], 1, 1);
    assert!(decode(&short, &vocabulary, &options(), (1, 1), (1, 1)).is_err());
}

/// The way of a GPU, here on the CPU, against the way of the CPU: several rules, sizes and widths of ids in one batch.
#[test]
fn many_pictures_at_once_are_decoded_as_one_by_one() {
    tch::manual_seed(11);
    let few = vocabulary(&["a", "b", "c"], &[1, 1, 2, 3, 0]);
    let names: Vec<String> = (0..300).map(|number| format!("thing {number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let many = vocabulary(&names, &(1..=300).collect::<Vec<u32>>());
    let plain = options();
    let strict = DecodeOptions { threshold: 0.3, ..options() };
    let roomy = DecodeOptions { min_area: 0.2, ..options() };
    let greedy = DecodeOptions { min_area: 0.6, threshold: 0.2, ..options() };
    let doubting = DecodeOptions { unknown_cosine: 0.15, unknown_margin: 0.01, min_area: 0.2, ..options() };
    let counting = DecodeOptions { histograms: true, threshold: 0.3, ..options() };
    let choosy = Vocabulary { thresholds: vec![Some(0.6), None, Some(0.0)], ..few.clone() };
    let only = vocabulary(&["a", "b", "c"], &[1, 2, 3]);
    let cases = [
        (&few, &plain, (48, 64)),
        (&few, &plain, (48, 64)),
        (&few, &roomy, (48, 64)),
        (&few, &roomy, (48, 64)),
        (&only, &greedy, (48, 64)),
        (&only, &DecodeOptions { min_area: 0.99, ..options() }, (48, 64)),
        (&many, &roomy, (48, 64)), // in chunks of queries
        (&many, &plain, (48, 64)),
        (&few, &plain, (300, 400)), // one query alone is more than a chunk
        (&few, &strict, (48, 64)),
        (&few, &doubting, (48, 64)),
        (&many, &doubting, (48, 64)),
        (&few, &counting, (48, 64)),
        (&few, &counting, (48, 64)),
        (&many, &counting, (48, 64)),
        (&choosy, &strict, (48, 64)),
        (&choosy, &plain, (48, 64)),
        (&many, &plain, (12, 16)),
        (&few, &plain, (3, 4)),
        (&many, &strict, (12, 16)),
        (&few, &plain, (48, 64)),
    ];
    let looks: Vec<Tensor> = cases
        .iter()
        .map(|(vocabulary, ..)| {
            let size = [vocabulary.queries() as i64, 3, 4];
            Tensor::rand(size, (Kind::Float, Device::Cpu)) * 0.3
        })
        .collect();
    let jobs: Vec<Job> = looks
        .iter()
        .zip(&cases)
        .map(|(logits, &(vocabulary, options, size))| Job { logits, vocabulary, options, size })
        .collect();
    assert!(jobs.iter().all(Job::suits));
    let together = decode_batch(&jobs).unwrap();
    assert_eq!(together.len(), jobs.len());
    for (number, (job, answer)) in jobs.iter().zip(&together).enumerate() {
        let alone = decode_at(job.logits, job.vocabulary, job.options, job.size).unwrap();
        assert_eq!((answer.width, answer.height), (alone.width, alone.height));
        let differ = ids(answer).iter().zip(ids(&alone)).filter(|(a, b)| **a != *b).count();
        // where two classes are within rounding of each other, either may win
        assert!(differ * 500 <= job.size.0 * job.size.1, "picture {number}: {differ} pixels differ");
        let pixels = |answer: &Segmentation| -> Vec<(u32, u32)> {
            answer.histograms.iter().map(|one| (one.value, one.pixels.iter().sum())).collect()
        };
        assert_eq!(answer.histograms.is_empty(), !job.options.histograms);
        assert!(pixels(answer).len().abs_diff(pixels(&alone).len()) < 2);
        let moved: u32 = (answer.histograms.iter())
            .filter_map(|one| Some((one, alone.histograms.iter().find(|other| other.value == one.value)?)))
            .flat_map(|(one, other)| one.pixels.iter().zip(&other.pixels).map(|(a, b)| a.abs_diff(*b)))
            .sum();
        assert!(
            moved as usize * 100 <= job.size.0 * job.size.1,
            "picture {number}: {moved} pixels in other bins"
        );
        for region in &alone.regions {
            let found = answer.regions.iter().find(|found| found.value == region.value);
            let Some(found) = found else { panic!("picture {number} lacks {region:?}") };
            assert_eq!(found.label, region.label);
            let pairs = [
                (found.score, region.score),
                (found.area, region.area),
                (found.x, region.x),
                (found.y, region.y),
                (found.w, region.w),
                (found.h, region.h),
            ];
            assert!(
                pairs.iter().all(|(a, b)| (a - b).abs() < 0.02),
                "picture {number}: {found:?} {region:?}"
            );
        }
    }
    let wide = jobs.iter().filter(|job| job.vocabulary.labels.len() > 255);
    assert_eq!(wide.count(), together.iter().filter(|answer| matches!(answer.ids, Ids::U16(_))).count());
}

#[test]
fn what_cannot_be_decoded_together_is_told_apart() {
    let few = vocabulary(&["a"], &[1]);
    let logits = Tensor::zeros([1, 2, 2], (Kind::Float, Device::Cpu));
    let job = |options, size| Job { logits: &logits, vocabulary: &few, options, size };
    let plain = options();
    assert!(job(&plain, (4, 4)).suits());
    assert!(!job(&plain, (0, 4)).suits(), "nothing to decode");
    let two = vocabulary(&["a", "b"], &[1, 2]);
    assert!(!Job { vocabulary: &two, ..job(&plain, (4, 4)) }.suits(), "logits of another vocabulary");
    let broken = Tensor::from_slice(&[f32::NAN]).view([1, 1, 1]);
    let job = Job { logits: &broken, vocabulary: &few, options: &plain, size: (1, 1) };
    assert!(decode_batch(&[job]).unwrap_err().to_string().contains("not numbers"));
    assert!(decode_batch(&[]).unwrap().is_empty());
}
