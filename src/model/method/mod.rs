// SPDX-License-Identifier: MIT OR Apache-2.0
//! What to do in the last block: one file per published method, one small trait between them and the tower.

/// A method as the user names it, with its switches (`key=value,key=value`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodSpec {
    pub name: String,
    pub options: String,
}

impl Default for MethodSpec {
    fn default() -> Self {
        MethodSpec { name: "gclip".into(), options: String::new() }
    }
}
