// SPDX-License-Identifier: MIT OR Apache-2.0
//! Token reuse from pictures to cosines, on the demo model: what a stream remembers, and when it must forget.

mod model_common;

use std::sync::Arc;
use std::time::Duration;

use gclip_model::preprocess::{Colour, PixelFormat};
use gclip_model::reuse::Memory;
use gclip_model::{
    DecodeOptions, InferOptions, InputSize, MaskSize, Model, ModelSpec, Picture, PrecisionChoice, Prompts,
    Request, Reuse, Templates, Vocabulary, Window,
};
use model_common::{TOLERANCE, spec};
use tch::Tensor;

const WIDTH: usize = 320;
const HEIGHT: usize = 192;

fn demo(method: &str, options: &str) -> Model {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/demo");
    Model::load(&spec(folder, method, options)).unwrap()
}

fn vocabulary(model: &mut Model, prompts: &str) -> Arc<Vocabulary> {
    let prompts = Prompts::parse(prompts, "").unwrap();
    let encoder = model.text.as_mut().unwrap();
    let mut encode = |texts: &[String]| encoder.encode(texts);
    Arc::new(Vocabulary::build(&prompts, &Templates::None, model.info.embed_dim, &mut encode).unwrap())
}

/// Left, top, side, shade.
type Box = (usize, usize, usize, u8);

/// A street of two colours with boxes on it.
fn scene(boxes: &[Box]) -> Picture {
    scene_of(WIDTH, HEIGHT, boxes)
}

fn scene_of(width: usize, height: usize, boxes: &[Box]) -> Picture {
    let mut rgb = vec![0u8; 3 * width * height];
    for (index, pixel) in rgb.chunks_exact_mut(3).enumerate() {
        let (x, y) = (index % width, index / width);
        let ground = if y < height / 2 { [120, 170, 230] } else { [90 + (x / 9 % 3) as u8 * 4, 90, 95] };
        let on = boxes.iter().rev().find(|&&(left, top, side, _)| {
            (left..left + side).contains(&x) && (top..top + side).contains(&y)
        });
        pixel.copy_from_slice(&on.map_or(ground, |&(.., shade)| [shade, 255 - shade, shade / 2]));
    }
    let data = Tensor::from_slice(&rgb).into();
    Picture { format: PixelFormat::Rgb, width, height, colour: Colour::default(), data }
}

struct Stream {
    memory: Arc<Memory>,
    threshold: f64,
}

impl Stream {
    fn new(threshold: f64) -> Stream {
        Stream { memory: Arc::default(), threshold }
    }

    fn request(&self, picture: Picture, words: &Arc<Vocabulary>) -> Request {
        let reuse =
            Reuse { threshold: self.threshold, memory: Some(self.memory.clone()), ..Reuse::default() };
        let decode = DecodeOptions { mask_size: MaskSize::Grid, ..DecodeOptions::default() };
        let options =
            InferOptions { input_size: InputSize::Native, reuse, decode, ..InferOptions::default() };
        Request { picture, vocabulary: words.clone(), options }
    }

    /// Looks at pictures one by one.
    fn see(&self, model: &mut Model, picture: Picture, words: &Arc<Vocabulary>) -> Tensor {
        cosines(model, &[self.request(picture, words)]).remove(0)
    }
}

fn cosines(model: &mut Model, requests: &[Request]) -> Vec<Tensor> {
    let (looks, _) = model.vision.look(requests).unwrap();
    looks.iter().map(|look| look.logits.patches().copy()).collect()
}

fn fresh(model: &mut Model, picture: Picture, words: &Arc<Vocabulary>) -> Tensor {
    Stream::new(0.0).see(model, picture, words)
}

#[track_caller]
fn assert_equal(found: &Tensor, expected: &Tensor) {
    assert_eq!(found.size(), expected.size());
    let off = (found - expected).abs().max().double_value(&[]);
    assert!(off < TOLERANCE, "off by {off:e}");
}

fn differs(found: &Tensor, expected: &Tensor) -> bool {
    (found - expected).abs().max().double_value(&[]) > TOLERANCE
}

/// Share of the patches with the same best query.
fn agreement(found: &Tensor, expected: &Tensor) -> f64 {
    let best = |cosines: &Tensor| cosines.argmax(-3, false);
    best(found).eq_tensor(&best(expected)).to_kind(tch::Kind::Float).mean(tch::Kind::Float).double_value(&[])
}

