// SPDX-License-Identifier: MIT OR Apache-2.0
//! Weights of a linear layer in 8 bits, symmetric, each output channel by a scale of its own, laid out for the kernel.

use anyhow::{Result, bail};
use tch::{Kind, Tensor};

use super::layout::{DEEP, LANES, Line, OFFSET, QUAD, panels};
use super::rows::{LARGEST, scale_and_inverse};

/// Sums of so many products stay within 32 bits: 2^31 / (255 x 127).
const DEEPEST: usize = 65536;

pub struct Matrix {
    /// Output channels.
    pub columns: usize,
    /// Input channels.
    inputs: usize,
    /// Those rounded up to a whole number of `DEEP`.
    pub depth: usize,
    /// Panels of a group.
    pub together: usize,
    /// Weights plus `OFFSET`, in groups of up to so many panels, each `[depth / QUAD, panels]` lines.
    pub groups: Vec<Line>,
    /// By output channel, with zeros up to a whole panel.
    pub scales: Vec<f32>,
    pub bias: Vec<f32>,
}

impl Matrix {
    /// Of weights `[out, in]` and a bias `[out]` in f32.
    ///
    /// # Errors
    /// There are numbers that are not finite among them, or more input channels than the kernel can sum over.
    pub fn new(weight: &Tensor, bias: &Tensor) -> Result<Matrix> {
        let (columns, inputs) = weight.size2()?;
        let (columns, inputs) = (columns as usize, inputs as usize);
        if inputs > DEEPEST {
            bail!("precision=int8 sums over at most {DEEPEST} input channels, not {inputs}");
        }
        let numbers = |tensor: &Tensor| -> Result<Vec<f32>> {
            let numbers = Vec::<f32>::try_from(tensor.f_to_kind(Kind::Float)?.f_flatten(0, -1)?)?;
            if numbers.iter().any(|number| !number.is_finite()) {
                bail!("precision=int8 has no scale for weights that are not finite (NaN or infinity)");
            }
            Ok(numbers)
        };
        let (weight, mut bias) = (numbers(weight)?, numbers(bias)?);
        let depth = inputs.next_multiple_of(DEEP);
        let padded = columns.next_multiple_of(LANES);
        bias.resize(padded, 0.0);
        let mut matrix = Matrix {
            columns,
            inputs,
            depth,
            together: panels(),
            groups: vec![Line([OFFSET as u8; LANES * QUAD]); padded / LANES * depth / QUAD],
            scales: vec![0.0; padded],
            bias,
        };
        for (column, row) in weight.chunks_exact(inputs.max(1)).enumerate() {
            matrix.put(column, row);
        }
        Ok(matrix)
    }

    fn put(&mut self, column: usize, weights: &[f32]) {
        let largest = weights.iter().fold(0.0f32, |largest, weight| largest.max(weight.abs()));
        let (scale, inverse) = scale_and_inverse(largest);
        let panel = column / LANES;
        let (start, panels) = self.group(panel / self.together * self.together);
        let group = &mut self.groups[start..];
        for (quads, number) in weights.chunks(QUAD).zip(0..) {
            let Line(line) = &mut group[number * panels + panel % self.together];
            let places = line.iter_mut().skip(column % LANES * QUAD);
            for (place, weight) in places.zip(quads) {
                let rounded = (weight * inverse).round_ties_even().clamp(-LARGEST, LARGEST) as i32;
                *place = (rounded + OFFSET) as u8;
            }
        }
        self.scales[column] = scale;
    }

    /// The first line of the group with this first panel, and its panels.
    pub fn group(&self, first: usize) -> (usize, usize) {
        (first * self.depth / QUAD, self.together.min(self.scales.len() / LANES - first))
    }

    /// Whether it multiplies tokens of this width.
    pub fn takes(&self, width: usize) -> bool {
        self.inputs == width
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.groups[..]) + 4 * (self.scales.len() + self.bias.len())
    }
}
