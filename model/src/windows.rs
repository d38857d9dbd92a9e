// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sliding windows: a picture in overlapping crops, their logits stitched by averaging.

use anyhow::{Result, bail};
use tch::{Kind, Tensor};

use super::decode::{Logits, PatchLogits};

/// Sliding windows over the resized picture, in its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Side of a square crop.
    pub size: usize,
    /// Step between crops; at most `size`, or pixels between crops would never be seen.
    pub stride: usize,
}

impl Window {
    /// The two numbers a user gives: `size` 0 means the whole picture at once.
    pub fn from_sizes(size: usize, stride: usize) -> Result<Option<Window>> {
        if size == 0 {
            return Ok(None);
        }
        if stride == 0 || stride > size {
            bail!("stride {stride} does not fit a window of {size}: it must be 1 to {size} pixels");
        }
        Ok(Some(Window { size, stride }))
    }
}

/// Runs the windows of one picture and keeps their patch logits; [`Stitched::upsampled`] joins them.
///
/// `picture` is `[1, 3, H, W]`, normalised, of any size. `patch_logits` is called once with all crops,
/// `[N, 3, h, w]` in whole patches, and gives their cosines `[N, queries, rows, columns]`.
/// A picture smaller than a window is its own window. A crop that is no whole number of patches is padded with
/// zeros on all sides, as ClearCLIP does, and the padding is cut off its logits.
pub fn slide(
    picture: &Tensor,
    window: Window,
    patch: usize,
    patch_logits: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<Stitched> {
    let [1, _, height, width] = picture.size()[..] else {
        bail!("windows run over one picture, not {:?}", picture.size());
    };
    let (size, stride, patch) = (window.size.max(1) as i64, window.stride.max(1) as i64, patch.max(1) as i64);
    let (crop_height, crop_width) = (size.min(height), size.min(width));
    let (pad_height, pad_width) = (to_multiple(crop_height, patch), to_multiple(crop_width, patch));
    let tops = starts(height, size, stride);
    let lefts = starts(width, size, stride);
    let corners: Vec<(i64, i64)> =
        tops.iter().flat_map(|&top| lefts.iter().map(move |&left| (top, left))).collect();
    let padding = [pad_width / 2, pad_width - pad_width / 2, pad_height / 2, pad_height - pad_height / 2];
    let crops = corners
        .iter()
        .map(|&(top, left)| -> Result<Tensor> {
            let crop = picture.f_narrow(2, top, crop_height)?.f_narrow(3, left, crop_width)?;
            Ok(crop.f_constant_pad_nd(padding)?)
        })
        .collect::<Result<Vec<_>>>()?;
    let logits = patch_logits(&Tensor::f_cat(&crops, 0)?)?.f_to_kind(Kind::Float)?;
    if logits.dim() != 4 || logits.size()[0] != corners.len() as i64 {
        bail!("{} windows gave logits of size {:?}", corners.len(), logits.size());
    }
    // How many windows look at each pixel: rows and columns are counted apart.
    let (rows, columns) = (coverage(&tops, crop_height, height), coverage(&lefts, crop_width, width));
    let count = Tensor::f_from_slice(&rows)?.f_outer(&Tensor::f_from_slice(&columns)?)?; // [H, W]
    Ok(Stitched {
        logits,
        corners,
        count: count.f_to_device(picture.device())?,
        picture: [height, width],
        crop: [crop_height, crop_width],
        padded: [crop_height + pad_height, crop_width + pad_width],
    })
}

/// The patch logits of every window, and where each belongs.
pub struct Stitched {
    /// `[windows, queries, rows, columns]`
    logits: Tensor,
    /// Top and left of each window.
    corners: Vec<(i64, i64)>,
    /// `[H, W]`, the number of windows over each pixel.
    count: Tensor,
    /// Height and width, in pixels: of the picture, a crop, and a crop with its padding.
    picture: [i64; 2],
    crop: [i64; 2],
    padded: [i64; 2],
}

impl Logits for Stitched {
    fn queries(&self) -> usize {
        self.logits.size()[1] as usize
    }

    /// Each window upsampled to its crop, averaged where they overlap, then resized to `size`.
    fn upsampled(&self, rows: &[i64], size: [i64; 2]) -> Result<Tensor> {
        let [height, width] = self.picture;
        let options = (Kind::Float, self.logits.device());
        let sum = Tensor::f_zeros([rows.len() as i64, height, width], options)?;
        let [crop_height, crop_width] = self.crop;
        let (above, before) = ((self.padded[0] - crop_height) / 2, (self.padded[1] - crop_width) / 2);
        for (window, &(top, left)) in (0i64..).zip(&self.corners) {
            let full = self.logits.f_select(0, window)?.upsampled(rows, self.padded)?; // [rows, padded]
            let full = full.f_narrow(1, above, crop_height)?.f_narrow(2, before, crop_width)?;
            let mut place = sum.f_narrow(1, top, crop_height)?.f_narrow(2, left, crop_width)?;
            let _ = place.f_add_(&full)?;
        }
        let mean = sum.f_div(&self.count)?; // [rows, H, W]
        let every: Vec<i64> = (0..rows.len() as i64).collect();
        mean.upsampled(&every, size)
    }
}

impl PatchLogits for Stitched {
    fn patches(&self) -> &Tensor {
        &self.logits
    }

    fn with_patches(&self, logits: Tensor) -> Box<dyn PatchLogits> {
        let Stitched { corners, count, picture, crop, padded, .. } = self;
        let (corners, count) = (corners.clone(), count.shallow_clone());
        Box::new(Stitched { logits, corners, count, picture: *picture, crop: *crop, padded: *padded })
    }

    /// Cut into windows as the picture was; padding counts for nothing.
    fn per_patch(&self, map: &Tensor) -> Result<Tensor> {
        let [.., rows, columns] = self.logits.size()[..] else { bail!("windows gave too few axes") };
        let [height, width] = [0, 1].map(|axis| self.padded[axis] - self.crop[axis]);
        let padding = [width / 2, width - width / 2, height / 2, height - height / 2];
        let pooled = |map: &Tensor, (top, left): (i64, i64)| -> Result<Tensor> {
            let crop = map.f_narrow(2, top, self.crop[0])?.f_narrow(3, left, self.crop[1])?;
            Ok(crop.f_constant_pad_nd(padding)?.f_adaptive_avg_pool2d([rows, columns])?)
        };
        let covered = pooled(&map.f_ones_like()?, (0, 0))?.f_clamp_min(1e-6)?; // [1, 1, rows, columns]
        let windows = self.corners.iter().map(|&corner| Ok(pooled(map, corner)?.f_div(&covered)?));
        let windows = windows.collect::<Result<Vec<_>>>()?;
        Ok(Tensor::f_cat(&windows, 0)?) // [windows, 1, rows, columns]
    }
}

/// Where windows of `size` start along a side of `length` pixels; the last one is shifted inside.
fn starts(length: i64, size: i64, stride: i64) -> Vec<i64> {
    let count = (length - size + stride - 1).max(0) / stride + 1;
    (0..count).map(|index| ((index * stride + size).min(length) - size).max(0)).collect()
}

/// How many windows of `size` cover each of `length` pixels.
fn coverage(starts: &[i64], size: i64, length: i64) -> Vec<f32> {
    let mut count = vec![0.0; length as usize];
    for &start in starts {
        for pixel in &mut count[start as usize..(start + size) as usize] {
            *pixel += 1.0;
        }
    }
    count
}

/// What `length` lacks to a whole number of patches.
fn to_multiple(length: i64, patch: i64) -> i64 {
    (patch - length % patch) % patch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(height: i64, width: i64) -> Tensor {
        Tensor::arange(3 * height * width, (Kind::Float, tch::Device::Cpu)).view([1, 3, height, width])
    }

    /// One query a colour channel, one patch a pixel: stitching must give the picture back.
    fn channels(crops: &Tensor) -> Result<Tensor> {
        Ok(crops.shallow_clone())
    }

    #[test]
    fn windows_start_as_published() {
        assert_eq!(starts(336, 224, 112), [0, 112]);
        assert_eq!(starts(448, 224, 112), [0, 112, 224]);
        assert_eq!(starts(459, 224, 112), [0, 112, 224, 235]);
        assert_eq!(starts(100, 224, 112), [0]);
        assert_eq!(starts(224, 224, 224), [0]);
    }

    #[test]
    fn overlaps_average_to_the_picture() {
        for (height, width) in [(7, 11), (4, 4), (3, 20), (1, 1), (5, 4)] {
            let picture = ramp(height, width);
            for window in
                [Window { size: 4, stride: 2 }, Window { size: 4, stride: 3 }, Window { size: 4, stride: 4 }]
            {
                let stitched = slide(&picture, window, 1, channels).unwrap();
                let full = stitched.upsampled(&[0, 1, 2], [height, width]).unwrap();
                let error = (full - picture.squeeze_dim(0)).abs().max().double_value(&[]);
                assert!(error < 1e-4, "{height}x{width} {window:?}: {error}");
            }
        }
    }

    #[test]
    fn overlapping_windows_count_alike() {
        // One patch a window, each with its own logit: a pixel is the mean of the windows over it.
        let picture = ramp(2, 6);
        let logits = |crops: &Tensor| -> Result<Tensor> {
            assert_eq!(crops.size(), [2, 3, 2, 4]);
            Ok(Tensor::from_slice(&[1f32, 3.0]).view([2, 1, 1, 1]))
        };
        let stitched = slide(&picture, Window { size: 4, stride: 2 }, 2, logits).unwrap();
        let row: Vec<f32> =
            Vec::try_from(stitched.upsampled(&[0], [2, 6]).unwrap().select(1, 0).view([-1])).unwrap();
        assert_eq!(row, [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]);
    }

    #[test]
    fn crops_are_padded_to_whole_patches_and_cut_again() {
        let picture = ramp(5, 9).ones_like();
        let mut seen = Vec::new();
        let stitched = slide(&picture, Window { size: 7, stride: 7 }, 4, |crops| {
            seen = crops.size();
            assert_eq!(crops.double_value(&[0, 0, 0, 0]), 0.0, "zeros around");
            assert_eq!(crops.sum(Kind::Double).double_value(&[]), 2.0 * 3.0 * 5.0 * 7.0);
            channels(crops)
        })
        .unwrap();
        assert_eq!(seen, [2, 3, 8, 8]);
        let full = stitched.upsampled(&[0], [5, 9]).unwrap();
        assert_eq!(full.min().double_value(&[]), 1.0, "no padding is left");
    }

    #[test]
    fn sizes_a_user_gives() {
        assert_eq!(Window::from_sizes(0, 112).unwrap(), None);
        assert_eq!(Window::from_sizes(224, 112).unwrap(), Some(Window { size: 224, stride: 112 }));
        assert!(Window::from_sizes(224, 0).is_err());
        assert!(Window::from_sizes(224, 225).is_err());
    }
}