#[test]
fn a_still_video_is_computed_once() {
    let mut model = demo("gclip", "");
    let words = vocabulary(&mut model, "sky; road; car");
    let stream = Stream::new(0.05);
    let expected = fresh(&mut model, scene(&[(40, 100, 50, 200)]), &words);
    for _ in 0..5 {
        assert_equal(&stream.see(&mut model, scene(&[(40, 100, 50, 200)]), &words), &expected);
    }
    let counts = stream.memory.counts();
    assert_eq!((counts.whole, counts.partial), (1, 4));
    assert_eq!(counts.worked * 5, counts.tokens);
    assert!(counts.bytes > 0);
}

/// The same bits after others of the same model have reused tokens, and the same cosines beside one in a batch.
#[test]
fn a_request_without_a_memory_is_what_it_is_without_token_reuse() {
    let mut model = demo("gclip", "");
    let words = vocabulary(&mut model, "sky; road; car");
    let stream = Stream::new(0.05);
    let places = [40, 44];
    let picture = |left: usize| scene(&[(left, 100, 50, 200)]);
    let plain = |left: usize| {
        let mut request = stream.request(picture(left), &words);
        request.options.reuse = Reuse::default();
        request
    };
    let alone = |model: &mut Model| places.map(|left| cosines(model, &[plain(left)]).remove(0));
    let expected = alone(&mut model);
    for (left, expected) in places.iter().zip(&expected) {
        let beside = cosines(&mut model, &[plain(*left), stream.request(picture(*left), &words)]);
        assert_equal(&beside[0], expected);
    }
    assert!(stream.memory.counts().partial > 0, "nothing was reused");
    for (found, expected) in alone(&mut model).iter().zip(&expected) {
        assert!(found.equal(expected), "other bits");
    }
}

#[test]
fn blocks_in_8_bits_take_part() {
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/demo");
    let load = |precision| Model::load(&ModelSpec { precision, ..spec(demo, "gclip", "") });
    let mut model = match load(PrecisionChoice::Int8) {
        Err(error) if format!("{error:#}").contains("AVX512-VNNI") => {
            println!("skipped: no AVX512-VNNI here");
            return;
        }
        model => model.unwrap(),
    };
    assert_eq!(
        (model.info.precision.as_str(), model.info.int8_blocks.as_deref()),
        ("int8", Some(&[0, 1, 2, 3, 4][..]))
    );
    let words = vocabulary(&mut model, "sky; road; car");
    let stream = Stream::new(1e-3);
    let picture = |left| scene(&[(left, 100, 50, 200)]);
    let mut exact = load(PrecisionChoice::F32).unwrap();
    for left in [40, 48, 60] {
        let found = stream.see(&mut model, picture(left), &words);
        let whole = fresh(&mut model, picture(left), &words);
        let in_f32 = fresh(&mut exact, picture(left), &words);
        assert!(differs(&whole, &in_f32));
        let alike = [agreement(&found, &whole), agreement(&whole, &in_f32)];
        assert!(alike.iter().all(|alike| *alike > 0.9), "{left}: {alike:?}");
    }
    let counts = stream.memory.counts();
    assert_eq!((counts.whole, counts.partial), (1, 2));
    assert!(counts.share() < 0.8, "{}", counts.share());
    // What no threshold is crossed for is computed again as it was: tokens do not depend on each other in 8 bits.
    let again = stream.see(&mut model, picture(60), &words);
    assert_equal(&again, &stream.see(&mut model, picture(60), &words));
}

#[test]
fn every_method_takes_part() {
    for (name, options) in [
        ("gclip", "heads=each"),
        ("clip", ""),
        ("maskclip", ""),
        ("sclip", ""),
        ("clearclip", ""),
        ("naclip", ""),
        ("resclip", ""),
        ("scclip", "pre=1,post=2,layers=1-3"),
        ("cliptrase", ""),
    ] {
        let mut model = demo(name, options);
        let words = vocabulary(&mut model, "sky; road; car");
        let stream = Stream::new(1e-3);
        let _ = stream.see(&mut model, scene(&[(40, 100, 50, 200)]), &words);
        let found = stream.see(&mut model, scene(&[(60, 100, 50, 200)]), &words);
        assert_eq!(stream.memory.counts().partial, 1, "{name}");
        let expected = fresh(&mut model, scene(&[(60, 100, 50, 200)]), &words);
        let agreement = agreement(&found, &expected);
        println!("{name} {options}: {:.1} % of the patches agree", 100.0 * agreement);
        assert!(agreement >= 0.9, "{name}: {agreement}");
    }
}

