// SPDX-License-Identifier: MIT OR Apache-2.0
//! Refinement of logits by the picture's own edges, before they become a mask.

use std::fmt;
use std::str::FromStr;

/// What sharpens the logits before the softmax.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refine {
    #[default]
    None,
    /// Pixel-adaptive mask refinement (Araslanov and Roth, CVPR 2020), as SCLIP and NACLIP use it.
    Pamr,
}

impl fmt::Display for Refine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refine::None => "none",
            Refine::Pamr => "pamr",
        })
    }
}

impl FromStr for Refine {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Refine::None),
            "pamr" => Ok(Refine::Pamr),
            other => anyhow::bail!("refine \"{other}\" is not none or pamr"),
        }
    }
}
