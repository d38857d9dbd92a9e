// SPDX-License-Identifier: MIT OR Apache-2.0
//! Libraries that this process has loaded already, and the functions that they export.

use std::ffi::c_int;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

/// `RTLD_NOLOAD`: only a library that is loaded already.
const LOADED_ONLY: c_int = 4;

/// Declares a table of functions, and how it is read from a library.
macro_rules! functions {
    ($(#[$about:meta])* $table:ident { $($name:ident = $symbol:literal: fn($($argument:ty),*) -> $result:ty;)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy)]
        pub(in crate::cuda) struct $table {
            $(pub $name: unsafe extern "C" fn($($argument),*) -> $result,)*
        }

        impl $table {
            pub(in crate::cuda) fn of(library: &libloading::os::unix::Library) -> anyhow::Result<$table> {
                use anyhow::Context;
                Ok($table {
                    // SAFETY: the type is that of this function where it is declared. The library stays loaded: it
                    // belongs to libtorch, which is never unloaded, and the callers keep a handle of their own.
                    $($name: *unsafe { library.get($symbol.as_bytes()) }
                        .with_context(|| format!("the library has no {}", $symbol))?,)*
                })
            }
        }
    };
}
pub(in crate::cuda) use functions;

/// A handle to a library that is loaded already; looking up a name in it goes through its dependencies, too.
pub(super) fn loaded(name: &str) -> Result<Option<Library>> {
    let Some(file) = loaded_file(name) else { return Ok(None) };
    // SAFETY: the library is loaded already, so no initialiser runs: this only adds a handle.
    let library = unsafe { Library::open(Some(&file), RTLD_NOW | RTLD_LOCAL | LOADED_ONLY) };
    Ok(Some(library.with_context(|| format!("{} cannot be named again", file.display()))?))
}

/// The file of a loaded library of this name.
fn loaded_file(name: &str) -> Option<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let files = maps.lines().filter_map(|line| Some(Path::new(&line[line.find('/')?..])));
    files.filter(|file| file.file_name().is_some_and(|found| found == name)).map(Path::to_owned).next()
}
