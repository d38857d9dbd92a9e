// SPDX-License-Identifier: MIT OR Apache-2.0
use std::path::Path;

use super::*;
use crate::method::tests::oracle::Oracle;
use small::Small;

#[path = "../../tests/model_common/small_helper.rs"]
mod small;

const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

fn load(folder: &Path) -> Result<Helper> {
    Helper::load(folder.to_str().unwrap(), Device::Cpu, Kind::Float)
}

fn refused(folder: &Path) -> String {
    format!("{:#}", load(folder).err().expect("a helper that is none"))
}

#[test]
fn tokens_are_those_of_the_published_code() {
    let (Some(first), Some(second)) = (Oracle::find(), Oracle::find_second()) else { return };
    let clip = Normalisation::default();
    for name in ["dinov2", "dinov2_reg", "dino"] {
        let helper = load(&second.folder(name)).unwrap();
        for (image, crop) in [("img0", None), ("img1", None), ("img1", Some("_crop_0_0_224_224"))] {
            let mut picture = first.input(image);
            if crop.is_some() {
                picture = picture.narrow(2, 0, 224).narrow(3, 0, 224);
            }
            let key = format!("proxyclip_{name}/{image}{}", crop.unwrap_or_default());
            let expected = second.tensor("proxyclip", &format!("{key}/dino_tokens_every8"));
            let found = helper.tokens(&picture, &clip).unwrap();
            let (h, w) = helper.grid(&picture).unwrap();
            assert_eq!(found.size()[..2], [1, h * w]);
            let off = (found.select(0, 0).slice(0, 0, None, 8) - &expected).abs().max().double_value(&[]);
            println!("{key}: {off:.1e} of {:.1}", expected.abs().max().double_value(&[]));
            assert!(off < 1e-4, "{key}: {off:e}");
            let unit = unit(&found.select(0, 0));
            let mean = unit.matmul(&unit.transpose(0, 1)).mean(Kind::Float).double_value(&[]);
            let expected = second.tensor("proxyclip", &format!("{key}/similarity_mean")).double_value(&[0]);
            assert!((mean - expected).abs() < 1e-5, "{key}: mean likeness {mean}, not {expected}");
        }
    }
}

fn unit(x: &Tensor) -> Tensor {
    crate::transformer::unit_rows(x).unwrap()
}

/// The block as its paper writes it, with its scales where they are.
#[test]
fn a_block_with_scales_is_what_it_says() {
    let small = Small::dinov2();
    let (_folder, path) = small.write();
    let of = |name: &str| small.tensors[name].shallow_clone();
    let layer = |name: &str| of(&format!("encoder.layer.0.{name}"));
    let linear = |x: &Tensor, name: &str| {
        x.linear(&layer(&format!("{name}.weight")), Some(&layer(&format!("{name}.bias"))))
    };
    let norm =
        |x: &Tensor, weight: &Tensor, bias: &Tensor| x.layer_norm([8], Some(weight), Some(bias), 1e-6, true);
    let picture = Tensor::randn([1, 3, 8, 8], CPU);
    let projection = "embeddings.patch_embeddings.projection";
    let x = picture.conv2d(
        &of(&format!("{projection}.weight")),
        Some(of(&format!("{projection}.bias"))),
        4,
        0,
        1,
        1,
    );
    let x = Tensor::cat(&[of("embeddings.cls_token"), x.flatten(2, 3).transpose(1, 2)], 1);
    let x = x + of("embeddings.position_embeddings");
    let y = norm(&x, &layer("norm1.weight"), &layer("norm1.bias"));
    let heads =
        |name: &str| linear(&y, &format!("attention.attention.{name}")).reshape([1, 5, 2, 4]).transpose(1, 2);
    let map = (heads("query").matmul(&heads("key").transpose(2, 3)) / 2.0).softmax(-1, Kind::Float);
    let y = map.matmul(&heads("value")).transpose(1, 2).reshape([1, 5, 8]);
    let x = x + linear(&y, "attention.output.dense") * layer("layer_scale1.lambda1");
    let y = norm(&x, &layer("norm2.weight"), &layer("norm2.bias"));
    let x = x + linear(&linear(&y, "mlp.fc1").gelu("none"), "mlp.fc2") * layer("layer_scale2.lambda1");
    let expected = norm(&x, &of("layernorm.weight"), &of("layernorm.bias")).narrow(1, 1, 4);
    let found = load(&path).unwrap().tokens(&picture, &NORMALISATION).unwrap();
    let off = (found - expected).abs().max().double_value(&[]);
    assert!(off < 1e-5, "{off:e}");
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let with = |edit: &dyn Fn(&mut Small)| {
        let mut small = Small::dinov2();
        edit(&mut small);
        let (_folder, path) = small.write();
        refused(&path)
    };
    let swiglu = with(&|small| small.config["use_swiglu_ffn"] = true.into());
    assert!(
        swiglu.starts_with("cannot use the helper model") && swiglu.contains("use_swiglu_ffn"),
        "{swiglu}"
    );
    let unused = with(&|small| drop(small.tensors.insert("head.weight".into(), Tensor::zeros([2], CPU))));
    assert!(unused.contains("nothing of a helper model takes its tensor head.weight"), "{unused}");
    let missing = with(&|small| drop(small.tensors.remove("encoder.layer.0.attention.attention.key.bias")));
    assert!(missing.contains("blocks.0.attn.key.bias is missing"), "{missing}");
    let nan = with(&|small| {
        let nan = Tensor::full([8], f64::NAN, CPU);
        small.tensors.insert("layernorm.bias".into(), nan);
    });
    assert!(nan.contains("layernorm.bias holds numbers that are not finite"), "{nan}");
    let width = with(&|small| small.config["hidden_size"] = 16.into());
    assert!(width.contains("the config says hidden_size 16, the weights have 8"), "{width}");
    let grid = with(&|small| small.config["image_size"] = 16.into());
    assert!(grid.contains("covers 4 patches, the config's image size needs 4 x 4"), "{grid}");
    let scales = with(&|small| {
        small.tensors.insert("encoder.layer.0.layer_scale1.lambda1".into(), Tensor::ones([4], CPU));
    });
    assert!(scales.contains("has [4] scales"), "{scales}");
    let clip = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/hugging_face");
    assert!(refused(Path::new(clip)).contains("its model_type is \"clip\""));
    assert!(refused(Path::new("/nonexistent/dino")).contains("there is no such file or folder"));
}

#[test]
fn pictures_of_any_shape_have_finite_tokens() {
    let (_folder, path) = Small::dinov2().write();
    let helper = load(&path).unwrap();
    for (height, width) in [(4, 4), (5, 90), (90, 7), (8, 8)] {
        for shade in [-2.0, 0.0, 2.0] {
            let picture = Tensor::full([2, 3, height, width], shade, CPU);
            let found = helper.tokens(&picture, &Normalisation::default()).unwrap();
            assert_eq!(found.size(), [2, (height / 4) * (width / 4), 8]);
            assert!(bool::try_from(found.isfinite().all()).unwrap());
        }
    }
    let error = helper.tokens(&Tensor::zeros([1, 3, 3, 9], CPU), &NORMALISATION).unwrap_err().to_string();
    assert!(error.contains("9x3 pixels is smaller than the helper model's patch of 4"), "{error}");
}
