// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames whose buffers store more than is to be shown, whose metadata say more than their memory holds, or that are damaged,
//! through `gclipsegment`, `gclipoverlay` and `gclipmask`.

use gclip_testing::fake::{Fake, Rig, mask_values};
use gclip_testing::scene;
use gst::prelude::*;
use gst_check::Harness;
use gst_video::{VideoCropMeta, VideoFormat, VideoFrameFlags, VideoInfo, VideoMeta};
use gstgclip::meta::{Masks, Rect};

/// Of the pictures that are stored.
const STORED: (u32, u32) = (16, 12);

/// A value that no other pixel of the stored picture has.
fn value(x: u32, y: u32) -> u8 {
    (y * STORED.0 + x) as u8
}

/// A GRAY8 picture of the stored size with its own value in each pixel.
fn stored(crop: Option<(u32, u32, u32, u32)>) -> gst::Buffer {
    let pixels: Vec<u8> = (0..STORED.1).flat_map(|y| (0..STORED.0).map(move |x| value(x, y))).collect();
    let mut buffer = gst::Buffer::from_mut_slice(pixels);
    let fresh = buffer.get_mut().unwrap();
    fresh.set_pts(gst::ClockTime::ZERO);
    VideoMeta::add(fresh, VideoFrameFlags::empty(), VideoFormat::Gray8, STORED.0, STORED.1).unwrap();
    if let Some(crop) = crop {
        VideoCropMeta::add(fresh, crop);
    }
    buffer
}

fn gray(width: u32, height: u32) -> String {
    format!("video/x-raw,format=GRAY8,width={width},height={height},framerate=25/1")
}

fn segmenter(fake: &Fake, caps: &str) -> Rig {
    let mut rig = fake.rig();
    rig.harness.set_src_caps_str(caps);
    rig
}

fn values_of(x: u32, y: u32, width: u32, height: u32) -> Vec<u8> {
    (y..y + height).flat_map(|y| (x..x + width).map(move |x| value(x, y))).collect()
}

#[test]
fn the_model_sees_the_frame_and_not_what_is_stored_beside_it() {
    let fake = Fake::install();
    let mut rig = segmenter(&fake, &gray(10, 8));
    rig.harness.push(stored(None)).unwrap();
    let masks = Masks::from_buffer(&rig.pull()).unwrap();
    assert_eq!(mask_values(&masks), values_of(0, 0, 10, 8));
}

#[test]
fn the_model_sees_the_crop_that_is_the_frame() {
    let fake = Fake::install();
    let mut rig = segmenter(&fake, &gray(6, 5));
    rig.harness.push(stored(Some((9, 7, 6, 5)))).unwrap();
    let masks = Masks::from_buffer(&rig.pull()).unwrap();
    assert_eq!(mask_values(&masks), values_of(9, 7, 6, 5));
    assert_eq!(masks.rect, Rect::FULL);
}

/// The fake's regions are the middle half of the mask, and say a quarter of it.
#[test]
fn the_model_sees_the_crop_of_a_frame_and_its_masks_say_where_it_is() {
    let fake = Fake::install();
    let mut rig = segmenter(&fake, &gray(16, 12));
    rig.harness.push(stored(Some((4, 3, 8, 6)))).unwrap();
    let masks = Masks::from_buffer(&rig.pull()).unwrap();
    assert_eq!(mask_values(&masks), values_of(4, 3, 8, 6));
    assert_eq!(masks.rect, Rect { x: 0.25, y: 0.25, w: 0.5, h: 0.5 });
    let region = &masks.regions[0];
    let placed = [region.x, region.y, region.w, region.h, region.area];
    assert_eq!(placed, [0.375, 0.25, 0.25, 0.5, 0.0625]);
    let (inside, outside) = (masks.region_at(0.26, 0.26), masks.region_at(0.1, 0.1));
    assert!(outside.is_none() && inside.is_none_or(|region| region.value == u32::from(value(4, 3))));
}

#[test]
fn still_frames_are_compared_in_what_is_shown_of_them() {
    let fake = Fake::install();
    let mut rig = fake.rig_with(|element| element.set_property("skip-static", true));
    rig.harness.set_src_caps_str(&gray(6, 5));
    for (x, y) in [(0, 0), (0, 0), (9, 7)] {
        rig.harness.push(stored(Some((x, y, 6, 5)))).unwrap();
        let masks = Masks::from_buffer(&rig.pull()).unwrap();
        assert_eq!(mask_values(&masks), values_of(x, y, 6, 5));
    }
    assert_eq!((rig.stat::<u64>("inferred"), rig.stat::<u64>("skipped-static")), (2, 1));
}

