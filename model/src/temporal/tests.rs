// SPDX-License-Identifier: MIT OR Apache-2.0

use tch::Device;

use super::super::decode::MaskSizes;
use super::super::{InferOptions, Picture, Window};
use super::*;
use crate::look::Verdict;
use crate::windows::slide;

const FLOAT: (Kind, Device) = (Kind::Float, Device::Cpu);

/// A look of one query at 2 x 2 patches of 4 pixels: a shade per patch, a cosine per patch.
fn look(shades: [f32; 4], cosines: [f32; 4]) -> Look {
    let shades = Tensor::from_slice(&shades).view([1, 1, 2, 2]);
    let input =
        shades.repeat_interleave_self_int(4i64, 2i64, None).repeat_interleave_self_int(4i64, 3i64, None);
    let sizes = MaskSizes { grid: (2, 2), model: (8, 8), frame: (8, 8) };
    let logits = Box::new(Tensor::from_slice(&cosines).view([1, 2, 2]));
    Look {
        logits,
        input: input.expand([1, 3, 8, 8], false).contiguous(),
        sizes,
        anomalies: Vec::new(),
        class: None,
        verdict: Verdict::default(),
    }
}

fn request(memory: &Arc<Memory>, vocabulary: &Arc<Vocabulary>, smoothing: f64) -> Request {
    let temporal = Temporal { smoothing, memory: Some(memory.clone()) };
    let options = InferOptions { temporal, ..InferOptions::default() };
    Request { picture: Picture::grey(8, 0).unwrap(), vocabulary: vocabulary.clone(), options }
}

fn cosines(look: &Look) -> Vec<f32> {
    Vec::try_from(look.logits.patches().contiguous().view([-1])).unwrap()
}

/// Runs one batch of the given looks of one stream and commits it.
fn run(
    looks: &mut [Look],
    memory: &Arc<Memory>,
    vocabulary: &Arc<Vocabulary>,
    smoothing: f64,
) -> Vec<Vec<f32>> {
    let requests: Vec<_> = looks.iter().map(|_| request(memory, vocabulary, smoothing)).collect();
    Pending::smooth(looks, &requests).unwrap().commit();
    looks.iter().map(cosines).collect()
}

const STILL: [f32; 4] = [0.0; 4];

#[test]
fn patches_that_stay_keep_their_past_and_patches_that_change_do_not() {
    let (memory, vocabulary) = (Arc::default(), Arc::default());
    run(&mut [look(STILL, [1.0; 4])], &memory, &vocabulary, 0.8);
    // The first patch stays, the second changes a little, the third wholly; the fourth stays.
    let change = CHANGE as f32;
    let now = run(&mut [look([0.0, change, 40.0 * change, 0.0], [0.0; 4])], &memory, &vocabulary, 0.8);
    let expected = [0.8, 0.8 * (-1f32).exp(), 0.0, 0.8];
    for (now, expected) in now[0].iter().zip(expected) {
        assert!((now - expected).abs() < 1e-5, "{now} in place of {expected}");
    }
    // From there on against the newest picture: all four stay now.
    let next = run(&mut [look([0.0, change, 40.0 * change, 0.0], [0.0; 4])], &memory, &vocabulary, 0.8);
    assert!((next[0][1] - 0.64 * (-1f32).exp()).abs() < 1e-5 && next[0][2].abs() < 1e-6, "{next:?}");
}

#[test]
fn a_batch_of_one_stream_is_averaged_in_its_order() {
    let vocabulary = Arc::default();
    let values = [1.0, 0.0, 0.5, 0.25, 1.0];
    let frames = || values.map(|value| look(STILL, [value; 4]));
    let (one_by_one, at_once) = (Arc::default(), Arc::default());
    let singly: Vec<_> =
        frames().into_iter().flat_map(|frame| run(&mut [frame], &one_by_one, &vocabulary, 0.5)).collect();
    let together = run(&mut frames(), &at_once, &vocabulary, 0.5);
    assert_eq!(singly, together);
    assert_eq!(together.iter().map(|frame| frame[0]).collect::<Vec<_>>(), [1.0, 0.5, 0.5, 0.375, 0.6875]);
}

