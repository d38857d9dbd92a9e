// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scores of exemplars against the published code of DN4 and Tip-Adapter, on a random CLIP. The oracle lies beside the
//! repository (or where `GCLIP_SHARED` says); without it these tests say that they skip.

mod model_common;

use gclip_model::exemplars::{Area, Gathering, Looked, Shape, tip_adapter, top_cosines};
use gclip_model::preprocess::Picture;
use gclip_model::{ExemplarOptions, InputSize, Model, Thresholds, Vocabulary};
use model_common::oracle::Oracle;
use model_common::{assert_close, spec};
use tch::{Kind, Tensor};

/// The second part of the oracle, beside the first.
fn second(oracle: &Oracle) -> Option<std::path::PathBuf> {
    let file = oracle.root.with_file_name("oracle-2").join("oracle/exemplar.safetensors");
    if !file.is_file() {
        println!("skipped: there is no {}", file.display());
        return None;
    }
    Some(file)
}

struct Second(std::path::PathBuf);

impl Second {
    fn tensor(&self, key: &str) -> Tensor {
        model_common::tensor(&self.0, key)
    }

    /// Patch features, which are not of unit length in the file.
    fn features(&self, of: &str) -> Tensor {
        let features = self.tensor(&format!("{of}/features"));
        &features / features.norm_scalaropt_dim(2, [1i64].as_slice(), true)
    }

    fn numbers(&self, key: &str) -> Vec<i64> {
        Vec::try_from(self.tensor(key).to_kind(Kind::Int64)).unwrap()
    }

    /// Descriptors of a class, all of its pictures or those in their boxes.
    fn keys(&self, class: i64, boxed: bool) -> Tensor {
        let of_class = (0..3).filter(|index| self.numbers(&format!("exemplar{index}/class")) == [class]);
        let keys: Vec<Tensor> = of_class
            .map(|index| {
                let features = self.features(&format!("exemplar{index}"));
                if !boxed {
                    return features;
                }
                let [y0, x0, y1, x1] =
                    self.numbers(&format!("exemplar{index}/box_rows_cols_y0x0y1x1"))[..].try_into().unwrap();
                let grid = features.view([14, 14, -1]);
                grid.narrow(0, y0, y1 - y0).narrow(1, x0, x1 - x0).flatten(0, 1)
            })
            .collect();
        Tensor::cat(&keys, 0)
    }
}

/// A part of a picture: left, top, width, height in pixels.
fn cut(picture: &Picture, [left, top, width, height]: [i64; 4]) -> Picture {
    let size = [picture.height as i64, picture.width as i64, 3];
    let rgb = Tensor::from_slice(&Vec::<u8>::try_from(&picture.data).unwrap()).reshape(size);
    model_common::picture(&rgb.narrow(0, top, height).narrow(1, left, width).contiguous())
}

#[test]
fn patches_are_those_of_the_published_method() {
    let Some(oracle) = Oracle::find() else { return };
    let Some(second) = second(&oracle).map(Second) else { return };
    let model = Model::load(&spec(oracle.path("hf"), "clearclip", "")).unwrap();
    let (img0, img1) = (oracle.picture("img0"), oracle.picture("img1"));
    let pictures = [
        ("exemplar0", img0),
        ("exemplar1", cut(&img1, [224, 112, 224, 224])),
        ("exemplar2", cut(&img1, [0, 0, 224, 224])),
        ("query", img1),
    ];
    for (name, picture) in pictures {
        let Looked { features, .. } = model.vision.describe(&picture, InputSize::Native).unwrap();
        let features = Tensor::from_slice(&features).view([-1, 64]);
        assert_close(name, &features, &second.features(name));
    }
}

