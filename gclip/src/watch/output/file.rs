// SPDX-License-Identifier: MIT OR Apache-2.0
//! A file that grows by whole lines, whatever somebody else does with it: rotates it by renaming or truncating,
//! removes it, fills its disk; or a named pipe, whose readers come and go.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::sink::Sink;

/// How long a full pipe is waited for between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// A reader of a pipe that takes nothing for this long loses the line.
const PATIENCE: Duration = Duration::from_secs(5);

pub struct Appender {
    path: PathBuf,
    /// `None`: a named pipe without a reader, or a file that could not be opened again.
    file: Option<File>,
    is_pipe: bool,
    /// Part of a line stands at the end of the file.
    torn: bool,
}

impl Appender {
    /// Does not wait, not even for the reader of a pipe.
    pub fn open(path: &Path) -> io::Result<Appender> {
        let is_pipe = fs::metadata(path).is_ok_and(|file| file.file_type().is_fifo());
        let file = match open(path) {
            Ok(file) => Some(file),
            // ENXIO: nobody reads the pipe yet.
            Err(error) if is_pipe && error.raw_os_error() == Some(libc::ENXIO) => None,
            Err(error) => return Err(error),
        };
        Ok(Appender { path: path.into(), file, is_pipe, torn: false })
    }

    /// The file that the path names now: the one that was written so far may have been renamed.
    fn current(&mut self) -> io::Result<&mut File> {
        let named = fs::metadata(&self.path).ok();
        let open_now = self.file.as_ref().and_then(|file| file.metadata().ok());
        let same = named
            .zip(open_now)
            .is_some_and(|(named, open)| (named.dev(), named.ino()) == (open.dev(), open.ino()));
        if !same {
            // Another file has whole lines so far.
            (self.file, self.torn) = (None, false);
            self.file = Some(open(&self.path)?);
        }
        self.file.as_mut().ok_or_else(|| ErrorKind::NotFound.into())
    }
}

/// Appending puts each line at the end even if something else has cut the file short meanwhile.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).custom_flags(libc::O_NONBLOCK).open(path)
}

impl Sink for Appender {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let is_pipe = self.is_pipe;
        let torn = self.torn;
        let file = self.current()?;
        let mut left = Vec::new();
        if torn {
            left.push(b'\n');
        }
        left.extend_from_slice(line);
        let before = file.metadata()?.len();
        let (mut written, start) = (0, Instant::now());
        while written < left.len() {
            match file.write(&left[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && start.elapsed() < PATIENCE => {
                    std::thread::sleep(LOOK);
                }
                Err(error) if is_pipe && error.kind() == ErrorKind::BrokenPipe => {
                    // The next reader gets whole lines.
                    self.file = None;
                    return Err(io::Error::other("its reader has left"));
                }
                Err(error) => {
                    // A part of a line would spoil the file for whoever reads it now. If nobody else has written
                    // meanwhile it can be taken back.
                    let after = file.metadata().map_or(0, |file| file.len());
                    let own = !is_pipe && after == before + written as u64;
                    let taken_back = written == 0 || own && file.set_len(before).is_ok();
                    self.torn = torn || !taken_back;
                    return Err(error);
                }
            }
        }
        self.torn = false;
        Ok(())
    }

    fn is_ready(&mut self, patience: Duration) -> bool {
        if self.is_pipe && self.file.is_none() {
            match open(&self.path) {
                Ok(file) => self.file = Some(file),
                Err(_) => std::thread::sleep(patience),
            }
        }
        !self.is_pipe || self.file.is_some()
    }

    fn waits_for(&self) -> &'static str {
        "a reader of the pipe"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_renamed_or_removed_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let read = |name: &str| fs::read_to_string(path(name)).unwrap();
        let mut file = Appender::open(&path("a")).unwrap();
        file.write(b"one\n").unwrap();
        fs::rename(path("a"), path("a.1")).unwrap();
        file.write(b"two\n").unwrap();
        assert_eq!((read("a.1").as_str(), read("a").as_str()), ("one\n", "two\n"));
        fs::remove_file(path("a")).unwrap();
        file.write(b"three\n").unwrap();
        assert_eq!(read("a"), "three\n");
        File::options().write(true).open(path("a")).unwrap().set_len(0).unwrap();
        file.write(b"four\n").unwrap();
        assert_eq!(read("a"), "four\n", "copied and truncated");
        fs::remove_dir_all(folder.path()).unwrap();
        assert!(file.write(b"lost\n").is_err());
        fs::create_dir(folder.path()).unwrap();
        file.write(b"five\n").unwrap();
        assert_eq!(read("a"), "five\n", "the folder is there again");
    }

    #[test]
    fn readers_of_a_pipe_come_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let mut pipe = Appender::open(&path).unwrap();
        let soon = Duration::from_millis(10);
        assert!(!pipe.is_ready(soon));
        for line in ["one\n", "two\n"] {
            let reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
            assert!(pipe.is_ready(soon));
            pipe.write(line.as_bytes()).unwrap();
            let mut text = [0; 100];
            let length = io::Read::read(&mut &reader, &mut text).unwrap();
            assert_eq!(&text[..length], line.as_bytes());
            drop(reader);
            let error = pipe.write(b"lost\n").unwrap_err();
            assert!(error.kind() != ErrorKind::BrokenPipe && error.to_string().contains("left"), "{error}");
            assert!(!pipe.is_ready(soon));
        }
    }
}
