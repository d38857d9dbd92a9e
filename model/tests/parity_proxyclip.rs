// SPDX-License-Identifier: MIT OR Apache-2.0
//! ProxyCLIP and GLA-CLIP with their helper models, against their published code on random weights (see `parity.rs`).

mod model_common;

use std::sync::Arc;

use gclip_model::preprocess::{Colour, Picture, PixelFormat};
use gclip_model::{
    DecodeOptions, Ids, InferOptions, InputSize, MaskSize, Model, ModelSpec, Positions, Refine, Request,
    Vocabulary, Window,
};
use model_common::oracle::Oracle;
use model_common::{TOLERANCE, assert_close, spec};
use tch::{Kind, Tensor};

fn helped(oracle: &Oracle, helper: &str, options: &str, positions: Positions) -> Model {
    let helper = Some(oracle.helper(helper));
    Model::load(&ModelSpec { helper, positions, ..spec(oracle.path("hf"), "proxyclip", options) }).unwrap()
}

/// As `[9, h', w']`, of a picture or the square at its top left.
fn logits(oracle: &Oracle, model: &mut Model, image: &str, crop: bool) -> Tensor {
    let picture = oracle.picture(image);
    let size = model.vision.network_size(&picture, InputSize::Native);
    let mut input = model.vision.preprocess(&[&picture], size).unwrap();
    if crop {
        input = input.narrow(2, 0, 224).narrow(3, 0, 224);
    }
    model.vision.logits(&input, &[&oracle.vocabulary()]).unwrap().remove(0)
}

fn assert_keys(oracle: &Oracle, file: &str, key: &str, helper: &str, options: &str) {
    let mut seen = 0;
    for (positions, suffix) in [(Positions::Plain, "logits_plainpos"), (Positions::Scale, "logits")] {
        let mut model = helped(oracle, helper, options, positions);
        for (part, image, crop) in
            [("img0", "img0", false), ("img1", "img1", false), ("img1_crop_0_0_224_224", "img1", true)]
        {
            let key = format!("{key}/{part}/{suffix}");
            let Some(expected) = oracle.find_tensor(file, &key) else { continue };
            assert_close(&key, &logits(oracle, &mut model, image, crop), &expected);
            seen += 1;
        }
    }
    assert!(seen > 0, "no key of {key}");
}

#[test]
fn proxyclip_equals_its_published_code() {
    let Some(oracle) = Oracle::find_second() else { return };
    let file = "proxyclip.safetensors";
    for helper in ["dinov2", "dinov2_reg", "dino"] {
        assert_keys(&oracle, file, &format!("proxyclip_{helper}"), helper, "");
    }
    assert_keys(&oracle, file, "proxyclip_dinov2_beta1_gamma5", "dinov2", "beta=1,gamma=5");
}

#[test]
fn gla_equals_its_published_code() {
    let Some(oracle) = Oracle::find_second() else { return };
    let file = "gla.safetensors";
    assert_keys(&oracle, file, "gla_dinov2", "dinov2", "gla=on");
    assert_keys(&oracle, file, "gla_dinov2_beta1.2", "dinov2", "gla=on,beta=1.2");
    assert_keys(&oracle, file, "gla_dinov2_gamma3", "dinov2", "gla=on,gamma=3");
}

fn request(oracle: &Oracle, window: Window, threshold: f64) -> Request {
    let queries: Vec<(String, u32)> = oracle.json("queries.json");
    let vocabulary = Vocabulary {
        query_value: queries.iter().map(|(_, class)| class + 1).collect(),
        labels: (0..6).map(|class| class.to_string()).collect(),
        ..(*oracle.vocabulary()).clone()
    };
    let decode = DecodeOptions { threshold, mask_size: MaskSize::Frame, ..DecodeOptions::default() };
    let (input_size, window) = (InputSize::Native, Some(window));
    let options = InferOptions { input_size, window, decode, ..InferOptions::default() };
    Request { picture: oracle.picture("img1"), vocabulary: Arc::new(vocabulary), options }
}

/// All but one in a hundred within the tolerance: of the millions of likenesses between all windows' patches, some lie so near to
/// the threshold of a set that rounding puts them on either side.
fn assert_nearly_all(what: &str, off: &Tensor) {
    let (most, count) = (off.max().double_value(&[]), off.numel() as i64);
    let differ = off.gt(TOLERANCE).sum(Kind::Int64).int64_value(&[]);
    println!("{what}: {most:.1e}, {differ} of {count} differ");
    assert!(differ * 100 <= count && most < 2e-3, "{what}: {differ} of {count} differ, by {most:e} at most");
}

