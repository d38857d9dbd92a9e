// SPDX-License-Identifier: MIT OR Apache-2.0
//! One question to a service of a device: SOAP 1.2 over HTTP, with the user's WS-Security token where there is a user.

use std::fmt;
use std::io::Read;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use quick_xml::escape::escape;
use sha1::{Digest, Sha1};
use ureq::Agent;
use ureq::http::Response;
use url::Url;

use super::xml::Node;
use crate::random;

/// Of an answer; a camera's list of profiles has some tens of kilobytes.
const MOST_BYTES: u64 = 1 << 20;
/// Codes of faults that say that user and password are wrong, or needed.
const REFUSALS: [&str; 5] = [
    "NotAuthorized",
    "FailedAuthentication",
    "InvalidSecurity",
    "InvalidSecurityToken",
    "SenderNotAuthorized",
];

#[derive(Clone)]
pub struct Login {
    pub user: String,
    pub password: String,
}

/// The device does not accept user and password, or wants some: more tries would only lock the user out.
#[derive(Debug)]
pub struct Refused(&'static str);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Refused {}

/// Talks with one device, until a time.
pub struct Client<'a> {
    agent: Agent,
    login: Option<&'a Login>,
    /// Seconds that the device's clock is ahead of ours: it compares the token's time with its own.
    ahead: i64,
    one: Duration,
    end: Instant,
}

impl<'a> Client<'a> {
    /// `one`: for each answer; `all`: for all of them.
    pub fn new(login: Option<&'a Login>, one: Duration, all: Duration) -> Client<'a> {
        let config = Agent::config_builder();
        let config = config.max_redirects(0).http_status_as_error(false);
        let config = config.user_agent(concat!("gclip/", env!("CARGO_PKG_VERSION")));
        let (agent, end) = (Agent::new_with_config(config.build()), Instant::now() + all);
        Client { agent, login, ahead: 0, one, end }
    }

    /// From now on the token has the device's time. `seconds`: since 1970, by its clock.
    pub fn set_clock(&mut self, seconds: i64) {
        self.ahead = seconds - now();
    }

    pub fn has_login(&self) -> bool {
        self.login.is_some()
    }

    /// The answer's body to a question that needs no user.
    pub fn ask_openly(&self, service: &Url, question: &str) -> Result<Node> {
        self.send(service, question, "")
    }

    /// The answer's body.
    ///
    /// # Errors
    /// [`Refused`]; no answer in time, or none that can be read; a fault, in the device's words.
    pub fn ask(&self, service: &Url, question: &str) -> Result<Node> {
        let token = self.login.map(|login| self.token(login)).transpose()?;
        self.send(service, question, token.as_deref().unwrap_or_default())
    }

    fn send(&self, service: &Url, question: &str, header: &str) -> Result<Node> {
        let left = self.end.saturating_duration_since(Instant::now()).min(self.one);
        ensure!(!left.is_zero(), "it takes too long with its answers");
        let request = self
            .agent
            .post(service.as_str())
            .header("Content-Type", "application/soap+xml; charset=utf-8")
            .config()
            .timeout_global(Some(left))
            .build();
        let answer = request.send(envelope(header, question)).map_err(unreached)?;
        let status = answer.status().as_u16();
        let wants_digest = wants_http_digest(&answer);
        let text = text(answer)?;
        let root = Node::parse(&text);
        if let Some(fault) = root.as_ref().ok().and_then(|root| root.find("Fault")) {
            return Err(self.fault(fault));
        }
        match status {
            200..=299 => {
                let root = root.map_err(|error| error.context("its answer is no XML"))?;
                let body = root.all("Body").into_iter().next().is_some();
                ensure!(body, "its answer is no SOAP");
                Ok(root)
            }
            401 if wants_digest => Err(Error::new(Refused(
                "it wants HTTP digest authentication (401), which is not spoken here",
            ))),
            401 | 403 => Err(Error::new(self.refusal())),
            300..=399 => bail!("it sends us elsewhere ({status})"),
            _ => bail!("it answers {status}"),
        }
    }

    fn fault(&self, fault: &Node) -> Error {
        let codes = fault.all("Value");
        let is_refusal = codes.iter().any(|code| {
            let code = code.text();
            REFUSALS.contains(&code.rsplit_once(':').map_or(code, |(_, name)| name))
        });
        if is_refusal {
            return Error::new(self.refusal());
        }
        let reason = fault.find("Reason").and_then(|reason| reason.text_of("Text"));
        // SOAP 1.1, which some devices answer in.
        let reason = reason.or_else(|| fault.text_of("faultstring")).unwrap_or("it does not say why");
        anyhow!("it says no: {reason}")
    }

    fn refusal(&self) -> Refused {
        match self.login {
            Some(_) => Refused("it refuses user or password"),
            None => Refused("it wants a user and password: give --user"),
        }
    }

    /// WS-Security's UsernameToken with a digest of the password.
    fn token(&self, login: &Login) -> Result<String> {
        let nonce = random::bytes::<16>()?;
        let created = utc(now() + self.ahead).context("the device's clock shows no time")?;
        let digest = digest(&nonce, &created, &login.password);
        let nonce = BASE64_STANDARD.encode(nonce);
        let user = escape(&login.user);
        let oasis = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss";
        Ok(format!(
            "<w:Security s:mustUnderstand=\"1\" xmlns:w=\"{oasis}-wssecurity-secext-1.0.xsd\" \
             xmlns:u=\"{oasis}-wssecurity-utility-1.0.xsd\"><w:UsernameToken><w:Username>{user}</w:Username>\
             <w:Password Type=\"{oasis}-username-token-profile-1.0#PasswordDigest\">{digest}</w:Password>\
             <w:Nonce EncodingType=\"{oasis}-soap-message-security-1.0#Base64Binary\">{nonce}</w:Nonce>\
             <u:Created>{created}</u:Created></w:UsernameToken></w:Security>"
        ))
    }
}

/// Of nonce, time and password, as the profile has it.
fn digest(nonce: &[u8], created: &str, password: &str) -> String {
    let sum = Sha1::new().chain_update(nonce).chain_update(created).chain_update(password).finalize();
    BASE64_STANDARD.encode(sum)
}

fn envelope(header: &str, body: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\
         <s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\"><s:Header>{header}</s:Header>\
         <s:Body>{body}</s:Body></s:Envelope>"
    )
}

