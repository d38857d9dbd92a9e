// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which blocks go into 8 bits: all before the last, but for those that lose too much of what the model sees.
//!
//! What is lost is measured as the model is loaded, on pictures that are built in, in f32: the mean cosine of the patch
//! features with those of the whole model in f32. Where all blocks in 8 bits together are too far off, the worst of them
//! stay out, as few as will do.

use std::sync::Arc;

use anyhow::{Context, Result};
use tch::{Kind, Tensor};

use super::cpu::Int8Block;
use super::method::Method;
use super::probe::built_in_picture;
use super::vision::VisionTower;

/// Least mean cosine of the patch features.
pub const LEAST_COSINE: f64 = 0.99;
/// Pictures that the answer is averaged over.
const PICTURES: i64 = 2;

/// Puts blocks of a tower in f32 into 8 bits, and brings all else into `kind`; the blocks in 8 bits, counted from 0.
///
/// # Errors
/// A weight is not finite, or this processor cannot multiply in 8 bits.
pub fn quantise(tower: &mut VisionTower, method: &dyn Method, kind: Kind, least: f64) -> Result<Vec<usize>> {
    let pictures = (0..PICTURES).map(|index| built_in_picture(tower, index)).collect::<Result<Vec<_>>>()?;
    let exact = features(tower, method, &pictures)?;
    let before_last = tower.blocks.iter().take(tower.blocks.len().saturating_sub(1));
    let int8 = before_last.enumerate().map(|(index, block)| {
        let block = block.to_int8().with_context(|| format!("block {index} of the image tower"))?;
        Ok(Candidate { index, block: Arc::new(block) })
    });
    let mut candidates = int8.collect::<Result<Vec<_>>>()?;
    let bears = |tower: &mut VisionTower, candidates: &[Candidate]| -> Result<bool> {
        put(tower, candidates);
        Ok(likeness(&features(tower, method, &pictures)?, &exact)? >= least)
    };
    if !bears(tower, &candidates)? {
        best_first(tower, &pictures, &mut candidates)?;
        let (mut borne, mut too_many) = (0, candidates.len());
        while borne + 1 < too_many {
            let middle = (borne + too_many) / 2;
            let half = if bears(tower, &candidates[..middle])? { &mut borne } else { &mut too_many };
            *half = middle;
        }
        candidates.truncate(borne);
        candidates.sort_by_key(|candidate| candidate.index);
    }
    put(tower, &candidates);
    tower.convert(kind)?;
    Ok(candidates.iter().map(|candidate| candidate.index).collect())
}

/// A block in 8 bits.
struct Candidate {
    index: usize,
    block: Arc<Int8Block>,
}

/// Takes these blocks in 8 bits, and all others not.
fn put(tower: &mut VisionTower, candidates: &[Candidate]) {
    tower.blocks.iter_mut().for_each(|block| block.int8 = None);
    for Candidate { index, block } in candidates {
        if let Some(place) = tower.blocks.get_mut(*index) {
            place.int8 = Some(block.clone());
        }
    }
}

/// Patch features of pictures `[1, 3, H, W]`, with the method's last block: `[pictures h w, E]`.
fn features(tower: &VisionTower, method: &dyn Method, pictures: &[Tensor]) -> Result<Tensor> {
    let features = pictures.iter().map(|picture| -> Result<Tensor> {
        let trunk = tower.trunk(picture, &method.wanted())?;
        Ok(method.features(tower, &trunk)?.f_flatten(0, 1)?)
    });
    Ok(Tensor::f_cat(&features.collect::<Result<Vec<_>>>()?, 0)?)
}

/// Mean cosine of rows of unit length: twice `[..., E]`. What is not a number is like nothing.
fn likeness(a: &Tensor, b: &Tensor) -> Result<f64> {
    let cosines = a.f_mul(b)?.f_sum_dim_intlist([-1i64].as_slice(), false, Kind::Float)?;
    let mean = cosines.f_mean(Kind::Float)?.f_double_value(&[])?;
    Ok(if mean.is_nan() { -1.0 } else { mean })
}

