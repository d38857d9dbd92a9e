// SPDX-License-Identifier: MIT OR Apache-2.0
//! Against integer arithmetic one number at a time, and libtorch's own operators in f32.

use tch::{Device, Kind, Tensor};

use super::curve::Curve;
use super::matrix::Matrix;
use super::product::{Target, multiply};
use super::rows::{Norm, Rows, scale_and_inverse, widen};
use super::{Int8Block, Parts, int8_is_available};
use crate::cpu::amx::Shapes;

fn skipped() -> bool {
    if !int8_is_available() {
        println!("skipped: no AVX512-VNNI here");
    }
    !int8_is_available()
}

fn random(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, (Kind::Float, Device::Cpu))
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.to_kind(Kind::Float).flatten(0, -1)).unwrap()
}

/// A row in 8 bits, and its scale.
fn in_8_bits(row: &[f32]) -> (Vec<i32>, f32) {
    let (scale, inverse) = scale_and_inverse(row.iter().fold(0.0, |largest: f32, x| largest.max(x.abs())));
    (row.iter().map(|x| (x * inverse).round_ties_even() as i32).collect(), scale)
}

fn put_all(rows: &[f32], width: usize) -> Rows {
    let mut narrow = Rows::new(rows.len() / width, width);
    for (index, row) in rows.chunks_exact(width).enumerate() {
        // SAFETY: the tests that call this have asked for the instructions.
        unsafe { narrow.put(index, row) };
    }
    narrow
}

/// Every product one by one: `[rows, columns]`.
fn expected(rows: &[f32], weight: &[f32], bias: &[f32], width: usize) -> Vec<f64> {
    let weight: Vec<_> = weight.chunks_exact(width).map(in_8_bits).collect();
    let mut expected = Vec::new();
    for (row, scale) in rows.chunks_exact(width).map(in_8_bits) {
        for ((weight, of_weight), bias) in weight.iter().zip(bias) {
            let sum: i64 = row.iter().zip(weight).map(|(a, b)| i64::from(a * b)).sum();
            expected.push(sum as f64 * f64::from(scale) * f64::from(*of_weight) + f64::from(*bias));
        }
    }
    expected
}

fn assert_near(what: &str, found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1e-30f64, |largest, x| largest.max(x.abs()));
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let off = (f64::from(*found) - expected).abs() / largest;
        assert!(off < 1e-6, "{what}: number {index} is {found} and should be {expected}");
    }
}

#[test]
fn rows_are_rounded_to_the_nearest_with_a_scale_of_their_own() {
    if skipped() {
        return;
    }
    tch::manual_seed(5);
    for width in [1, 3, 15, 16, 17, 63, 192, 770] {
        let mut rows = numbers(&(random(&[5, width as i64]) * 3.0));
        rows[..width].fill(0.0);
        rows[width..2 * width].iter_mut().for_each(|x| *x *= 1e30);
        rows[2 * width..3 * width].iter_mut().for_each(|x| *x *= 1e-20);
        rows[3 * width..4 * width].fill(-1e-42);
        let narrow = put_all(&rows, width);
        for (index, row) in rows.chunks_exact(width).enumerate() {
            let (values, scale) = in_8_bits(row);
            let found = &narrow.values[index * narrow.stride..][..narrow.stride];
            assert_eq!(narrow.scales[index], scale);
            assert_eq!(narrow.sums[index], values.iter().sum::<i32>());
            assert!(found[..width].iter().map(|&value| i32::from(value)).eq(values), "{width} {index}");
            assert!(found[width..].iter().all(|&value| value == 0), "padding of {width}");
        }
    }
}

