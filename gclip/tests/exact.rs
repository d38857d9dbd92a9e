// SPDX-License-Identifier: MIT OR Apache-2.0
//! In f32, the masks that `gclipsegment` attaches are those of the model asked directly, and those that
//! `gclip segment` writes, bit for bit.

use std::path::{Path, PathBuf};
use std::process::Command;

use gclip_testing::fake::init;
use gst::prelude::*;
use gst_check::Harness;
use gst_video::{VideoFormat, VideoInfo};
use gstgclip::frame;
use gstgclip::meta::Masks;
use gstgclip::model::embeddings::EmbeddingCache;
use gstgclip::model::{
    DeviceChoice, Ids, InferOptions, InputSize, MaskSize, Model, ModelSpec, PrecisionChoice, Prompts,
    Request, Segmentation, Templates, Vocabulary,
};

const PROMPTS: &str = "sky; tree, the tree; road; it's 42";
const SIZE: (u32, u32) = (97, 61);

fn model() -> PathBuf {
    PathBuf::from(gclip_testing::ROOT).join("model/tests/data/hugging_face")
}

/// Frames with structure, each another, rows padded to what GStreamer asks for.
fn frames(format: VideoFormat, count: usize) -> (VideoInfo, Vec<gst::Buffer>) {
    init();
    let info = VideoInfo::builder(format, SIZE.0, SIZE.1).fps(gst::Fraction::new(25, 1)).build().unwrap();
    let stride = info.stride()[0] as usize;
    let buffer = |number: usize| {
        let byte = |index: usize| {
            let (x, y) = (index % stride, index / stride);
            ((x / 9 * 37 + y / 7 * 59 + number * 91) ^ ((x * y) >> 6)) as u8
        };
        let mut buffer = gst::Buffer::from_mut_slice((0..info.size()).map(byte).collect::<Vec<u8>>());
        let fresh = buffer.get_mut().unwrap();
        fresh.set_pts(gst::ClockTime::from_mseconds(40 * number as u64));
        buffer
    };
    let buffers = (0..count).map(buffer).collect();
    (info, buffers)
}

/// Options under which about half of the first frame's pixels fall below the threshold: a mask whose edges the
/// smallest difference moves, though random weights prefer one class everywhere.
fn on_the_edge(
    info: &VideoInfo,
    frames: &[gst::Buffer],
    mask_size: MaskSize,
    side: InputSize,
) -> InferOptions {
    let mut options = InferOptions { input_size: side, ..InferOptions::default() };
    options.decode.mask_size = mask_size;
    let whole = by_model(info, &frames[..1], 1, &options);
    options.decode.threshold = whole[0].regions[0].score;
    options
}

/// What the element attaches when it sees the frames `batch` at a time.
fn by_element(info: &VideoInfo, frames: &[gst::Buffer], batch: usize, options: &InferOptions) -> Vec<Masks> {
    let size = match options.decode.mask_size {
        MaskSize::Grid => "grid",
        MaskSize::Model => "model",
        MaskSize::Frame => "frame",
    };
    let element = gst::ElementFactory::make("gclipsegment")
        .property("model", model().to_str().unwrap())
        .property("prompts", PROMPTS)
        .property("prompt-template", "none")
        .property("device", "cpu")
        .property_from_str("precision", "f32")
        .property_from_str("mask-size", size)
        .property("input-size", options.input_size.to_string())
        .property("threshold", options.decode.threshold)
        .property("tag-scores", options.tags)
        .property("batch-size", batch as u32)
        .property("max-in-flight", batch as u32)
        .property("batch-timeout", 60_000_000_000u64)
        .build()
        .unwrap();
    let mut harness = Harness::with_element(&element, Some("sink"), Some("src"));
    harness.set_live(false);
    harness.set_src_caps(info.to_caps().unwrap());
    let masks = frames.chunks(batch).flat_map(|chunk| {
        for buffer in chunk {
            harness.push(buffer.clone()).unwrap();
        }
        chunk.iter().map(|_| harness.pull().unwrap()).collect::<Vec<_>>()
    });
    let masks = masks.map(|buffer| Masks::from_buffer(&buffer).unwrap()).collect();
    let stats = element.property::<gst::Structure>("stats");
    assert_eq!(stats.get::<u64>("batches"), Ok((frames.len() / batch) as u64), "batches of {batch}");
    masks
}

/// What the model says when it is handed the same frames, `batch` at a time.
fn by_model(
    info: &VideoInfo,
    frames: &[gst::Buffer],
    batch: usize,
    options: &InferOptions,
) -> Vec<Segmentation> {
    let mut model = Model::load(&ModelSpec {
        model: model().to_str().unwrap().into(),
        device: DeviceChoice::Cpu,
        precision: PrecisionChoice::F32,
        ..ModelSpec::default()
    })
    .unwrap();
    let prompts = Prompts::parse(PROMPTS, "").unwrap();
    let text = model.text.as_mut().unwrap();
    // Through the cache, as the element does: the last bits of a feature depend on the texts that were encoded with it,
    // and another test may have put some of these names there before.
    let (hash, dim) = (model.info.hash.clone(), model.info.embed_dim);
    let vocabulary = Vocabulary::from_names(&prompts, dim, |names| {
        let mut encode = |texts: &[String]| text.encode(texts);
        EmbeddingCache::shared().features(&hash, &Templates::None, dim, names, &mut encode)
    });
    let vocabulary = std::sync::Arc::new(vocabulary.unwrap());
    let request = |buffer: &gst::Buffer| {
        let frame = frame::Mapped::read(buffer, info).unwrap();
        let picture = frame::picture(&frame).unwrap();
        Request { picture, vocabulary: vocabulary.clone(), options: options.clone() }
    };
    let batches = frames.chunks(batch).map(|chunk| chunk.iter().map(request).collect::<Vec<_>>());
    batches.flat_map(|requests| model.vision.infer(&requests).unwrap().0).collect()
}

