// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much of a camera's pictures each label takes, summed up until the sums are fetched. One picture a second is looked
//! at: plots over hours need no more, and it costs nothing that shows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gstgclip::meta::{MaskView, Masks};
use parking_lot::Mutex;

const INTERVAL: Duration = Duration::from_secs(1);
/// The mask is looked at in so many columns and rows at most.
const GRID: usize = 96;
/// Share of the grid that an area has to have to be counted: below it stand the crumbs at borders.
const CRUMB: f64 = 0.001;

/// Sums over the pictures in which a label was.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sum {
    /// Of the shares of the picture, 0..1.
    pub share: f64,
    /// Of how many separate areas it had.
    pub areas: f64,
}

/// What one camera has shown.
#[derive(Debug, Default, PartialEq)]
pub struct Sums {
    /// Pictures that were looked at.
    pub looks: u64,
    pub labels: BTreeMap<String, Sum>,
}

pub struct Tally {
    pub camera: Arc<str>,
    inner: Mutex<(Option<Instant>, Sums)>,
}

impl Tally {
    pub fn new(camera: &Arc<str>) -> Tally {
        Tally { camera: camera.clone(), inner: Mutex::default() }
    }

    /// A picture has come, on its streaming thread.
    pub fn look(&self, masks: &Masks) {
        let mut inner = self.inner.lock();
        if inner.0.is_some_and(|at| at.elapsed() < INTERVAL) {
            return;
        }
        inner.0 = Some(Instant::now());
        let areas = masks.with_ids(areas).unwrap_or_default();
        let sums = &mut inner.1;
        sums.looks += 1;
        for region in &masks.regions {
            let sum = match sums.labels.get_mut(&region.label) {
                Some(sum) => sum,
                None => sums.labels.entry(region.label.clone()).or_default(),
            };
            sum.share += region.area;
            // A class that is there has one, however small.
            sum.areas += f64::from(areas.get(&region.value).copied().unwrap_or(0).max(1));
        }
    }

    /// What has been summed up since the last time; `None` if nothing was looked at.
    pub fn take(&self) -> Option<Sums> {
        let sums = std::mem::take(&mut self.inner.lock().1);
        (sums.looks > 0).then_some(sums)
    }
}

/// Separate areas by value, those that touch at a side taken together.
fn areas(mask: &MaskView) -> BTreeMap<u32, u32> {
    let (columns, rows) = (mask.width().min(GRID), mask.height().min(GRID));
    let at = |column: usize, row: usize| {
        mask.get(column * mask.width() / columns, row * mask.height() / rows).unwrap_or(0)
    };
    let cells: Vec<u32> =
        (0..columns * rows).map(|cell| u32::from(at(cell % columns, cell / columns))).collect();
    count(&cells, columns)
}

fn count(cells: &[u32], columns: usize) -> BTreeMap<u32, u32> {
    let least = (cells.len() as f64 * CRUMB).ceil() as usize;
    let (mut counts, mut seen, mut open) = (BTreeMap::new(), vec![false; cells.len()], Vec::new());
    for start in 0..cells.len() {
        if cells[start] == 0 || seen[start] {
            continue;
        }
        let (value, mut size) = (cells[start], 0);
        seen[start] = true;
        open.push(start);
        while let Some(cell) = open.pop() {
            size += 1;
            let column = cell % columns;
            let beside = [
                (column > 0).then(|| cell - 1),
                (column + 1 < columns).then(|| cell + 1),
                cell.checked_sub(columns),
                Some(cell + columns).filter(|cell| *cell < cells.len()),
            ];
            for next in beside.into_iter().flatten() {
                if cells[next] == value && !seen[next] {
                    seen[next] = true;
                    open.push(next);
                }
            }
        }
        if size >= least {
            *counts.entry(value).or_default() += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use gstgclip::meta::Region;

    #[test]
    fn areas_that_touch_are_one() {
        let cells = [
            1, 1, 0, 2, //
            0, 1, 0, 2, //
            1, 0, 0, 0, //
            0, 0, 2, 2,
        ];
        let counts = count(&cells, 4);
        assert_eq!((counts[&1], counts[&2]), (2, 2), "at a corner is not beside");
        let mut many = vec![0; 96 * 96];
        many[0] = 1;
        many[200..220].fill(1);
        assert_eq!(count(&many, 96)[&1], 1, "a crumb is none");
    }

    #[test]
    fn one_picture_a_second_is_summed_up() {
        gst::init().unwrap();
        let tally = Tally::new(&"gate".into());
        let region = |label: &str, area| Region {
            value: 1,
            label: label.into(),
            score: 0.5,
            area,
            x: 0.0,
            y: 0.0,
            w: 1.0,
            h: 1.0,
        };
        let masks = |area| Masks::new(1, gst::Buffer::new(), vec![region("cat", area)]);
        assert_eq!(tally.take(), None);
        tally.look(&masks(0.25));
        tally.look(&masks(0.75));
        let sums = tally.take().unwrap();
        assert_eq!((sums.looks, sums.labels["cat"]), (1, Sum { share: 0.25, areas: 1.0 }));
        tally.inner.lock().0 = None;
        tally.look(&masks(0.5));
        assert_eq!(tally.take().unwrap().labels["cat"].share, 0.5);
    }
}
