// SPDX-License-Identifier: MIT OR Apache-2.0
//! Results on disk: whole or not at all.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};

/// Writes a file under another name in the same folder and renames it at the end, so that nobody ever sees a part of
/// it, whatever happens in between.
pub fn write(path: &Path, fill: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let attempt = || -> Result<()> {
        let name = path.file_name().context("it names no file")?.to_string_lossy();
        let partial = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
        let finish = || -> Result<()> {
            let mut file = BufWriter::new(File::create(&partial)?);
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

#[cfg(test)]
mod tests {
    use super::*;

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
