// SPDX-License-Identifier: MIT OR Apache-2.0
//! What other elements attach: segmentations by the C interface, and the tensors of a model for upstream's decoder.

use glib::translate::*;
use gst_analytics::{AnalyticsRelationMeta, Tensor, TensorDataType, TensorDimOrder, TensorMeta, ffi};

pub fn quark(label: &str) -> glib::Quark {
    glib::Quark::from_str(label)
}

/// Adds an instance segmentation over a rectangle (x, y, w, h) of the frame and returns its id.
pub fn add_segmentation(
    relations: &mut gst::MetaRefMut<'_, AnalyticsRelationMeta, gst::meta::Standalone>,
    mask: gst::Buffer,
    ids: &[u32],
    [x, y, w, h]: [i32; 4],
) -> u32 {
    let mut mtd = ffi::GstAnalyticsSegmentationMtd { id: 0, meta: std::ptr::null_mut() };
    // SAFETY: the meta is borrowed mutably, the ids are copied, the mask is handed over, `mtd` is written.
    let added: bool = unsafe {
        from_glib(ffi::gst_analytics_relation_meta_add_segmentation_mtd(
            relations.as_mut_ptr(),
            mask.into_glib_ptr(),
            ffi::GST_SEGMENTATION_TYPE_INSTANCE,
            ids.len(),
            ids.as_ptr().cast_mut(),
            x,
            y,
            w as u32,
            h as u32,
            &mut mtd,
        ))
    };
    assert!(added);
    mtd.id
}

const DETECTIONS: &str = "yolo-v8-segmentation-out-detections";
const PROTOTYPES: &str = "yolo-v8-segmentation-out-protos";
/// Prototype masks of the model, and their side.
const MASKS: usize = 32;
const SIDE: usize = 16;
/// Candidates; all but the first are empty.
const CANDIDATES: usize = 64;
/// Box (centre, size), two classes, weights of the prototypes.
const ROWS: usize = 4 + 2 + MASKS;

/// The caps of frames that carry the tensors of a YOLOv8 segmentation model.
pub fn with_tensors(caps: &gst::Caps) -> gst::Caps {
    let tensor = |id: &str, dims: &str| {
        format!(
            "(GstCaps)[tensor/strided,tensor-id={id},dims=(int)<{dims}>,dims-order=(string)col-major,type=(string)float32]"
        )
    };
    let detections = tensor(DETECTIONS, &format!("1,{ROWS},{CANDIDATES}"));
    let prototypes = tensor(PROTOTYPES, &format!("1,{MASKS},{SIDE},{SIDE}"));
    let group = format!("yolo-v8-segmentation-out=(/uniquelist){{{detections},{prototypes}}}");
    format!("{caps},tensors=(structure)[tensorgroups,{group}]").parse().unwrap()
}

/// One person in the lines 16..48 of a frame of 64x64, every pixel of the box being of the object. The box is as wide as
/// the frame because the decoder of 1.28.8 writes narrower masks without the padding that their video meta tells of.
pub fn add_tensors(buffer: &mut gst::BufferRef) {
    let mut detections = vec![0f32; ROWS * CANDIDATES];
    let mut set = |row: usize, value: f32| detections[row * CANDIDATES] = value;
    for (row, value) in [32.0, 32.0, 64.0, 32.0, 0.1, 0.9].into_iter().enumerate() {
        set(row, value);
    }
    set(6, 1.0);
    let prototypes = vec![1f32; MASKS * SIDE * SIDE];
    let tensor = |id: &str, values: Vec<f32>, dims: &[usize]| {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_ne_bytes()).collect();
        let (kind, order) = (TensorDataType::Float32, TensorDimOrder::ColMajor);
        Tensor::new_simple(quark(id), kind, gst::Buffer::from_slice(data), order, dims)
    };
    let tensors = [
        tensor(DETECTIONS, detections, &[1, ROWS, CANDIDATES]),
        tensor(PROTOTYPES, prototypes, &[1, MASKS, SIDE, SIDE]),
    ];
    TensorMeta::add(buffer).set(tensors.into());
}
