// SPDX-License-Identifier: MIT OR Apache-2.0
//! Zones: named polygons in the picture, and which pixels of a mask lie in them.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};

/// A named polygon. Corners are (x, y), 0..1 from the top left of the picture; the last joins the first. What is
/// inside follows the even-odd rule, so a polygon that crosses itself has a meaning too.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone {
    pub name: String,
    pub corners: Vec<Corner>,
}

/// (x, y)
type Corner = (f64, f64);

/// Zones as a user writes them: `door=0.1,0.2 0.5,0.2 0.5,0.9; ramp=0,0.5 1,0.5 1,1 0,1`.
///
/// A zone is a name, `=`, and three or more corners `x,y` with blanks between them. Zones are separated by `;` or
/// by new lines; an empty text has none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Zones(pub Vec<Zone>);

impl FromStr for Zones {
    type Err = anyhow::Error;

    /// # Errors
    /// One sentence that names the zone and what is wrong with it.
    fn from_str(text: &str) -> Result<Self> {
        let mut zones: Vec<Zone> = Vec::new();
        for part in text.split([';', '\n']).map(str::trim).filter(|part| !part.is_empty()) {
            let zone: Zone = part.parse()?;
            ensure!(
                zones.iter().all(|other| other.name != zone.name),
                "two zones are called \"{}\"",
                zone.name
            );
            zones.push(zone);
        }
        Ok(Zones(zones))
    }
}

impl fmt::Display for Zones {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Zone { name, corners }) in self.0.iter().enumerate() {
            write!(f, "{}{name}=", if index == 0 { "" } else { "; " })?;
            for (index, (x, y)) in corners.iter().enumerate() {
                write!(f, "{}{x},{y}", if index == 0 { "" } else { " " })?;
            }
        }
        Ok(())
    }
}

impl FromStr for Zone {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some((name, corners)) = text.split_once('=') else {
            bail!("zone \"{}\" has no corners: write name=x,y x,y x,y", text.trim());
        };
        let name = name.trim();
        ensure!(!name.is_empty(), "a zone has no name: write name={}", corners.trim());
        let corners = corners.split_whitespace().map(corner).collect::<Result<Vec<_>>>();
        let corners = corners.with_context(|| format!("zone \"{name}\""))?;
        Zone::new(name, corners)
    }
}

impl Zone {
    /// # Errors
    /// Fewer than three corners, one outside the picture, or no area between them.
    pub fn new(name: &str, corners: Vec<Corner>) -> Result<Zone> {
        ensure!(corners.len() >= 3, "zone \"{name}\" has {} of at least 3 corners x,y", corners.len());
        for (x, y) in &corners {
            ensure!(
                (0.0..=1.0).contains(x) && (0.0..=1.0).contains(y),
                "zone \"{name}\": corner {x},{y} is outside the picture, which goes from 0,0 to 1,1"
            );
        }
        let flat = |side: fn(&Corner) -> f64| corners.iter().all(|corner| side(corner) == side(&corners[0]));
        ensure!(!flat(|c| c.0) && !flat(|c| c.1), "zone \"{name}\" is a line: it holds no area");
        Ok(Zone { name: name.to_owned(), corners })
    }

    /// The pixels of a mask of `width` x `height` whose centres lie inside. A zone too small for any has the one
    /// that the middle of its corners lies in.
    pub fn raster(&self, width: usize, height: usize) -> Raster {
        self.raster_within(width, height, [0.0, 0.0, 1.0, 1.0])
    }

