// SPDX-License-Identifier: MIT OR Apache-2.0
//! What weights are known by: SHA-256 over their tensors, whatever files they lie in and in which order. Worked out on
//! a thread of its own, beside the reading: either takes a third of the loading time of ViT-B/16.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow};
use sha2::{Digest, Sha256};
use tch::Tensor;

/// Tensors that wait for their digest at most: they are in memory twice meanwhile.
const WAITING: usize = 1;

/// Takes tensors and gives their digests in the end.
pub struct Digester {
    tensors: SyncSender<Bytes>,
    /// Buffers that have done their work: fresh memory costs as much as reading.
    spare: Receiver<Vec<u8>>,
    thread: JoinHandle<Digests>,
}

/// A tensor as it lies in the file, under the name that it has there.
struct Bytes {
    head: String,
    name: String,
    bytes: Vec<u8>,
}

impl Digester {
    pub fn start() -> Result<Digester> {
        let (tensors, jobs) = mpsc::sync_channel(WAITING);
        let (done, spare) = mpsc::channel();
        let thread = thread::Builder::new().name("gclip-digest".into());
        let thread = thread.spawn(move || Digests::of(&jobs, &done)).context("cannot start a thread")?;
        Ok(Digester { tensors, spare, thread })
    }

    /// A buffer to read a tensor into, which [`add`](Self::add) takes.
    pub fn buffer(&self, length: usize) -> Vec<u8> {
        let mut bytes = self.spare.try_recv().unwrap_or_default();
        bytes.resize(length, 0);
        bytes
    }

    pub fn add(&self, name: &str, shape: &[i64], bytes: Vec<u8>) -> Result<()> {
        let tensor = Bytes { head: format!("{name} {shape:?} "), name: name.into(), bytes };
        self.tensors.send(tensor).map_err(|_| anyhow!("the thread that works out digests has ended"))
    }

    pub fn add_tensor(&self, name: &str, tensor: &Tensor) -> Result<()> {
        let element = tensor.f_kind()?.elt_size_in_bytes();
        let mut bytes = self.buffer(tensor.numel() * element);
        tensor.f_contiguous()?.f_copy_data_u8(&mut bytes, tensor.numel())?;
        self.add(name, &tensor.size(), bytes)
    }

    /// Waits for the last digest.
    pub fn finish(self) -> Result<Digests> {
        drop(self.tensors);
        self.thread.join().map_err(|_| anyhow!("the thread that works out digests panicked"))
    }
}

/// One digest a tensor, by the name it has in the file.
pub struct Digests(BTreeMap<String, Vec<u8>>);

impl Digests {
    fn of(tensors: &Receiver<Bytes>, spare: &Sender<Vec<u8>>) -> Digests {
        let mut digests = BTreeMap::new();
        for Bytes { head, name, bytes } in tensors {
            let mut hash = Sha256::new();
            hash.update(head);
            hash.update(&bytes);
            digests.insert(name, hash.finalize().to_vec());
            // Refused when nobody reads any more.
            let _ = spare.send(bytes);
        }
        Digests(digests)
    }

    /// Of the vision tower alone, in hex.
    pub fn of_vision(&self) -> String {
        // visual.*, or Hugging Face's vision_model.* and visual_projection.
        self.combined(|name| name.starts_with("vis"), "")
    }

    /// Of all tensors and of `config`, which the weights do not tell, in hex.
    pub fn of_all(&self, config: &str) -> String {
        self.combined(|_| true, config)
    }

    fn combined(&self, chosen: impl Fn(&str) -> bool, config: &str) -> String {
        let mut hash = Sha256::new();
        for digest in self.0.iter().filter(|(name, _)| chosen(name)).map(|(_, digest)| digest) {
            hash.update(digest);
        }
        hash.update(config);
        format!("{:x}", hash.finalize())
    }
}
