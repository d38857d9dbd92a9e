// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where results go: a folder or an object store. Each is written beside its place, or in a folder of this machine, and
//! is in its place whole or not at all.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use url::Url;

use super::store::Store;
use crate::random;

/// As it is written in a job.
pub fn written(typed: &str) -> Result<String> {
    if typed.starts_with("s3://") {
        let url =
            Url::parse(typed).ok().filter(|url| url.host_str().is_some_and(|bucket| !bucket.is_empty()));
        let url = url.with_context(|| format!("--out {typed}: write s3://BUCKET/FOLDER"))?;
        ensure!(
            url.username().is_empty() && url.password().is_none() && url.query().is_none(),
            "--out: keys stand in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), not in the URL"
        );
        return Ok(typed.trim_end_matches('/').into());
    }
    let path = match typed.strip_prefix("file://") {
        Some(_) => {
            let path = Url::parse(typed).ok().and_then(|url| url.to_file_path().ok());
            path.with_context(|| format!("--out {typed}: write file:///FOLDER"))?
        }
        None => PathBuf::from(typed),
    };
    let scheme = typed.split_once("://").map(|(scheme, _)| scheme).filter(|scheme| *scheme != "file");
    ensure!(
        scheme.is_none(),
        "--out {typed}: results go to a folder, to file:///FOLDER or to s3://BUCKET/FOLDER"
    );
    let path = std::path::absolute(&path).context("there is no current folder")?;
    let text = path.to_str().with_context(|| format!("the path {} is not UTF-8", path.display()))?;
    Ok(text.into())
}

/// A place that can be written to.
#[derive(Clone)]
pub enum Place {
    Folder(PathBuf),
    Store(Arc<Store>),
}

impl Place {
    /// `out` as [`written`] gives it.
    ///
    /// # Errors
    /// Nothing can be written there; tried by writing.
    pub fn open(out: &str) -> Result<Place> {
        if out.starts_with("s3://") {
            return Ok(Place::Store(Arc::new(Store::open(out)?)));
        }
        let folder = PathBuf::from(out);
        let trying = || -> Result<()> {
            fs::create_dir_all(&folder)?;
            let probe = folder.join(format!(".gclip-{}.part", random::hex()?));
            fs::write(&probe, b"gclip")?;
            Ok(fs::remove_file(&probe)?)
        };
        trying().with_context(|| format!("nothing can be written to {out}"))?;
        Ok(Place::Folder(folder))
    }

    /// Begins to write the results of that base name.
    ///
    /// # Errors
    /// Its folder cannot be made.
    pub fn stage(&self, name: &str) -> Result<Stage> {
        let (beside, scratch) = match self {
            Place::Folder(folder) => (folder.join(name), None),
            Place::Store(_) => {
                let folder = std::env::temp_dir().join(format!("gclip-{}", random::hex()?));
                (folder.join("result"), Some(folder))
            }
        };
        if let Some(folder) = beside.parent() {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        }
        Ok(Stage {
            place: self.clone(),
            name: name.into(),
            beside,
            token: random::hex()?,
            scratch,
            files: vec![],
        })
    }
}

/// Results of one run that are not in their places yet. Dropped, it leaves nothing.
pub struct Stage {
    place: Place,
    name: String,
    /// Where they would lie, without their endings.
    beside: PathBuf,
    /// No other run has it: two may write the same result at a time.
    token: String,
    scratch: Option<PathBuf>,
    /// Endings, and where each is written.
    files: Vec<(String, PathBuf)>,
}

impl Stage {
    /// Where a result with this ending is to be written.
    pub fn file(&mut self, ending: &str) -> PathBuf {
        let path = match self.beside.file_name() {
            Some(name) => self.beside.with_file_name(format!(
                ".{}.{ending}.{}.part",
                name.to_string_lossy(),
                self.token
            )),
            None => self.beside.with_extension(ending),
        };
        self.files.push((ending.into(), path.clone()));
        path
    }

    /// Puts those that were written into their places, in the order in which they were announced; where they are now.
    ///
    /// # Errors
    /// One of them does not get there. Those before it do: they are whole, and another run puts the same there.
    pub fn put(self) -> Result<Vec<String>> {
        let written = self.files.iter().filter(|(_, path)| path.exists());
        let places = written.map(|(ending, path)| match &self.place {
            Place::Folder(folder) => {
                let place = folder.join(format!("{}.{ending}", self.name));
                put_in_folder(path, &place).with_context(|| format!("cannot write {}", place.display()))?;
                Ok(place.display().to_string())
            }
            Place::Store(store) => store.put(path, &format!("{}.{ending}", self.name)),
        });
        let places = places.collect::<Result<Vec<String>>>()?;
        self.clear_behind_others();
        Ok(places)
    }

    /// Runs that were cut off have left their parts.
    fn clear_behind_others(&self) {
        let (Place::Folder(_), Some(folder), Some(name)) =
            (&self.place, self.beside.parent(), self.beside.file_name())
        else {
            return;
        };
        let start = format!(".{}.", name.to_string_lossy());
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let file = entry.file_name();
            let file = file.to_string_lossy();
            if file.starts_with(&start) && file.ends_with(".part") {
                // What cannot be removed does no harm.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for (_, path) in &self.files {
            // It may be in its place, or never have been written.
            let _ = fs::remove_file(path);
        }
        if let Some(folder) = &self.scratch {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// On the disk before in its place, and its place on the disk before it counts: what is told to be there is there after
/// a loss of power.
fn put_in_folder(partial: &Path, place: &Path) -> Result<()> {
    File::open(partial)?.sync_all()?;
    fs::rename(partial, place)?;
    if let Some(folder) = place.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_whole_or_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::open(folder.path().to_str().unwrap()).unwrap();
        let names = || {
            let mut names: Vec<String> = fs::read_dir(folder.path().join("a"))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        let mut cut_off = place.stage("a/x.mp4").unwrap();
        fs::write(cut_off.file("jsonl"), "half").unwrap();
        std::mem::forget(cut_off);
        let mut failed = place.stage("a/x.mp4").unwrap();
        fs::write(failed.file("jsonl"), "half").unwrap();
        drop(failed);
        assert_eq!(names().len(), 1, "what was cut off is still there");
        let mut whole = place.stage("a/x.mp4").unwrap();
        fs::write(whole.file("mp4"), "video").unwrap();
        whole.file("png");
        fs::write(whole.file("jsonl"), "lines").unwrap();
        let results = whole.put().unwrap();
        assert_eq!(names(), ["x.mp4.jsonl", "x.mp4.mp4"]);
        assert!(results.len() == 2 && results[1].ends_with("/a/x.mp4.jsonl"), "{results:?}");
        assert_eq!(fs::read_to_string(&results[1]).unwrap(), "lines");
    }

    #[test]
    fn where_results_may_go() {
        assert_eq!(written("s3://bucket/a/").unwrap(), "s3://bucket/a");
        assert_eq!(written("file:///a%20b").unwrap(), "/a b");
        assert!(written("out").unwrap().ends_with("/out"));
        for wrong in ["s3://", "s3://key:secret@bucket", "gs://bucket", "file://elsewhere/a"] {
            assert!(written(wrong).is_err(), "{wrong}");
        }
        assert!(Place::open("/proc/gclip").is_err());
    }
}
