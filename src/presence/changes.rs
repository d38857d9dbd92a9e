// SPDX-License-Identifier: MIT OR Apache-2.0
//! Areas over time to "entered" and "left". Two thresholds and two counts keep what flickers around one of them
//! from being told again and again (a Schmitt trigger, with a number of samples in a row).

use std::collections::BTreeMap;

/// What it takes to be told that something has entered or left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hysteresis {
    /// Share of the place, 0..1, that a label has to cover to enter it.
    pub enter_area: f64,
    /// Share of the place below which a label leaves it; above `enter_area` it counts as `enter_area`.
    pub leave_area: f64,
    /// Masks in a row that have to show it; 0 counts as 1.
    pub enter_frames: u32,
    pub leave_frames: u32,
}

impl Default for Hysteresis {
    fn default() -> Self {
        Hysteresis { enter_area: 0.005, leave_area: 0.0025, enter_frames: 3, leave_frames: 5 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    Entered,
    Left,
}

impl Presence {
    /// As it is written in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Presence::Entered => "entered",
            Presence::Left => "left",
        }
    }
}

/// A label has entered a place, or left it.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub label: String,
    pub presence: Presence,
    /// Share of the place that the label covers now.
    pub area: f64,
}

/// What is known about one label in one place.
#[derive(Default)]
struct Known {
    present: bool,
    /// Masks in a row that speak for the other state.
    against: u32,
}

/// Follows the labels in one place: the whole picture, or a zone.
#[derive(Default)]
pub struct Tracker {
    labels: BTreeMap<String, Known>,
}

impl Tracker {
    /// Takes in one mask: labels and the shares of the place that they cover. A label that is not named covers
    /// nothing; one that is named twice covers the sum. Returns what has changed, in the order of the names.
    pub fn observe<'a>(
        &mut self,
        seen: impl IntoIterator<Item = (&'a str, f64)>,
        rule: &Hysteresis,
    ) -> Vec<Change> {
        let mut areas: BTreeMap<&str, f64> = BTreeMap::new();
        for (label, area) in seen {
            *areas.entry(label).or_default() += area;
            if area > 0.0 && !self.labels.contains_key(label) {
                self.labels.insert(label.to_owned(), Known::default());
            }
        }
        let mut changes = Vec::new();
        for (label, known) in &mut self.labels {
            let area = areas.get(label.as_str()).copied().unwrap_or(0.0);
            if let Some(presence) = known.take(area, rule) {
                changes.push(Change { label: label.clone(), presence, area });
            }
        }
        // Prompts come and go for months: nothing is kept about what is not there.
        self.labels.retain(|_, known| known.present || known.against > 0);
        changes
    }
}

impl Known {
    fn take(&mut self, area: f64, rule: &Hysteresis) -> Option<Presence> {
        let (is_against, needed, then) = match self.present {
            // An area of nothing is no presence, whatever the threshold.
            false => (area >= rule.enter_area && area > 0.0, rule.enter_frames, Presence::Entered),
            true => {
                let leave_area = rule.leave_area.min(rule.enter_area);
                (area < leave_area || area == 0.0, rule.leave_frames, Presence::Left)
            }
        };
        self.against = if is_against { self.against + 1 } else { 0 };
        if self.against < needed.max(1) {
            return None;
        }
        (self.present, self.against) = (!self.present, 0);
        Some(then)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Hysteresis =
        Hysteresis { enter_area: 0.10, leave_area: 0.05, enter_frames: 3, leave_frames: 2 };

    /// What one label does over a row of areas: the index of each mask at which it is told, and what.
    fn told(areas: &[f64], rule: &Hysteresis) -> Vec<(usize, Presence)> {
        let mut tracker = Tracker::default();
        let mut told = Vec::new();
        for (index, &area) in areas.iter().enumerate() {
            for change in tracker.observe([("cat", area)], rule) {
                assert_eq!((change.label.as_str(), change.area), ("cat", area));
                told.push((index, change.presence));
            }
        }
        told
    }

    use Presence::{Entered, Left};

    #[test]
    fn it_enters_after_masks_in_a_row_and_leaves_so() {
        assert_eq!(told(&[0.2, 0.2, 0.2, 0.2, 0.0, 0.0, 0.0], &RULE), [(2, Entered), (5, Left)]);
        assert_eq!(told(&[0.2, 0.2, 0.0, 0.2, 0.2, 0.2], &RULE), [(5, Entered)], "a gap starts it again");
        assert_eq!(told(&[0.2, 0.2, 0.2, 0.0, 0.2, 0.0, 0.2], &RULE), [(2, Entered)], "gaps are no leaving");
    }

    #[test]
    fn what_lies_between_the_thresholds_changes_nothing() {
        assert_eq!(told(&[0.07; 20], &RULE), []);
        let mut areas = vec![0.1; 3];
        areas.extend([0.07; 20]);
        areas.extend([0.04; 2]);
        assert_eq!(told(&areas, &RULE), [(2, Entered), (24, Left)]);
        let noise: Vec<f64> = (0..200).map(|n| if n % 2 == 0 { 0.11 } else { 0.06 }).collect();
        assert_eq!(told(&noise, &RULE), [], "never three in a row");
    }

    #[test]
    fn strange_rules_have_a_meaning() {
        let at_once = Hysteresis { enter_frames: 0, leave_frames: 0, ..RULE };
        assert_eq!(told(&[0.1, 0.0], &at_once), [(0, Entered), (1, Left)]);
        let anything = Hysteresis { enter_area: 0.0, leave_area: 0.0, ..at_once };
        assert_eq!(told(&[0.0, 1e-6, 1e-6, 0.0], &anything), [(1, Entered), (3, Left)]);
        let crossed = Hysteresis { enter_area: 0.1, leave_area: 0.9, ..at_once };
        assert_eq!(told(&[0.1; 10], &crossed), [(0, Entered)], "it does not leave above what it enters at");
        assert_eq!(told(&[f64::NAN; 5], &at_once), [], "no number is no presence");
    }

    #[test]
    fn labels_are_told_apart_and_forgotten() {
        let mut tracker = Tracker::default();
        let rule = Hysteresis { enter_frames: 1, leave_frames: 1, ..RULE };
        let changes = tracker.observe([("dog", 0.3), ("cat", 0.06), ("cat", 0.06), ("cow", 0.01)], &rule);
        let entered: Vec<_> = changes.iter().map(|change| change.label.as_str()).collect();
        assert_eq!(entered, ["cat", "dog"], "two regions of one label count together");
        let changes = tracker.observe([("dog", 0.3)], &rule);
        assert_eq!(changes, [Change { label: "cat".into(), presence: Left, area: 0.0 }]);
        assert_eq!(tracker.labels.len(), 1, "cat and cow are forgotten");
    }
}
