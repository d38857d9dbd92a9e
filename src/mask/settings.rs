// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the user set.

use super::{Edges, Mode, Size};
use crate::meta::LabelFilter;

/// `mode` and `size` decide what is agreed on with the neighbours, so they hold for a whole stream; the others for the next
/// frame.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub mode: Mode,
    pub size: Size,
    pub edges: Edges,
    pub only: LabelFilter,
}