#[test]
fn products_are_those_of_integers() {
    if skipped() {
        return;
    }
    tch::manual_seed(6);
    for (count, width, columns) in
        [(1, 1, 1), (7, 3, 5), (8, 64, 48), (9, 65, 49), (50, 770, 100), (13, 192, 768), (17, 2, 33)]
    {
        let (rows, weight, bias) = (random(&[count, width]), random(&[columns, width]), random(&[columns]));
        let matrix = Matrix::new(&weight, &bias).unwrap();
        let (count, width) = (count as usize, width as usize);
        let [rows, weight, bias] = [rows, weight, bias].map(|tensor| numbers(&tensor));
        let expected = expected(&rows, &weight, &bias, width);
        let narrow = put_all(&rows, width);
        let what = format!("{count} x {width} x {columns}");

        let mut whole = vec![f32::NAN; expected.len()];
        // SAFETY: here and below the processor has the instructions, as asked above.
        unsafe { multiply(None, &narrow, count, &matrix, Target::Whole(&mut whole)) };
        assert_near(&what, &whole, &expected);
        let tiles = Shapes::new();
        let mut on_tiles = vec![f32::NAN; expected.len()];
        unsafe { multiply(tiles.as_ref(), &narrow, count, &matrix, Target::Whole(&mut on_tiles)) };
        assert_eq!(on_tiles, whole, "{what}");

        let mut short = vec![0u16; expected.len()];
        unsafe { multiply(tiles.as_ref(), &narrow, count, &matrix, Target::Short(&mut short)) };
        let rounded = Tensor::from_slice(&whole).to_kind(Kind::BFloat16);
        let mut widened = vec![0.0; short.len()];
        unsafe { widen(&short, &mut widened) };
        assert_eq!(widened, numbers(&rounded), "{what}");

        let factors = numbers(&random(&[columns]));
        let before = numbers(&random(&[expected.len() as i64]));
        let mut sum = before.clone();
        unsafe { multiply(tiles.as_ref(), &narrow, count, &matrix, Target::Added(&mut sum, &factors)) };
        let expected = expected.iter().zip(factors.iter().cycle()).zip(before);
        let expected: Vec<f64> =
            expected.map(|((x, factor), before)| x * f64::from(*factor) + f64::from(before)).collect();
        assert_near(&what, &sum, &expected);
    }
}

#[test]
fn the_largest_sums_do_not_overflow() {
    if skipped() {
        return;
    }
    let tiles = Shapes::new();
    // All of one sign in 8 bits, as large as they get, in the widest MLPs there are.
    let width = 8192;
    for (of_row, of_weight) in [(3.0, 0.5), (-3.0, 0.5), (3.0, -0.5), (-3.0, -0.5)] {
        let weight = Tensor::full([20, width as i64], of_weight, (Kind::Float, Device::Cpu));
        let matrix = Matrix::new(&weight, &Tensor::zeros([20], (Kind::Float, Device::Cpu))).unwrap();
        let narrow = put_all(&vec![of_row as f32; width], width);
        let mut found = vec![0.0; 20];
        // SAFETY: the processor has the instructions, as asked above.
        unsafe { multiply(tiles.as_ref(), &narrow, 1, &matrix, Target::Whole(&mut found)) };
        assert_near(&format!("{of_row} x {of_weight}"), &found, &[of_row * of_weight * width as f64; 20]);
    }
    let error = Matrix::new(&random(&[1, 65537]), &random(&[1])).err().unwrap().to_string();
    assert!(error.contains("65536 input channels, not 65537"), "{error}");
}