    /// The same for a mask that covers only a part of the picture: left, top, width, height, 0..1. What lies elsewhere
    /// has no pixels.
    pub fn raster_within(&self, width: usize, height: usize, [left, top, across, down]: [f64; 4]) -> Raster {
        let mut spans = Vec::new();
        let place = |&(x, y): &Corner| ((x - left) / across * width as f64, (y - top) / down * height as f64);
        let corners = || self.corners.iter().map(place);
        // From top to bottom, so that two zones with an edge in common compute the same crossings for it.
        let downward = |(a, b): (Corner, Corner)| if a.1 <= b.1 { (a, b) } else { (b, a) };
        let edges: Vec<_> = corners().zip(corners().cycle().skip(1)).map(downward).collect();
        let mut crossings = Vec::new();
        for row in 0..height {
            let y = row as f64 + 0.5;
            crossings.clear();
            // An edge owns its upper end and not its lower one: a corner is crossed once, or twice at a tip.
            crossings.extend(
                edges
                    .iter()
                    .filter(|((_, from), (_, to))| (*from <= y) != (*to <= y))
                    .map(|((ax, ay), (bx, by))| ax + (y - ay) / (by - ay) * (bx - ax)),
            );
            crossings.sort_by(f64::total_cmp);
            for pair in crossings.chunks_exact(2) {
                // The first pixel whose centre is at or right of a crossing.
                let first = |x: f64| ((x - 0.5).ceil().max(0.0) as usize).min(width);
                let columns = first(pair[0])..first(pair[1]);
                if !columns.is_empty() {
                    spans.push(Span { row, columns });
                }
            }
        }
        if spans.is_empty() && width > 0 && height > 0 {
            let count = self.corners.len() as f64;
            let (x, y) = corners().fold((0.0, 0.0), |sum, corner| (sum.0 + corner.0, sum.1 + corner.1));
            let (x, y) = (x / count, y / count);
            if (0.0..=width as f64).contains(&x) && (0.0..=height as f64).contains(&y) {
                let column = (x as usize).min(width - 1);
                spans.push(Span { row: (y as usize).min(height - 1), columns: column..column + 1 });
            }
        }
        let pixels = spans.iter().map(|span| span.columns.len()).sum();
        Raster { spans, pixels }
    }
}

fn corner(text: &str) -> Result<Corner> {
    let numbers = text.split_once(',').and_then(|(x, y)| Some((x.parse().ok()?, y.parse().ok()?)));
    numbers.with_context(|| format!("corner \"{text}\" is not x,y with two numbers of 0 to 1"))
}

/// The pixels of a mask that lie in a zone, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Raster {
    spans: Vec<Span>,
    pixels: usize,
}

/// Neighbouring pixels of one row.
#[derive(Clone, Debug, PartialEq)]
struct Span {
    row: usize,
    columns: Range<usize>,
}

impl Raster {
    /// How many pixels there are.
    pub fn pixels(&self) -> usize {
        self.pixels
    }

