// SPDX-License-Identifier: MIT OR Apache-2.0
//! From pictures that the model has looked at to the descriptors of classes.

use anyhow::{Context, Result, bail, ensure};
use tch::{Kind, Tensor};

use super::select::farthest;
use super::spec::Area;
use super::{Exemplar, Exemplars, MAX_NEGATIVES, MAX_POSITIVES, Place};
use crate::ModelInfo;

/// Share of a patch that has to show the object.
const COVERED: f32 = 0.5;
/// Patches that are kept of a class before the final choice, and of each picture at least.
const AT_FIRST: usize = 4 * MAX_POSITIVES;
const OF_A_PICTURE: usize = 16;

/// One picture, as the method sees it.
pub struct Looked {
    /// `[h w, E]`, rows of unit length.
    pub features: Vec<f32>,
    /// Rows and columns.
    pub grid: (i64, i64),
}

/// What of a picture shows the object.
pub struct Shape<'a> {
    pub area: Option<Area>,
    /// Width, height, and a value for each pixel; above 127 is the object.
    pub mask: Option<(usize, usize, &'a [u8])>,
}

/// Classes by pictures, as they come.
pub struct Gathering {
    dim: usize,
    /// Of one picture.
    most: usize,
    classes: Vec<Class>,
}

struct Class {
    label: String,
    pictures: u32,
    positives: Vec<Tensor>,
    places: Vec<Place>,
    negatives: Vec<Tensor>,
}

impl Gathering {
    /// For features `dim` wide, of so many pictures in all.
    pub fn new(dim: usize, pictures: usize) -> Gathering {
        Gathering { dim, most: (AT_FIRST / pictures.max(1)).max(OF_A_PICTURE), classes: Vec::new() }
    }

    /// # Errors
    /// Nothing of the picture shows the object, or it was looked at by another model.
    pub fn add(&mut self, label: &str, looked: &Looked, shape: &Shape) -> Result<()> {
        let Looked { features, grid: (h, w) } = looked;
        let size = [h * w, self.dim as i64];
        ensure!(
            features.len() as i64 == size[0] * size[1] && !features.is_empty(),
            "it was looked at by another model"
        );
        let features = Tensor::f_from_slice(features)?.f_reshape(size)?;
        let covered = coverage(shape, (*h, *w))?;
        let (positives, negatives) = split(&covered)?;
        let class = match self.classes.iter_mut().position(|class| class.label == label) {
            Some(known) => &mut self.classes[known],
            None => {
                let (positives, places, negatives) = (Vec::new(), Vec::new(), Vec::new());
                self.classes.push(Class { label: label.into(), pictures: 0, positives, places, negatives });
                self.classes.last_mut().context("no class")?
            }
        };
        let positives = evenly(&positives, self.most);
        class.positives.push(features.f_index_select(0, &Tensor::f_from_slice(&positives)?)?);
        class.places.extend(positives.iter().map(|place| Place {
            picture: class.pictures,
            row: (place / w) as u32,
            column: (place % w) as u32,
        }));
        if !negatives.is_empty() {
            let negatives = evenly(&negatives, self.most);
            class.negatives.push(features.f_index_select(0, &Tensor::f_from_slice(&negatives)?)?);
        }
        class.pictures += 1;
        Ok(())
    }

    /// # Errors
    /// No picture was added.
    pub fn finish(self, info: &ModelInfo) -> Result<Exemplars> {
        ensure!(!self.classes.is_empty(), "there is no picture");
        let dim = self.dim;
        let classes = self.classes.into_iter().map(|class| {
            let positives = Tensor::f_cat(&class.positives, 0)?;
            let kept = farthest(&positives, MAX_POSITIVES)?;
            let negatives = match class.negatives.is_empty() {
                true => Vec::new(),
                false => {
                    let all = Tensor::f_cat(&class.negatives, 0)?;
                    values(&all.f_index_select(0, &Tensor::f_from_slice(&farthest(&all, MAX_NEGATIVES)?)?)?)?
                }
            };
            Ok(Exemplar {
                label: class.label,
                places: kept.iter().map(|&index| class.places[index as usize]).collect(),
                positives: values(&positives.f_index_select(0, &Tensor::f_from_slice(&kept)?)?)?,
                negatives,
            })
        });
        Ok(Exemplars {
            model: info.vision_hash.clone(),
            method: info.method.clone(),
            dim,
            classes: classes.collect::<Result<_>>()?,
        })
    }
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(Vec::try_from(&tensor.f_flatten(0, -1)?.f_contiguous()?)?)
}

