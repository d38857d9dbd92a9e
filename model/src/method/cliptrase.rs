// SPDX-License-Identifier: MIT OR Apache-2.0
//! CLIPtrase (Shao et al., ECCV 2024, arXiv 2407.08268; leaves162/CLIPtrase): the sum of query-query, key-key and
//! value-value attention in the last block, whose residual connection and MLP stay. Patches are then clustered by
//! how alike they are in the block before, and each cluster's region takes the class that most of its pixels have.
//!
//! Switches: `denoise=clusters|none`; `eps=0.7,min=3` of DBSCAN, as published for 224 pixels (for 336: `eps=1.1,min=7`);
//! `class=ignore|weigh` (weigh: cosines are multiplied by those of the class token, as published for VOC20).
//! With `denoise=clusters` logits have the size of the input: where a region outvotes a pixel, the logits of the two
//! queries change places.

use anyhow::{Context, Result, bail};
use tch::{Kind, Tensor};

use super::cluster::{dbscan, median_filter, vote};
use super::{Method, Options, cosines};
use crate::options::word;
use crate::transformer::{Qkv, attention_map, gather, unit_rows};
use crate::vision::{Trunk, VisionTower, Wanted};

const DENOISE: [(&str, bool); 2] = [("clusters", true), ("none", false)];
const CLASS: [(&str, bool); 2] = [("ignore", false), ("weigh", true)];
/// Cluster maps are smoothed at this many values a patch side, by a median over squares of that side.
const SMOOTHING: i64 = 4;
const MEDIAN: usize = 7;
/// What CLIP multiplies cosines by.
const SCALE: f64 = 100.0;
/// Logits of a picture's size are held whole: 1 GiB.
const MOST_VALUES: i64 = 1 << 28;

struct ClipTrase {
    /// The block before the last.
    block: usize,
    denoise: bool,
    eps: f64,
    min: usize,
    weigh: bool,
}

pub fn build(options: &mut Options, depth: usize) -> Result<Box<dyn Method>> {
    let Some(block) = depth.checked_sub(2) else { bail!("cliptrase needs a tower of two blocks or more") };
    Ok(Box::new(ClipTrase {
        block,
        denoise: options.choice("denoise", &DENOISE)?,
        eps: options.number("eps", 0.7, 0.0..=1e4)?,
        min: options.number("min", 3.0, 1.0..=1e6)?.round() as usize,
        weigh: options.choice("class", &CLASS)?,
    }))
}

impl Method for ClipTrase {
    fn wanted(&self) -> Wanted {
        Wanted { qkv: if self.denoise { vec![self.block] } else { Vec::new() }, ..Wanted::default() }
    }

    fn features(&self, tower: &VisionTower, trunk: &Trunk) -> Result<Tensor> {
        tower.patch_features(&last_block(tower, &trunk.x, &trunk.qkv)?)
    }

    fn compares_patches(&self) -> bool {
        false
    }

    fn logits(
        &self,
        tower: &VisionTower,
        trunk: &Trunk,
        features: &Tensor,
        n: i64,
        queries: &Tensor,
    ) -> Result<Tensor> {
        let mut logits = cosines(&features.f_select(0, n)?, queries, trunk.grid)?; // [Q, h, w]
        if self.weigh {
            let qkv = picture(&trunk.qkv, n)?;
            let tokens = last_block(tower, &trunk.x.f_narrow(0, n, 1)?, &qkv)?; // [1, L, D]
            let class = unit_rows(&tower.project(&tokens.f_select(1, 0)?)?)?; // [1, E]
            let weights = queries.f_matmul(&class.f_transpose(0, 1)?)?.f_unsqueeze(2)?; // [Q, 1, 1]
            logits = logits.f_mul(&weights)?.f_mul_scalar(SCALE)?;
        }
        if self.denoise {
            let before = trunk.earlier_qkv.get(&self.block).context("the tower kept no queries and keys")?;
            let affinity = affinity(&picture(before, n)?)?; // [h w, h w]
            let (_, _, height, width) = trunk.input.size4()?;
            if logits.size()[0] * height * width > MOST_VALUES {
                bail!(
                    "cliptrase cannot denoise {} queries in {width}x{height} pixels: look at a smaller size or with denoise=none",
                    logits.size()[0]
                );
            }
            if let Some(maps) = self.cluster_maps(&affinity, trunk.grid)? {
                logits = decided_by_region(&logits, &maps, [height, width])?; // [Q, H, W]
            }
        }
        Ok(logits)
    }

