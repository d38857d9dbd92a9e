// SPDX-License-Identifier: MIT OR Apache-2.0
//! A plugin for the tests: element `testmasks` attaches the same two regions to every frame of 64x48, without a model;
//! with the feature `v1_26` also as analytics metadata.
//! The mask is 4x2: 1 in the left half, 300 at the bottom right; rows are padded, values have 16 bits.

use gst::glib;
use gst::prelude::*;
use gst_video::{VideoFormat, VideoFrameFlags, VideoMeta};
use gstgclip::meta::{Masks, Region};

mod imp {
    use std::sync::LazyLock;

    use gst::subclass::prelude::*;
    use gst_base::subclass::BaseTransformMode;
    use gst_base::subclass::prelude::*;

    #[derive(Default)]
    pub struct TestMasks;

    #[gst::glib::object_subclass]
    impl ObjectSubclass for TestMasks {
        const NAME: &'static str = "GstTestMasks";
        type Type = super::TestMasks;
        type ParentType = gst_base::BaseTransform;
    }

    impl ObjectImpl for TestMasks {}
    impl GstObjectImpl for TestMasks {}

    impl ElementImpl for TestMasks {
        fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
            static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
                gst::subclass::ElementMetadata::new("Test masks", "Filter/Video", "Attaches masks", "tests")
            });
            Some(&METADATA)
        }

        fn pad_templates() -> &'static [gst::PadTemplate] {
            static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
                [("sink", gst::PadDirection::Sink), ("src", gst::PadDirection::Src)]
                    .map(|(name, direction)| {
                        let any = gst::Caps::new_any();
                        gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &any).unwrap()
                    })
                    .into()
            });
            &TEMPLATES
        }
    }

    impl BaseTransformImpl for TestMasks {
        const MODE: BaseTransformMode = BaseTransformMode::AlwaysInPlace;
        const PASSTHROUGH_ON_SAME_CAPS: bool = false;
        const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

        fn transform_ip(&self, buffer: &mut gst::BufferRef) -> Result<gst::FlowSuccess, gst::FlowError> {
            let masks = super::masks();
            masks.attach(buffer);
            #[cfg(feature = "v1_26")]
            gstgclip::meta::attach_analytics(&masks, buffer, (64, 48), true)
                .map_err(|_| gst::FlowError::Error)?;
            Ok(gst::FlowSuccess::Ok)
        }
    }
}

glib::wrapper! {
    pub struct TestMasks(ObjectSubclass<imp::TestMasks>)
        @extends gst_base::BaseTransform, gst::Element, gst::Object;
}

fn masks() -> Masks {
    const ROW: usize = 12;
    let mut values = [0xffu8; 2 * ROW];
    for (row, pixels) in [[1u16, 1, 0, 0], [1, 1, 0, 300]].iter().enumerate() {
        for (column, value) in pixels.iter().enumerate() {
            values[row * ROW + column * 2..][..2].copy_from_slice(&value.to_le_bytes());
        }
    }
    let mut mask = gst::Buffer::from_slice(values);
    let (flags, format) = (VideoFrameFlags::empty(), VideoFormat::Gray16Le);
    VideoMeta::add_full(mask.get_mut().unwrap(), flags, format, 4, 2, &[0], &[ROW as i32]).unwrap();
    let cat =
        Region { value: 1, label: "cat".into(), score: 0.75, area: 0.5, x: 0.0, y: 0.0, w: 0.5, h: 1.0 };
    let dog =
        Region {
            value: 300, label: "犬".into(), score: 0.25, area: 0.125, x: 0.75, y: 0.5, w: 0.25, h: 0.5
        };
    Masks { age: gst::ClockTime::from_mseconds(40), ..Masks::new(5, mask, vec![cat, dog]) }
}

fn plugin_init(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(Some(plugin), "testmasks", gst::Rank::NONE, TestMasks::static_type())
}

gst::plugin_define!(
    testmasks,
    "Masks for tests",
    plugin_init,
    "1",
    "MIT/X11",
    "tests",
    "tests",
    "https://localhost"
);
