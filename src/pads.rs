// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two pads that every element here has: `sink` and `src`, always there.

use gst::prelude::*;

/// Their templates.
pub fn templates(sink: &gst::Caps, src: &gst::Caps) -> Vec<gst::PadTemplate> {
    let template = |name, direction, caps: &gst::Caps| {
        gst::PadTemplate::new(name, direction, gst::PadPresence::Always, caps)
    };
    let sink = template("sink", gst::PadDirection::Sink, sink);
    let src = template("src", gst::PadDirection::Src, src);
    [sink, src].into_iter().flatten().collect()
}

/// To build them from these templates, `sink` first.
pub fn builders(class: &glib::Class<gst::Element>) -> (gst::PadBuilder<gst::Pad>, gst::PadBuilder<gst::Pad>) {
    let pad = |name, direction| match class.pad_template(name) {
        Some(template) => gst::Pad::builder_from_template(&template),
        None => gst::Pad::builder(direction).name(name),
    };
    (pad("sink", gst::PadDirection::Sink), pad("src", gst::PadDirection::Src))
}

/// To be called once the element is constructed.
pub fn add(element: &gst::Element, sink: &gst::Pad, src: &gst::Pad) {
    for pad in [sink, src] {
        if let Err(error) = element.add_pad(pad) {
            gst::error!(gst::CAT_DEFAULT, obj = element, "cannot add pad {}: {error}", pad.name());
        }
    }
}
