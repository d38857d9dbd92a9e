// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which worker is to have which camera. Every worker computes it for itself and, seeing the same, gets the same answer.
//!
//! Rendezvous hashing (Thaler and Ravishankar 1998) with weights (Schindelhauer and Schomaker 2005): each worker draws a
//! number for each camera, and the camera goes to the one with the best of those that have room. Room is a worker's
//! share, `ceil(cameras * capacity / capacities)`: nobody has more. A camera stays where it is as long as its worker is
//! there and has no more than its share; so a worker that comes takes over its share and nothing else moves.

use std::collections::BTreeMap;

/// Who can have cameras.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    pub name: String,
    /// Its share is in proportion to it.
    pub capacity: u32,
    /// It is to have none any more.
    pub drains: bool,
}

/// A camera, and the place that has it.
pub type Standing<'a> = (&'a str, Option<usize>);

/// What is to happen. Indices are those of the places.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// Cameras that nobody has, with who is to take them.
    pub take: Vec<(String, usize)>,
    /// Cameras that who has them is to give away, for each place the most urgent first.
    pub give: Vec<(String, usize)>,
}

/// What is to happen to these cameras, of which each has a name of its own.
pub fn plan(places: &[Place], cameras: &[Standing]) -> Plan {
    let shares = shares(places, cameras.len());
    let of_places: Vec<u64> = places.iter().map(|place| number(&place.name)).collect();
    let mut loads = vec![0usize; places.len()];
    let mut held: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    for (camera, place) in cameras {
        if let Some(place) = *place {
            loads[place] += 1;
            held.entry(place).or_default().push(camera);
        }
    }
    let mut plan = Plan::default();
    for (place, mut names) in held {
        let excess = names.len().saturating_sub(shares[place]);
        if excess > 0 {
            // Those that drew the worst here are the ones that others wanted most.
            let draw = |name: &&str| Draw::new(number(name), of_places[place], places[place].capacity);
            names.sort_by_cached_key(|name| (draw(name), name.to_string()));
            plan.give.extend(names.iter().take(excess).map(|name| (name.to_string(), place)));
        }
    }
    // The same order for everybody, and none in which cameras of like names go together.
    let mut free: Vec<(u64, &str)> =
        cameras.iter().filter(|(_, place)| place.is_none()).map(|(name, _)| (number(name), *name)).collect();
    free.sort_unstable();
    // Of places with the same capacity the highest number wins; logarithms are only needed between capacities.
    let mut groups: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (index, place) in places.iter().enumerate().filter(|(index, _)| loads[*index] < shares[*index]) {
        groups.entry(place.capacity).or_default().push(index);
    }
    for (camera, name) in free {
        let drawn = |place: usize| (mixed(camera, of_places[place]), &places[place].name);
        let of_groups = groups.iter().filter_map(|(capacity, places)| {
            let best = places.iter().copied().max_by_key(|&place| drawn(place))?;
            Some((Draw::new(camera, of_places[best], *capacity), best))
        });
        let Some((_, place)) = of_groups.max_by_key(|(draw, place)| (*draw, &places[*place].name)) else {
            break;
        };
        loads[place] += 1;
        plan.take.push((name.to_string(), place));
        if loads[place] >= shares[place]
            && let Some(group) = groups.get_mut(&places[place].capacity)
        {
            group.retain(|other| *other != place);
        }
    }
    plan
}

/// How many cameras each place may have.
pub fn shares(places: &[Place], cameras: usize) -> Vec<usize> {
    let weight = |place: &Place| if place.drains { 0 } else { u128::from(place.capacity) };
    let all: u128 = places.iter().map(weight).sum();
    let share = |place: &Place| (cameras as u128 * weight(place)).div_ceil(all.max(1));
    places.iter().map(|place| usize::try_from(share(place)).unwrap_or(usize::MAX)).collect()
}

/// Of `names`, the `count` that are to look after `of`: others for each, and the same for everybody who asks.
pub fn watchers<'a>(of: &str, names: impl Iterator<Item = &'a str>, count: usize) -> Vec<&'a str> {
    let mut drawn: Vec<(u64, &str)> =
        names.filter(|name| *name != of).map(|name| (mixed(number(of), number(name)), name)).collect();
    drawn.sort_unstable();
    drawn.into_iter().take(count).map(|(_, name)| name).collect()
}

/// What a place has drawn for a camera: `capacity / -log(u)` with `u` drawn evenly from 0 to 1, which makes a place of
/// twice the capacity win twice as often. In whole numbers, so that machines of all kinds agree.
#[derive(Clone, Copy, Debug)]
struct Draw {
    capacity: u64,
    /// `-log2(u)` in units of 2^-32; never 0.
    exponent: u64,
}

impl Draw {
    fn new(camera: u64, place: u64, capacity: u32) -> Draw {
        let capacity = u64::from(capacity);
        Draw {
            capacity,
            exponent: (64 << FRACTION) - log2(mixed(camera, place).max(1)).min((64 << FRACTION) - 1),
        }
    }
}

impl Ord for Draw {
    fn cmp(&self, other: &Draw) -> std::cmp::Ordering {
        let product = |capacity: u64, exponent: u64| u128::from(capacity) * u128::from(exponent);
        product(self.capacity, other.exponent).cmp(&product(other.capacity, self.exponent))
    }
}

