// SPDX-License-Identifier: MIT OR Apache-2.0
//! `skip-static`: frames that show what the last frame showed that the model looked at.

use std::sync::Arc;

use gst_video::prelude::*;

use super::super::imp::Segment;
use super::super::prompts::Encoded;
use super::super::still::{Component, Thumbnail};
use super::{Input, State};
use crate::model::{InferOptions, Vocabulary};

type Mapped<'a> = gst_video::VideoFrameRef<&'a gst::BufferRef>;

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
        (self.looked, self.memory) = (None, Arc::default());
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
        let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, info).ok()?;
        let thumbnail = thumbnail(&frame)?;
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

/// Every component of the frame but alpha; `None` if it is shorter than it says.
fn thumbnail(frame: &Mapped) -> Option<Thumbnail> {
    let colours = frame.n_components().min(3);
    let component = |index: u32| {
        let at = index as usize;
        let info = frame.format_info();
        let plane = *info.plane().get(at)?;
        let offset = usize::try_from(*info.poffset().get(at)?).ok()?;
        Some(Component {
            data: frame.plane_data(plane).ok()?.get(offset..)?,
            row_step: usize::try_from(*frame.plane_stride().get(plane as usize)?).ok()?,
            pixel_step: usize::try_from(*info.pixel_stride().get(at)?).ok()?,
            width: frame.comp_width(index) as usize,
            height: frame.comp_height(index) as usize,
        })
    };
    Thumbnail::of((0..colours).map(component).collect::<Option<Vec<_>>>()?)
}