/// Sorts blocks by what each alone leaves of the features, as if it were the last, of what it gets in the exact model.
fn best_first(tower: &mut VisionTower, pictures: &[Tensor], candidates: &mut Vec<Candidate>) -> Result<()> {
    put(tower, &[]);
    let mut scored: Vec<(f64, Candidate)> = candidates.drain(..).map(|candidate| (0.0, candidate)).collect();
    for picture in pictures {
        let mut x = tower.embed(picture)?.x;
        for (score, Candidate { index, block }) in &mut scored {
            let exact = tower.blocks[*index].forward(&x, false)?;
            tower.blocks[*index].int8 = Some(block.clone());
            let found = tower.blocks[*index].forward(&x, false)?;
            *score += likeness(&tower.patch_features(&found)?, &tower.patch_features(&exact)?)?;
            tower.blocks[*index].int8 = None;
            x = exact;
        }
    }
    scored.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    candidates.extend(scored.into_iter().map(|(_, candidate)| candidate));
    Ok(())
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::cpu::int8_is_available;
    use crate::method::{self, MethodSpec};
    use crate::transformer::Loader;
    use crate::vision::Positions;
    use crate::weights::Checkpoint;

    fn tower(kind: Kind) -> VisionTower {
        let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/hugging_face");
        let mut checkpoint = Checkpoint::open(fixture).unwrap();
        let architecture = checkpoint.architecture;
        let weights = &mut checkpoint.weights;
        let mut loader = Loader { weights, device: Device::Cpu, kind, wide: false };
        VisionTower::load(&mut loader, &architecture, Positions::Plain).unwrap()
    }

    fn method(tower: &mut VisionTower) -> Box<dyn Method> {
        let mut method = method::build(&MethodSpec::default(), tower.blocks.len()).unwrap();
        method.prepare(tower).unwrap();
        method
    }

    fn skipped() -> bool {
        if !int8_is_available() {
            println!("skipped: no AVX512-VNNI here");
        }
        !int8_is_available()
    }

    #[test]
    fn blocks_that_are_all_refused_leave_the_model_as_it_is_without() {
        if skipped() {
            return;
        }
        for kind in [Kind::Float, Kind::BFloat16] {
            let (mut refused, mut plain) = (tower(Kind::Float), tower(kind));
            let (of_refused, of_plain) = (method(&mut refused), method(&mut plain));
            assert_eq!(quantise(&mut refused, &*of_refused, kind, 1.5).unwrap(), Vec::<usize>::new());
            plain.pack();
            refused.pack();
            let pictures = [built_in_picture(&plain, 3).unwrap()];
            let found = features(&refused, &*of_refused, &pictures).unwrap();
            let expected = features(&plain, &*of_plain, &pictures).unwrap();
            let off = (found - expected).abs().max().double_value(&[]);
            // Biases that a method has edited were rounded before in one and are after in the other.
            assert!(off < if kind == Kind::Float { 1e-6 } else { 1e-2 }, "{kind:?}: {off}");
        }
    }

    #[test]
    fn the_block_that_cannot_bear_it_stays_out() {
        if skipped() {
            return;
        }
        let mut whole = tower(Kind::Float);
        let of_whole = method(&mut whole);
        let before_last = whole.blocks.len() - 1;
        let all: Vec<usize> = (0..before_last).collect();
        assert_eq!(quantise(&mut whole, &*of_whole, Kind::Float, LEAST_COSINE).unwrap(), all);
        assert!(whole.blocks[..before_last].iter().all(|block| block.int8.is_some()));

        // The same function in f32, whose numbers are too far apart for 8 bits.
        let mut uneven = tower(Kind::Float);
        let of_uneven = method(&mut uneven);
        let pictures = [built_in_picture(&uneven, 3).unwrap()];
        let expected = features(&uneven, &*of_uneven, &pictures).unwrap();
        uneven.blocks[0].make_uneven(4096.0).unwrap();
        let same = features(&uneven, &*of_uneven, &pictures).unwrap();
        assert!((&same - &expected).abs().max().double_value(&[]) < 1e-4);
        let int8 = quantise(&mut uneven, &*of_uneven, Kind::Float, LEAST_COSINE).unwrap();
        assert_eq!(int8, all[1..]);
        assert!(uneven.blocks[0].int8.is_none());
        let found = features(&uneven, &*of_uneven, &pictures).unwrap();
        let likeness = likeness(&found, &expected).unwrap();
        assert!(likeness > LEAST_COSINE - 0.005, "{likeness}");
    }

    #[test]
    fn weights_that_are_not_finite_are_told_with_their_place() {
        if skipped() {
            return;
        }
        let mut tower = tower(Kind::Float);
        let method = method(&mut tower);
        tower.blocks[1].make_uneven(f64::INFINITY).unwrap();
        let error = quantise(&mut tower, &*method, Kind::BFloat16, LEAST_COSINE).unwrap_err();
        let text = format!("{error:#}");
        assert!(
            text.starts_with("block 1 of the image tower: c_fc: ") && text.contains("not finite"),
            "{text}"
        );
    }
}
