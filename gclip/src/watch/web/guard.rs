// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who may ask for what. A page of somebody else in the same browser may ask too, so where it comes from counts.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::watch::config::Login;
use crate::watch::password;

/// A session ends after this long.
pub const SESSION: Duration = Duration::from_secs(12 * 3600);
/// More browsers than this are not let in at a time; the oldest has to come again.
const SESSIONS: usize = 1000;

/// What matters of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    pub path: &'a str,
    /// It is no mere look.
    pub changes: bool,
    pub is_json: bool,
    pub host: Option<&'a str>,
    pub origin: Option<&'a str>,
    pub bearer: Option<&'a str>,
    pub session: Option<&'a str>,
}

pub type Refusal = (StatusCode, &'static str);

pub struct Guard {
    token: Option<[u8; 32]>,
    login: Option<Login>,
    sessions: Mutex<HashMap<String, Instant>>,
}

impl Guard {
    pub fn new(token: Option<&str>, login: Option<Login>) -> Guard {
        Guard { token: token.map(digest), login, sessions: Mutex::default() }
    }

    pub fn needs_token(&self) -> bool {
        self.token.is_some()
    }

    pub fn needs_password(&self) -> bool {
        self.login.is_some()
    }

    fn is_open(&self) -> bool {
        self.token.is_none() && self.login.is_none()
    }

    /// # Errors
    /// Why it may not.
    pub fn check(&self, ask: &Ask) -> Result<(), Refusal> {
        // Where nothing is needed whoever is on this machine may ask; but a name that leads here from elsewhere is a trick.
        if self.is_open() && !ask.host.is_some_and(is_local) {
            return Err((StatusCode::FORBIDDEN, "ask for localhost or 127.0.0.1"));
        }
        if ask.changes {
            if ask.origin.is_some_and(|origin| !is_of(origin, ask.host)) {
                return Err((StatusCode::FORBIDDEN, "a page from elsewhere may change nothing"));
            }
            // No form of a page from elsewhere can send this.
            if !ask.is_json {
                return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "send it as application/json"));
            }
        }
        let is_for_all = !ask.path.starts_with("/api/") || ask.path == "/api/session";
        if is_for_all || self.is_open() || self.knows(ask) {
            return Ok(());
        }
        let why = match self.token {
            Some(_) => "the token is missing or wrong",
            None => "log in first: POST user and password to /api/session",
        };
        Err((StatusCode::UNAUTHORIZED, why))
    }

    fn knows(&self, ask: &Ask) -> bool {
        let by_session = |session: &str| {
            let since = self.sessions.lock().get(session).copied();
            since.is_some_and(|since| since.elapsed() < SESSION)
        };
        ask.bearer.is_some_and(|token| self.is_token(token)) || ask.session.is_some_and(by_session)
    }

    /// Compared by digests: how long that takes says nothing about the token.
    pub fn is_token(&self, token: &str) -> bool {
        self.token == Some(digest(token))
    }

    /// Takes as long for a wrong user as for a wrong password.
    pub fn is_password(&self, user: &str, password: &str) -> bool {
        let Some(login) = &self.login else { return false };
        let fits = password::fits(password, &login.hash);
        digest(user) == digest(&login.user) && fits
    }

    /// Lets a browser in that has shown what is needed; it is known by what is returned.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn let_in(&self) -> std::io::Result<String> {
        let mut random = [0; 32];
        File::open("/dev/urandom")?.read_exact(&mut random)?;
        let session: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut sessions = self.sessions.lock();
        sessions.retain(|_, since| since.elapsed() < SESSION);
        if sessions.len() >= SESSIONS
            && let Some(oldest) =
                sessions.iter().min_by_key(|(_, since)| **since).map(|(name, _)| name.clone())
        {
            sessions.remove(&oldest);
        }
        sessions.insert(session.clone(), Instant::now());
        Ok(session)
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// Whether a `Host` is one that only this machine has.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether an `Origin` is that of this page.
fn is_of(origin: &str, host: Option<&str>) -> bool {
    origin.split_once("://").is_some_and(|(_, authority)| Some(authority) == host)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Ask = Ask {
        path: "/api/cameras",
        changes: false,
        is_json: true,
        host: Some("localhost:8090"),
        origin: None,
        bearer: None,
        session: None,
    };

    fn status(guard: &Guard, ask: Ask) -> u16 {
        guard.check(&ask).map_or_else(|(status, _)| status.as_u16(), |()| 200)
    }

    #[test]
    fn without_a_token_only_this_machine_asks() {
        let guard = Guard::new(None, None);
        for host in ["localhost", "localhost:8090", "127.0.0.1:8090", "127.1.2.3", "[::1]:8090"] {
            assert_eq!(status(&guard, Ask { host: Some(host), ..HERE }), 200, "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "192.168.1.2:8090", "[::2]", ""] {
            assert_eq!(status(&guard, Ask { host: Some(host), ..HERE }), 403, "{host}");
        }
        assert_eq!(status(&guard, Ask { host: None, ..HERE }), 403);
    }

    #[test]
    fn no_page_from_elsewhere_changes_anything() {
        let guard = Guard::new(None, None);
        let change = Ask { changes: true, ..HERE };
        assert_eq!(status(&guard, change), 200);
        assert_eq!(status(&guard, Ask { origin: Some("http://localhost:8090"), ..change }), 200);
        for origin in ["http://evil.example", "http://localhost:1", "null", ""] {
            assert_eq!(status(&guard, Ask { origin: Some(origin), ..change }), 403, "{origin}");
        }
        assert_eq!(status(&guard, Ask { is_json: false, ..change }), 415);
    }

    #[test]
    fn with_a_token_everything_but_the_page_needs_it() {
        let guard = Guard::new(Some("correct horse battery"), None);
        let from = Ask { host: Some("cameras.example"), ..HERE };
        assert_eq!(status(&guard, from), 401);
        assert_eq!(status(&guard, Ask { bearer: Some("correct horse batterx"), ..from }), 401);
        assert_eq!(status(&guard, Ask { bearer: Some("correct horse battery"), ..from }), 200);
        for path in ["/", "/app.js", "/healthz", "/api/session"] {
            assert_eq!(status(&guard, Ask { path, ..from }), 200, "{path}");
        }
        let session = guard.let_in().unwrap();
        assert_eq!(status(&guard, Ask { session: Some(&session), ..from }), 200);
        assert_eq!(status(&guard, Ask { session: Some("0"), ..from }), 401);
        let past = Instant::now().checked_sub(SESSION).unwrap();
        guard.sessions.lock().insert(session.clone(), past);
        assert_eq!(status(&guard, Ask { session: Some(&session), ..from }), 401, "it has ended");
        assert_ne!(guard.let_in().unwrap(), guard.let_in().unwrap());
        (0..2 * SESSIONS).for_each(|_| drop(guard.let_in()));
        assert!(guard.sessions.lock().len() <= SESSIONS);
    }

    #[test]
    fn user_and_password_stand_for_a_token() {
        let login = Login { user: "anna".into(), hash: password::hash("correct horse").unwrap() };
        let guard = Guard::new(None, Some(login));
        let from = Ask { host: Some("cameras.example"), ..HERE };
        assert_eq!(status(&guard, from), 401);
        assert_eq!(status(&guard, Ask { bearer: Some("correct horse"), ..from }), 401);
        assert!(guard.is_password("anna", "correct horse"));
        assert!(!guard.is_password("anna", "correct horsf") && !guard.is_password("otto", "correct horse"));
        let session = guard.let_in().unwrap();
        assert_eq!(status(&guard, Ask { session: Some(&session), ..from }), 200);
        assert!(guard.needs_password() && !guard.needs_token() && !guard.is_token(""));
    }
}
