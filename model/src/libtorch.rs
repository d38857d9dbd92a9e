// SPDX-License-Identifier: MIT OR Apache-2.0
//! The libtorch that this crate is linked with: its version, and which file of the process it is.
//!
//! A process may hold others, such as Python's torch beside a copy with names of its own
//! (`scripts/private-libtorch.py`): it is told by where a function lies, not by a file's name.

use std::ffi::{CStr, OsStr, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

unsafe extern "C" {
    /// Of libtorch's stable interface (`torch/csrc/inductor/aoti_torch/c/shim.h`), since 2.7.
    fn aoti_torch_abi_version() -> u64;
}

/// `RTLD_NOLOAD`: only a library that is loaded already.
const LOADED_ONLY: c_int = 4;

/// Major and minor.
pub fn version() -> (u64, u64) {
    // SAFETY: it takes nothing and gives a number.
    let version = unsafe { aoti_torch_abi_version() };
    (version >> 56, (version >> 48) & 0xff)
}

/// Where its half for the CPU was loaded from.
///
/// # Errors
/// The dynamic linker does not know it: it is part of the program itself.
pub fn file() -> Result<PathBuf> {
    let mut place = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: the address is that of a function, which is not called; all zeros are a valid `Dl_info`, which the call
    // fills, and the names in there live as long as the library, which is never unloaded.
    let name = unsafe {
        let known = libc::dladdr(aoti_torch_abi_version as *const c_void, place.as_mut_ptr());
        let name = place.assume_init().dli_fname;
        (known != 0 && !name.is_null()).then(|| CStr::from_ptr(name))
    };
    let name = name.context("the file of libtorch cannot be found")?;
    Ok(PathBuf::from(OsStr::from_bytes(name.to_bytes())))
}

/// The folder that it, and its half for CUDA if there is one, lie in.
///
/// # Errors
/// As [`file`].
pub fn folder() -> Result<PathBuf> {
    let file = file()?;
    let folder = file.parent().context("libtorch lies in no folder")?;
    Ok(folder.to_path_buf())
}

/// A handle for looking up what is not bound; goes through its dependencies, too.
///
/// # Errors
/// As [`file`].
pub fn library() -> Result<Library> {
    handle(&file()?)
}

/// A handle to a library that is loaded already.
///
/// # Errors
/// It is not.
pub fn handle(file: &Path) -> Result<Library> {
    // SAFETY: the library is loaded already, so no initialiser runs: this only adds a handle.
    let library = unsafe { Library::open(Some(file), RTLD_NOW | RTLD_LOCAL | LOADED_ONLY) };
    library.with_context(|| format!("{} cannot be named again", file.display()))
}
