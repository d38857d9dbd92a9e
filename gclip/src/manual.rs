// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a package installs beside the program, made from the program's own arguments: manual pages and completions.

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap_complete::Shell;

#[derive(clap::Args)]
pub struct CompletionsArgs {
    /// The shell that will read them, as in `gclip completions bash >~/.local/share/bash-completion/completions/gclip`.
    shell: Shell,
}

#[derive(clap::Args)]
pub struct ManArgs {
    /// Folder for gclip.1 and one page for each subcommand.
    folder: PathBuf,
}

pub fn completions(args: &CompletionsArgs, mut command: clap::Command) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "gclip", &mut script);
    io::stdout().write_all(&script).context("cannot write the completions")
}

pub fn man(args: &ManArgs, command: clap::Command) -> Result<()> {
    let writing = || format!("cannot write manual pages to {}", args.folder.display());
    std::fs::create_dir_all(&args.folder).with_context(writing)?;
    clap_mangen::generate_to(command, &args.folder).with_context(writing)
}