/// Deep formats whose low bytes say nothing of the picture.
#[test]
fn still_frames_are_told_from_others_in_deep_formats() {
    for (format, shift) in
        [("GRAY16_LE", 8), ("P010_10LE", 8), ("I420_10LE", 2), ("I420_12LE", 4), ("I420", 0)]
    {
        let fake = Fake::install();
        let mut rig = fake.rig_with(|element| element.set_property("skip-static", true));
        let caps = format!("video/x-raw,format={format},width=64,height=48,framerate=25/1");
        rig.harness.set_src_caps_str(&caps);
        let info = VideoInfo::from_caps(&caps.parse::<gst::Caps>().unwrap()).unwrap();
        let levels = [70u16, 70, 120, 90, 110, 75];
        for (number, level) in levels.into_iter().enumerate() {
            let mut bytes = vec![0; info.size()];
            let luma = &mut bytes[..info.stride()[0] as usize * 48];
            match shift {
                0 => luma.fill(level as u8),
                _ => luma.as_chunks_mut().0.fill((level << shift).to_le_bytes()),
            }
            let mut buffer = gst::Buffer::from_mut_slice(bytes);
            buffer.get_mut().unwrap().set_pts(gst::ClockTime::from_mseconds(40) * number as u64);
            rig.harness.push(buffer).unwrap();
            assert_eq!(mask_values(&Masks::from_buffer(&rig.pull()).unwrap())[0], level as u8, "{format}");
        }
        let counts = (rig.stat::<u64>("inferred"), rig.stat::<u64>("skipped-static"));
        assert_eq!(counts, (5, 1), "{format}");
    }
}

/// What downstream answers to an ALLOCATION query that takes both kinds of metadata, as upstream of the element sees it.
fn offered(harness: &mut Harness, caps: &str) -> (bool, bool) {
    harness.add_propose_allocation_meta(VideoMeta::meta_api(), None);
    harness.add_propose_allocation_meta(VideoCropMeta::meta_api(), None);
    harness.set_src_caps_str(caps);
    let mut query = gst::query::Allocation::new(Some(&caps.parse().unwrap()), false);
    assert!(harness.srcpad().unwrap().peer_query(&mut query));
    (
        query.find_allocation_meta::<VideoMeta>().is_some(),
        query.find_allocation_meta::<VideoCropMeta>().is_some(),
    )
}

#[test]
fn nobody_is_told_to_crop_by_metadata() {
    let fake = Fake::install();
    assert_eq!(offered(&mut fake.rig().harness, &gray(8, 4)), (true, false));
    scene::init();
    assert_eq!(offered(&mut Harness::new("gclipoverlay"), &gray(8, 4)), (true, false));
    let mut mask = Harness::new("gclipmask");
    mask.set_src_caps_str(&gray(8, 4));
    let mut query = gst::query::Allocation::new(Some(&gray(8, 4).parse().unwrap()), false);
    let answered = mask.srcpad().unwrap().peer_query(&mut query);
    assert!(!answered || query.find_allocation_meta::<VideoCropMeta>().is_none());
}

/// `videocrop` crops by metadata where it is allowed to; then the mask was that of the uncropped picture.
#[test]
fn videocrop_before_a_sink_that_takes_crop_metadata() {
    let fake = Fake::install();
    let element = fake.element();
    let pipeline = gst::parse::launch(
        "videotestsrc num-buffers=1 pattern=ball ! video/x-raw,format=GRAY8,width=64,height=48 ! videocrop name=crop left=20 top=8 \
         ! fakesink name=sink",
    );
    let pipeline = pipeline.unwrap().downcast::<gst::Pipeline>().unwrap();
    let (crop, sink) = (pipeline.by_name("crop").unwrap(), pipeline.by_name("sink").unwrap());
    crop.unlink(&sink);
    pipeline.add(&element).unwrap();
    gst::Element::link_many([&crop, &element, &sink]).unwrap();
    let pad = sink.static_pad("sink").unwrap();
    pad.add_probe(gst::PadProbeType::QUERY_DOWNSTREAM, |_, info| {
        if let Some(gst::PadProbeData::Query(query)) = &mut info.data
            && let gst::QueryViewMut::Allocation(query) = query.view_mut()
        {
            query.add_allocation_meta::<VideoMeta>(None);
            query.add_allocation_meta::<VideoCropMeta>(None);
            return gst::PadProbeReturn::Handled;
        }
        gst::PadProbeReturn::Ok
    });
    let (send, receive) = std::sync::mpsc::channel();
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let buffer = info.buffer().unwrap();
        let info = VideoInfo::from_caps(&pad.current_caps().unwrap()).unwrap();
        send.send((buffer.copy(), info)).unwrap();
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    let (buffer, info) = receive.recv_timeout(std::time::Duration::from_secs(20)).unwrap();
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(buffer.meta::<VideoCropMeta>().is_none());
    let masks = Masks::from_buffer(&buffer).unwrap();
    let size = masks.with_ids(|ids| (ids.width(), ids.height())).unwrap();
    assert_eq!((size, (info.width(), info.height())), ((44, 40), (44, 40)));
    let frame = gstgclip::frame::Mapped::read(&buffer, &info).unwrap();
    let rows = frame.rows(0).unwrap();
    let pixels: Vec<u8> = rows.data.chunks(rows.stride).flat_map(|row| row[..44].to_vec()).collect();
    assert_eq!(mask_values(&masks), pixels, "the mask shows the pixels of the frame that it is attached to");
}

