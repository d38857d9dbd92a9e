// SPDX-License-Identifier: MIT OR Apache-2.0
//! The snapshots' files, by number, a thousand to a folder.

use std::collections::HashSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::output;

pub struct Album(PathBuf);

impl Album {
    pub fn in_folder(folder: &Path) -> Album {
        Album(folder.join("snapshots"))
    }

    fn path(&self, number: u64) -> PathBuf {
        self.0.join(format!("{:06}", number / 1000)).join(format!("{number}.jpg"))
    }

    /// # Errors
    /// It cannot be written. Then no part of it is there.
    pub fn put(&self, number: u64, jpeg: &[u8]) -> Result<()> {
        let path = self.path(number);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        output::write(&path, |file| Ok(file.write_all(jpeg)?))
    }

    /// # Errors
    /// It cannot be read. `None`: it is not there.
    pub fn get(&self, number: u64) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path(number)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    /// One that is gone already is gone.
    pub fn remove(&self, number: u64) {
        let path = self.path(number);
        let _ = fs::remove_file(&path);
        // Not before the last of a thousand has left.
        let _ = path.parent().map(fs::remove_dir);
    }

    /// Removes what is not known, such as files that a loss of power has left without an entry.
    pub fn sweep(&self, known: &HashSet<u64>) {
        let within = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
        for folder in within(&self.0) {
            for file in within(&folder.path()) {
                let name = file.file_name();
                let number = name.to_str().and_then(|name| name.strip_suffix(".jpg")?.parse().ok());
                if !number.is_some_and(|number| known.contains(&number)) {
                    // What cannot be removed now is tried again at the next start.
                    let _ = fs::remove_file(file.path());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_come_and_go_and_strangers_are_swept_out() {
        let folder = tempfile::tempdir().unwrap();
        let album = Album::in_folder(folder.path());
        assert_eq!(album.get(7).unwrap(), None);
        for number in [7, 8, 12_345] {
            album.put(number, &number.to_le_bytes()).unwrap();
        }
        assert_eq!(album.get(12_345).unwrap().unwrap(), 12_345u64.to_le_bytes());
        album.sweep(&HashSet::from([7, 12_345]));
        assert_eq!((album.get(7).unwrap().is_some(), album.get(8).unwrap()), (true, None));
        album.remove(7);
        album.remove(7);
        assert!(!folder.path().join("snapshots/000000").exists(), "an empty folder goes too");
        std::fs::write(folder.path().join("file"), "").unwrap();
        assert!(Album::in_folder(&folder.path().join("file")).put(1, &[]).is_err());
    }
}