    fn describe(&self) -> String {
        let (denoise, class) = (word(&DENOISE, self.denoise), word(&CLASS, self.weigh));
        format!("cliptrase(denoise={denoise},eps={},min={},class={class})", self.eps, self.min)
    }
}

/// `[N, L, D] -> [N, L, D]`, with self-correlation attention.
fn last_block(tower: &VisionTower, x: &Tensor, Qkv { q, k, v }: &Qkv) -> Result<Tensor> {
    let map = attention_map(q, q)?.f_add(&attention_map(k, k)?)?.f_add(&attention_map(v, v)?)?; // [N, H, L, L]
    tower.last_block()?.residual(x, &gather(&map, v)?)
}

/// Picture `n` of a batch, as a batch of one.
fn picture(Qkv { q, k, v }: &Qkv, n: i64) -> Result<Qkv> {
    Ok(Qkv { q: q.f_narrow(0, n, 1)?, k: k.f_narrow(0, n, 1)?, v: v.f_narrow(0, n, 1)? })
}

/// How much more alike two patches are than the class token is to the second: the mean cosine of queries, keys and
/// values over the heads. f32 `[h w, h w]`, for one picture.
fn affinity(Qkv { q, k, v }: &Qkv) -> Result<Tensor> {
    let likeness = |x: &Tensor| -> Result<Tensor> {
        let x = unit_rows(x)?;
        let map = x.f_matmul(&x.f_transpose(-2, -1)?)?; // [1, H, L, L]
        Ok(map.f_mean_dim([0i64, 1].as_slice(), false, Kind::Float)?) // [L, L]
    };
    let map = likeness(q)?.f_add(&likeness(k)?)?.f_add(&likeness(v)?)?.f_div_scalar(3.0)?;
    let patches = map.size()[0] - 1;
    let to_patches = map.f_narrow(1, 1, patches)?; // [L, h w]
    let (class, patches) = (to_patches.f_narrow(0, 0, 1)?, to_patches.f_narrow(0, 1, patches)?);
    Ok(patches.f_sub(&class)?.f_relu()?)
}

impl ClipTrase {
    fn clusters(&self, affinity: &Tensor) -> Result<Vec<Option<usize>>> {
        // Products instead of differences are quick; in f64 they do not cancel.
        let rows = affinity.f_to_kind(Kind::Double)?;
        let near = Tensor::f_cdist(&rows, &rows, 2.0, 1)?.f_le(self.eps)?; // [h w, h w]
        let _ = near.f_diagonal(0, 0, 1)?.f_fill_(1.0)?;
        Ok(dbscan(&values::<bool>(&near)?, affinity.size()[0] as usize, self.min))
    }

    /// Where each cluster's affinity goes, smoothed: f32 `[clusters, 4 h, 4 w]`; `None` if all patches are noise.
    fn cluster_maps(&self, affinity: &Tensor, (h, w): (i64, i64)) -> Result<Option<Tensor>> {
        let members = self.clusters(affinity)?;
        let Some(last) = members.iter().copied().flatten().max() else { return Ok(None) };
        let maps = (0..=last).map(|cluster| -> Result<Tensor> {
            let own = (0i64..).zip(&members).filter(|(_, member)| **member == Some(cluster));
            let own = Tensor::f_from_slice(&own.map(|(patch, _)| patch).collect::<Vec<_>>())?;
            let rows = affinity.f_index_select(0, &own.f_to_device(affinity.device())?)?;
            Ok(rows.f_mean_dim([0i64].as_slice(), false, Kind::Float)?) // [h w]
        });
        let maps = Tensor::f_stack(&maps.collect::<Result<Vec<_>>>()?, 0)?.f_reshape([1, -1, h, w])?;
        let (height, width) = (SMOOTHING * h, SMOOTHING * w);
        let maps = maps.f_upsample_bilinear2d([height, width], false, None, None)?; // [1, clusters, 4 h, 4 w]
        let (height, width) = (height as usize, width as usize);
        let smooth: Vec<f32> = values::<f32>(&maps)?
            .chunks_exact(height * width)
            .flat_map(|map| median_filter(map, height, width, MEDIAN))
            .collect();
        let maps = Tensor::f_from_slice(&smooth)?.f_reshape(&maps.size()[1..])?;
        Ok(Some(maps.f_to_device(affinity.device())?))
    }
}

