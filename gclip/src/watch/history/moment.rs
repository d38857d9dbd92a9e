// SPDX-License-Identifier: MIT OR Apache-2.0
//! The picture in which something entered. The element tells what has entered before the picture has come out, and the
//! camera's thread hears of it before or after that: whoever comes second brings the two together.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use gstgclip::meta::Masks;
use parking_lot::Mutex;

/// A picture with its masks.
pub struct Moment {
    pub sample: gst::Sample,
    pub masks: Masks,
    /// Number of the event that it was kept for first; 0: not kept yet.
    pub kept_as: AtomicU64,
}

/// The newest moment of one camera, and what waits for one.
#[derive(Default)]
pub struct Moments(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    newest: Option<(Option<gst::ClockTime>, Arc<Moment>)>,
    wanted: Vec<(Option<gst::ClockTime>, u64)>,
}

impl Moments {
    /// A picture comes out; returns the events that it belongs to.
    pub fn came(
        &self,
        pts: Option<gst::ClockTime>,
        sample: gst::Sample,
        masks: Masks,
    ) -> (Arc<Moment>, Vec<u64>) {
        let moment = Arc::new(Moment { sample, masks, kept_as: AtomicU64::new(0) });
        let mut inner = self.0.lock();
        inner.newest = Some((pts, moment.clone()));
        let (of_it, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut inner.wanted).into_iter().partition(|(of, _)| pts >= *of);
        inner.wanted = later;
        (moment, of_it.into_iter().map(|(_, number)| number).collect())
    }

    /// An event is about the picture at this time; returns it if it has come out already, or else what came out since.
    pub fn want(&self, number: u64, pts: Option<gst::ClockTime>) -> Option<Arc<Moment>> {
        let mut inner = self.0.lock();
        if let Some((_, moment)) = inner.newest.as_ref().filter(|(newest, _)| *newest >= pts) {
            return Some(moment.clone());
        }
        inner.wanted.push((pts, number));
        None
    }

    /// The connection has ended: times begin anew, and the picture is let go. Returns how many events have none.
    pub fn clear(&self) -> usize {
        std::mem::take(&mut *self.0.lock()).wanted.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_and_its_event_find_each_other_in_either_order() {
        gst::init().unwrap();
        let moments = Moments::default();
        let time = |time| Some(gst::ClockTime::from_mseconds(time));
        let come = |at| {
            let sample = gst::Sample::builder().build();
            moments.came(time(at), sample, Masks::new(at, gst::Buffer::new(), vec![]))
        };
        let of = |moment: Option<Arc<Moment>>| moment.map(|moment| moment.masks.generation);
        assert_eq!(of(moments.want(1, time(100))), None);
        assert_eq!(of(moments.want(2, time(200))), None);
        assert!(come(50).1.is_empty());
        assert_eq!(come(100).1, [1]);
        assert_eq!(come(200).1, [2]);
        assert_eq!(of(moments.want(3, time(200))), Some(200));
        assert_eq!(of(moments.want(4, time(100))), Some(200), "one that came since");
        assert_eq!(moments.clear(), 0);
        assert_eq!(of(moments.want(5, time(100))), None);
        assert_eq!(moments.clear(), 1);
    }
}
