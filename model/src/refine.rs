// SPDX-License-Identifier: MIT OR Apache-2.0
//! Refinement of logits by the picture's own edges, before they become a mask.

mod pamr;
mod tlp;

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};

use super::options::Options;
pub use pamr::{Pamr, Refined};
pub use tlp::{TlpOptions, propagate};

/// What sharpens the logits before the softmax.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refine {
    #[default]
    None,
    /// Pixel-adaptive mask refinement: 10 iterations over neighbours 8 and 16 pixels away.
    Pamr,
    /// Text-aware Laplacian propagation, on a coarse grid.
    Tlp(TlpOptions),
}

impl Refine {
    /// A refinement by name, with its switches (`key=value,key=value`). Those of another refinement are taken too, so that
    /// one can be changed for the other and back.
    ///
    /// # Errors
    /// There is no such refinement, or no refinement has such a switch.
    pub fn parse(name: &str, options: &str) -> Result<Refine> {
        let tlp = TlpOptions::take(Options::parse("refine", "tlp", options)?)?;
        match name.trim() {
            "none" => Ok(Refine::None),
            "pamr" => Ok(Refine::Pamr),
            "tlp" => Ok(Refine::Tlp(tlp)),
            other => bail!("refine \"{other}\" is not none, pamr or tlp"),
        }
    }
}

impl fmt::Display for Refine {
    /// The name, without switches.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refine::None => "none",
            Refine::Pamr => "pamr",
            Refine::Tlp(_) => "tlp",
        })
    }
}

impl FromStr for Refine {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Refine::parse(text, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_switches_are_read() {
        assert_eq!("tlp".parse::<Refine>().unwrap(), Refine::Tlp(TlpOptions::default()));
        let options = TlpOptions { grid: 40, iterations: 3, scaled: true };
        assert_eq!(Refine::parse("tlp", "grid=40, iterations=3,scaled=on").unwrap(), Refine::Tlp(options));
        assert_eq!(Refine::parse("pamr", "grid=40").unwrap(), Refine::Pamr);
        for name in ["none", "pamr", "tlp"] {
            assert_eq!(name.parse::<Refine>().unwrap().to_string(), name);
        }
    }

    #[test]
    fn mistakes_are_one_sentence() {
        let error = |name, options| Refine::parse(name, options).unwrap_err().to_string();
        assert_eq!(error("crf", ""), "refine \"crf\" is not none, pamr or tlp");
        assert_eq!(
            error("tlp", "gird=40"),
            "unknown refine option \"gird\": tlp has grid, iterations, scaled"
        );
        assert_eq!(error("none", "grid=0"), "tlp option grid=0 must be a whole number in 1..1024");
        assert_eq!(
            error("tlp", "iterations=2.5"),
            "tlp option iterations=2.5 must be a whole number in 0..1000"
        );
    }
}