#[test]
fn streams_of_one_batch_do_not_mix() {
    let (one, two, vocabulary) = (Arc::default(), Arc::default(), Arc::default());
    let mut looks = [0.0, 1.0, 0.5, 1.0].map(|value| look(STILL, [value; 4]));
    let requests = [&one, &two, &one, &two].map(|memory| request(memory, &vocabulary, 0.5));
    Pending::smooth(&mut looks, &requests).unwrap().commit();
    assert_eq!(looks.each_ref().map(|look| cosines(look)[0]), [0.0, 1.0, 0.25, 1.0]);
}

#[test]
fn a_batch_that_fails_leaves_the_past_as_it_was() {
    let (memory, vocabulary) = (Arc::default(), Arc::default());
    run(&mut [look(STILL, [1.0; 4])], &memory, &vocabulary, 0.5);
    let mut failed = [look(STILL, [0.0; 4])];
    drop(Pending::smooth(&mut failed, &[request(&memory, &vocabulary, 0.5)]).unwrap());
    assert_eq!(run(&mut [look(STILL, [0.0; 4])], &memory, &vocabulary, 0.5)[0], [0.5; 4]);
}

#[test]
fn a_cut_other_queries_and_other_sizes_forget_the_past() {
    let (memory, vocabulary) = (Arc::default(), Arc::default());
    run(&mut [look(STILL, [1.0; 4])], &memory, &vocabulary, 1.0);
    let elsewhere = [2.0; 4];
    assert_eq!(run(&mut [look(elsewhere, [0.0; 4])], &memory, &vocabulary, 1.0)[0], [0.0; 4], "a cut");
    let other = Arc::new(Vocabulary { dim: 1, ..Vocabulary::default() });
    assert_eq!(run(&mut [look(elsewhere, [1.0; 4])], &memory, &other, 1.0)[0], [1.0; 4], "queries");
    let mut larger = look(elsewhere, [0.0; 4]);
    larger.input = Tensor::full([1, 3, 8, 12], 2.0, FLOAT);
    assert_eq!(run(&mut [larger], &memory, &other, 1.0)[0], [0.0; 4], "another size");
    assert_eq!(run(&mut [look(elsewhere, [1.0; 4])], &memory, &other, 0.0)[0], [1.0; 4], "turned off");
}

/// Windows carry their patches each: the average through windows is that of the whole where they tile the picture.
#[test]
fn windows_are_averaged_patch_by_patch() {
    let through_windows = |shades, cosines| {
        let whole = look(shades, cosines);
        let patches = whole.logits.patches().view([1, 1, 2, 2]);
        let window = Window { size: 4, stride: 4 };
        // One patch a window: the four windows in the order of the rows.
        let logits = slide(&whole.input, window, 4, |_| Ok(patches.view([4, 1, 1, 1]))).unwrap();
        Look { logits: Box::new(logits), ..whole }
    };
    let frames = [([0.0f32; 4], [1.0f32; 4]), ([0.0, 0.1, 0.3, 0.0], [0.0, 0.2, 0.4, 0.6])];
    let (memory, vocabulary) = (Arc::default(), Arc::default());
    let whole: Vec<_> = frames
        .into_iter()
        .flat_map(|(shades, cosines)| run(&mut [look(shades, cosines)], &memory, &vocabulary, 0.7))
        .collect();
    let memory = Arc::default();
    let windows: Vec<_> = frames
        .into_iter()
        .flat_map(|(shades, cosines)| run(&mut [through_windows(shades, cosines)], &memory, &vocabulary, 0.7))
        .collect();
    for (whole, windows) in whole.concat().iter().zip(windows.concat()) {
        assert!((whole - windows).abs() < 1e-6, "{whole} {windows}");
    }
}
