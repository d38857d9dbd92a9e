// SPDX-License-Identifier: MIT OR Apache-2.0
//! The URL of a camera, a broker or a webhook, with what may not be shown kept apart from it.

use std::fmt;

use anyhow::{Context, Result, bail, ensure};
use percent_encoding::percent_decode_str;
use url::Url;

#[derive(Clone, PartialEq)]
pub struct Address {
    /// The URL without user and password, which are handed over by other ways.
    pub location: String,
    pub host: String,
    pub port: Option<u16>,
    pub user: Option<String>,
    pub password: Option<String>,
    /// Everything in the URL that may not be shown, in every form in which it may turn up.
    pub secrets: Vec<String>,
    shown: String,
}

impl Address {
    /// # Errors
    /// Not a URL of one of these schemes. The error does not repeat the text: it may hold a password.
    pub fn parse(text: &str, schemes: &[&str]) -> Result<Address> {
        let wanted = schemes.join(":// or ");
        let mut url = Url::parse(text).ok().with_context(|| {
            format!("this is no URL such as {}://host:port/path, with user:password@ before the host where it wants them (there, write / as %2F, # as %23, % as %25)", schemes[0])
        })?;
        ensure!(schemes.contains(&url.scheme()), "{}:// is not spoken here: write {wanted}://", url.scheme());
        let Some(host) = url.host_str().filter(|host| !host.is_empty()).map(str::to_string) else {
            bail!("the URL names no host");
        };
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let user = Some(decoded(url.username())).filter(|user| !user.is_empty());
        let password = url.password().map(decoded);
        let mut secrets = vec![];
        if user.is_some() || password.is_some() {
            let raw = (url.username(), url.password().unwrap_or_default());
            secrets.extend([format!("{}:{}", raw.0, raw.1), raw.1.to_string()]);
            secrets.extend(password.clone());
            let authority = text.split_once("://").map_or(text, |(_, rest)| rest);
            secrets.extend(authority.rsplit_once('@').map(|(login, _)| login.to_string()));
        }
        secrets.extend(url.query().map(str::to_string));
        let fixed = "a URL with a host can do without a user";
        url.set_username("").ok().context(fixed)?;
        url.set_password(None).ok().context(fixed)?;
        let location = url.to_string();
        let mut shown = location.split('?').next().unwrap_or_default().to_string();
        if matches!(url.scheme(), "http" | "https") {
            // Of a webhook the path is what nobody else may know.
            secrets.extend([url.path().to_string()].into_iter().filter(|path| path.len() > 1));
            shown = url.origin().ascii_serialization();
        }
        Ok(Address { location, host, port: url.port(), user, password, secrets, shown })
    }
}

impl Address {
    /// Whether a broker is spoken to over TLS.
    pub fn is_encrypted(&self) -> bool {
        self.location.starts_with("mqtts:")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Nothing else of it may be printed, not even by a `{:?}`.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_camera_url() {
        let url = "rtsp://me:p%40ss%2Fw@10.0.0.5:8554/live/1?token=abcd&x=1";
        let address = Address::parse(url, &["rtsp"]).unwrap();
        assert_eq!(address.location, "rtsp://10.0.0.5:8554/live/1?token=abcd&x=1");
        assert_eq!((address.host.as_str(), address.port), ("10.0.0.5", Some(8554)));
        assert_eq!(address.user.as_deref(), Some("me"));
        assert_eq!(address.password.as_deref(), Some("p@ss/w"));
        assert_eq!(
            format!("{address} {address:?}"),
            "rtsp://10.0.0.5:8554/live/1 Address(rtsp://10.0.0.5:8554/live/1)"
        );
        for secret in ["me:p%40ss%2Fw", "p%40ss%2Fw", "p@ss/w", "token=abcd&x=1"] {
            assert!(address.secrets.iter().any(|known| known == secret), "{secret}");
        }
        let hook = Address::parse("https://hooks.example:8443/services/T0K3N", &["https"]).unwrap();
        assert_eq!(hook.to_string(), "https://hooks.example:8443");
        assert_eq!(hook.secrets, ["/services/T0K3N"]);
        let open = Address::parse("rtsp://camera/1", &["rtsp"]).unwrap();
        assert_eq!((open.user, open.password, open.port), (None, None, None));
        assert!(open.secrets.is_empty());
    }

    #[test]
    fn mistakes_are_told_without_the_password() {
        for text in
            ["rtsp://me:secret@", "http://me:secret@host/", "me:secret@host", "rtsp://me:sec#ret@host"]
        {
            let error = format!("{:#}", Address::parse(text, &["rtsp", "rtsps"]).unwrap_err());
            assert!(!error.contains("secret") && !error.contains("sec#"), "{text}: {error}");
        }
    }
}
