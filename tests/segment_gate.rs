// SPDX-License-Identifier: MIT OR Apache-2.0
//! Classes that are not in the picture, on `gclipsegment` and a real checkpoint of random weights.

use gclip_testing::fake::Rig;
use gclip_testing::workshop::{Workshop, picture, rig};
use gst::prelude::*;
use gstgclip::meta::Masks;

fn next(rig: &mut Rig) -> Masks {
    rig.harness.push(picture(0)).unwrap();
    Masks::from_buffer(&rig.pull()).unwrap()
}

#[test]
fn what_is_judged_absent_has_no_pixels_and_comes_back_when_nothing_is_judged() {
    let workshop = Workshop::new();
    let mut rig = rig(&workshop.model(1), None);
    let before = next(&mut rig);
    assert!(!before.regions.is_empty() && before.tags.is_empty());
    for absent in ["mute", "remove"] {
        for evidence in ["tags", "global"] {
            rig.element.set_property_from_str("absent", absent);
            rig.element.set_property_from_str("absent-evidence", evidence);
            // Nothing reaches this.
            rig.element.set_property("gate-enter", 1.0);
            let masks = next(&mut rig);
            assert!(masks.regions.is_empty(), "{absent} {evidence}: {:?}", masks.regions);
            assert_eq!(masks.tags.len(), if evidence == "tags" { 4 } else { 0 });
            // Everything reaches this, but what was judged stays for some looks.
            rig.element.set_property("gate-interval", 1u32);
            rig.element.set_property("gate-enter", 0.0);
            rig.element.set_property("gate-leave", 0.0);
            rig.element.set_property_from_str("absent", "compete");
            assert_eq!(next(&mut rig).regions, before.regions, "{absent} {evidence}");
        }
    }
    assert_eq!(rig.stat::<u64>("errors"), 0);
}

#[test]
fn with_windows_the_class_token_of_each_is_asked() {
    let workshop = Workshop::new();
    let mut rig = rig(&workshop.model(1), None);
    rig.element.set_property("window", 32u32);
    rig.element.set_property_from_str("absent-evidence", "global");
    rig.element.set_property_from_str("absent", "remove");
    rig.element.set_property("gate-enter", 1.0);
    assert!(next(&mut rig).regions.is_empty());
    rig.element.set_property("gate-enter", -1.0);
    assert_eq!(rig.element.property::<f64>("gate-enter"), -1.0);
    next(&mut rig);
    assert_eq!(rig.stat::<u64>("errors"), 0);
}
