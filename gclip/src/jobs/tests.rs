// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the tests of this folder share.

use super::job::{Job, Settings};

/// A job like any other.
pub fn job(source: &str) -> Job {
    Job {
        source: source.into(),
        version: "1".into(),
        out: "/out".into(),
        name: "x".into(),
        settings: Settings {
            model: "m".into(),
            prompts: "cat".into(),
            background: String::new(),
            set: vec![],
            draw: None,
        },
    }
}
