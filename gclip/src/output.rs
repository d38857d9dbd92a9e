// SPDX-License-Identifier: MIT OR Apache-2.0
//! Results on disk: whole or not at all.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Writes a file under another name in the same folder and renames it at the end, so that nobody ever sees a part of
/// it, whatever happens in between. It may be read by whom the file may be read by that it takes the place of.
pub fn write(path: &Path, fill: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let attempt = || -> Result<()> {
        let name = path.file_name().context("it names no file")?.to_string_lossy();
        let partial = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
        let finish = || -> Result<()> {
            let file = File::create(&partial)?;
            if let Ok(old) = fs::metadata(path) {
                file.set_permissions(old.permissions())?;
            }
            let mut file = BufWriter::new(file);
            fill(&mut file)?;
            file.into_inner().map_err(|error| error.into_error())?.sync_all()?;
            Ok(fs::rename(&partial, path)?)
        };
        finish().inspect_err(|_| {
            let _ = fs::remove_file(&partial);
        })
    };
    attempt().with_context(|| format!("cannot write {}", path.display()))
}

/// Results of one run: each is written beside its place, and they go there together or not at all.
#[derive(Default)]
pub struct Results(Vec<Staged>);

struct Staged {
    place: PathBuf,
    partial: PathBuf,
    /// Where the file is kept that stood in the place before.
    old: PathBuf,
}

impl Results {
    /// Announces a result; returns where it is to be written meanwhile.
    ///
    /// # Errors
    /// The path names no file.
    pub fn add(&mut self, place: &Path) -> Result<PathBuf> {
        let name = place.file_name().with_context(|| format!("{} names no file", place.display()))?;
        let beside = |ending: &str| {
            place.with_file_name(format!(".{}.{}.{ending}", name.to_string_lossy(), std::process::id()))
        };
        let staged = Staged { place: place.into(), partial: beside("part"), old: beside("old") };
        let partial = staged.partial.clone();
        self.0.push(staged);
        Ok(partial)
    }

    /// Puts those that were written into their places.
    ///
    /// # Errors
    /// One of them cannot get there. Then all that stood there before stands there again.
    pub fn put_in_place(mut self) -> Result<()> {
        let results: Vec<Staged> = self.0.drain(..).filter(|staged| staged.partial.exists()).collect();
        for (index, staged) in results.iter().enumerate() {
            if let Err(error) = staged.put_in_place() {
                results[..index].iter().rev().for_each(Staged::take_back);
                self.0 = results;
                let place = self.0.get(index).map(|staged| staged.place.clone()).unwrap_or_default();
                return Err(error).with_context(|| format!("cannot write {}", place.display()));
            }
        }
        for staged in results {
            // There may have been none.
            let _ = fs::remove_file(&staged.old);
        }
        Ok(())
    }
}

impl Staged {
    fn put_in_place(&self) -> Result<()> {
        // On the disk before in its place: what is there after a loss of power is whole.
        File::open(&self.partial)?.sync_all()?;
        if self.place.exists() {
            fs::rename(&self.place, &self.old)?;
        }
        fs::rename(&self.partial, &self.place).inspect_err(|_| {
            let _ = fs::rename(&self.old, &self.place);
        })?;
        Ok(())
    }

    fn take_back(&self) {
        // What cannot be taken back stays, whole.
        let _ = fs::rename(&self.place, &self.partial);
        let _ = fs::rename(&self.old, &self.place);
    }
}

/// A run that fails leaves nothing.
impl Drop for Results {
    fn drop(&mut self) {
        for staged in &self.0 {
            let _ = fs::remove_file(&staged.partial);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_together_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("a"), "old a").unwrap();
        let stage = |names: &[&str]| {
            let mut results = Results::default();
            for name in names {
                fs::write(results.add(&path(name)).unwrap(), format!("new {name}")).unwrap();
            }
            results
        };
        drop(stage(&["a", "b"]));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a run that fails leaves nothing");
        // A folder stands in the place of the third, and cannot be replaced.
        fs::create_dir_all(path("c/full")).unwrap();
        let mut blocked = stage(&["a", "b"]);
        fs::write(blocked.add(&path("c/full")).unwrap(), "x").unwrap();
        fs::create_dir_all(path("c").join(format!(".full.{}.old", std::process::id())).join("in the way"))
            .unwrap();
        let message = format!("{:#}", blocked.put_in_place().unwrap_err());
        assert!(message.contains("cannot write") && message.contains("full"), "{message}");
        assert_eq!(fs::read_to_string(path("a")).unwrap(), "old a");
        assert!(!path("b").exists());
        fs::remove_dir_all(path("c")).unwrap();
        let mut results = stage(&["a", "b"]);
        results.add(&path("never written")).unwrap();
        results.put_in_place().unwrap();
        assert_eq!(fs::read_to_string(path("a")).unwrap(), "new a");
        assert_eq!(fs::read_to_string(path("b")).unwrap(), "new b");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_failure_keeps_the_old_file_and_leaves_no_part() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result.txt");
        write(&path, |file| Ok(file.write_all(b"old")?)).unwrap();
        let failed = write(&path, |file| {
            file.write_all(b"half of the new")?;
            anyhow::bail!("the disk is full")
        });
        let message = format!("{:#}", failed.unwrap_err());
        assert!(message.contains("result.txt") && message.contains("disk is full"), "{message}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
