// SPDX-License-Identifier: MIT OR Apache-2.0
//! Safetensors, one file or many: read front to back once, one tensor in memory beside the result.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde::Deserialize;
use tch::{Kind, Tensor};

use super::digest::Digester;
use super::read_small;

/// Headers of real checkpoints stay below 1 MB.
const MAX_HEADER: u64 = 32 << 20;

/// Reads every floating-point tensor of `file` into `tensors`, as stored. Tensors of whole numbers (HF's `position_ids`)
/// hold nothing that the model needs: only their names come back.
pub fn read(file: &Path, tensors: &mut HashMap<String, Tensor>, digests: &Digester) -> Result<Vec<String>> {
    let mut reader = File::open(file)?;
    let length = reader.metadata()?.len();
    if length == 0 {
        bail!("the file is empty");
    }
    let mut size = [0; 8];
    reader.read_exact(&mut size).context("the file is too short for a safetensors header")?;
    // The first word of its `version https://git-lfs.github.com/spec/v1`.
    if &size == b"version " {
        bail!("it is a Git LFS pointer and not the file itself: run `git lfs pull`");
    }
    let header_length = u64::from_le_bytes(size);
    if header_length > MAX_HEADER || header_length > length - 8 {
        bail!(
            "its header claims {header_length} bytes, of a file of {length}: this is no safetensors file, or it is cut off"
        );
    }
    let mut header = vec![0; header_length as usize];
    reader.read_exact(&mut header)?;
    let header: Metadata =
        serde_json::from_slice(&header).context("its header is no valid safetensors header")?;
    let expected = (header.data_len() as u64).checked_add(8 + header_length);
    if expected != Some(length) {
        bail!(
            "its header describes {} bytes of tensors, the file holds {}",
            header.data_len(),
            length - 8 - header_length
        );
    }
    let mut whole_numbers = Vec::new();
    // Offsets were checked to be contiguous and in this order.
    for name in header.offset_keys() {
        let Some(info) = header.info(&name) else { continue };
        let mut bytes = digests.buffer(info.data_offsets.1 - info.data_offsets.0);
        reader.read_exact(&mut bytes)?;
        let kind = match info.dtype {
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            Dtype::F64 => Kind::Double,
            Dtype::I64 | Dtype::I32 | Dtype::I8 | Dtype::U8 | Dtype::BOOL => {
                whole_numbers.push(name);
                continue;
            }
            other => bail!("tensor {name} is stored as {other:?}, which is not supported (F32, F16, BF16)"),
        };
        let shape: Vec<i64> = info.shape.iter().map(|&side| side as i64).collect();
        let tensor = Tensor::f_from_data_size(&bytes, &shape, kind)?;
        digests.add(&name, &shape, bytes)?;
        tensors.insert(name, tensor);
    }
    Ok(whole_numbers)
}

/// The safetensors files of a Hugging Face folder: one, or those that the index of a sharded checkpoint names.
pub fn files_of(folder: &Path) -> Result<Vec<PathBuf>> {
    let single = folder.join("model.safetensors");
    if single.is_file() {
        return Ok(vec![single]);
    }
    let index = folder.join("model.safetensors.index.json");
    if !index.is_file() {
        bail!(
            "{} holds neither model.safetensors nor model.safetensors.index.json (weights in other formats: convert \
             them with transformers' save_pretrained)",
            folder.display()
        );
    }
    #[derive(Deserialize)]
    struct Index {
        weight_map: HashMap<String, String>,
    }
    let Index { weight_map } = serde_json::from_str(&read_small(&index)?)
        .with_context(|| format!("{} is no index of a sharded checkpoint", index.display()))?;
    let mut names: Vec<String> = weight_map.into_values().collect();
    names.sort();
    names.dedup();
    let mut files = Vec::new();
    for name in names {
        // A shard lies beside its index; anything else is an attempt to read elsewhere.
        if Path::new(&name).file_name() != Some(name.as_ref()) {
            bail!("{} names a shard outside its folder: {name:?}", index.display());
        }
        let file = folder.join(&name);
        if !file.is_file() {
            bail!("{} names the shard {name}, which is missing", index.display());
        }
        files.push(file);
    }
    if files.is_empty() {
        bail!("{} names no shard", index.display());
    }
    Ok(files)
}
