// SPDX-License-Identifier: MIT OR Apache-2.0
//! TLP, text-aware Laplacian propagation: the second half of PEARL (CVPR 2026; PGSmall/PEARL), for the logits of any
//! method.
//!
//! On a grid of about 80 cells a side, each query's cosines are drawn to those of the neighbouring cells, the less the more
//! their grey values differ, and kept where the softmax is sure: `(diag(C) + L) X = C l` with the graph Laplacian `L` of the
//! grid, by a fixed number of conjugate-gradient steps from `X = l`.
//!
//! As published, the softmax that says how sure a cell is has no scale, so that with many queries hardly any cell is, and the
//! number of steps decides how far things spread. `scaled=on` takes the scale of the mask's softmax there.
//!
//! Shapes: Q queries, H x W pixels, h x w cells.

use anyhow::{Result, bail};
use tch::{Kind, Tensor};

use crate::decode::Logits;
use crate::options::Options;

/// Least certainty of a cell, and temperature and self-weight of the texts' likeness.
const FLOOR: f64 = 0.05;
const TEMPERATURE: f64 = 0.5;
const SELF_WEIGHT: f64 = 10.0;
/// How fast an edge falls off with the difference of grey values over their mean difference.
const EDGE: f64 = 5.0;
const GREY: [f32; 3] = [0.299, 0.587, 0.114];
/// Values of upsampled logits that exist at a time.
const VALUES_AT_A_TIME: i64 = 32 << 20;

/// TLP's switches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlpOptions {
    /// Cells along each side, about: a side is pooled by the whole factor that comes nearest.
    pub grid: u32,
    /// Steps of conjugate gradients.
    pub iterations: u32,
    /// Whether the certainty of a cell is that of the scaled softmax.
    pub scaled: bool,
}

impl Default for TlpOptions {
    fn default() -> Self {
        TlpOptions { grid: 80, iterations: 25, scaled: false }
    }
}

impl TlpOptions {
    pub(super) fn take(mut options: Options) -> Result<TlpOptions> {
        let default = TlpOptions::default();
        let taken = TlpOptions {
            grid: options.whole("grid", default.grid, 1..=1024)?,
            iterations: options.whole("iterations", default.iterations, 0..=1000)?,
            scaled: options.choice("scaled", &[("off", false), ("on", true)])?,
        };
        options.finish()?;
        Ok(taken)
    }

    /// By how much a side of `length` pixels is pooled. Halves go to the even number, as in Python.
    fn factor(&self, length: i64) -> i64 {
        ((length as f64 / f64::from(self.grid)).round_ties_even() as i64).max(1)
    }
}

/// Cosines after propagation, `[Q, h, w]` f32, to be interpolated to any size.
///
/// `picture` is `[1, 3, H, W]`, normalised; `text` the queries' unit features `[Q, E]`, `None` where there are none;
/// `logit_scale` what the mask's softmax multiplies cosines by.
pub fn propagate(
    logits: &dyn Logits,
    picture: &Tensor,
    text: Option<&Tensor>,
    logit_scale: f64,
    options: &TlpOptions,
) -> Result<Tensor> {
    let [1, 3, height, width] = picture.size()[..] else {
        bail!("TLP refines one picture of three colours, not {:?}", picture.size());
    };
    let factors = [options.factor(height), options.factor(width)];
    let picture = pool(&picture.f_to_kind(Kind::Float)?, factors)?; // [1, 3, h, w]
    let cosines = pooled_cosines(logits, [height, width], factors)?; // [Q, h, w]
    let scale = if options.scaled { logit_scale } else { 1.0 };
    let probability = cosines.f_mul_scalar(scale)?.f_softmax(0, Kind::Float)?; // [Q, h, w]
    let own = match text {
        Some(text) => own_likeness(text)?.f_to_device(cosines.device())?, // [Q]
        None => cosines.f_new_zeros([cosines.size()[0]], (Kind::Float, cosines.device()))?,
    };
    let own = own.f_reshape([-1, 1, 1])?;
    let likeness = |a: &Tensor, b: &Tensor| -> Result<Tensor> {
        let sum = a.f_mul(b)?.f_mul(&own)?.f_sum_dim_intlist([0i64].as_slice(), true, Kind::Float)?;
        Ok(sum.f_clamp(0.0, 1.0)?.f_add_scalar(1.0)?)
    };
    let sure = probability.f_amax([0i64].as_slice(), true)?.f_clamp_min(FLOOR)?.f_square()?; // [1, h, w]
    let system = System {
        data: sure.f_mul(&likeness(&probability, &probability)?)?,
        edges: [edges(&picture, &probability, 1, likeness)?, edges(&picture, &probability, 2, likeness)?],
    };
    system.solve(&cosines, options.iterations)
}

