// SPDX-License-Identifier: MIT OR Apache-2.0
//! NATS servers in the config, and the fleet that is joined by way of them.

use std::path::Path;
use std::time::Duration;

use toml::Spanned;

use super::raw::{self, Mistake, Texts, WhenAlone};
use crate::address::Address;
use crate::fleet::{Alone, Settings};
use crate::nats::{Key, SCHEMES, Servers};
use crate::redact::Secrets;

type Found<'a> = Option<&'a Spanned<String>>;

/// Seconds: a worker that was not heard of for so long is gone.
const TTL: f64 = 3.0;
const FLEET: &str = "gclip";

/// The keys that name servers, wherever they stand.
pub struct Written<'a> {
    pub servers: &'a Spanned<Texts>,
    pub credentials: Found<'a>,
    pub nkey: Found<'a>,
    pub ca: Found<'a>,
}

/// `place` is what the keys stand in, such as `fleet`.
pub fn servers(
    written: &Written,
    place: &str,
    folder: &Path,
    secrets: &mut Secrets,
) -> Result<Servers, Mistake> {
    let Written { servers, credentials, nkey, ca } = written;
    let at = |key: &str, span, what: String| Mistake::new(span, format!("{place}.{key}"), what);
    let mut addresses = vec![];
    for text in servers.get_ref().all() {
        let address = Address::parse(text, &SCHEMES);
        addresses.push(address.map_err(|error| at("servers", servers.span(), format!("{error:#}")))?);
    }
    if addresses.is_empty() {
        return Err(at(
            "servers",
            servers.span(),
            "there is none: write servers = \"nats://HOST:4222\"".into(),
        ));
    }
    secrets.add(addresses.iter().flat_map(|address| address.secrets.iter().cloned()));
    let file = |key: &str, text: &Spanned<String>| {
        let path = folder.join(text.get_ref());
        match path.is_file() {
            true => Ok(path),
            false => Err(at(key, text.span(), format!("there is no file {}", path.display()))),
        }
    };
    let key = match (credentials, nkey) {
        (Some(_), Some(nkey)) => {
            return Err(at(
                "nkey",
                nkey.span(),
                "credentials hold a key already: leave one of the two out".into(),
            ));
        }
        (Some(path), None) => Key::Credentials(file("credentials", path)?),
        (None, Some(path)) => Key::Nkey(file("nkey", path)?),
        (None, None) => Key::None,
    };
    let ca = ca.map(|ca| file("ca", ca)).transpose()?;
    Ok(Servers { addresses, key, ca })
}

pub fn fleet(
    written: &Spanned<raw::Fleet>,
    folder: &Path,
    secrets: &mut Secrets,
) -> Result<Settings, Mistake> {
    let own = written.get_ref();
    let at = |key: &str, span, what: &str| Mistake::new(span, format!("fleet.{key}"), what);
    let Some(named) = &own.servers else {
        let what = "it is missing: write servers = \"nats://HOST:4222\"";
        return Err(at("servers", written.span(), what));
    };
    let of_servers = Written {
        servers: named,
        credentials: own.credentials.as_ref(),
        nkey: own.nkey.as_ref(),
        ca: own.ca.as_ref(),
    };
    let servers = servers(&of_servers, "fleet", folder, secrets)?;
    let text = |key: &str, value: &Option<Spanned<String>>, default: String| match value {
        Some(empty) if empty.get_ref().trim().is_empty() => Err(at(key, empty.span(), "it is empty")),
        value => Ok(value.as_ref().map_or(default, |value| value.get_ref().clone())),
    };
    let fleet = text("bucket", &own.bucket, FLEET.into())?;
    if let Some(bucket) = own.bucket.as_ref().filter(|_| !is_of_bucket(&fleet)) {
        return Err(at("bucket", bucket.span(), "it has letters, digits, `-` and `_` of ASCII only"));
    }
    let name = text("name", &own.name, glib::host_name().to_string())?;
    let capacity = match &own.capacity {
        Some(none) if !(1..=1_000_000).contains(none.get_ref()) => {
            return Err(at("capacity", none.span(), "it must be from 1 to 1000000"));
        }
        Some(capacity) => *capacity.get_ref(),
        None => {
            std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1))
        }
    };
    let ttl = match &own.ttl {
        Some(wrong) if !(1.0..=600.0).contains(wrong.get_ref()) => {
            return Err(at("ttl", wrong.span(), "it must be from 1 to 600 seconds"));
        }
        ttl => Duration::from_secs_f64(ttl.as_ref().map_or(TTL, |ttl| *ttl.get_ref())),
    };
    let alone = match own.when_alone {
        WhenAlone::Hold => Alone::Hold,
        WhenAlone::GoOn => Alone::GoOn,
    };
    Ok(Settings { servers, fleet, name, capacity, ttl, alone })
}

/// Whether a bucket or stream may be called so.
pub fn is_of_bucket(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}
