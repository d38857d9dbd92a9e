// SPDX-License-Identifier: MIT OR Apache-2.0
//! Masks and empty frames that carry them.

use gst_video::{VideoFormat, VideoFrameFlags, VideoMeta};
use gstgclip::meta::Masks;

/// A mask whose rows end at multiples of four bytes, as GStreamer lays them out.
pub fn mask(
    format: VideoFormat,
    width: u32,
    height: u32,
    bytes: impl AsRef<[u8]> + Send + 'static,
) -> gst::Buffer {
    let mut mask = gst::Buffer::from_slice(bytes);
    VideoMeta::add(mask.get_mut().unwrap(), VideoFrameFlags::empty(), format, width, height).unwrap();
    mask
}

/// The nth frame of 25 a second, without pixels.
pub fn frame(number: u64, masks: Option<Masks>) -> gst::Buffer {
    frame_of(gst::Buffer::new(), number, masks)
}

/// The same with the pixels of a buffer.
pub fn frame_of(mut buffer: gst::Buffer, number: u64, masks: Option<Masks>) -> gst::Buffer {
    let writable = buffer.get_mut().unwrap();
    writable.set_pts(gst::ClockTime::from_mseconds(40) * number);
    writable.set_duration(gst::ClockTime::from_mseconds(40));
    if let Some(masks) = masks {
        masks.attach(writable);
    }
    buffer
}
