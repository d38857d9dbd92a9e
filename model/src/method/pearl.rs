// SPDX-License-Identifier: MIT OR Apache-2.0
//! PEARL (CVPR 2026; PGSmall/PEARL): Procrustes alignment of the last block. In each head, the rotation that brings the
//! centred keys nearest to the centred queries is applied to the keys before queries attend to them; a little of key-key
//! attention is added. No residual connection, no MLP. The paper's other half is a refinement for every method (`refine=tlp`).
//!
//! The published code's switches: `polar=5` (steps of Newton and Schulz towards the rotation, or `svd` for the rotation
//! itself: five steps leave directions of small singular values damped, and the published numbers are with those),
//! `kk=0.08` (share of key-key scores). As published, keys are centred by the mean that the queries' lengths weigh, and the
//! first scores are of queries and keys that are not centred. All of it is in f32.

use anyhow::{Result, bail};
use tch::{Kind, Tensor};

use super::{Method, Options};
use crate::transformer::gather;
use crate::vision::{Trunk, VisionTower};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Polar {
    Steps(u32),
    Exact,
}

struct Pearl {
    polar: Polar,
    /// Share of key-key scores.
    keys: f64,
}

pub fn build(options: &mut Options, _: usize) -> Result<Box<dyn Method>> {
    let polar = match options.take("polar").as_deref() {
        None => Polar::Steps(5),
        Some("svd") => Polar::Exact,
        Some(typed) => match typed.parse() {
            Ok(steps @ 1..=100) => Polar::Steps(steps),
            _ => bail!("pearl option polar={typed} must be svd or a whole number in 1..100"),
        },
    };
    Ok(Box::new(Pearl { polar, keys: options.number("kk", 0.08, 0.0..=100.0)? }))
}

impl Method for Pearl {
    fn features(&self, tower: &VisionTower, trunk: &Trunk) -> Result<Tensor> {
        let [q, k] = [&trunk.qkv.q, &trunk.qkv.k].map(|x| x.f_to_kind(Kind::Float));
        let map = self.scores(&q?, &k?)?.f_softmax(-1, Kind::Float)?; // [N, H, L, L]
        let gathered = gather(&map, &trunk.qkv.v)?;
        tower.patch_features(&tower.last_block()?.attn.project(&gathered)?)
    }

    fn describe(&self) -> String {
        let polar = match self.polar {
            Polar::Steps(steps) => steps.to_string(),
            Polar::Exact => "svd".into(),
        };
        format!("pearl(polar={polar},kk={})", self.keys)
    }
}

impl Pearl {
    /// Two `[N, H, L, D / H] -> [N, H, L, L]`, f32.
    fn scores(&self, q: &Tensor, k: &Tensor) -> Result<Tensor> {
        let (_, _, _, head_width) = q.size4()?;
        let scale = (head_width as f64).powf(-0.5);
        let (q_centred, k_centred) = centre(q, k)?;
        let turn = self.polar_factor(&k_centred.f_transpose(2, 3)?.f_matmul(&q_centred)?)?; // [N, H, D / H, D / H]
        let turned = k.f_matmul(&turn)?.f_mul_scalar(scale)?;
        let scores = q.f_matmul(&turned.f_transpose(2, 3)?)?;
        let among_keys =
            k_centred.f_mul_scalar(self.keys * scale)?.f_matmul(&k_centred.f_transpose(2, 3)?)?;
        Ok(scores.f_add(&among_keys)?)
    }

    /// The orthogonal matrix nearest to each of `[..., d, d]`, or as near as the steps come.
    fn polar_factor(&self, m: &Tensor) -> Result<Tensor> {
        let steps = match self.polar {
            Polar::Steps(steps) => steps,
            Polar::Exact => {
                let (u, _, v) = m.f_svd(true, true)?;
                return Ok(u.f_matmul(&v.f_transpose(-2, -1)?)?);
            }
        };
        let side = m.size().last().copied().unwrap_or(1);
        let one = Tensor::f_eye(side, (Kind::Float, m.device()))?;
        let gram = m.f_transpose(-2, -1)?.f_matmul(m)?;
        let length = gram.f_norm_scalaropt_dim(2, [-2, -1], true)?.f_clamp_min(1e-6)?; // [..., 1, 1]
        let mut y = gram.f_div(&length)?.f_add(&one.f_mul_scalar(1e-6)?)?;
        let mut z = one.f_expand_as(&gram)?;
        for _ in 0..steps {
            let t = one.f_mul_scalar(3.0)?.f_sub(&z.f_matmul(&y)?)?.f_mul_scalar(0.5)?;
            (y, z) = (y.f_matmul(&t)?, t.f_matmul(&z)?);
        }
        Ok(m.f_matmul(&z)?.f_div(&length.f_sqrt()?)?)
    }
}

/// Queries and keys less their means over the patches, weighted by the queries' lengths: two `[N, H, L, D / H]`.
fn centre(q: &Tensor, k: &Tensor) -> Result<(Tensor, Tensor)> {
    let weights = q.f_norm_scalaropt_dim(2, [-1], true)?; // [N, H, L, 1]
    // The class token has no weight.
    let _ = weights.f_narrow(2, 0, 1)?.f_zero_()?;
    let sum = weights.f_sum_dim_intlist([2i64].as_slice(), true, Kind::Float)?.f_add_scalar(1e-6)?;
    let weights = weights.f_div(&sum)?;
    let less_mean = |x: &Tensor| -> Result<Tensor> {
        let mean = x.f_mul(&weights)?.f_sum_dim_intlist([2i64].as_slice(), true, Kind::Float)?;
        Ok(x.f_sub(&mean)?)
    };
    Ok((less_mean(q)?, less_mean(k)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::tests::oracle::Oracle;

    #[test]
    fn the_pieces_are_those_of_the_published_code() {
        let Some(oracle) = Oracle::find_second() else { return };
        let of = |key: &str| oracle.tensor("pearl", &format!("pa/{key}")).unsqueeze(0);
        let close = |what: &str, found: &Tensor, expected: &Tensor| {
            let size = expected.abs().max().double_value(&[]).max(1.0);
            let off = (found - expected).abs().max().double_value(&[]) / size;
            println!("{what}: {off:.1e}");
            assert!(off < 2e-5, "{what}: {off:e}");
        };
        let (q, k, v, m) = (of("q"), of("k"), of("v"), of("M"));
        let method = |steps| Pearl { polar: Polar::Steps(steps), keys: 0.08 };
        close("5 steps", &method(5).polar_factor(&m).unwrap(), &of("polar5"));
        close("20 steps", &method(20).polar_factor(&m).unwrap(), &of("polar20"));
        let map = method(5).scores(&q, &k).unwrap().softmax(-1, Kind::Float);
        close("attention", &map, &of("attn"));
        close("gathered", &map.matmul(&v), &of("out"));
    }

    #[test]
    fn a_rotation_is_found_and_nothing_gives_nothing() {
        let cpu = (Kind::Float, tch::Device::Cpu);
        let m = Tensor::eye(4, cpu).flip([0]) * 3.0;
        for polar in [Polar::Exact, Polar::Steps(20)] {
            let method = Pearl { polar, keys: 0.0 };
            let turn = method.polar_factor(&m).unwrap();
            assert!((turn - Tensor::eye(4, cpu).flip([0])).abs().max().double_value(&[]) < 1e-3);
            let zero = method.polar_factor(&m.zeros_like()).unwrap();
            assert!(bool::try_from(zero.isfinite().all()).unwrap());
        }
    }
}