/// Average over cells of `rows x columns` pixels; what is left at the right and the bottom is dropped.
fn pool(map: &Tensor, [rows, columns]: [i64; 2]) -> Result<Tensor> {
    if (rows, columns) == (1, 1) {
        return Ok(map.shallow_clone());
    }
    Ok(map.f_avg_pool2d([rows, columns], [rows, columns], [0, 0], false, true, None)?)
}

/// Cosines at the picture's size, pooled: some queries at a time, `[Q, h, w]`.
fn pooled_cosines(logits: &dyn Logits, size: [i64; 2], factors: [i64; 2]) -> Result<Tensor> {
    let rows: Vec<i64> = (0..logits.queries() as i64).collect();
    let at_a_time = (VALUES_AT_A_TIME / (size[0] * size[1]).max(1)).max(1) as usize;
    let parts = rows.chunks(at_a_time).map(|rows| {
        let full = logits.upsampled(rows, size)?.f_to_kind(Kind::Float)?; // [rows, H, W]
        Ok(pool(&full.f_unsqueeze(0)?, factors)?.f_squeeze_dim(0)?)
    });
    Ok(Tensor::f_cat(&parts.collect::<Result<Vec<_>>>()?, 0)?)
}

/// How much of each query's likeness to all queries is to itself: `[Q, E] -> [Q]`. The published code's product over
/// pairs of queries repeats an index, so that this diagonal is all that counts.
fn own_likeness(text: &Tensor) -> Result<Tensor> {
    let likeness = text.f_matmul(&text.f_transpose(0, 1)?)?.f_div_scalar(TEMPERATURE)?;
    let rows = likeness.f_softmax(1, Kind::Float)?;
    let own = rows.f_diagonal(0, 0, 1)?.f_add_scalar(SELF_WEIGHT)?;
    let sum = rows.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float)?.f_add_scalar(SELF_WEIGHT)?;
    Ok(own.f_div(&sum.f_add_scalar(1e-6)?)?)
}

/// Weights between neighbours along an axis (1: down, 2: right), `[1, h - 1, w]` or `[1, h, w - 1]`.
fn edges(
    picture: &Tensor,
    probability: &Tensor,
    axis: i64,
    likeness: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let grey = Tensor::f_from_slice(&GREY)?.f_to_device(picture.device())?.f_reshape([3, 1, 1])?;
    let grey =
        picture.f_select(0, 0)?.f_mul(&grey)?.f_sum_dim_intlist([0i64].as_slice(), true, Kind::Float)?; // [1, h, w]
    let (first, second) = neighbours(&grey, axis)?;
    let difference = first.f_sub(&second)?.f_abs()?;
    // A grid of one row has no edge down, and no mean of them.
    let mean = match difference.numel() {
        0 => return Ok(difference),
        _ => difference.f_mean(Kind::Float)?.f_add_scalar(1e-6)?,
    };
    let weights = difference.f_div(&mean)?.f_mul_scalar(-EDGE)?.f_exp()?;
    let (first, second) = neighbours(probability, axis)?;
    Ok(weights.f_mul(&likeness(&first, &second)?)?.f_clamp(0.0, 1.0)?)
}

/// All but the last and all but the first along an axis: views.
fn neighbours(x: &Tensor, axis: i64) -> Result<(Tensor, Tensor)> {
    let length = x.size().get(axis as usize).copied().unwrap_or(0);
    Ok((x.f_narrow(axis, 0, length - 1)?, x.f_narrow(axis, 1, length - 1)?))
}

/// `diag(data) + L`, the same for each query.
struct System {
    /// `[1, h, w]`
    data: Tensor,
    /// Of the Laplacian: between rows, `[1, h - 1, w]`, and between columns, `[1, h, w - 1]`.
    edges: [Tensor; 2],
}

impl System {
    /// `(diag(data) + L) x`, `[Q, h, w]`.
    fn times(&self, x: &Tensor) -> Result<Tensor> {
        let out = x.f_mul(&self.data)?;
        for (axis, edges) in (1..).zip(&self.edges) {
            let (first, second) = neighbours(x, axis)?;
            let flow = first.f_sub(&second)?.f_mul_(edges)?;
            let (mut into_first, mut into_second) = neighbours(&out, axis)?;
            let _ = into_first.f_add_(&flow)?;
            let _ = into_second.f_sub_(&flow)?;
        }
        Ok(out)
    }

