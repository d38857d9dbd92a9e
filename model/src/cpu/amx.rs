// SPDX-License-Identifier: MIT OR Apache-2.0
//! Products of tiles of 16 rows on processors with AMX, in bf16 and in 8 bits: a tile of rows times a tile of a panel is one
//! instruction.
//!
//! Rust has no stable functions for these instructions, so they are written out. Nothing else that the compiler makes
//! touches the tiles, so they keep what they hold between two of our pieces of assembly. libtorch's kernels (oneDNN's) use
//! them on the same threads: [`Shapes`] gives back what it found.
//!
//! Intel, "Architecture Instruction Set Extensions Programming Reference", chapter 3.

use std::arch::asm;
use std::arch::x86_64::{__cpuid_count, __get_cpuid_max};
use std::marker::PhantomData;
use std::sync::LazyLock;

/// Rows of a tile, and its 32-bit columns.
pub const SIDE: usize = 16;
/// Rows and columns of what is multiplied at a time: four tiles sum, two hold rows, two columns.
pub const BLOCK: usize = 2 * SIDE;
/// Bytes of a tile's row.
const WIDTH: usize = 64;

static AVAILABLE: LazyLock<bool> = LazyLock::new(|| {
    let leaf = 7;
    if __get_cpuid_max(0).0 < leaf {
        return false;
    }
    let (bf16, tiles, int8) = (1 << 22, 1 << 24, 1 << 25);
    let wanted = bf16 | tiles | int8;
    __cpuid_count(leaf, 0).edx & wanted == wanted && permitted()
});

/// Whether the processor has tiles, and the system lets this process use them.
pub fn is_available() -> bool {
    *AVAILABLE
}

/// Linux wants to be asked once a process, as what a thread's tiles hold takes 8 KiB.
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const TILE_DATA: libc::c_long = 18;
    // SAFETY: this call takes two numbers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0 }
}

/// While it lives, all eight tiles of this thread are whole: 16 rows of 64 bytes.
pub struct Shapes {
    before: Configuration,
    /// It does not leave its thread.
    thread: PhantomData<*const ()>,
}

/// As `ldtilecfg` reads it.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    /// Bytes of a row, of each tile; the hardware has eight.
    bytes: [u16; 16],
    rows: [u8; 16],
}

impl Configuration {
    const NOTHING: Configuration =
        Configuration { palette: 0, start_row: 0, reserved: [0; 14], bytes: [0; 16], rows: [0; 16] };
    const WHOLE: Configuration = {
        let mut whole = Configuration { palette: 1, ..Configuration::NOTHING };
        let mut tile = 0;
        while tile < 8 {
            whole.bytes[tile] = WIDTH as u16;
            whole.rows[tile] = SIDE as u8;
            tile += 1;
        }
        whole
    };
}

impl Shapes {
    /// `None` without tiles.
    pub fn new() -> Option<Shapes> {
        if !is_available() {
            return None;
        }
        let mut before = Configuration::NOTHING;
        // SAFETY: there are tiles, as asked above; the instructions write and read 64 bytes, which is what there is.
        unsafe {
            asm!("sttilecfg [{}]", in(reg) &raw mut before, options(nostack, preserves_flags));
            load(&Configuration::WHOLE);
        }
        Some(Shapes { before, thread: PhantomData })
    }
}

impl Drop for Shapes {
    fn drop(&mut self) {
        // SAFETY: there are tiles, and this is what the instruction's counterpart stored.
        unsafe { load(&self.before) };
    }
}

/// # Safety
/// There are tiles, and the configuration is one that the processor takes.
unsafe fn load(configuration: &Configuration) {
    // SAFETY: as the caller promises. What the tiles held is lost, which only code that uses them knows of.
    unsafe {
        asm!(
            "ldtilecfg [{}]", in(reg) configuration,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, readonly, preserves_flags),
        );
    }
}

/// Two tiles' rows, and two panels, of what is multiplied. Where there is only one, both are the same.
#[derive(Clone, Copy)]
pub struct Operands<T> {
    /// The first of 16 rows each.
    pub rows: [*const T; 2],
    /// Bytes from one row to the next.
    pub row_stride: usize,
    /// The first of a panel's lines: 16 columns of 4 bytes each, which are neighbours along the summed dimension.
    pub panels: [*const u32; 2],
    /// Bytes from one line to the next.
    pub line_stride: usize,
    /// Tiles along the summed dimension: 64 bytes of a row, 16 lines of a panel.
    pub steps: usize,
}

/// Where the sums go: two by two tiles, each `[16, 16]` of 32 bits.
#[derive(Clone, Copy)]
pub struct Sums<T> {
    pub first: *mut T,
    /// Bytes from one row to the next.
    pub row_stride: usize,
}

