// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pictures of high dynamic range: the model reads them as light, but the results are of 8 bits.

use gst_video::VideoTransferFunction;
use gst_video::prelude::*;

/// What has to be said about the results of an HDR source; `None` of any other.
pub fn word(frames_in: &gst::Pad) -> Option<String> {
    let caps = frames_in.current_caps()?;
    let info = gst_video::VideoInfo::from_caps(&caps).ok()?;
    let curve = match info.colorimetry().transfer() {
        VideoTransferFunction::Smpte2084 => "PQ",
        VideoTransferFunction::AribStdB67 => "HLG",
        _ => return None,
    };
    Some(format!(
        "the source is HDR ({curve}): the model sees its light, but the video has 8 bits of it and the picture shows it \
         unconverted, paler than it is"
    ))
}
