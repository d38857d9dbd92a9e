// SPDX-License-Identifier: MIT OR Apache-2.0
//! A picture in a few numbers: the means of its cells, taken on the device that the picture lies on. Only they come to
//! the host.

use anyhow::{Result, bail};
use tch::{Device, Kind, Tensor};

use super::{Picture, PixelFormat, Pixels};
use crate::constants::constant;

/// For each cell along one axis, the pixels that are looked at.
pub type Cells = Vec<Vec<usize>>;

/// The samples of one component of a packed format.
struct Component {
    plane: usize,
    /// Of the first sample in a row, and from one to the next, in the bytes that a plane is read by.
    offset: usize,
    step: usize,
    /// (width, height) in samples.
    size: (usize, usize),
}

/// The mean of each cell, row by row, for each component but alpha, 0..255. `cells` gives the rows and the columns of
/// a component of this (width, height).
///
/// # Errors
/// The picture does not lie where its owner keeps it, or libtorch fails.
pub fn cell_means(
    picture: &Picture,
    cells: impl Fn(usize, usize) -> (Cells, Cells),
) -> Result<Vec<Vec<f32>>> {
    let Pixels::Lent(pixels) = &picture.data else { bail!("the picture has been copied already") };
    pixels.hold_compute()?;
    let mut means = Vec::new();
    for component in components(picture) {
        let (rows, columns) = cells(component.size.0, component.size.1);
        let columns_at = |&x: &usize| component.offset + x * component.step;
        let (across, down) = (Axis::new(&columns, columns_at), Axis::new(&rows, |&y| y));
        means.push(down.mean(&across.mean(&pixels.plane(component.plane)?, 1)?, 0)?.f_flatten(0, -1)?);
    }
    // One copy, one wait.
    let lengths: Vec<i64> = means.iter().map(|means| means.numel() as i64).collect();
    let together = Tensor::f_cat(&means, 0)?.f_to_device(Device::Cpu)?;
    let apart = together.f_split_with_sizes(lengths, 0)?;
    apart.iter().map(|means| Ok(Vec::try_from(means)?)).collect()
}

/// Which lines of a plane are looked at, and the cell that each belongs to.
struct Axis {
    lines: Vec<f32>,
    cell: Vec<f32>,
    counts: Vec<f32>,
}

impl Axis {
    fn new(cells: &Cells, line: impl Fn(&usize) -> usize) -> Axis {
        let of_cells = cells.iter().enumerate();
        Axis {
            lines: cells.iter().flatten().map(|at| line(at) as f32).collect(),
            cell: of_cells.flat_map(|(cell, lines)| lines.iter().map(move |_| cell as f32)).collect(),
            counts: cells.iter().map(|lines| lines.len() as f32).collect(),
        }
    }

    /// `plane` `[rows, columns]` -> the means of cells along `axis`, f32.
    fn mean(&self, plane: &Tensor, axis: i64) -> Result<Tensor> {
        let device = plane.device();
        // Kept on the device as f32, which holds every index of a frame exactly.
        let index =
            |values: &[f32]| -> Result<Tensor> { Ok(constant(values, device)?.f_to_kind(Kind::Int64)?) };
        let looked_at = plane.f_index_select(axis, &index(&self.lines)?)?.f_to_kind(Kind::Float)?;
        let mut size = looked_at.size();
        size[axis as usize] = self.counts.len() as i64;
        let sums = Tensor::f_zeros(&size, (Kind::Float, device))?.f_index_add(
            axis,
            &index(&self.cell)?,
            &looked_at,
        )?;
        let counts = constant(&self.counts, device)?;
        let counts = if axis == 0 { counts.f_unsqueeze(1)? } else { counts };
        Ok(sums.f_div(&counts)?)
    }
}

fn components(picture: &Picture) -> Vec<Component> {
    let whole = (picture.width, picture.height);
    let half = (picture.width.div_ceil(2), picture.height.div_ceil(2));
    let colours = |step: usize| (0..3).map(|offset| (0, offset, step, whole)).collect();
    let parts: Vec<(usize, usize, usize, (usize, usize))> = match picture.format {
        PixelFormat::Rgb | PixelFormat::Bgr => colours(3),
        PixelFormat::Rgbx | PixelFormat::Bgrx => colours(4),
        PixelFormat::Gray8 => vec![(0, 0, 1, whole)],
        PixelFormat::I420 => vec![(0, 0, 1, whole), (1, 0, 1, half), (2, 0, 1, half)],
        PixelFormat::Nv12 => vec![(0, 0, 1, whole), (1, 0, 2, half), (1, 1, 2, half)],
        PixelFormat::Yuy2 => {
            let pairs = (half.0, whole.1);
            vec![(0, 0, 2, whole), (0, 1, 4, pairs), (0, 3, 4, pairs)]
        }
    };
    let component = |(plane, offset, step, size)| Component { plane, offset, step, size };
    parts.into_iter().map(component).collect()
}