/// A frame of `format` in the middle of a larger stored picture, its metadata and the size of its caps.
fn framed(format: VideoFormat, crop: (u32, u32, u32, u32), masks: &Masks) -> (gst::Buffer, VideoInfo) {
    let (x, y, width, height) = crop;
    let stored = VideoInfo::builder(format, width + 2 * x, height + 2 * y).build().unwrap();
    let bytes: Vec<u8> = (0..stored.size()).map(|at| (at * 89 % 199 + 20) as u8).collect();
    let mut buffer = gst::Buffer::from_mut_slice(bytes);
    let fresh = buffer.get_mut().unwrap();
    let (offsets, strides) = (stored.offset(), stored.stride());
    let size = (stored.width(), stored.height());
    VideoMeta::add_full(fresh, VideoFrameFlags::empty(), format, size.0, size.1, offsets, strides).unwrap();
    VideoCropMeta::add(fresh, crop);
    masks.attach(fresh);
    (buffer, stored)
}

/// What is to be hidden is hidden where it is, and nothing outside of the frame is touched.
#[test]
fn the_overlay_draws_on_the_frame_wherever_it_is_stored() {
    let hidden = scene::masks(2, 1, &[1, 0], &["face"]);
    for format in scene::FORMATS {
        for (mode, crop) in [("fill", (16, 8, 32, 24)), ("fill", (6, 4, 32, 24)), ("blur", (16, 8, 32, 24))] {
            let (x, y, width, height) = crop;
            let (buffer, stored) = framed(format, crop, &hidden);
            let caps =
                VideoInfo::builder(format, width, height).fps((25, 1)).build().unwrap().to_caps().unwrap();
            scene::init();
            let mut overlay =
                Harness::new_parse(&format!("gclipoverlay mode={mode} legend=false strength=1"));
            overlay.set_caps(caps.clone(), caps);
            let drawn = overlay.push_and_pull(buffer.copy_deep().unwrap()).unwrap();
            let (before, after) = (luma(&buffer, &stored), luma(&drawn, &stored));
            let mut changed = 0;
            for row in 0..stored.height() {
                for column in 0..stored.width() {
                    let at = (row * stored.width() + column) as usize;
                    // The left half of the frame, without the columns beside its border.
                    let inside = (x..x + width / 2 + 2).contains(&column) && (y..y + height).contains(&row);
                    let differs = before[at] != after[at];
                    assert!(inside || !differs, "{format:?} {mode} {crop:?}: {column},{row} was drawn on");
                    changed += u32::from(differs && column < x + width / 2 - 2);
                }
            }
            assert!(
                changed > (width / 2 - 2) * height * 9 / 10,
                "{format:?} {mode} {crop:?}: {changed} pixels"
            );
        }
    }
}

/// The first component of every stored pixel.
fn luma(buffer: &gst::Buffer, stored: &VideoInfo) -> Vec<u8> {
    let bytes = buffer.map_readable().unwrap();
    let (stride, step) = (stored.stride()[0] as usize, stored.comp_pstride(0) as usize);
    let offset = stored.comp_poffset(0) as usize;
    let (width, height) = (stored.width() as usize, stored.height() as usize);
    (0..height)
        .flat_map(|y| (0..width).map(move |x| y * stride + x * step + offset))
        .map(|at| bytes[at])
        .collect()
}

#[test]
fn a_cut_out_is_made_of_the_frame_wherever_it_is_stored() {
    scene::init();
    let (buffer, stored) = framed(VideoFormat::Rgbx, (3, 2, 8, 4), &scene::masks(2, 1, &[1, 0], &["face"]));
    let mut mask = Harness::new_parse("gclipmask mode=cutout edges=hard");
    mask.set_src_caps_str("video/x-raw,format=RGBx,width=8,height=4,framerate=25/1");
    let out = mask.push_and_pull(buffer.clone()).unwrap();
    let (before, out) = (buffer.map_readable().unwrap(), out.map_readable().unwrap());
    for (x, y) in (0..4).flat_map(|y| (0..8).map(move |x| (x, y))) {
        let from = (y + 2) * stored.stride()[0] as usize + (x + 3) * 4;
        let to = (y * 8 + x) * 4;
        assert_eq!(out[to..to + 3], before[from..from + 3], "{x},{y}");
        assert_eq!(out[to + 3], if x < 4 { 255 } else { 0 });
    }
}