/// Logits at the size of the picture, `[Q, h, w] -> [Q, H, W]`, in which each cluster's region has one winner.
fn decided_by_region(logits: &Tensor, maps: &Tensor, size: [i64; 2]) -> Result<Tensor> {
    let full =
        |x: &Tensor| x.f_unsqueeze(0)?.f_upsample_bilinear2d(size, false, None, None)?.f_squeeze_dim(0);
    let mut logits = full(logits)?; // [Q, H, W]
    let regions = full(maps)?.f_argmax(0, false)?; // [H, W]
    let best = logits.f_argmax(0, true)?; // [1, H, W]
    let voted = vote(&values::<i64>(&best)?, &values::<i64>(&regions)?);
    let voted = Tensor::f_from_slice(&voted)?.f_reshape(best.size())?.f_to_device(logits.device())?;
    let (highest, other) = (logits.f_gather(0, &best, false)?, logits.f_gather(0, &voted, false)?);
    let _ = logits.f_scatter_(0, &best, &other)?;
    let _ = logits.f_scatter_(0, &voted, &highest)?;
    Ok(logits)
}

fn values<T: tch::kind::Element + Copy + Default>(tensor: &Tensor) -> Result<Vec<T>> {
    let mut values = vec![T::default(); tensor.numel()];
    tensor.f_contiguous()?.f_copy_data(&mut values, tensor.numel())?;
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::tests::oracle::Oracle;
    use crate::vision::Positions;

    #[test]
    fn affinity_and_clusters_are_those_of_the_published_code() {
        let Some(oracle) = Oracle::find() else { return };
        let tower = oracle.tower(Positions::Scale);
        for picture in ["img0", "img1"] {
            let wanted = Wanted { qkv: vec![10], ..Wanted::default() };
            let trunk = tower.trunk(&oracle.input(picture), &wanted).unwrap();
            let affinity = affinity(&trunk.earlier_qkv[&10]).unwrap();
            let key = |part: &str| format!("cliptrase/{picture}/{part}");
            let expected = oracle.tensor("cliptrase", &key("denoised_affinity_rows_every8"));
            let found = affinity.slice(0, 0, None, 8);
            let difference = (found - expected).abs().max().double_value(&[]);
            println!("{picture}: {difference:.1e}");
            assert!(difference < 2e-5, "{picture}: {difference:e}");
            for (eps, min) in [(0.7, 3), (1.1, 7)] {
                let method = ClipTrase { block: 10, denoise: true, eps, min, weigh: false };
                let clusters = method.clusters(&affinity).unwrap();
                let labels: Vec<i64> =
                    clusters.iter().map(|cluster| cluster.map_or(-1, |cluster| cluster as i64)).collect();
                let expected = oracle.tensor("cliptrase", &key(&format!("dbscan_labels_eps{eps}_min{min}")));
                let expected = expected.to_kind(Kind::Int64).flatten(0, -1);
                assert_eq!(labels, Vec::<i64>::try_from(expected).unwrap(), "{picture} {eps}");
            }
        }
    }

    #[test]
    fn the_outvoted_query_and_the_winner_change_places() {
        // Two queries in a row of three patches, all in one region: the second wins two of them.
        let logits = Tensor::from_slice(&[0.9f32, 0.1, 0.2, 0.3, 0.5, 0.6]).reshape([2, 1, 3]);
        let maps = Tensor::from_slice(&[1f32, 1.0, 1.0]).reshape([1, 1, 3]);
        let decided: Vec<f32> =
            Vec::try_from(decided_by_region(&logits, &maps, [1, 3]).unwrap().flatten(0, -1)).unwrap();
        assert_eq!(decided, [0.3, 0.1, 0.2, 0.9, 0.5, 0.6]);
    }
}