macro_rules! product {
    ($(#[$documented:meta])* $name:ident, $instruction:literal, $number:ty, $sum:ty) => {
        $(#[$documented])*
        ///
        /// # Safety
        /// A [`Shapes`] of this thread lives. All rows, lines and sums that the operands reach are within memory that may be
        /// read, or written for the sums, by nobody else.
        #[inline]
        pub unsafe fn $name(of: Operands<$number>, into: Sums<$sum>) {
            if of.steps == 0 {
                return;
            }
            // SAFETY: as the caller promises: the tiles are whole, so each load and store moves 16 rows of 64 bytes, as far
            // apart as the strides say.
            unsafe {
                asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "2:",
                    "tileloadd tmm4, [{a} + {a_stride}]",
                    "tileloadd tmm6, [{b} + {b_stride}]",
                    concat!($instruction, " tmm0, tmm4, tmm6"),
                    "tileloadd tmm7, [{d} + {b_stride}]",
                    concat!($instruction, " tmm1, tmm4, tmm7"),
                    "tileloadd tmm5, [{c} + {a_stride}]",
                    concat!($instruction, " tmm2, tmm5, tmm6"),
                    concat!($instruction, " tmm3, tmm5, tmm7"),
                    "add {a}, 64",
                    "add {c}, 64",
                    "add {b}, {b_step}",
                    "add {d}, {b_step}",
                    "dec {steps}",
                    "jnz 2b",
                    "tilestored [{sums} + {sum_stride}], tmm0",
                    "tilestored [{sums} + {sum_stride} + 64], tmm1",
                    "tilestored [{below} + {sum_stride}], tmm2",
                    "tilestored [{below} + {sum_stride} + 64], tmm3",
                    a = inout(reg) of.rows[0] => _,
                    c = inout(reg) of.rows[1] => _,
                    a_stride = in(reg) of.row_stride,
                    b = inout(reg) of.panels[0] => _,
                    d = inout(reg) of.panels[1] => _,
                    b_stride = in(reg) of.line_stride,
                    b_step = in(reg) SIDE * of.line_stride,
                    steps = inout(reg) of.steps => _,
                    sums = in(reg) into.first,
                    below = in(reg) into.first.byte_add(SIDE * into.row_stride),
                    sum_stride = in(reg) into.row_stride,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    };
}

product! {
    /// Of pairs of bf16, summed in f32.
    bf16, "tdpbf16ps", u16, f32
}
product! {
    /// Of four numbers in 8 bits: with a sign in the rows, without in the panels; summed in 32 bits.
    int8, "tdpbsud", i8, i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> [u8; 64] {
        let mut shape = Configuration::NOTHING;
        // SAFETY: the test that calls this has asked for tiles; 64 bytes are written, which is what there is.
        unsafe { asm!("sttilecfg [{}]", in(reg) &raw mut shape, options(nostack, preserves_flags)) };
        // SAFETY: plain numbers without gaps, 64 bytes.
        unsafe { std::mem::transmute(shape) }
    }

    #[test]
    fn a_threads_tiles_are_given_back_as_they_were_found() {
        if !is_available() {
            println!("skipped: no AMX here");
            return;
        }
        let nothing = shape();
        let outer = Shapes::new();
        let whole = shape();
        assert_eq!((whole[0], nothing[0]), (1, 0));
        drop(Shapes::new());
        assert_eq!(shape(), whole);
        drop(outer);
        assert_eq!(shape(), nothing);
    }

    #[test]
    fn products_of_tiles_are_those_of_their_numbers_one_by_one() {
        if !is_available() {
            println!("skipped: no AMX here");
            return;
        }
        let _tiles = Shapes::new();
        // Rows of 128 numbers in 8 bits, and as many lines for two panels, which lie side by side.
        let rows: Vec<i8> = (0..BLOCK * 128).map(|i| (i * 37 % 255) as u8 as i8).collect();
        let lines: Vec<u8> = (0..32 * 2 * WIDTH).map(|i| (i * 91 % 253) as u8).collect();
        let of = Operands {
            rows: [0, SIDE * 128].map(|at| rows[at..].as_ptr()),
            row_stride: 128,
            panels: [0, WIDTH].map(|at| lines[at..].as_ptr().cast()),
            line_stride: 2 * WIDTH,
            steps: 2,
        };
        let mut sums = [[0i32; BLOCK]; BLOCK];
        let into = Sums { first: sums.as_mut_ptr().cast(), row_stride: size_of_val(&sums[0]) };
        // SAFETY: all that the operands reach lies within these three.
        unsafe { int8(of, into) };
        for (row, sums) in sums.iter().enumerate() {
            for (column, sum) in sums.iter().enumerate() {
                let product = |deep: usize| {
                    let line = deep / 4 * 2 * WIDTH + column / SIDE * WIDTH + column % SIDE * 4 + deep % 4;
                    i32::from(rows[row * 128 + deep]) * i32::from(lines[line])
                };
                assert_eq!(*sum, (0..128).map(product).sum::<i32>(), "row {row}, column {column}");
            }
        }
    }
}
