// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the names of one class are to each other.

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, Result, bail};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Synonyms {
    /// Each name is a query; a class scores its best one.
    #[default]
    Max,
    /// One query, whose feature is the unit mean of the names' (the averaging of GKC, Han et al., ICCV 2023, without its
    /// training).
    Mean,
}

impl FromStr for Synonyms {
    type Err = Error;

    fn from_str(text: &str) -> Result<Synonyms> {
        match text {
            "max" => Ok(Synonyms::Max),
            "mean" => Ok(Synonyms::Mean),
            other => bail!("\"{other}\" is nothing that synonyms can be: max or mean"),
        }
    }
}

impl fmt::Display for Synonyms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Synonyms::Max => "max",
            Synonyms::Mean => "mean",
        })
    }
}
