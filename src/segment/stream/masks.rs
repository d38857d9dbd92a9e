// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the model's answer to the masks on a buffer, and from one frame's masks to the next frame's.

use std::sync::Arc;

use anyhow::Result;

use super::super::imp::Segment;
use super::super::settings::Policy;
use super::{Newest, Origin, Output};
use crate::batch::Failure;
use crate::frame;
use crate::meta::{Masks, Rect, Region, Tag};
use crate::model::Segmentation;

/// The masks of the very frame that the model looked at. The mask buffer is made once and then shared.
pub fn masks_of(segmentation: &Arc<Segmentation>, origin: &Origin) -> Result<Masks> {
    let region = |region: &crate::model::Region| Region {
        value: region.value,
        label: region.label.clone(),
        score: region.score,
        area: region.area,
        x: region.x,
        y: region.y,
        w: region.w,
        h: region.h,
    };
    let tag = |tag: &crate::model::Tag| Tag { label: tag.label.clone(), score: tag.score };
    let regions = segmentation.regions.iter().map(region).collect();
    let masks = Masks::new(origin.generation, frame::mask_buffer(segmentation)?, regions);
    let [x, y, w, h] = origin.shown;
    let masks = masks.of_part(Rect { x, y, w, h });
    Ok(Masks { tags: segmentation.tags.iter().map(tag).collect(), ..masks })
}

impl Output {
    /// Remembers the masks if no newer frame's are there, and gives up inferences that are older.
    pub fn keep(&mut self, masks: &Arc<Masks>, origin: Origin) {
        if self.newest.as_ref().is_none_or(|newest| newest.origin.number < origin.number) {
            self.newest = Some(Newest { masks: masks.clone(), origin });
        }
        self.late.retain(|late| late.origin.number > origin.number);
    }

    /// How many overdue inferences have no answer yet.
    pub fn late_outstanding(&self) -> usize {
        self.late.iter().filter(|late| !late.ticket.is_answered()).count()
    }
}

/// Time between two frames, never zero: zero is the age of a frame's own mask.
fn age(mask: &Origin, frame: &Origin) -> gst::ClockTime {
    let by_pts = frame.pts.zip(mask.pts).and_then(|(frame, mask)| frame.checked_sub(mask));
    let by_clock = || {
        let elapsed = frame.arrived.saturating_duration_since(mask.arrived);
        gst::ClockTime::try_from(elapsed).unwrap_or(gst::ClockTime::MAX)
    };
    by_pts.unwrap_or_else(by_clock).max(gst::ClockTime::from_nseconds(1))
}

impl Segment {
    /// The newest masks, aged for this frame, and the number of the frame that they were made from.
    pub(super) fn carried_masks(&self, frame: &Origin) -> Option<(Arc<Masks>, u64)> {
        let newest = self.stream.state.lock().output.newest.clone()?;
        let mut masks = Masks::clone(&newest.masks);
        masks.age = age(&newest.origin, frame);
        Some((Arc::new(masks), newest.origin.number))
    }

    /// Takes over the results of overdue inferences that have come in meanwhile. Returns what went wrong.
    pub fn take_late_answers(&self, policy: &Policy) -> Option<String> {
        let mut answered = Vec::new();
        {
            let late = &mut self.stream.state.lock().output.late;
            while let Some(answer) = late.front().and_then(|first| first.ticket.poll()) {
                if let Some(first) = late.pop_front() {
                    answered.push((first, answer));
                }
            }
        }
        let mut failure = None;
        for (late, answer) in answered {
            let segmentation = match answer {
                Ok(segmentation) => segmentation,
                Err(Failure::Cancelled) => continue,
                Err(Failure::Failed(error)) => {
                    failure = Some(error);
                    continue;
                }
            };
            self.measured(late.origin.arrived.elapsed(), policy);
            match masks_of(&segmentation, &late.origin) {
                Ok(masks) => {
                    let mut state = self.stream.state.lock();
                    state.counts.inferred += 1;
                    state.output.keep(&Arc::new(masks), late.origin);
                }
                Err(error) => failure = Some(format!("{error:#}")),
            }
        }
        failure
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn origin(pts: Option<u64>, arrived: Instant) -> Origin {
        let pts = pts.map(gst::ClockTime::from_mseconds);
        Origin { number: 0, pts, arrived, generation: 1, shown: [0.0, 0.0, 1.0, 1.0] }
    }

    #[test]
    fn the_age_of_a_carried_mask_is_the_time_between_the_frames_and_never_zero() {
        let now = Instant::now();
        let later = now + Duration::from_millis(70);
        let (mask, frame) = (origin(Some(100), now), origin(Some(140), later));
        assert_eq!(age(&mask, &frame), gst::ClockTime::from_mseconds(40));
        assert_eq!(age(&mask, &mask), gst::ClockTime::from_nseconds(1));
        assert_eq!(age(&origin(None, now), &origin(None, later)), gst::ClockTime::from_mseconds(70));
        // Time stamps that run backwards say nothing.
        assert_eq!(age(&frame, &origin(Some(100), later)), gst::ClockTime::from_nseconds(1));
    }
}
