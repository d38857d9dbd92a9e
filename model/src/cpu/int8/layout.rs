// SPDX-License-Identifier: MIT OR Apache-2.0
//! How numbers in 8 bits lie for the kernels.

use crate::cpu::amx;

/// What is added to a weight so that it has no sign, as the instruction wants one of its operands.
pub const OFFSET: i32 = 128;
/// Numbers that travel together.
pub const QUAD: usize = 4;
/// Columns of a panel: the 32-bit lanes of a register.
pub const LANES: usize = 16;
/// Panels of a block in registers.
pub const PANELS: usize = 3;
/// Rows of a block in registers: with 3 panels, 24 of the 32 registers sum.
pub const ROWS: usize = 8;
/// Numbers of a tile's row: rows and columns of weights are as deep as a whole number of them.
pub const DEEP: usize = QUAD * amx::SIDE;

/// Panels that lie together, as one block takes them.
pub fn panels() -> usize {
    if amx::is_available() { amx::BLOCK / LANES } else { PANELS }
}

/// Rows that a product takes at a time: there is room for a whole number of them.
pub fn rows() -> usize {
    if amx::is_available() { amx::BLOCK } else { ROWS }
}

/// The weights of a panel for one quad: a register, and a line of the cache.
#[derive(Clone)]
#[repr(C, align(64))]
pub struct Line(pub [u8; LANES * QUAD]);
