// SPDX-License-Identifier: MIT OR Apache-2.0
//! `skip-static`: frames that show what the last frame showed that the model looked at.

use std::sync::Arc;

use super::super::imp::Segment;
use super::super::prompts::Encoded;
use super::super::still::Thumbnail;
use super::{Input, State};
use crate::frame::Mapped;
use crate::model::{InferOptions, Vocabulary};

/// What the model was last asked about.
pub struct Looked {
    number: u64,
    thumbnail: Thumbnail,
    vocabulary: Arc<Vocabulary>,
    options: InferOptions,
    info: gst_video::VideoInfo,
}

impl Input {
    /// What comes next has nothing to do with what was before.
    pub fn forget_pictures(&mut self) {
        (self.looked, self.memory) = (None, Arc::new(self.memory.successor()));
    }
}

impl State {
    /// The model's answer to the last frame will not come, or is not to be had.
    pub fn forget_looked(&mut self) {
        self.input.looked = None;
    }
}

impl Segment {
    /// The number of the frame that this one repeats, asked about in the same way. If there is none, this frame is
    /// the one to compare the next with.
    pub(super) fn repeats(
        &self,
        buffer: &gst::BufferRef,
        info: &gst_video::VideoInfo,
        number: u64,
        prompts: &Encoded,
        options: &InferOptions,
    ) -> Option<u64> {
        let thumbnail = Thumbnail::of(Mapped::read_shown(buffer, info).ok()?.colours())?;
        let vocabulary = prompts.vocabulary.clone();
        let info = info.clone();
        let looked = &mut self.stream.state.lock().input.looked;
        let same = looked.as_ref().filter(|looked| {
            Arc::ptr_eq(&looked.vocabulary, &vocabulary)
                && looked.options == *options
                && looked.info == info
                && looked.thumbnail.is_same(&thumbnail)
        });
        if let Some(same) = same {
            return Some(same.number);
        }
        *looked = Some(Looked { number, thumbnail, vocabulary, options: options.clone(), info });
        None
    }
}