#[test]
fn nearest_equals_dn4() {
    let Some(oracle) = Oracle::find() else { return };
    let Some(second) = second(&oracle).map(Second) else { return };
    let query = second.features("query");
    for neighbours in [1, 3, 5] {
        for (boxed, suffix) in [(false, ""), (true, "_boxed")] {
            let sums: Vec<Tensor> = (0..2)
                .map(|class| {
                    let means = top_cosines(&query, &second.keys(class, boxed), neighbours).unwrap();
                    (means * neighbours as f64).view([21, 28])
                })
                .collect();
            let sums = Tensor::stack(&sums, 0);
            let key = format!("dn4/k{neighbours}/patch_sums{suffix}");
            assert_close(&key, &sums, &second.tensor(&key));
            if !boxed {
                let key = format!("dn4/k{neighbours}/image_sums");
                let expected = second.tensor(&key);
                let whole = sums.sum_dim_intlist([1i64, 2].as_slice(), false, Kind::Float);
                assert_close(&key, &(whole / &expected), &expected.ones_like());
            }
        }
    }
}

#[test]
fn words_with_pictures_equal_tip_adapter() {
    let Some(oracle) = Oracle::find() else { return };
    let Some(second) = second(&oracle).map(Second) else { return };
    let query = second.features("query");
    let text = second.tensor("tip/text_logits");
    let words = oracle.tensor("encoders.safetensors", "text/query_features");
    let rows = words.index_select(0, &second.tensor("tip/text_rows").to_kind(Kind::Int64));
    let plain = query.matmul(&rows.transpose(0, 1)).transpose(0, 1).view([2, 21, 28]) * 100.0;
    assert!((&plain - &text).abs().max().double_value(&[]) < 1e-3);
    for (alpha, beta) in [(1.0, 5.5), (1.17, 1.0)] {
        let parts: Vec<Tensor> = (0..2)
            .map(|class| tip_adapter(&query, &second.keys(class, true), alpha, beta).unwrap().view([21, 28]))
            .collect();
        let logits = &text + Tensor::stack(&parts, 0);
        let key = format!("tip/alpha{}_beta{beta:.1}/logits", if alpha == 1.0 { "1.0" } else { "1.17" });
        // A hundred times cosines, and sums of some hundred descriptors on top.
        let off = (logits - second.tensor(&key)).abs().max().double_value(&[]);
        println!("{key}: {off:.1e}");
        assert!(off < 1e-3, "{key}: {off}");
    }
}

/// From pictures and boxes to the query of a vocabulary.
#[test]
fn prototypes_equal_the_mean_of_the_patches_in_the_boxes() {
    let Some(oracle) = Oracle::find() else { return };
    let Some(second) = second(&oracle).map(Second) else { return };
    let mut gathering = Gathering::new(64, 3);
    for index in 0..3 {
        let features = model_common::values(&second.features(&format!("exemplar{index}")));
        let [y0, x0, y1, x1] =
            second.numbers(&format!("exemplar{index}/box_rows_cols_y0x0y1x1"))[..].try_into().unwrap();
        let share = |patches: i64| patches as f64 / 14.0;
        let area = Area::new([share(x0), share(y0), share(x1 - x0), share(y1 - y0)]).unwrap();
        let label = format!("class {}", second.numbers(&format!("exemplar{index}/class"))[0]);
        let looked = Looked { features, grid: (14, 14) };
        gathering.add(&label, &looked, &Shape { area: Some(area), mask: None }).unwrap();
    }
    let exemplars = gathering.finish(&Default::default()).unwrap();
    let words = Vocabulary { dim: 64, ..Vocabulary::default() };
    let joined = exemplars.join(&words, &Thresholds::default(), ExemplarOptions::default()).unwrap();
    assert_eq!(joined.labels, ["class 0", "class 1"]);
    let prototypes = Tensor::from_slice(&joined.features[..128]).view([2, 64]);
    assert_close("prototypes", &prototypes, &second.tensor("formula/prototypes_boxed"));
    let cosines = prototypes.matmul(&second.features("query").transpose(0, 1)).view([2, 21, 28]);
    assert_close("prototype cosines", &cosines, &second.tensor("formula/prototype_cosines"));
}