impl PartialEq for Draw {
    fn eq(&self, other: &Draw) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Draw {}

impl PartialOrd for Draw {
    fn partial_cmp(&self, other: &Draw) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

const FRACTION: u32 = 32;

/// The logarithm to base 2 in units of 2^-32, digit by digit: the square of the mantissa has the next digit.
fn log2(number: u64) -> u64 {
    let whole = 63 - number.leading_zeros();
    // From 2^63 to 2^64, which stands for 1 to 2.
    let mut mantissa = u128::from(number) << (63 - whole);
    let mut log = u64::from(whole);
    for _ in 0..FRACTION {
        mantissa = (mantissa * mantissa) >> 63;
        let digit = mantissa >> 64;
        mantissa >>= digit;
        log = (log << 1) | u64::try_from(digit).unwrap_or_default();
    }
    log
}

/// A number for a name (FNV-1a, mixed), the same in every version and on every machine.
fn number(name: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    mix(name.bytes().fold(0xcbf2_9ce4_8422_2325, step))
}

fn mixed(camera: u64, place: u64) -> u64 {
    mix(camera ^ place.rotate_left(32))
}

/// The finalizer of MurmurHash3: every bit depends on every other.
fn mix(mut bits: u64) -> u64 {
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ bits >> 33
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str, capacity: u32) -> Place {
        Place { name: name.into(), capacity, drains: false }
    }

    /// Carries out plans until there is nothing left to do; how many cameras were given away.
    fn settle(places: &[Place], cameras: &mut BTreeMap<String, Option<usize>>) -> usize {
        let mut moved = 0;
        loop {
            let standing: Vec<Standing> =
                cameras.iter().map(|(name, place)| (name.as_str(), *place)).collect();
            let Plan { take, give } = plan(places, &standing);
            if take.is_empty() && give.is_empty() {
                return moved;
            }
            moved += give.len();
            let taken = take.into_iter().map(|(name, place)| (name, Some(place)));
            cameras.extend(give.into_iter().map(|(name, _)| (name, None)).chain(taken).collect::<Vec<_>>());
        }
    }

    fn loads(places: &[Place], cameras: &BTreeMap<String, Option<usize>>) -> Vec<usize> {
        (0..places.len())
            .map(|index| cameras.values().filter(|place| **place == Some(index)).count())
            .collect()
    }

    #[test]
    fn everybody_has_a_share_and_one_more_moves_no_more_than_its_own() {
        let mut cameras: BTreeMap<String, Option<usize>> =
            (0..300).map(|number| (format!("camera-{number}"), None)).collect();
        let mut places: Vec<Place> = (0..11).map(|number| place(&format!("worker-{number}"), 1)).collect();
        assert_eq!(settle(&places, &mut cameras), 0, "what nobody has is only taken");
        assert!(loads(&places, &cameras).iter().all(|load| *load <= 28), "{:?}", loads(&places, &cameras));
        places.push(place("one more", 1));
        let moved = settle(&places, &mut cameras);
        let after = loads(&places, &cameras);
        assert_eq!(after, [25; 12]);
        // A few go to others that had less than their share.
        assert!((25..25 + 11).contains(&moved), "{moved}");
        // One that leaves gives its cameras to all others.
        let before = cameras.clone();
        cameras.values_mut().filter(|place| **place == Some(0)).for_each(|place| *place = None);
        places[0].drains = true;
        assert_eq!(settle(&places, &mut cameras), 0);
        assert!(before.iter().all(|(name, place)| *place == Some(0) || cameras[name] == *place));
        assert_eq!(loads(&places, &cameras)[0], 0);
    }

    #[test]
    fn capacities_count() {
        let places = [place("small", 1), place("large", 3), Place { drains: true, ..place("leaving", 8) }];
        assert_eq!(shares(&places, 8), [2, 6, 0]);
        let mut cameras: BTreeMap<String, Option<usize>> =
            (0..4000).map(|number| (format!("{number}"), None)).collect();
        settle(&places, &mut cameras);
        assert_eq!(loads(&places, &cameras), [1000, 3000, 0]);
        assert_eq!(plan(&[], &[("gate", None)]), Plan::default());
        // Without the limit, too: who draws best is in proportion.
        let wins = (0..40_000u64)
            .filter(|camera| Draw::new(mix(*camera), 1, 3) > Draw::new(mix(*camera), 2, 1))
            .count();
        assert!(wins.abs_diff(30_000) < 400, "{wins}");
    }

    #[test]
    fn logarithms_are_right() {
        for number in [1u64, 2, 3, 10, 1 << 40, u64::MAX / 3, u64::MAX] {
            let log = log2(number) as f64 / f64::from(2.0f32.powi(32));
            assert!((log - (number as f64).log2()).abs() < 1e-9, "{number}: {log}");
        }
    }

    /// Workers of different versions share cameras during an upgrade.
    #[test]
    fn who_takes_what_never_changes() {
        let places: Vec<Place> = ["a", "b", "c"].map(|name| place(name, 1)).to_vec();
        let takes = |camera: &str| plan(&places, &[(camera, None)]).take[0].1;
        assert_eq!(["gate", "yard", "hall", "Tür 1", "x"].map(takes), PLACES);
        let names = || ["a", "b", "c", "d", "e"].into_iter();
        assert_eq!(watchers("c", names(), 3), WATCHERS);
        assert_eq!(watchers("c", ["c"].into_iter(), 3), [""; 0]);
    }

    const PLACES: [usize; 5] = [1, 0, 1, 1, 1];
    const WATCHERS: [&str; 3] = ["e", "a", "b"];
}