#[test]
fn windows_equal_the_published_code() {
    let Some(oracle) = Oracle::find_second() else { return };
    for (file, key, options, window, predictions) in [
        (
            "proxyclip.safetensors",
            "proxyclip_dinov2/slide336_112_img1",
            "",
            Window { size: 336, stride: 112 },
            &[("pred", 0.0), ("pred_thd0.25", 0.25)][..],
        ),
        (
            "gla.safetensors",
            "gla_dinov2/slide224_112_img1",
            "gla=on",
            Window { size: 224, stride: 112 },
            &[("pred_thd0.1", 0.1)],
        ),
    ] {
        let mut model = helped(&oracle, "dinov2", options, Positions::Scale);
        let whole = request(&oracle, window, 0.0);
        let look = model.vision.look(std::slice::from_ref(&whole)).unwrap().0.remove(0);
        if let Some(expected) = oracle.find_tensor(file, &format!("{key}/window_logits")) {
            let off = (look.logits.patches() - &expected).abs().amax([1i64].as_slice(), false); // [6, 16, 16]
            assert_nearly_all(&format!("{key} windows"), &off);
        }
        let full = look.logits.upsampled(&(0..9).collect::<Vec<_>>(), [336, 448]).unwrap();
        let every4 = full.slice(1, 0, None, 4).slice(2, 0, None, 4);
        let off = (every4 - oracle.tensor(file, &format!("{key}/logits_sub4"))).abs();
        assert_nearly_all(&format!("{key} stitched"), &off.amax([0i64].as_slice(), false));
        for (prediction, threshold) in predictions {
            let (answers, _) = model.vision.infer(&[request(&oracle, window, *threshold)]).unwrap();
            let Ids::U8(ids) = &answers[0].ids else { panic!("six classes need no 16 bits") };
            let expected = oracle.tensor(file, &format!("{key}/{prediction}")).flatten(0, -1);
            let expected: Vec<u8> = Vec::try_from(expected).unwrap();
            let different =
                ids.iter().zip(&expected).filter(|(id, other)| id.saturating_sub(1) != **other).count();
            println!("{key} {prediction}: {different} of {} pixels differ", ids.len());
            assert!(different <= ids.len() / 1000, "{key} {prediction}: {different} pixels differ");
        }
    }
}

/// One colour, shapes of one row or column, one prompt: through a method with a helper, on either grid.
#[test]
fn pictures_without_anything_in_them_are_numbers() {
    let Some(oracle) = Oracle::find_second() else { return };
    for options in ["", "grid=clip", "gla=on", "gla=on,grid=clip"] {
        let mut model = helped(&oracle, "dinov2", options, Positions::Plain);
        for (shade, (width, height)) in [(0u8, (64, 64)), (255, (320, 16)), (130, (16, 160)), (0, (224, 112))]
        {
            let data = Tensor::full(
                [i64::from(width * height * 3)],
                i64::from(shade),
                (Kind::Uint8, tch::Device::Cpu),
            );
            let (width, height) = (width as usize, height as usize);
            let picture = Picture {
                format: PixelFormat::Rgb,
                width,
                height,
                colour: Colour::default(),
                data: data.into(),
            };
            let size = model.vision.network_size(&picture, InputSize::Native);
            let input = model.vision.preprocess(&[&picture], size).unwrap();
            let found = model.vision.logits(&input, &[&oracle.vocabulary()]).unwrap().remove(0);
            assert!(bool::try_from(found.isfinite().all()).unwrap(), "{options} {width}x{height}");
            assert!(found.abs().max().double_value(&[]) < 1.0 + TOLERANCE);
        }
    }
    let refused = |helper: Option<String>, method: &str| {
        let spec = ModelSpec { helper, ..spec(oracle.path("hf"), method, "") };
        format!("{:#}", Model::load(&spec).err().unwrap())
    };
    assert!(refused(None, "proxyclip").contains("method proxyclip needs a helper model beside CLIP"));
    assert!(refused(Some(oracle.helper("dino")), "naclip").contains("method naclip reads no helper model"));
    assert!(refused(Some(oracle.path("hf")), "proxyclip").contains("its model_type is \"clip\""));
}

/// Pictures of a batch do not see each other; refinement takes the other grid.
#[test]
fn a_batch_is_its_pictures() {
    let Some(oracle) = Oracle::find_second() else { return };
    for options in ["", "gla=on"] {
        let mut model = helped(&oracle, "dinov2_reg", options, Positions::Plain);
        let mut request = request(&oracle, Window { size: 224, stride: 112 }, 0.0);
        request.options.window = None;
        request.options.refine = Refine::Tlp(Default::default());
        let other = Request {
            picture: oracle.picture("img0"),
            vocabulary: request.vocabulary.clone(),
            options: request.options.clone(),
        };
        let alone = model.vision.infer(std::slice::from_ref(&request)).unwrap().0.remove(0);
        let again = Request {
            picture: oracle.picture("img1"),
            vocabulary: request.vocabulary.clone(),
            options: request.options.clone(),
        };
        let together = model.vision.infer(&[again, other, request]).unwrap().0;
        assert_eq!((&together[0].ids, &together[2].ids), (&alone.ids, &alone.ids), "{options}");
    }
}

/// A helper that looks at every nth frame: what it saw stands until then.
#[test]
fn a_helper_may_look_at_some_frames_only() {
    let Some(oracle) = Oracle::find_second() else { return };
    let mut model = helped(&oracle, "dinov2_reg", "", Positions::Plain);
    let memory = gclip_model::StreamMemory::default();
    let gclip_model::Pixels::Packed(rgb) = oracle.picture("img0").data else { panic!("pixels on a device") };
    // The camera has moved by some pixels.
    let mut look = |right: i64, interval: u32, window: Option<Window>| {
        let mut request = request(&oracle, Window { size: 224, stride: 112 }, 0.0);
        let data = rgb.view([224, 224, 3]).roll([right], [1]).flatten(0, -1).into();
        request.picture =
            Picture { format: PixelFormat::Rgb, width: 224, height: 224, colour: Colour::default(), data };
        (request.options.window, request.options.helper.interval) = (window, interval);
        memory.remember(&mut request.options, None);
        model.vision.look(&[request]).unwrap().0.remove(0).logits.patches().shallow_clone()
    };
    let differ = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
    for window in [None, Some(Window { size: 112, stride: 112 })] {
        let (first, second) = (look(0, 1, window), look(8, 1, window));
        assert!(differ(&look(0, 2, window), &first) < 1e-6, "the first is looked at");
        assert!(differ(&look(8, 2, window), &second) > 1e-4, "with what the helper saw of the first");
        assert!(differ(&look(8, 2, window), &second) < 1e-6, "its turn");
    }
}
