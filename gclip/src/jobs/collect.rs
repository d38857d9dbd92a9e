// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which files are handed in, and what their results are called. The name holds the hash of where the file lies: two
//! of one name in two folders do not meet, whenever and from wherever they are handed in.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail, ensure};
use url::Url;

use super::job::{Job, Settings, digest};
use crate::eval::files_below;
use crate::redact;

/// What is taken from folders.
const ENDINGS: [&str; 20] = [
    "mp4", "m4v", "mov", "mkv", "webm", "avi", "ts", "m2ts", "mts", "mpg", "mpeg", "flv", "wmv", "3gp",
    "ogv", "h264", "h265", "png", "jpg", "jpeg",
];
/// Digits of the hash in a name: of a million files called alike, two meet once in a thousand archives.
const DIGITS: usize = 12;

/// A job for each file, and for each in the folders.
///
/// # Errors
/// A file is not there, or a folder holds none.
pub fn collect(files: &[String], out: &str, settings: &Settings) -> Result<Vec<Job>> {
    let mut jobs = Vec::new();
    for file in files {
        if file.contains("://") && !file.starts_with("file://") {
            jobs.push(of_url(file, out, settings)?);
            continue;
        }
        let path = match file.strip_prefix("file://") {
            Some(_) => Url::parse(file)
                .ok()
                .and_then(|url| url.to_file_path().ok())
                .with_context(|| format!("{file} is no file of this machine"))?,
            None => PathBuf::from(file),
        };
        let kind = std::fs::metadata(&path).with_context(|| format!("cannot read {file}"))?;
        if kind.is_dir() {
            let inner = files_below(&path, &ENDINGS)?;
            ensure!(!inner.is_empty(), "the folder {file} holds no video and no picture");
            for name in inner {
                jobs.push(of_file(&path.join(&name), &name, out, settings)?);
            }
        } else {
            let name = path.file_name().with_context(|| format!("{file} names no file"))?;
            jobs.push(of_file(&path, Path::new(name), out, settings)?);
        }
    }
    Ok(jobs)
}

/// The absolute path or URL by which a file is known.
///
/// # Errors
/// The path is not UTF-8.
pub fn source(file: &Path) -> Result<String> {
    let path = std::path::absolute(file).context("there is no current folder")?;
    Ok(path.to_str().with_context(|| format!("the path {} is not UTF-8", path.display()))?.into())
}

fn of_file(path: &Path, name: &Path, out: &str, settings: &Settings) -> Result<Job> {
    let source = source(path)?;
    let there = std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    let changed = there.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let version = format!("{}-{}", there.len(), changed.unwrap_or_default().as_nanos());
    let name = name.to_str().with_context(|| format!("the path {} is not UTF-8", name.display()))?;
    Ok(job(source, version, name, out, settings))
}

fn of_url(text: &str, out: &str, settings: &Settings) -> Result<Job> {
    let shown = redact::urls(text);
    let url = Url::parse(text).ok().with_context(|| format!("{shown} is no URL"))?;
    if !["http", "https"].contains(&url.scheme()) {
        bail!(
            "{shown} is no recording: files, and http:// and https:// are looked at (a live source: gclip watch)"
        );
    }
    let last = url.path_segments().and_then(|mut parts| parts.next_back());
    let name: String = last
        .unwrap_or_default()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '_' })
        .collect();
    let name = if name.trim_matches('.').is_empty() { "video" } else { &name };
    Ok(job(text.into(), String::new(), name, out, settings))
}

fn job(source: String, version: String, name: &str, out: &str, settings: &Settings) -> Job {
    let name = format!("{name}-{}", digest(&source, DIGITS));
    Job { source, version, out: out.into(), name, settings: settings.clone() }
}

#[cfg(test)]
mod tests {
    use super::super::tests::job as any;
    use super::*;

    #[test]
    fn two_files_of_one_name_do_not_meet() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["one/a.mp4", "two/a.mp4", "two/deep/b.PNG", "two/notes.txt"] {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file).unwrap();
        }
        let settings = any("/").settings;
        let at = |name: &str| folder.path().join(name).display().to_string();
        let jobs = collect(&[at("one/a.mp4"), at("two")], "/out", &settings).unwrap();
        let names: Vec<&str> = jobs.iter().map(|job| job.name.as_str()).collect();
        assert!(names[0].starts_with("a.mp4-") && names[1].starts_with("a.mp4-") && names[0] != names[1]);
        assert!(names.len() == 3 && names[2].starts_with("deep/b.PNG-"), "{names:?}");
        // Handed in by another way it is the same.
        let again = collect(&[format!("file://{}", at("two/a.mp4"))], "/out", &settings).unwrap();
        assert_eq!(again[0].id(), jobs[1].id());
        std::fs::write(folder.path().join("two/a.mp4"), "changed").unwrap();
        let changed = collect(&[at("two/a.mp4")], "/out", &settings).unwrap();
        assert!(changed[0].id() != jobs[1].id() && changed[0].name == jobs[1].name);
        assert!(collect(&[at("three")], "/out", &settings).is_err());
    }

    #[test]
    fn urls_of_recordings_are_taken_and_live_ones_refused() {
        let settings = any("/").settings;
        let one = |url: &str| collect(&[url.to_string()], "/out", &settings);
        let job = &one("https://host/a/b%20c.mp4?token=secret").unwrap()[0];
        assert!(job.name.starts_with("b_20c.mp4-"), "{}", job.name);
        assert!(one("https://host/..").unwrap()[0].name.starts_with("video-"));
        let refused = one("rtsp://me:secret@camera/1").unwrap_err().to_string();
        assert!(
            refused.contains("rtsp://camera/1 is no recording") && !refused.contains("secret"),
            "{refused}"
        );
    }
}