    /// Rows and their columns, top to bottom; one row may come several times.
    pub fn spans(&self) -> impl Iterator<Item = (usize, Range<usize>)> + '_ {
        self.spans.iter().map(|span| (span.row, span.columns.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(corners: &[(f64, f64)]) -> Zone {
        Zone::new("z", corners.to_vec()).unwrap()
    }

    /// The raster as rows of `#` and `.`.
    fn drawn(zone: &Zone, width: usize, height: usize) -> Vec<String> {
        let mut rows = vec![vec!['.'; width]; height];
        let raster = zone.raster(width, height);
        let mut pixels = 0;
        for (row, columns) in raster.spans() {
            for column in columns {
                assert_eq!(std::mem::replace(&mut rows[row][column], '#'), '.', "a pixel twice");
                pixels += 1;
            }
        }
        assert_eq!(pixels, raster.pixels());
        rows.into_iter().map(String::from_iter).collect()
    }

    #[test]
    fn a_mask_of_a_part_of_the_picture_has_that_part_of_a_zone() {
        let left = zone(&[(0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)]);
        let middle = [0.25, 0.25, 0.5, 0.5];
        let columns: Vec<_> = left.raster_within(4, 2, middle).spans().collect();
        assert_eq!(columns, [(0, 0..2), (1, 0..2)]);
        let corner = zone(&[(0.0, 0.0), (0.01, 0.0), (0.01, 0.01)]);
        assert_eq!((corner.raster(4, 4).pixels(), corner.raster_within(4, 4, middle).pixels()), (1, 0));
    }

    #[test]
    fn zones_are_read_and_written() {
        let text = " door = 0.1,0.2 0.5,0.2  0.5,0.9 ;\n the ramp=0,0.5 1,0.5 1,1 0,1;;\n";
        let zones: Zones = text.parse().unwrap();
        let names: Vec<_> = zones.0.iter().map(|zone| zone.name.as_str()).collect();
        assert_eq!(names, ["door", "the ramp"]);
        assert_eq!(zones.0[0].corners, [(0.1, 0.2), (0.5, 0.2), (0.5, 0.9)]);
        assert_eq!(zones.to_string().parse::<Zones>().unwrap(), zones);
        assert_eq!(" ; \n".parse::<Zones>().unwrap(), Zones::default());
    }

    #[test]
    fn mistakes_are_told_in_one_sentence() {
        for (text, part) in [
            ("door", "\"door\" has no corners"),
            ("=0,0 1,0 1,1", "no name"),
            ("door=0,0 1,1", "2 of at least 3 corners"),
            ("door=", "0 of at least 3 corners"),
            ("door=0,0 1,0 1.5,1", "corner 1.5,1 is outside"),
            ("door=0,0 1,0 NaN,1", "outside"),
            ("door=0,0 1,0 1;1", "zone \"door\""),
            ("door=0,0 1,0 up,1", "corner \"up,1\""),
            ("door=0,0 0.5,0 1,0", "a line"),
            ("a=0,0 1,0 1,1; a=0,0 1,0 1,1", "two zones are called \"a\""),
        ] {
            let error = format!("{:#}", text.parse::<Zones>().unwrap_err());
            assert!(error.contains(part) && error.lines().count() == 1, "{text}: {error}");
        }
    }

    #[test]
    fn pixels_are_inside_by_their_centres() {
        assert_eq!(drawn(&zone(&[(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]), 3, 2), ["###", "###"]);
        assert_eq!(
            drawn(&zone(&[(0.25, 0.0), (0.75, 0.0), (0.75, 0.5), (0.25, 0.5)]), 4, 2),
            [".##.", "...."]
        );
        let triangle = zone(&[(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)]);
        assert_eq!(drawn(&triangle, 4, 4), ["###.", "##..", "#...", "...."]);
        // Both halves of a bow tie, and nothing above and below its knot.
        let tie = zone(&[(0.0, 0.0), (1.0, 1.0), (1.0, 0.0), (0.0, 1.0)]);
        assert_eq!(drawn(&tie, 6, 3), ["#....#", "######", "#....#"]);
    }

    /// Two zones that share an edge share no pixel and leave none between them, wherever the edge is.
    #[test]
    fn neighbours_tile_the_picture() {
        for step in 1..100 {
            let edge = f64::from(step) / 100.0;
            let slanted = (1.0 - edge).max(0.01);
            let left = zone(&[(0.0, 0.0), (edge, 0.0), (slanted, 1.0), (0.0, 1.0)]);
            let right = zone(&[(edge, 0.0), (1.0, 0.0), (1.0, 1.0), (slanted, 1.0)]);
            let rows = drawn(&left, 37, 11).into_iter().zip(drawn(&right, 37, 11));
            for (left, right) in rows {
                assert!(left.chars().zip(right.chars()).all(|(a, b)| (a == '#') != (b == '#')), "{edge}");
            }
        }
    }

    #[test]
    fn a_zone_below_a_pixel_has_the_pixel_it_lies_in() {
        let tiny = zone(&[(0.30, 0.30), (0.31, 0.30), (0.31, 0.31)]);
        assert_eq!(drawn(&tiny, 4, 2), [".#..", "...."]);
        assert_eq!(tiny.raster(0, 0).pixels(), 0);
    }
}
