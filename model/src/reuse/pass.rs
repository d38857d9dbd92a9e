// SPDX-License-Identifier: MIT OR Apache-2.0
//! One pass of the tower over the tokens of several pictures that have changed: all of them in one matrix a product,
//! attention picture by picture.
//!
//! Shapes: P pictures of L tokens, D width; R rows in all, those of the pictures one after the other.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result};
use tch::{Kind, Tensor};

use super::keys::Keys;
use super::rows::{Rows, bytes, padded};
use crate::cpu::differing_patches;
use crate::method::Method;
use crate::transformer::Block;
use crate::vision::{Trunk, VisionTower, Wanted};

/// What a picture leaves behind in the tower.
#[derive(Default)]
pub struct State {
    /// Of the blocks before the last.
    blocks: Vec<BlockState>,
    /// Input of the last block, `[L, D]`: also its reference.
    x: Option<Tensor>,
    /// Queries, keys and values of the last block, `[L, 3 D]`.
    qkv: Option<Tensor>,
    kept: Kept,
    /// The normalised picture, `[3, H, W]`.
    input: Option<Tensor>,
    /// What the method's last block gave, `[h w, E]`, where it goes by rows.
    features: Option<Tensor>,
}

#[derive(Default)]
struct BlockState {
    /// The input that each token was last worked on with, `[L, D]`.
    reference: Option<Tensor>,
    keys: Option<Keys>,
}

/// What the method wants of earlier blocks, by block.
#[derive(Default)]
struct Kept {
    /// `[L, L]`
    mean_maps: BTreeMap<usize, Option<Tensor>>,
    /// `[H, L, L]`
    head_maps: BTreeMap<usize, Option<Tensor>>,
    /// `[L, D]`
    outputs: BTreeMap<usize, Option<Tensor>>,
    /// `[L, 3 D]`
    qkv: BTreeMap<usize, Option<Tensor>>,
}

impl State {
    /// Memory that it takes.
    pub fn bytes(&self) -> usize {
        let of = |tensor: &Option<Tensor>| tensor.as_ref().map_or(0, bytes);
        let blocks = self.blocks.iter();
        let blocks: usize =
            blocks.map(|block| of(&block.reference) + block.keys.as_ref().map_or(0, Keys::bytes)).sum();
        let Kept { mean_maps, head_maps, outputs, qkv } = &self.kept;
        let kept = [mean_maps, head_maps, outputs, qkv];
        let own = [&self.x, &self.qkv, &self.input, &self.features].map(of).iter().sum::<usize>();
        blocks + own + kept.iter().flat_map(|of| of.values()).map(of).sum::<usize>()
    }
}

/// A picture in the pass.
pub struct Seen<'a> {
    pub state: &'a mut State,
    /// A token is worked on when its input differs by more than this share of the reference's length.
    pub threshold: f64,
    /// Share of the tokens above which all of them are worked on.
    pub cut: f64,
    /// Whether every token is worked on, whatever it was.
    pub whole: bool,
    /// Tokens worked on, summed over the blocks.
    pub worked: usize,
    rows: Rows,
}

impl<'a> Seen<'a> {
    pub fn new(state: &'a mut State, threshold: f64, cut: f64, whole: bool) -> Result<Seen<'a>> {
        let rows = Rows::new(Vec::new(), 0, tch::Device::Cpu)?;
        Ok(Seen { state, threshold, cut, whole, worked: 0, rows })
    }
}

/// What of several pictures a pass begins with.
pub struct Changes {
    /// Input of the first block, `[R, D]`.
    x: Tensor,
    grid: (i64, i64),
}

impl Changes {
    /// The tokens whose pixels are not what they were, of pictures `[P, 3, H, W]`.
    pub fn find(tower: &VisionTower, input: &Tensor, pictures: &mut [Seen]) -> Result<Changes> {
        let grid = tower.grid(input)?;
        Ok(Changes { x: embed(tower, input, pictures, tokens_of(tower, grid))?, grid })
    }

