// SPDX-License-Identifier: MIT OR Apache-2.0
//! Against libtorch's own operators, in f32.

use tch::{Device, Kind, Tensor};

use super::{LaidOut, Packed, Then, attention, attention_is_available};

fn random(shape: &[i64], kind: Kind) -> Tensor {
    Tensor::randn(shape, (Kind::Float, Device::Cpu)).to_kind(kind)
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
    (a.to_kind(Kind::Float) - b.to_kind(Kind::Float)).abs().max().double_value(&[])
}

#[test]
fn attention_equals_that_in_f32() {
    tch::manual_seed(7);
    if !attention_is_available(&random(&[1, 1, 1, 64], Kind::BFloat16)) {
        println!("skipped: no AVX512-BF16 here");
        return;
    }
    // Widths of one panel and of five, lengths around the strips and the lanes, one picture and three.
    for (n, heads, tokens, width) in [
        (1, 1, 1, 64),
        (1, 2, 5, 16),
        (3, 2, 6, 64),
        (2, 3, 17, 32),
        (1, 4, 197, 80),
        (2, 2, 65, 48),
        (3, 12, 130, 64),
    ] {
        // Views into one tensor, as the towers have them. Four times as far apart as trained ones: sharp maps.
        let joined = random(&[n, tokens, 3, heads, width], Kind::BFloat16) * 2.0;
        let joined = joined.permute([2, 0, 3, 1, 4]);
        let [q, k, v] = [0, 1, 2].map(|part| joined.select(0, part));
        let [exact_q, exact_k, exact_v] = [&q, &k, &v].map(|tensor| tensor.to_kind(Kind::Float));
        let map =
            (exact_q.matmul(&exact_k.transpose(-2, -1)) * (width as f64).powf(-0.5)).softmax(-1, Kind::Float);
        let expected = map.matmul(&exact_v);

        let both = attention(&q, &k, Some(&v), true).unwrap();
        let gathered = both.gathered.unwrap();
        assert_eq!(gathered.size(), [n, heads, tokens, width]);
        // The weights are rounded to 8 bits, and so is the result.
        let error = largest_difference(&gathered, &expected) / expected.abs().max().double_value(&[]);
        assert!(error < 8e-3, "{n} {heads} {tokens} {width}: off by {error}");
        let mean = map.mean_dim([1i64].as_slice(), false, Kind::Float);
        let error = largest_difference(&both.mean_map.unwrap(), &mean);
        assert!(error < 2e-5, "{n} {heads} {tokens} {width}: map off by {error}");

        let alone = attention(&q, &k, Some(&v), false).unwrap();
        assert!(alone.mean_map.is_none());
        assert_eq!(largest_difference(&alone.gathered.unwrap(), &gathered), 0.0);
        let map_alone = attention(&q, &k, None, true).unwrap();
        assert!(map_alone.gathered.is_none());
        assert!(largest_difference(&map_alone.mean_map.unwrap(), &mean) < 2e-5);
    }
}

#[test]
fn scores_far_below_zero_do_not_vanish_behind_the_padding() {
    let q = Tensor::full([1, 1, 3, 64], 8.0, (Kind::BFloat16, Device::Cpu));
    if !attention_is_available(&q) {
        println!("skipped: no AVX512-BF16 here");
        return;
    }
    // Every score is -512: with the padding's zeros among them, all weights would be nothing.
    let v = random(&[1, 1, 3, 64], Kind::BFloat16);
    let gathered = attention(&q, &q.neg(), Some(&v), false).unwrap().gathered.unwrap();
    let expected = v.to_kind(Kind::Float).mean_dim([2i64].as_slice(), true, Kind::Float).expand_as(&gathered);
    assert!(largest_difference(&gathered, &expected) < 2e-2);
}

#[test]
fn shapes_that_do_not_fit_are_an_error() {
    let q = random(&[1, 2, 9, 64], Kind::BFloat16);
    if attention_is_available(&q) {
        assert!(attention(&q, &q.narrow(2, 0, 8), Some(&q), false).is_err());
        assert!(attention(&q.narrow(1, 0, 1), &q, Some(&q), false).is_err());
        assert!(attention(&q, &q.transpose(2, 3), Some(&q), false).is_err());
    }
    assert!(!attention_is_available(&q.to_kind(Kind::Float)));
    assert!(!attention_is_available(&random(&[1, 2, 9, 20], Kind::BFloat16)));
}