fn assert_same(what: &str, masks: &[Masks], expected: &[Segmentation]) {
    assert_eq!(masks.len(), expected.len());
    let mut values = std::collections::BTreeSet::new();
    for (number, (masks, expected)) in masks.iter().zip(expected).enumerate() {
        let Ids::U8(ids) = &expected.ids else { panic!("four classes fit into bytes") };
        let layout = masks.mask.meta::<gst_video::VideoMeta>().unwrap();
        let size = (layout.width() as usize, layout.height() as usize);
        assert_eq!(size, (expected.width, expected.height), "{what}");
        assert_eq!(masks.mask.map_readable().unwrap().as_slice(), ids, "{what}, frame {number}");
        let scores = |score: f64, area: f64| (score.to_bits(), area.to_bits());
        let found = masks.regions.iter().map(|r| (r.value, &r.label, scores(r.score, r.area)));
        let regions = expected.regions.iter().map(|r| (r.value, &r.label, scores(r.score, r.area)));
        assert!(found.eq(regions), "{what}, frame {number}: {:?} / {:?}", masks.regions, expected.regions);
        values.extend(ids.iter().copied());
    }
    assert!(values.len() > 1, "{what}: masks of one value say little");
}

#[test]
fn masks_equal_those_of_the_model_in_every_layout() {
    for format in [VideoFormat::Rgb, VideoFormat::I420, VideoFormat::Nv12, VideoFormat::Bgrx] {
        let (info, frames) = frames(format, 2);
        let options = on_the_edge(&info, &frames, MaskSize::Model, InputSize::Model);
        let expected = by_model(&info, &frames, 1, &options);
        assert_same(&format!("{format}"), &by_element(&info, &frames, 1, &options), &expected);
    }
}

#[test]
fn masks_equal_those_of_the_model_at_every_size_and_batch() {
    let (info, frames) = frames(VideoFormat::I420, 4);
    for mask_size in [MaskSize::Grid, MaskSize::Frame] {
        let options = on_the_edge(&info, &frames, mask_size, InputSize::Short(64));
        for batch in [1, 4] {
            let expected = by_model(&info, &frames, batch, &options);
            let masks = by_element(&info, &frames, batch, &options);
            assert_same(&format!("{mask_size:?}, batches of {batch}"), &masks, &expected);
        }
    }
}

#[test]
fn tag_scores_equal_those_of_the_model_and_leave_the_masks_alone() {
    let (info, frames) = frames(VideoFormat::I420, 2);
    let plain = on_the_edge(&info, &frames, MaskSize::Model, InputSize::Model);
    let tagged = InferOptions { tags: true, ..plain.clone() };
    let expected = by_model(&info, &frames, 2, &tagged);
    let masks = by_element(&info, &frames, 2, &tagged);
    assert_same("tagged", &masks, &by_model(&info, &frames, 2, &plain));
    for (masks, expected) in masks.iter().zip(&expected) {
        let found: Vec<_> = masks.tags.iter().map(|tag| (tag.label.as_str(), tag.score)).collect();
        let wanted: Vec<_> = expected.tags.iter().map(|tag| (tag.label.as_str(), tag.score)).collect();
        assert_eq!(found, wanted);
        assert_eq!(found.iter().map(|tag| tag.0).collect::<Vec<_>>(), ["sky", "tree", "road", "it's 42"]);
        assert!(found.iter().all(|tag| (0.0..=1.0).contains(&tag.1)), "{found:?}");
    }
    assert_ne!(masks[0].tags, masks[1].tags, "two pictures");
    assert!(by_element(&info, &frames, 2, &plain).iter().all(|masks| masks.tags.is_empty()));
}

/// The values of a mask that `gclip segment` wrote.
fn read_png(file: &Path) -> Vec<u8> {
    let mut decoder = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(file).unwrap()));
    decoder.set_transformations(png::Transformations::IDENTITY);
    let mut reader = decoder.read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let size = reader.next_frame(&mut bytes).unwrap().buffer_size();
    bytes.truncate(size);
    bytes
}

#[test]
fn masks_equal_those_that_the_command_line_writes() {
    let (info, frames) = frames(VideoFormat::Rgb, 1);
    // The file is as large as the picture.
    let options = on_the_edge(&info, &frames, MaskSize::Frame, InputSize::Model);
    let folder = tempfile::tempdir().unwrap();
    let stride = info.stride()[0] as usize;
    let bytes = frames[0].map_readable().unwrap();
    let picture = image::RgbImage::from_fn(SIZE.0, SIZE.1, |x, y| {
        let at = y as usize * stride + 3 * x as usize;
        image::Rgb([bytes[at], bytes[at + 1], bytes[at + 2]])
    });
    picture.save(folder.path().join("frame.png")).unwrap();
    let mask = folder.path().join("mask.png");
    let output = Command::new(env!("CARGO_BIN_EXE_gclip"))
        .current_dir(folder.path())
        .args(["segment", "frame.png", "--prompts", PROMPTS, "--template", "none"])
        .args(["--threshold", &options.decode.threshold.to_string()])
        .args(["--device", "cpu", "--precision", "f32", "--mask", "mask.png", "--model"])
        .arg(model())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let written = read_png(&mask);
    let masks = by_element(&info, &frames, 1, &options);
    assert_eq!(masks[0].mask.map_readable().unwrap().as_slice(), written);
    assert!(written.iter().any(|&value| value != written[0]), "a mask of one value says little");
}
