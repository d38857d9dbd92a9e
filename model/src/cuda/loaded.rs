// SPDX-License-Identifier: MIT OR Apache-2.0
//! Libraries of libtorch that this process has loaded already, and the functions that they export.

use anyhow::Result;
use libloading::os::unix::Library;

use crate::libtorch;

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

/// A handle to a library of this name in libtorch's folder, if it is loaded already; looking up a name in it goes through
/// its dependencies, too.
pub(super) fn loaded(name: &str) -> Result<Option<Library>> {
    Ok(libtorch::handle(&libtorch::folder()?.join(name)).ok())
}