fn text(answer: Response<ureq::Body>) -> Result<String> {
    let mut bytes = Vec::new();
    let mut body = answer.into_body().into_reader().take(MOST_BYTES + 1);
    body.read_to_end(&mut bytes).map_err(|error| match error.get_ref().and_then(|e| e.downcast_ref()) {
        Some(ureq::Error::Timeout(_)) => anyhow!("its answer does not come to an end in time"),
        _ => anyhow!("its answer breaks off: {error}"),
    })?;
    ensure!(bytes.len() as u64 <= MOST_BYTES, "its answer is longer than {} KiB", MOST_BYTES >> 10);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn unreached(error: ureq::Error) -> Error {
    match error {
        ureq::Error::Timeout(_) => anyhow!("it does not answer in time"),
        error => anyhow!("{error}"),
    }
}

fn wants_http_digest<T>(answer: &Response<T>) -> bool {
    let offers = answer.headers().get_all("WWW-Authenticate").iter();
    offers
        .filter_map(|offer| offer.to_str().ok())
        .any(|offer| offer.to_ascii_lowercase().starts_with("digest"))
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or_default()
}

fn utc(seconds: i64) -> Option<String> {
    let time = glib::DateTime::from_unix_utc(seconds).ok()?;
    Some(time.format("%Y-%m-%dT%H:%M:%SZ").ok()?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of ONVIF's Application Programmer's Guide.
    #[test]
    fn the_digest_is_that_of_the_guide() {
        let nonce = BASE64_STANDARD.decode("LKqI6G/AikKCQrN0zqZFlg==").unwrap();
        assert_eq!(digest(&nonce, "2010-09-16T07:50:45Z", "userpassword"), "tuOSpGlFlIXsozq4HFNeeGeFLEI=");
    }

    #[test]
    fn a_fault_says_what_is_wrong() {
        let login = Login { user: "me".into(), password: "secret".into() };
        let second = Duration::from_secs(1);
        let said = |login: Option<&Login>, inside: &str| {
            let fault = Node::parse(&format!("<Fault>{inside}</Fault>")).unwrap();
            Client::new(login, second, second).fault(&fault)
        };
        let code = "<Code><Value>s:Sender</Value><Subcode><Value>ter:NotAuthorized</Value></Subcode></Code>";
        assert!(said(Some(&login), code).is::<Refused>());
        assert_eq!(said(None, code).to_string(), "it wants a user and password: give --user");
        let other = said(None, "<Code><Value>s:Receiver</Value></Code><Reason><Text>busy</Text></Reason>");
        assert!(!other.is::<Refused>() && other.to_string() == "it says no: busy");
    }
}