    /// Whether a block's products are so small that threads gain less by sharing them than it takes to wake one.
    pub fn are_few(&self) -> bool {
        let [rows, width] = self.x.size()[..] else { return false };
        rows * width * width <= FEW
    }
}

/// `R D^2`. On two cores a whole picture of the demo model at 592x336 (1.7 times this) gains by the second, and what has changed in
/// eight streams of it together (half of this) does not.
const FEW: i64 = 1 << 24;

/// Of one picture.
fn tokens_of(tower: &VisionTower, grid: (i64, i64)) -> usize {
    (tower.config.lead + grid.0 * grid.1) as usize
}

/// Runs the tower over the changes of pictures `[P, 3, H, W]` and gives what the method wants of each, as
/// [`VisionTower::trunk`] does of all.
pub fn pass(
    tower: &VisionTower,
    wanted: &Wanted,
    input: &Tensor,
    Changes { mut x, grid }: Changes,
    pictures: &mut [Seen],
) -> Result<Vec<Trunk>> {
    let tokens = tokens_of(tower, grid);
    let last = tower.blocks.len() - 1;
    for picture in pictures.iter_mut() {
        picture.state.blocks.resize_with(last, BlockState::default);
    }
    for (index, block) in tower.blocks.iter().enumerate() {
        x = changed(&x, pictures, index, (tokens, tower.config.lead as usize))?;
        let rows: usize = pictures.iter().map(|picture| picture.rows.len()).sum();
        if rows == 0 {
            break;
        }
        let mut first = 0;
        for picture in pictures.iter_mut().filter(|picture| !picture.rows.is_empty()) {
            let own = x.f_narrow(0, first, picture.rows.len() as i64)?;
            let state = &mut picture.state;
            let own = if index < last { own.f_to_kind(tower.kind)? } else { own };
            let slot = state.blocks.get_mut(index).map_or(&mut state.x, |block| &mut block.reference);
            picture.rows.put(slot, 0, &own)?;
            picture.worked += picture.rows.len();
            first += picture.rows.len() as i64;
        }
        let batch = x.f_unsqueeze(0)?; // [1, R, D]
        let joined = block.joined_qkv(&batch)?; // [1, R, 3 D]
        if index == last {
            put_each(pictures, &joined, |state| &mut state.qkv)?;
            break;
        }
        if wanted.qkv.contains(&index) {
            put_each(pictures, &joined, |state| state.kept.qkv.entry(index).or_default())?;
        }
        let gathered = gather(block, &joined, pictures, index, wanted, tokens)?; // [1, H, R, D / H]
        x = block.residual(&batch, &gathered)?.f_squeeze_dim(0)?;
        if wanted.outputs.contains(&index) {
            let outputs = x.f_unsqueeze(0)?;
            put_each(pictures, &outputs, |state| state.kept.outputs.entry(index).or_default())?;
        }
    }
    let pictures = (0..).zip(pictures.iter());
    pictures.map(|(n, picture)| trunk(tower, &input.f_narrow(0, n, 1)?, grid, picture)).collect()
}

/// What the method's last block gives for a picture that went through [`pass`], `[1, h w, E]`: for the tokens that the pass
/// worked on in the last block, where the method can; else for all.
pub fn features(
    tower: &VisionTower,
    method: &dyn Method,
    trunk: &Trunk,
    picture: &mut Seen,
) -> Result<Tensor> {
    let (state, rows) = (&mut *picture.state, &picture.rows);
    if let Some(kept) = state.features.as_mut().filter(|_| !picture.whole) {
        let lead = tower.config.lead;
        let patches = rows.len() as i64 - lead;
        if patches > 0 {
            let rows = rows.index().f_narrow(0, lead, patches)?; // without the tokens before the patches
            let found = method.features_of(tower, trunk, &rows)?;
            let found = found.context("a method's last block goes by rows no more")?;
            let _ = kept.f_index_copy_(0, &rows.f_sub_scalar(lead)?, &found)?;
        }
        return Ok(kept.f_unsqueeze(0)?);
    }
    let features = method.features(tower, trunk)?;
    let none = rows.index().f_narrow(0, 0, 0)?;
    let by_rows = method.features_of(tower, trunk, &none)?.is_some();
    state.features = if by_rows { Some(features.f_select(0, 0)?.f_detach_copy()?) } else { None };
    Ok(features)
}

/// The tokens whose pixels are not what they were, those before the patches with them: their input of the first block, `[R, D]`.
fn embed(tower: &VisionTower, input: &Tensor, pictures: &mut [Seen], tokens: usize) -> Result<Tensor> {
    let device = tower.device();
    let mut parts = Vec::with_capacity(pictures.len());
    for (n, picture) in (0..).zip(pictures.iter_mut()) {
        let own = input.f_select(0, n)?; // [3, H, W]
        let list = match picture.state.input.as_ref().filter(|_| !picture.whole) {
            None => (0..tokens as i64).collect(),
            Some(before) => moved_patches(&own, before, tower.config.patch_size, tower.config.lead)?,
        };
        let whole = list.len() as f64 > picture.cut * tokens as f64;
        parts.push(match list.len() {
            0 => None,
            _ if whole => Some(tower.embed(&own.f_unsqueeze(0)?)?.x.f_select(0, 0)?),
            _ => Some(tower.embed_rows(&own, Rows::new(list.clone(), tokens, device)?.index())?),
        });
        let list = if whole { (0..tokens as i64).collect() } else { list };
        picture.rows = Rows::new(list, tokens, device)?;
        if !picture.rows.is_empty() {
            picture.state.input = Some(own.f_detach_copy()?);
        }
    }
    let parts: Vec<Tensor> = parts.into_iter().flatten().collect();
    match &parts[..] {
        [] => Ok(input.f_new_zeros([0, 1], (Kind::Float, device))?),
        [only] => Ok(only.shallow_clone()),
        _ => Ok(Tensor::f_cat(&parts, 0)?),
    }
}

/// Tokens of patches with a pixel that differs between two pictures `[3, H, W]`, and the `lead` before the patches if there are any.
fn moved_patches(now: &Tensor, before: &Tensor, patch: i64, lead: i64) -> Result<Vec<i64>> {
    let flags = match differing_patches(now, before, patch as usize) {
        Some(flags) => flags,
        None => {
            let differs = now.f_ne_tensor(before)?.f_any_dim(0, false)?; // [H, W]
            let (height, width) = differs.size2()?;
            let patches = differs.f_view([height / patch, patch, width / patch, patch])?;
            let patches = patches.f_any_dim(3, false)?.f_any_dim(1, false)?; // [h, w]
            Vec::<bool>::try_from(patches.f_flatten(0, -1)?.f_to_device(tch::Device::Cpu)?)?
        }
    };
    let moved = (lead..).zip(flags).filter(|(_, moved)| *moved).map(|(token, _)| token);
    let mut list: Vec<i64> = (0..lead).chain(moved).collect();
    if list.len() as i64 == lead {
        list.clear();
    }
    Ok(list)
}

/// Chooses the tokens that a block works on, and their rows of `x`: `[R, D] -> [R', D]`, filled up to a number of rows
/// that kernels are prepared for.
///
/// Only tokens that the block before worked on can have changed. The `lead` before the patches, whose first input never changes,
/// go with any other.
fn changed(
    x: &Tensor,
    pictures: &mut [Seen],
    index: usize,
    (tokens, lead): (usize, usize),
) -> Result<Tensor> {
    let device = x.device();
    let mut positions: Vec<i64> = Vec::new();
    let moved = moved(x, pictures, index)?;
    let (mut first, mut flags) = (0i64, moved.into_iter());
    for picture in pictures.iter_mut() {
        let count = picture.rows.len();
        let mut keep: Vec<bool> = match picture.whole {
            true => vec![true; count],
            false => flags.by_ref().take(count).collect(),
        };
        let mut kept = keep.iter().filter(|keep| **keep).count();
        if index == 0 && count == tokens && kept as f64 > picture.cut * tokens as f64 {
            picture.whole = true;
            keep.fill(true);
            kept = count;
        }
        if kept > 0 {
            keep.iter_mut().take(lead).for_each(|keep| *keep = true);
        }
        let list = picture.rows.list().iter().zip(&keep);
        let list: Vec<i64> = list.filter(|(_, keep)| **keep).map(|(&row, _)| row).collect();
        positions.extend((first..).zip(&keep).filter(|(_, keep)| **keep).map(|(position, _)| position));
        if list.len() < count {
            picture.rows = Rows::new(list, tokens, device)?;
        }
        first += count as i64;
    }
    let rows = positions.len();
    if rows == first as usize && rows as i64 == x.size()[0] {
        return Ok(x.shallow_clone());
    }
    if let Some(&last) = positions.last() {
        positions.resize(padded(rows), last);
    }
    Ok(x.f_index_select(0, &Tensor::f_from_slice(&positions)?.f_to_device(device)?)?)
}

/// Which rows of the pictures that are not seen as a whole differ from their reference by more than the threshold.
fn moved(x: &Tensor, pictures: &[Seen], index: usize) -> Result<Vec<bool>> {
    let (mut rows, mut references, mut thresholds) = (Vec::new(), Vec::new(), Vec::new());
    let mut first = 0;
    for picture in pictures {
        let count = picture.rows.len() as i64;
        if !picture.whole && count > 0 {
            let state = &picture.state;
            let reference = state.blocks.get(index).map_or(&state.x, |block| &block.reference);
            let reference = reference.as_ref().context("a picture without a reference")?;
            references.push(reference.f_index_select(0, picture.rows.index())?);
            rows.push(x.f_narrow(0, first, count)?);
            // What reaches the last block is near the cosines, and few rows: every change is taken over.
            let threshold = if index < state.blocks.len() { picture.threshold } else { 0.0 };
            thresholds.extend(std::iter::repeat_n(threshold as f32, count as usize));
        }
        first += count;
    }
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let reference = Tensor::f_cat(&references, 0)?.f_to_kind(Kind::Float)?;
    let length = |x: &Tensor| x.f_norm_scalaropt_dim(2, [-1], false);
    let difference = length(&Tensor::f_cat(&rows, 0)?.f_sub(&reference)?)?;
    let limit = length(&reference)?.f_mul(&Tensor::f_from_slice(&thresholds)?.f_to_device(x.device())?)?;
    Ok(Vec::<bool>::try_from(difference.f_gt_tensor(&limit)?.f_to_device(tch::Device::Cpu)?)?)
}

/// Attention of every picture's own queries with its own keys.
fn gather(
    block: &Block,
    joined: &Tensor,
    pictures: &mut [Seen],
    index: usize,
    wanted: &Wanted,
    tokens: usize,
) -> Result<Tensor> {
    let (with_heads, with_mean) = (wanted.head_maps.contains(&index), wanted.mean_maps.contains(&index));
    let mut gathered = Vec::with_capacity(pictures.len() + 1);
    let mut first = 0;
    for picture in pictures.iter_mut().filter(|picture| !picture.rows.is_empty()) {
        let (rows, State { blocks, kept, .. }) = (&picture.rows, &mut *picture.state);
        let qkv = block.attn.split(&joined.f_narrow(1, first, rows.len() as i64)?)?;
        first += rows.len() as i64;
        let keys = &mut blocks.get_mut(index).context("a picture without this block")?.keys;
        let keys = match keys {
            Some(keys) => {
                keys.put(rows, &qkv)?;
                keys
            }
            None => keys.insert(Keys::new(&qkv, tokens, with_heads)?),
        };
        let own = if with_heads {
            let (own, maps) = keys.attend_with_head_maps(&qkv.q)?; // [1, H, R, L]
            rows.put(kept.head_maps.entry(index).or_default(), 1, &maps.f_squeeze_dim(0)?)?;
            if with_mean {
                let mean = maps.f_mean_dim([1i64].as_slice(), false, Kind::Float)?.f_squeeze_dim(0)?;
                rows.put(kept.mean_maps.entry(index).or_default(), 0, &mean)?;
            }
            own
        } else if with_mean {
            let (own, map) = keys.attend_with_mean_map(&qkv.q)?; // [1, R, L]
            rows.put(kept.mean_maps.entry(index).or_default(), 0, &map.f_squeeze_dim(0)?)?;
            own
        } else {
            keys.attend(&qkv.q)?
        };
        gathered.push(own.f_transpose(1, 2)?); // [1, R, H, D / H]
    }
    let filled = joined.size()[1] - first;
    if filled > 0
        && let Some(some) = gathered.first()
    {
        let [_, _, heads, width] = some.size()[..] else { anyhow::bail!("attention of {:?}", some.size()) };
        gathered.push(some.f_new_zeros([1, filled, heads, width], (some.kind(), some.device()))?);
    }
    Ok(Tensor::f_cat(&gathered, 1)?.f_transpose(1, 2)?)
}

/// Puts each picture's rows of `[1, R, ...]` into its state.
fn put_each(
    pictures: &mut [Seen],
    values: &Tensor,
    slot: impl Fn(&mut State) -> &mut Option<Tensor>,
) -> Result<()> {
    let mut first = 0;
    for picture in pictures.iter_mut().filter(|picture| !picture.rows.is_empty()) {
        let count = picture.rows.len() as i64;
        let own = values.f_select(0, 0)?.f_narrow(0, first, count)?;
        picture.rows.put(slot(picture.state), 0, &own)?;
        first += count;
    }
    Ok(())
}

/// A picture's state as a batch of one.
fn trunk(tower: &VisionTower, input: &Tensor, grid: (i64, i64), picture: &Seen) -> Result<Trunk> {
    const NOT_WHOLE: &str = "a picture was not seen as a whole";
    let State { x, qkv, kept, .. } = &*picture.state;
    let attention = &tower.last_block()?.attn;
    let one = |tensor: &Option<Tensor>| -> Result<Tensor> {
        Ok(tensor.as_ref().context(NOT_WHOLE)?.f_unsqueeze(0)?)
    };
    let all = |kept: &BTreeMap<usize, Option<Tensor>>| -> Result<HashMap<usize, Tensor>> {
        kept.iter().map(|(&block, tensor)| Ok((block, one(tensor)?))).collect()
    };
    let earlier = kept.qkv.iter().map(|(&block, joined)| Ok((block, attention.split(&one(joined)?)?)));
    Ok(Trunk {
        is_one_picture: false,
        helper_saw: None,
        input: input.shallow_clone(),
        grid,
        x: one(x)?,
        qkv: attention.split(&one(qkv)?)?,
        mean_maps: all(&kept.mean_maps)?,
        head_maps: all(&kept.head_maps)?,
        outputs: all(&kept.outputs)?,
        earlier_qkv: earlier.collect::<Result<_>>()?,
    })
}
