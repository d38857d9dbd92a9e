// SPDX-License-Identifier: MIT OR Apache-2.0
//! The options by which commands name the servers.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::{Key, SCHEMES, Servers};
use crate::address::Address;

/// The variable that stands for `--server`.
const VARIABLE: &str = "GCLIP_NATS";

// Commands that take them have an `Args` of their own.
#[derive(clap::Args)]
#[group(skip)]
pub struct Args {
    /// NATS server, nats://HOST:4222 or tls://HOST:4222, with user:password@ where it asks for them; more than one of a
    /// cluster may be named [environment: GCLIP_NATS, separated by commas]
    #[arg(long = "server", value_name = "URL")]
    servers: Vec<String>,
    /// File with the credentials (JWT and seed) for them
    #[arg(long, value_name = "FILE", conflicts_with = "nkey")]
    credentials: Option<PathBuf>,
    /// File with the seed of an NKey for them
    #[arg(long, value_name = "FILE")]
    nkey: Option<PathBuf>,
    /// File with the certificate of who vouches for them, in PEM
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl Args {
    /// # Errors
    /// No server is named, or one that is none.
    pub fn servers(&self) -> Result<Servers> {
        let from_environment = std::env::var(VARIABLE).unwrap_or_default();
        let texts: Vec<&str> = match self.servers.is_empty() {
            true => from_environment.split(',').map(str::trim).filter(|text| !text.is_empty()).collect(),
            false => self.servers.iter().map(String::as_str).collect(),
        };
        ensure!(!texts.is_empty(), "no NATS server is named: --server nats://HOST:4222, or set {VARIABLE}");
        let addresses = texts.into_iter().map(|text| Address::parse(text, &SCHEMES).context("--server"));
        let key = match (&self.credentials, &self.nkey) {
            (Some(path), _) => Key::Credentials(path.clone()),
            (None, Some(path)) => Key::Nkey(path.clone()),
            (None, None) => Key::None,
        };
        Ok(Servers { addresses: addresses.collect::<Result<_>>()?, key, ca: self.ca.clone() })
    }
}
