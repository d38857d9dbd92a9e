// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which of the cameras in a file are this program's, where several share them without talking to each other.
//!
//! Rendezvous hashing (Thaler and Ravishankar 1998): each shard draws a number for each camera, and the highest has it.
//! So every camera is on exactly one shard, and one shard more takes over its share and moves nothing else.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use super::config::Camera;

/// The variable that stands for the option.
pub const VARIABLE: &str = "GCLIP_SHARD";
const AT_MOST: u32 = 10_000;

/// One of several programs with the same file, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: u32,
    of: u32,
}

impl Shard {
    /// What the option says, or else the variable.
    ///
    /// # Errors
    /// It is no shard.
    pub fn chosen(option: Option<Shard>) -> Result<Option<Shard>, String> {
        match (option, std::env::var(VARIABLE)) {
            (Some(shard), _) => Ok(Some(shard)),
            (None, Ok(text)) => text.parse().map(Some).map_err(|why| format!("{VARIABLE}: {why}")),
            (None, Err(_)) => Ok(None),
        }
    }

    pub fn keep_own(self, cameras: &mut Vec<Camera>) {
        cameras.retain(|camera| self.has(&camera.name));
    }

    fn has(self, camera: &str) -> bool {
        // The highest number wins; of two that are equal, which does not happen, the later shard's.
        (0..self.of).max_by_key(|&shard| draw(camera, shard)) == Some(self.index)
    }
}

/// The same in every version and on every machine, or cameras would be watched twice, or not at all, during an upgrade.
fn draw(camera: &str, shard: u32) -> u64 {
    let digest = Sha256::new().chain_update(shard.to_be_bytes()).chain_update(camera).finalize();
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Shard, String> {
        let form = || {
            format!(
                "`{text}` is no shard: write I/N, with I from 0 to N-1 or `hostname`, and N up to {AT_MOST}, such as 0/4"
            )
        };
        let (index, of) = text.trim().split_once('/').ok_or_else(form)?;
        let of = of.parse().ok().filter(|of| (1..=AT_MOST).contains(of)).ok_or_else(form)?;
        let index =
            if index == "hostname" { of_host(&host_name())? } else { index.parse().map_err(|_| form())? };
        if index >= of {
            return Err(format!("shard {index} is not among {of}, which are counted from 0 to {}", of - 1));
        }
        Ok(Shard { index, of })
    }
}

fn host_name() -> String {
    glib::host_name().to_string()
}

/// The number at the end of a name such as `gclip-2`, as a Kubernetes StatefulSet gives it to its pods.
fn of_host(name: &str) -> Result<u32, String> {
    let ordinal = name.rsplit_once('-').and_then(|(_, ordinal)| ordinal.parse().ok());
    ordinal.ok_or_else(|| {
        format!("the name of this host, `{name}`, does not end in a shard's number, such as gclip-2")
    })
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(camera: &str, of: u32) -> u32 {
        let owners: Vec<u32> = (0..of).filter(|&index| Shard { index, of }.has(camera)).collect();
        assert_eq!(owners.len(), 1, "{camera} is on shards {owners:?} of {of}");
        owners[0]
    }

    #[test]
    fn every_camera_is_on_one_shard_and_one_more_moves_only_its_share() {
        const CAMERAS: u32 = 400;
        let cameras: Vec<String> = (0..CAMERAS).map(|number| format!("camera-{number}")).collect();
        for of in [1, 2, 3, 8, 16] {
            let mut loads = vec![0u32; of as usize];
            let mut moved = 0;
            for camera in &cameras {
                let (before, after) = (owner(camera, of), owner(camera, of + 1));
                loads[before as usize] += 1;
                assert!(
                    after == before || after == of,
                    "{camera} moves from {before} to {after} of {}",
                    of + 1
                );
                moved += u32::from(after != before);
            }
            let fair = CAMERAS / of;
            let spread = 6 * f64::from(fair).sqrt() as u32;
            assert!(loads.iter().all(|load| load.abs_diff(fair) <= spread), "{loads:?}");
            assert!(moved.abs_diff(CAMERAS / (of + 1)) <= spread, "{moved} of {CAMERAS} move to shard {of}");
        }
    }

    /// Programs of different versions share cameras during an upgrade.
    #[test]
    fn where_a_camera_is_never_changes() {
        let places = ["gate", "yard", "hall", "Tür 1", ""].map(|camera| owner(camera, 7));
        assert_eq!(places, [1, 0, 4, 5, 0]);
    }

    #[test]
    fn what_is_no_shard_is_told() {
        assert_eq!("2/4".parse(), Ok(Shard { index: 2, of: 4 }));
        assert_eq!(" 0/1 ".parse::<Shard>().unwrap().to_string(), "0/1");
        for wrong in ["", "2", "/", "a/4", "-1/4", "2/0", "2/x", "1/20000", "1/2/3", "/4"] {
            let why = wrong.parse::<Shard>().unwrap_err();
            assert!(why.contains("write I/N"), "{wrong}: {why}");
        }
        assert!("4/4".parse::<Shard>().unwrap_err().contains("from 0 to 3"));
        assert_eq!(of_host("gclip-watch-11"), Ok(11));
        for wrong in ["gclip", "gclip-", "gclip-x", "7"] {
            assert!(of_host(wrong).unwrap_err().contains(wrong));
        }
    }
}