    /// Steps of conjugate gradients towards `x` with `(diag(data) + L) x = data l`, from `l` `[Q, h, w]`. One step width for
    /// all queries, and nothing that the host would wait for a GPU for.
    fn solve(&self, l: &Tensor, iterations: u32) -> Result<Tensor> {
        let product = |a: &Tensor, b: &Tensor| a.f_mul(b)?.f_sum(Kind::Float); // []
        let mut x = l.f_contiguous()?.f_detach_copy()?;
        let mut residual = l.f_mul(&self.data)?.f_sub(&self.times(&x)?)?;
        let mut direction = residual.f_detach_copy()?;
        let mut squared = product(&residual, &residual)?;
        for _ in 0..iterations {
            let across = self.times(&direction)?;
            let width = squared.f_div(&product(&direction, &across)?.f_add_scalar(1e-12)?)?;
            x = x.f_add_(&direction.f_mul(&width)?)?;
            residual = residual.f_sub_(&across.f_mul(&width)?)?;
            let now = product(&residual, &residual)?;
            let kept = now.f_div(&squared.f_add_scalar(1e-12)?)?;
            direction = direction.f_mul_(&kept)?.f_add_(&residual)?;
            squared = now;
        }
        Ok(x)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::transformer::unit_rows;

    const CPU: (Kind, tch::Device) = (Kind::Float, tch::Device::Cpu);

    fn error(found: &Tensor, expected: &Tensor) -> f64 {
        (found - expected).abs().max().double_value(&[])
    }

    #[test]
    fn equal_to_the_published_code() {
        let shared = std::env::var("GCLIP_SHARED")
            .unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared").into());
        let Ok(tensors) = Tensor::read_safetensors(format!("{shared}/oracle-2/oracle/pearl.safetensors"))
        else {
            println!("skipped: no oracle in {shared}");
            return;
        };
        let oracle: HashMap<String, Tensor> = tensors.into_iter().collect();
        let of = |key: &str| oracle[&format!("tlp/{key}")].shallow_clone();
        let (picture, text) = (of("image").unsqueeze(0), unit_rows(&of("text")).unwrap());
        let off = error(&own_likeness(&text).unwrap(), &of("S").diagonal(0, 0, 1));
        assert!(off < 1e-6, "S: {off:e}");
        let plain = TlpOptions::default();
        for (key, text, options, tolerance) in [
            ("out_cg3", Some(&text), TlpOptions { iterations: 3, ..plain }, 2e-5),
            ("out_grid20", Some(&text), TlpOptions { grid: 20, ..plain }, 2e-5),
            // Conjugate gradients have not converged on noise: the order of summation shows.
            ("out", Some(&text), plain, 1e-3),
            ("out_no_text", None, plain, 1e-3),
        ] {
            let expected = of(key);
            let size = [expected.size()[1], expected.size()[2]];
            let found = propagate(&of("logits"), &picture, text, 40.0, &options).unwrap();
            let off = error(&found.upsampled(&[0, 1, 2, 3, 4], size).unwrap(), &expected);
            println!("{key}: {off:.1e}");
            assert!(off < tolerance, "{key}: {off:e}");
        }
    }

    #[test]
    fn logits_stop_at_the_pictures_edge() {
        // A picture of two halves; what a logit spills over the border by is mixed into its own half.
        let column = Tensor::arange(64, CPU);
        let picture = column.lt(32).to_kind(Kind::Float).expand([1, 3, 48, 64], false) * 2.0 - 1.0;
        let spilled = column.lt(35).to_kind(Kind::Float).expand([48, 64], false).contiguous() * 0.3;
        let logits = Tensor::stack(&[&spilled, &(0.3 - &spilled)], 0);
        let found = propagate(&logits, &picture, None, 40.0, &TlpOptions::default()).unwrap();
        let at = |column: i64| found.double_value(&[0, 24, column]);
        assert!(at(33) < 0.25 && at(30) > 0.29 && at(31) - at(33) > 0.05, "{} {} {}", at(30), at(31), at(33));
    }

    #[test]
    fn flat_pictures_single_rows_and_single_queries_stay_finite() {
        for (height, width) in [(1, 1), (1, 300), (300, 2), (200, 200)] {
            for (queries, shade) in [(1i64, -2.0), (2, 0.0), (30, 2.0)] {
                let picture = Tensor::full([1, 3, height, width], shade, CPU);
                let logits = Tensor::rand([queries, 3, 2], CPU) * 0.3;
                let text = Tensor::eye(queries, CPU);
                for scaled in [false, true] {
                    let options = TlpOptions { scaled, ..TlpOptions::default() };
                    let found = propagate(&logits, &picture, Some(&text), 40.0, &options).unwrap();
                    assert!(bool::try_from(found.isfinite().all()).unwrap(), "{height}x{width} {queries}");
                    let size = [height, width].map(|side| side / options.factor(side));
                    assert_eq!(found.size(), [queries, size[0], size[1]]);
                }
            }
        }
    }

    #[test]
    fn halves_are_pooled_by_the_even_factor() {
        let options = TlpOptions::default();
        assert_eq!(
            [1, 79, 119, 120, 121, 200, 280, 336].map(|side| options.factor(side)),
            [1, 1, 1, 2, 2, 2, 4, 4]
        );
    }
}