#[test]
fn what_is_not_finite_is_refused_in_weights_and_stays_so_in_tokens() {
    if skipped() {
        return;
    }
    let tiles = Shapes::new();
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let weight = random(&[3, 5]);
        let _ = weight.get(1).get(2).fill_(bad);
        for (weight, bias) in
            [(weight.shallow_clone(), random(&[3])), (random(&[3, 5]), weight.narrow(1, 2, 1).flatten(0, -1))]
        {
            let error = Matrix::new(&weight, &bias).err().unwrap().to_string();
            assert!(error.contains("not finite (NaN or infinity)"), "{error}");
        }
        let matrix = Matrix::new(&random(&[40, 20]), &random(&[40])).unwrap();
        let rows = random(&[2, 20]);
        let _ = rows.get(0).get(17).fill_(bad);
        let narrow = put_all(&numbers(&rows), 20);
        let mut found = vec![0.0; 80];
        // SAFETY: the processor has the instructions, as asked above.
        unsafe { multiply(tiles.as_ref(), &narrow, 2, &matrix, Target::Whole(&mut found)) };
        let (bad_row, good_row) = found.split_at(40);
        assert!(
            bad_row.iter().all(|x| !x.is_finite()) && good_row.iter().all(|x| x.is_finite()),
            "{found:?}"
        );
        let mut short = vec![0u16; 80];
        // SAFETY: as above.
        unsafe { multiply(tiles.as_ref(), &narrow, 2, &matrix, Target::Short(&mut short)) };
        let mut widened = vec![0.0; 80];
        // SAFETY: as above.
        unsafe { widen(&short, &mut widened) };
        assert!(widened[..40].iter().all(|x| !x.is_finite()));
    }
}

#[test]
fn activations_are_those_of_libtorch() {
    if skipped() {
        return;
    }
    let tiles = Shapes::new();
    // One product by 1 of tokens that are themselves in 8 bits.
    let width = 16;
    let matrix = Matrix::new(
        &Tensor::ones([1, width], (Kind::Float, Device::Cpu)),
        &Tensor::zeros([1], (Kind::Float, Device::Cpu)),
    );
    let matrix = matrix.unwrap();
    for number in [-300.0f32, -20.0, -6.0, -3.1, -1.0, -0.3, -1e-3, 0.0, 1e-3, 0.4, 1.0, 2.9, 5.5, 30.0, 1e4]
    {
        let mut row = vec![0.0; width as usize];
        row[3] = number;
        let narrow = put_all(&row, width as usize);
        let input = Tensor::from_slice(&[f64::from(number)]);
        let of_torch = [
            (Curve::Silu, input.silu()),
            (Curve::Gelu, input.gelu("none")),
            (Curve::GeluTanh, input.gelu("tanh")),
        ];
        for (curve, expected) in of_torch {
            let (mut found, expected) = ([f32::NAN], expected.double_value(&[0]));
            // SAFETY: the processor has the instructions, as asked above.
            unsafe { multiply(tiles.as_ref(), &narrow, 1, &matrix, Target::Curved(&mut found, curve)) };
            let off = (f64::from(found[0]) - expected).abs();
            assert!(
                off < 3e-6 * (1.0 + expected.abs()),
                "{curve:?} of {number}: {} and not {expected}",
                found[0]
            );
        }
    }
}

#[test]
fn norms_are_those_of_libtorch() {
    if skipped() {
        return;
    }
    tch::manual_seed(8);
    for width in [1i64, 5, 16, 100, 768] {
        let (x, weight, bias) = (random(&[width]) * 4.0 + 7.0, random(&[width]), random(&[width]));
        let norm = Norm { weight: numbers(&weight), bias: numbers(&bias), eps: 1e-5 };
        let mut found = vec![f32::NAN; width as usize];
        // SAFETY: the processor has the instructions, as asked above.
        unsafe { norm.apply(&numbers(&x), &mut found) };
        let expected = x.layer_norm([width], Some(&weight), Some(&bias), 1e-5, true);
        let off = (Tensor::from_slice(&found) - expected).abs().max().double_value(&[]);
        assert!(off < 1e-5, "{width}: {off}");
    }
}

struct Plain {
    tensors: Vec<Tensor>,
    curve: Curve,
}

impl Plain {
    fn new(width: i64, inside: i64, curve: Curve) -> Plain {
        let shapes: [&[i64]; 13] = [
            &[width],
            &[width],
            &[width],
            &[width],
            &[3 * width, width],
            &[3 * width],
            &[width, width],
            &[width],
            &[inside, width],
            &[inside],
            &[width, inside],
            &[width],
            &[width],
        ];
        let tensors = shapes.iter().map(|shape| {
            let scale = if shape.len() == 2 { (shape[1] as f64).powf(-0.5) } else { 1.0 };
            random(shape) * scale
        });
        Plain { tensors: tensors.collect(), curve }
    }