/// The share of each patch that shows the object, row by row.
fn coverage(shape: &Shape, (h, w): (i64, i64)) -> Result<Vec<f32>> {
    let mut covered = match shape.mask {
        None => Tensor::f_ones([h, w], (Kind::Float, tch::Device::Cpu))?,
        Some((width, height, mask)) => {
            ensure!(
                width * height == mask.len() && !mask.is_empty(),
                "the mask's pixels do not fit its size"
            );
            let object: Vec<f32> = mask.iter().map(|&value| if value > 127 { 1.0 } else { 0.0 }).collect();
            ensure!(object.contains(&1.0), "the mask is empty: it has no pixel above 127");
            let object = Tensor::f_from_slice(&object)?.f_reshape([1, 1, height as i64, width as i64])?;
            object.f_adaptive_avg_pool2d([h, w])?.f_reshape([h, w])?
        }
    };
    if let Some(Area { x, y, w: width, h: height }) = shape.area {
        let along = |start: f64, length: f64, patches: i64| -> Result<Tensor> {
            let (start, end) = (start * patches as f64, (start + length) * patches as f64);
            let of = |patch: i64| (end.min(patch as f64 + 1.0) - start.max(patch as f64)).clamp(0.0, 1.0);
            let shares: Vec<f32> = (0..patches).map(|patch| of(patch) as f32).collect();
            Ok(Tensor::f_from_slice(&shares)?)
        };
        let boxed = along(y, height, h)?.f_outer(&along(x, width, w)?)?;
        covered = covered.f_mul(&boxed)?;
    }
    values(&covered)
}

/// Patches that show the object, and those that do not.
fn split(covered: &[f32]) -> Result<(Vec<i64>, Vec<i64>)> {
    let most = covered.iter().copied().fold(0.0, f32::max);
    if most <= 0.0 {
        bail!("nothing of it shows the object: box and mask do not meet");
    }
    // What is smaller than a patch is in those that it fills the most.
    let least = COVERED.min(most);
    let (positives, negatives) = (0i64..).zip(covered).partition::<Vec<_>, _>(|(_, share)| **share >= least);
    let places = |part: Vec<(i64, &f32)>| part.into_iter().map(|(place, _)| place).collect();
    Ok((places(positives), places(negatives)))
}

/// At most `most` of them, evenly spread.
fn evenly(places: &[i64], most: usize) -> Vec<i64> {
    let count = places.len().min(most);
    (0..count).map(|index| places[index * places.len() / count]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covered(area: Option<[f64; 4]>, mask: Option<(usize, usize, &[u8])>) -> Result<Vec<f32>> {
        let area = area.map(Area::new).transpose()?;
        coverage(&Shape { area, mask }, (2, 4))
    }

    #[test]
    fn patches_are_covered_by_boxes_and_masks() {
        assert_eq!(covered(None, None).unwrap(), [1.0; 8]);
        let half = covered(Some([0.25, 0.0, 0.375, 0.5]), None).unwrap();
        assert_eq!(half, [0.0, 1.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0]);
        let mask = [0, 255, 0, 0, 0, 0, 0, 0];
        assert_eq!(covered(None, Some((4, 2, &mask))).unwrap(), [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        let both = covered(Some([0.25, 0.0, 0.125, 1.0]), Some((4, 2, &mask))).unwrap();
        assert_eq!(both[1], 0.5);
        assert!(covered(None, Some((4, 2, &[0; 8]))).unwrap_err().to_string().contains("empty"));
    }

    #[test]
    fn what_is_smaller_than_a_patch_is_where_it_fills_the_most() {
        let (positives, negatives) = split(&[0.0, 0.1, 0.3, 0.3]).unwrap();
        assert_eq!((positives, negatives), (vec![2, 3], vec![0, 1]));
        assert_eq!(split(&[0.2, 0.6, 1.0]).unwrap().0, [1, 2]);
        assert!(split(&[0.0; 4]).unwrap_err().to_string().contains("do not meet"));
    }

    #[test]
    fn many_pictures_of_one_class() {
        let mut gathering = Gathering::new(2, 1000);
        let looked = Looked { features: [1f32, 0.0].repeat(100), grid: (10, 10) };
        for _ in 0..1000 {
            gathering.add("cup", &looked, &Shape { area: None, mask: None }).unwrap();
        }
        let exemplars = gathering.finish(&ModelInfo::default()).unwrap();
        assert!(exemplars.classes[0].places.len() <= MAX_POSITIVES);
        assert!(exemplars.classes[0].negatives.is_empty());
    }
}