#[test]
fn laid_out_keys_give_the_same_attention_and_take_changes_token_by_token() {
    tch::manual_seed(8);
    if !attention_is_available(&random(&[1, 1, 1, 64], Kind::BFloat16)) {
        println!("skipped: no AVX512-BF16 here");
        return;
    }
    for (heads, tokens, width) in [(1, 1, 16), (2, 17, 32), (3, 130, 64)] {
        let parts = || random(&[1, heads, tokens, width], Kind::BFloat16);
        let (q, k, v) = (parts(), parts(), parts());
        let mut laid_out = LaidOut::new(heads as usize, tokens as usize, width as usize);
        laid_out.put(&(0..tokens).collect::<Vec<_>>(), &k, &v).unwrap();
        let expected = attention(&q, &k, Some(&v), true).unwrap();
        let found = laid_out.attend(&q, true).unwrap();
        assert_eq!(found.gathered.unwrap(), expected.gathered.unwrap());
        assert_eq!(found.mean_map.unwrap(), expected.mean_map.unwrap());
        // Odd and even tokens, and the last; then fewer queries than keys.
        let rows: Vec<i64> = (0..tokens).filter(|row| row % 5 < 2 || *row == tokens - 1).collect();
        let index = Tensor::from_slice(&rows);
        let (new_k, new_v) = (parts().index_select(2, &index), parts().index_select(2, &index));
        laid_out.put(&rows, &new_k, &new_v).unwrap();
        let (k, v) = (k.index_copy(2, &index, &new_k), v.index_copy(2, &index, &new_v));
        let whole = attention(&q, &k, Some(&v), true).unwrap();
        let some = laid_out.attend(&q.index_select(2, &index), true).unwrap();
        assert_eq!(some.gathered.unwrap(), whole.gathered.unwrap().index_select(2, &index));
        assert_eq!(some.mean_map.unwrap(), whole.mean_map.unwrap().index_select(1, &index));
        assert!(laid_out.put(&[tokens], &k.narrow(2, 0, 1), &v.narrow(2, 0, 1)).is_err());
        assert!(laid_out.put(&[0], &k.narrow(3, 0, 8), &v.narrow(3, 0, 8)).is_err());
        assert!(laid_out.attend(&q.to_kind(Kind::Float), false).is_err());
    }
}

#[test]
fn packed_weights_give_the_same_product() {
    tch::manual_seed(7);
    for (kind, tolerance) in [(Kind::Float, 1e-5), (Kind::BFloat16, 1e-2)] {
        let (weight, bias) = (random(&[48, 64], kind), random(&[48], kind));
        let Some(packed) = Packed::new(&weight) else {
            println!("skipped: no packed weights in {kind:?} here");
            continue;
        };
        for shape in [vec![1, 64], vec![2, 7, 64]] {
            let x = random(&shape, kind);
            let [exact_x, exact_weight, exact_bias] = [&x, &weight, &bias].map(|t| t.to_kind(Kind::Float));
            let exact = exact_x.linear(&exact_weight, Some(&exact_bias));
            for (then, expected) in [(Then::Nothing, exact.shallow_clone()), (Then::Silu, exact.silu())] {
                let product = packed.linear(&x, &bias, then).unwrap();
                assert_eq!((product.size(), product.kind()), (expected.size(), kind));
                let error = largest_difference(&product, &expected) / expected.abs().max().double_value(&[]);
                assert!(error < tolerance, "{kind:?} {shape:?} {then:?}: off by {error}");
            }
        }
        assert!(packed.linear(&random(&[2, 63], kind), &bias, Then::Nothing).is_err());
    }
}

#[test]
fn attention_and_libtorchs_products_on_the_same_threads_do_not_disturb_each_other() {
    tch::manual_seed(11);
    let q = random(&[2, 4, 200, 64], Kind::BFloat16);
    let x = random(&[400, 256], Kind::BFloat16);
    let (weight, bias) = (random(&[192, 256], Kind::BFloat16), random(&[192], Kind::BFloat16));
    let Some(packed) = Packed::new(&weight).filter(|_| attention_is_available(&q)) else {
        println!("skipped: no AVX512-BF16 here");
        return;
    };
    let both = || {
        let gathered = attention(&q, &q, Some(&q), true).unwrap().gathered.unwrap();
        (gathered, packed.linear(&x, &bias, Then::Silu).unwrap())
    };
    let first = both();
    for round in 0..200 {
        assert_eq!(both(), first, "round {round}");
    }
}