#[test]
fn what_makes_a_stream_another_makes_its_next_look_a_fresh_one() {
    let mut model = demo("gclip", "");
    let words = vocabulary(&mut model, "sky; road; car");
    let other_words = vocabulary(&mut model, "building; tree");
    // A threshold that lets whole objects pass unseen, so that a past which is not forgotten shows.
    let stream = Stream::new(1.2);
    let (first, second) = ([(40, 60, 60, 250)], [(200, 90, 70, 10)]);
    let see = |model: &mut Model, size: (usize, usize), boxes: &[Box], words: &Arc<Vocabulary>| {
        let picture = || scene_of(size.0, size.1, boxes);
        (stream.see(model, picture(), words), fresh(model, picture(), words))
    };
    let (size, small) = ((WIDTH, HEIGHT), (256, 192));
    let _ = stream.see(&mut model, scene(&first), &words);
    let (found, expected) = see(&mut model, size, &second, &words);
    assert!(differs(&found, &expected), "the test sees nothing");
    // New prompts.
    let (found, expected) = see(&mut model, size, &second, &other_words);
    assert_equal(&found, &expected);
    // A new size.
    let (found, expected) = see(&mut model, small, &first, &other_words);
    assert_equal(&found, &expected);
    // A reload: another model, the same stream.
    let mut reloaded = demo("gclip", "");
    let (found, expected) = see(&mut reloaded, small, &second, &other_words);
    assert_equal(&found, &expected);
    // The property set to 0: what was kept is let go of.
    assert!(stream.memory.counts().bytes > 0);
    let off = Stream { memory: stream.memory.clone(), threshold: 0.0 };
    let found = off.see(&mut reloaded, scene(&second), &other_words);
    assert_eq!(found, fresh(&mut reloaded, scene(&second), &other_words));
    assert_eq!(stream.memory.counts().bytes, 0);
}

#[test]
fn a_cut_gives_what_a_fresh_stream_gives() {
    let mut model = demo("gclip", "");
    let words = vocabulary(&mut model, "sky; road; car");
    let stream = Stream::new(0.05);
    let _ = stream.see(&mut model, scene(&[]), &words);
    let noise = |seed: i64| {
        tch::manual_seed(seed);
        let size = [(3 * WIDTH * HEIGHT) as i64];
        let data = Tensor::randint(256, size, (tch::Kind::Uint8, tch::Device::Cpu)).into();
        Picture { format: PixelFormat::Rgb, width: WIDTH, height: HEIGHT, colour: Colour::default(), data }
    };
    // Again and again: the looks that rest for it are whole too.
    for seed in 0..8 {
        let found = stream.see(&mut model, noise(seed), &words);
        assert_equal(&found, &fresh(&mut model, noise(seed), &words));
    }
    assert_eq!(stream.memory.counts().partial, 0);
    // And back to quiet.
    for _ in 0..40 {
        let _ = stream.see(&mut model, scene(&[]), &words);
    }
    assert!(stream.memory.counts().partial > 20);
}

#[test]
fn after_the_refresh_the_whole_picture_is_looked_at() {
    let mut model = demo("gclip", "");
    let words = vocabulary(&mut model, "sky; road; car");
    let stream = Stream::new(1.2);
    let at = |seconds: u64, picture: Picture| {
        let mut request = stream.request(picture, &words);
        request.options.reuse.at = Some(Duration::from_secs(seconds));
        request.options.reuse.refresh = Duration::from_secs(3);
        request
    };
    let picture = || scene(&[(200, 90, 70, 10)]);
    let _ = cosines(&mut model, &[at(10, scene(&[(40, 60, 60, 250)]))]);
    let expected = fresh(&mut model, picture(), &words);
    for (second, stale) in [(11, true), (12, true), (13, false), (14, false)] {
        let found = cosines(&mut model, &[at(second, picture())]).remove(0);
        assert_eq!(differs(&found, &expected), stale, "at {second} s");
    }
    assert_eq!(stream.memory.counts().whole, 2);
}