/// Metadata of a frame that its memory does not hold.
fn lying(format: VideoFormat, bytes: usize, stride: i32, offsets: &[usize]) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_mut_slice(vec![7u8; bytes]);
    let strides = vec![stride; offsets.len()];
    let flags = VideoFrameFlags::empty();
    VideoMeta::add_full(buffer.get_mut().unwrap(), flags, format, 640, 480, offsets, &strides).unwrap();
    scene::masks(2, 1, &[1, 0], &["face"]).attach(buffer.get_mut().unwrap());
    buffer
}

#[test]
fn memory_that_is_smaller_than_its_metadata_say_is_an_error() {
    let fake = Fake::install();
    scene::init();
    let liars = [
        ("RGB", lying(VideoFormat::Rgb, 4096, 1920, &[0])),
        // Short by one byte.
        ("RGB", lying(VideoFormat::Rgb, 640 * 480 * 3 - 1, 1920, &[0])),
        ("RGB", lying(VideoFormat::Rgb, 640 * 480 * 3, 1920, &[1])),
        // Rows that overlap.
        ("RGB", lying(VideoFormat::Rgb, 640 * 480 * 3, 100, &[0])),
        ("GRAY8", lying(VideoFormat::Gray8, 4096, i32::MAX, &[0])),
        ("NV12", lying(VideoFormat::Nv12, 640 * 480, 640, &[0, 640 * 479])),
        ("I420", lying(VideoFormat::I420, 640 * 480 * 2, 640, &[0, 640 * 480, 640 * 960 - 1])),
        // Other metadata than the caps.
        ("BGR", lying(VideoFormat::Rgb, 640 * 480 * 3, 1920, &[0])),
    ];
    for (number, (format, buffer)) in liars.iter().enumerate() {
        let caps = format!("video/x-raw,format={format},width=640,height=480,framerate=25/1");
        let mut rig = segmenter(&fake, &caps);
        let _ = rig.harness.push(buffer.clone());
        let said = rig.error_text();
        assert!(said.contains("frame"), "{number}: {said}");

        let mut overlay = Harness::new_parse("gclipoverlay mode=fill");
        overlay.set_caps(caps.parse().unwrap(), caps.parse().unwrap());
        assert_eq!(overlay.push(buffer.copy_deep().unwrap()), Err(gst::FlowError::Error), "{number}");

        if *format == "RGB" || *format == "BGR" {
            let mut mask = Harness::new_parse("gclipmask mode=cutout");
            mask.set_src_caps_str(&caps);
            assert_eq!(mask.push(buffer.clone()), Err(gst::FlowError::Error), "{number}");
        }
    }
}

/// Drawn on twice, such a frame would be another picture than anybody meant.
#[test]
fn planes_in_the_same_memory_are_not_drawn_on() {
    scene::init();
    let buffer = lying(VideoFormat::Nv12, 640 * 480 * 2, 640, &[0, 640 * 240]);
    let caps = "video/x-raw,format=NV12,width=640,height=480,framerate=25/1";
    let mut overlay = Harness::new_parse("gclipoverlay mode=fill");
    overlay.set_caps(caps.parse().unwrap(), caps.parse().unwrap());
    assert_eq!(overlay.push(buffer), Err(gst::FlowError::Error));
}

#[test]
fn a_last_row_without_padding_is_whole() {
    let fake = Fake::install();
    let mut rig = segmenter(&fake, &gray(6, 2));
    let mut buffer = gst::Buffer::from_mut_slice((0..14u8).collect::<Vec<_>>());
    let fresh = buffer.get_mut().unwrap();
    VideoMeta::add_full(fresh, VideoFrameFlags::empty(), VideoFormat::Gray8, 6, 2, &[0], &[8]).unwrap();
    rig.harness.push(buffer).unwrap();
    let masks = Masks::from_buffer(&rig.pull()).unwrap();
    assert_eq!(mask_values(&masks), [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13]);
}

/// A decoder marks what it could not decode whole. What such pictures seem to show is not there.
#[test]
fn damaged_frames_are_not_looked_at() {
    let fake = Fake::install();
    let mut rig = segmenter(&fake, &gray(16, 12));
    for number in 0..5u64 {
        let mut buffer = stored(None);
        let fresh = buffer.get_mut().unwrap();
        fresh.set_pts(gst::ClockTime::from_mseconds(40) * number);
        if number != 2 {
            fresh.set_flags(gst::BufferFlags::CORRUPTED);
        }
        rig.harness.push(buffer).unwrap();
        let age = Masks::from_buffer(&rig.pull()).map(|masks| masks.age.mseconds());
        assert_eq!(age, [None, None, Some(0), Some(40), Some(80)][number as usize], "{number}");
    }
    assert_eq!(rig.stat::<u64>("inferred"), 1);
}