    fn block(&self) -> anyhow::Result<Int8Block> {
        let t = &self.tensors;
        Int8Block::new(&Parts {
            ln_1: (&t[0], &t[1]),
            ln_2: (&t[2], &t[3]),
            eps: 1e-5,
            in_proj: (&t[4], &t[5]),
            out_proj: (&t[6], &t[7]),
            c_fc: (&t[8], &t[9]),
            c_proj: (&t[10], &t[11]),
            curve: self.curve,
            output_scale: &t[12],
        })
    }

    fn norm(&self, x: &Tensor, first: usize) -> Tensor {
        let (weight, bias) = (&self.tensors[first], &self.tensors[first + 1]);
        x.layer_norm(weight.size(), Some(weight), Some(bias), 1e-5, true)
    }

    fn linear(&self, x: &Tensor, first: usize) -> Tensor {
        x.linear(&self.tensors[first], Some(&self.tensors[first + 1]))
    }

    fn residual(&self, x: &Tensor, gathered: &Tensor) -> Tensor {
        let x = x + self.linear(gathered, 6);
        let hidden = self.linear(&self.norm(&x, 2), 8);
        let hidden = match self.curve {
            Curve::Silu => hidden.silu(),
            Curve::Gelu => hidden.gelu("none"),
            Curve::GeluTanh => hidden.gelu("tanh"),
        };
        x + self.linear(&hidden, 10) * &self.tensors[12]
    }
}

fn error(found: &Tensor, expected: &Tensor) -> f64 {
    let difference = (found.to_kind(Kind::Float) - expected).norm();
    (difference / expected.norm()).double_value(&[])
}

#[test]
fn a_block_in_8_bits_is_near_the_block_whatever_its_tokens_are_computed_with() {
    if skipped() {
        return;
    }
    tch::manual_seed(9);
    for (width, inside, curve) in [(48, 192, Curve::Silu), (36, 50, Curve::Gelu), (70, 281, Curve::GeluTanh)]
    {
        let plain = Plain::new(width, inside, curve);
        let block = plain.block().unwrap();
        let x = random(&[2, 61, width]);
        for kind in [Kind::Float, Kind::BFloat16] {
            let gathered = random(&[2, 61, width]).to_kind(kind);
            let joined = block.joined_qkv(&x, kind).unwrap();
            assert_eq!((joined.size(), joined.kind()), (vec![2, 61, 3 * width], kind));
            let off = error(&joined, &plain.linear(&plain.norm(&x, 0), 4));
            assert!(off < 0.02, "queries, keys and values of {width} are off by {off}");
            let sum = block.residual(&x, &gathered).unwrap();
            assert_eq!((sum.size(), sum.kind()), (x.size(), Kind::Float));
            let off = error(&sum, &plain.residual(&x, &gathered.to_kind(Kind::Float)));
            assert!(off < 0.02, "the sum of {width} is off by {off}");

            let some = Tensor::from_slice(&[0i64, 7, 8, 9, 60]);
            let of_some = |tensor: &Tensor| tensor.get(1).index_select(0, &some).unsqueeze(0);
            assert_eq!(block.joined_qkv(&of_some(&x), kind).unwrap(), of_some(&joined));
            assert_eq!(block.residual(&of_some(&x), &of_some(&gathered)).unwrap(), of_some(&sum));
        }
        let none = random(&[1, 0, width]);
        assert_eq!(block.residual(&none, &none).unwrap().size(), [1, 0, width]);
        assert!(block.residual(&x, &x.narrow(1, 0, 60)).is_err());
        assert!(block.joined_qkv(&random(&[1, 3, width + 1]), Kind::Float).is_err());
    }
}

#[test]
fn parts_that_do_not_fit_together_are_no_block() {
    if skipped() {
        return;
    }
    let mut plain = Plain::new(32, 64, Curve::Silu);
    plain.tensors[8] = random(&[64, 36]);
    assert!(plain.block().err().unwrap().to_string().contains("do not fit together"));
}
