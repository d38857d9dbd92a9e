// SPDX-License-Identifier: MIT OR Apache-2.0
//! NATS servers: who they are, what they want to know of who comes, and what must be there: JetStream, and a version
//! that this program has been tried with.
//!
//! ```text
//! args     options of commands    keys  names of cameras and workers as parts of keys and subjects
//! ```

pub mod args;
pub mod keys;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use async_nats::jetstream::context::{
    AccountErrorKind, CreateKeyValueErrorKind, CreateStreamError, KeyValueErrorKind,
};
use async_nats::jetstream::{self, kv, stream};
use async_nats::{Client, ConnectErrorKind, ConnectOptions};

use crate::address::Address;

/// Compare-and-set with several filters in one watch came with it.
const OLDEST: (u32, u32) = (2, 10);
const CONNECT: Duration = Duration::from_secs(3);
/// A server that says nothing for so long is gone.
const PING: Duration = Duration::from_secs(2);
/// JetStream is asked so often, for five seconds each time.
const ASKED: u32 = 3;
/// Before the first try to come back, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));
/// Of what is kept: on three servers, or, where there are fewer, on one.
const COPIES: [usize; 2] = [3, 1];
pub const SCHEMES: [&str; 2] = ["nats", "tls"];

/// What stands in the place of a password.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Key {
    #[default]
    None,
    /// A file with the seed of an NKey.
    Nkey(PathBuf),
    /// A file with a JWT and its seed, as `nsc` makes it.
    Credentials(PathBuf),
}

/// One cluster of servers.
#[derive(Clone, PartialEq)]
pub struct Servers {
    /// One is enough; the others are tried in its place.
    pub addresses: Vec<Address>,
    pub key: Key,
    /// For TLS: a file with the certificates of those whose word counts, in PEM, beside those of the system.
    pub ca: Option<PathBuf>,
}

/// No server answers; one may later.
#[derive(Debug)]
pub struct Unreachable(String);

impl std::fmt::Display for Unreachable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unreachable {}

/// Runs what is said with servers, on this thread.
///
/// # Errors
/// What it returns, or the system gives no means to wait for the network.
pub fn run<T>(conversation: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(conversation)
}

impl std::fmt::Debug for Servers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Servers({})", self.shown())
    }
}

impl Servers {
    pub fn shown(&self) -> String {
        let all: Vec<String> = self.addresses.iter().map(Address::to_string).collect();
        all.join(", ")
    }

    /// Connects, and looks whether these are servers that can be used. `name` is what they call this client.
    ///
    /// # Errors
    /// One sentence: none is there, what was said is not enough for them, they are too old, or have no JetStream.
    pub async fn connect(&self, name: &str) -> Result<Client> {
        let urls: Vec<String> = self.addresses.iter().map(|address| address.location.clone()).collect();
        let connected = self.options(name).await?.connect(urls).await;
        let client = connected.map_err(|error| self.explain(error.kind(), &error))?;
        let info = client.server_info();
        let mut parts = info.version.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
        let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        ensure!(
            version >= OLDEST,
            "NATS at {} is version {}, and {}.{} or newer is needed: older ones lose what they have confirmed when \
             two write at a time",
            self.shown(),
            info.version,
            OLDEST.0,
            OLDEST.1
        );
        self.look_for_jetstream(&client).await?;
        Ok(client)
    }

    /// A cluster that has just lost a server says nothing until it has chosen who leads.
    async fn look_for_jetstream(&self, client: &Client) -> Result<()> {
        let mut tries = 0;
        loop {
            let Err(error) = jetstream::new(client.clone()).query_account().await else { return Ok(()) };
            let shown = self.shown();
            ensure!(
                error.kind() == AccountErrorKind::TimedOut,
                "NATS at {shown} has no JetStream for this user: start the server with -js, or allow it ({error})"
            );
            tries += 1;
            if tries == ASKED {
                bail!(Unreachable(format!(
                    "JetStream of NATS at {shown} does not answer: its servers may be too few to agree"
                )));
            }
        }
    }

