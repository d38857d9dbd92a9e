// SPDX-License-Identifier: MIT OR Apache-2.0
//! The methods with several passes or discrete steps, against their published code on a random CLIP (see `parity.rs`).

mod model_common;

use model_common::oracle::{Oracle, assert_method};

#[test]
fn scclip_equals_its_published_code() {
    let Some(oracle) = Oracle::find() else { return };
    assert_method(&oracle, "scclip", "scclip", "");
}