#[test]
fn streams_of_a_batch_keep_apart() {
    let mut model = demo("gclip", "");
    let words = vocabulary(&mut model, "sky; road; car");
    let place = |number: usize, time: usize| scene(&[(20 + 30 * number + 10 * time, 100, 40, 200)]);
    let streams: Vec<Stream> = (0..3).map(|_| Stream::new(0.02)).collect();
    let alone: Vec<Stream> = (0..3).map(|_| Stream::new(0.02)).collect();
    // The third joins at 1 and the first leaves at 3; the second has two frames in a batch.
    for time in 0..4 {
        let present = [0, 1, 2].into_iter().filter(|&n| !(n == 2 && time == 0 || n == 0 && time == 3));
        let present: Vec<usize> = present.chain((time == 2).then_some(1)).collect();
        let mut seen = [0; 3];
        let frames: Vec<(usize, usize)> = present
            .iter()
            .map(|&number| {
                seen[number] += 1;
                (number, time + 10 * (seen[number] - 1))
            })
            .collect();
        let requests: Vec<Request> =
            frames.iter().map(|&(n, time)| streams[n].request(place(n, time), &words)).collect();
        let together = cosines(&mut model, &requests);
        for (&(number, time), found) in frames.iter().zip(&together) {
            assert_equal(found, &alone[number].see(&mut model, place(number, time), &words));
        }
    }
    for (stream, alone) in streams.iter().zip(&alone) {
        assert_eq!(stream.memory.counts(), alone.memory.counts());
        assert!(stream.memory.counts().partial > 0);
    }
}

#[test]
fn windows_remember_each_for_itself() {
    let mut model = demo("gclip", "");
    let words = vocabulary(&mut model, "sky; road; car");
    let stream = Stream::new(0.05);
    let look = |model: &mut Model, stream: &Stream, left: usize| {
        let mut request = stream.request(scene(&[(left, 100, 40, 200)]), &words);
        request.options.window = Window::from_sizes(160, 80).unwrap();
        cosines(model, &[request]).remove(0)
    };
    let _ = look(&mut model, &stream, 20);
    let windows = stream.memory.counts().whole;
    assert!(windows > 2, "{windows}");
    // Only the windows over the box change.
    let found = look(&mut model, &stream, 36);
    let counts = stream.memory.counts();
    assert_eq!((counts.whole, counts.partial), (windows, windows));
    assert!(counts.share() < 0.7, "{}", counts.share());
    let expected = look(&mut model, &Stream::new(0.0), 36);
    assert!(agreement(&found, &expected) > 0.97);
}

/// Random videos: boxes that move over a street. What is kept may differ a little from what is computed anew, and no more
/// with every frame.
#[test]
fn random_videos_stay_close_to_the_whole_forward() {
    let mut model = demo("gclip", "");
    let words = vocabulary(&mut model, "sky; road; car; building; tree; person");
    let mut state = 12345u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let (mut sum, mut worst, mut looks) = (0.0, 1f64, 0);
    let mut shares = Vec::new();
    for _ in 0..6 {
        let stream = Stream::new(0.02);
        let mut boxes: Vec<Box> = (0..1 + random(3))
            .map(|_| (random(200), random(120), 24 + random(40), random(256) as u8))
            .collect();
        let speeds: Vec<usize> = boxes.iter().map(|_| random(9)).collect();
        for _ in 0..10 {
            let found = stream.see(&mut model, scene(&boxes), &words);
            let agreement = agreement(&found, &fresh(&mut model, scene(&boxes), &words));
            (sum, worst, looks) = (sum + agreement, worst.min(agreement), looks + 1);
            for (place, speed) in boxes.iter_mut().zip(&speeds) {
                place.0 = (place.0 + speed) % (WIDTH - place.2);
            }
        }
        shares.push(stream.memory.counts().share());
    }
    let mean = sum / f64::from(looks);
    let share = shares.iter().sum::<f64>() / shares.len() as f64;
    println!(
        "{:.1} % of the patches agree, {:.1} % in the worst frame, {share:.2} of the tokens",
        100.0 * mean,
        100.0 * worst
    );
    assert!(mean > 0.96 && worst > 0.85, "mean {mean}, worst {worst}");
    assert!(share < 0.6, "{share} of the tokens were worked on");
}