    async fn options(&self, name: &str) -> Result<ConnectOptions> {
        let options = ConnectOptions::new().name(name).connection_timeout(CONNECT).ping_interval(PING);
        let mut options = options.reconnect_delay_callback(|tries| {
            // The first try is made at once.
            let doubled = RETRY.0.saturating_mul(1u32.checked_shl(tries as u32).unwrap_or(u32::MAX));
            if tries == 0 { Duration::ZERO } else { doubled.min(RETRY.1) }
        });
        if let Some(ca) = &self.ca {
            ensure!(ca.is_file(), "the certificates in {} cannot be read", ca.display());
            options = options.add_root_certificates(ca.clone());
        }
        let user = self.addresses.iter().find_map(|address| address.user.clone().map(|user| (user, address)));
        if let Some((user, address)) = user {
            options = options.user_and_password(user, address.password.clone().unwrap_or_default());
        }
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
        };
        Ok(match &self.key {
            Key::None => options,
            Key::Nkey(path) => options.nkey(read(path)?.trim().to_string()),
            Key::Credentials(path) => options
                .credentials(&read(path)?)
                .map_err(|error| anyhow!("{} holds no credentials of NATS: {error}", path.display()))?,
        })
    }

    fn explain(&self, kind: ConnectErrorKind, error: &dyn std::fmt::Display) -> Error {
        let shown = self.shown();
        let what = error.to_string();
        match kind {
            // TLS fails as input and output do.
            _ if what.contains("certificate") => {
                anyhow!(
                    "NATS at {shown}: its certificate is not trusted ({what}): name who vouches for it with ca"
                )
            }
            ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                anyhow!("NATS at {shown} refuses who comes: user and password, NKey or credentials are wrong")
            }
            ConnectErrorKind::TimedOut => Unreachable(format!("NATS at {shown} does not answer")).into(),
            ConnectErrorKind::Dns => Unreachable(format!("NATS at {shown}: the name is not known")).into(),
            ConnectErrorKind::Tls => anyhow!("NATS at {shown} speaks no TLS as it should: {what}"),
            _ => Unreachable(format!("NATS at {shown} cannot be reached: {what}")).into(),
        }
    }
}

/// A stream, made where it is not there, in as many copies as the cluster has servers for.
///
/// # Errors
/// The servers do not let it be made.
pub async fn stream(context: &jetstream::Context, config: stream::Config) -> Result<(), CreateStreamError> {
    let three = stream::Config { num_replicas: COPIES[0], ..config.clone() };
    if context.get_or_create_stream(three).await.is_ok() {
        return Ok(());
    }
    let one = stream::Config { num_replicas: COPIES[1], ..config };
    context.get_or_create_stream(one).await.map(drop)
}

/// A bucket of keys and values; it is made where it is not there, in as many copies as the cluster has servers for.
///
/// # Errors
/// The servers do not let it be made.
pub async fn bucket(context: &jetstream::Context, name: &str, what: &str) -> Result<kv::Store> {
    match context.get_key_value(name).await {
        Ok(store) => return Ok(store),
        Err(error) if error.kind() == KeyValueErrorKind::GetBucket => {}
        Err(error) => bail!("the bucket {name} cannot be opened: {error}"),
    }
    let mut refused = None;
    for copies in COPIES {
        let config = kv::Config {
            bucket: name.into(),
            description: what.into(),
            history: 1,
            num_replicas: copies,
            ..Default::default()
        };
        match context.create_key_value(config).await {
            Ok(store) => return Ok(store),
            // Somebody else has just made it.
            Err(error) if error.kind() == CreateKeyValueErrorKind::BucketCreate => {
                if let Ok(store) = context.get_key_value(name).await {
                    return Ok(store);
                }
                refused = Some(Error::from(error));
            }
            Err(error) => refused = Some(error.into()),
        }
    }
    let refused = refused.unwrap_or_else(|| anyhow!("no copy of it"));
    Err(refused.context(format!("the bucket {name} cannot be made")))
}
