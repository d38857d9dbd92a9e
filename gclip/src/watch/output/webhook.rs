// SPDX-License-Identifier: MIT OR Apache-2.0
//! A POST for each line, in their order. One that is not taken is sent again until it is, or until the receiver says
//! that it never will be; meanwhile the others wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::watch::config::WebhookTarget;
use crate::watch::console::Console;
use crate::watch::queue::{Line, Queue};
use crate::watch::retry::Retry;

/// For the whole of one request.
const ANSWER: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_millis(500);
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Lines that are refused are told about this often.
const REMIND: Duration = Duration::from_secs(600);

/// Holds `sha256=` and the HMAC of the body with the secret, in hexadecimal digits, as GitHub's webhooks have it.
const SIGNATURE: &str = "X-Hub-Signature-256";

pub struct Hook {
    pub target: WebhookTarget,
    pub queue: Arc<Queue>,
    pub console: Arc<Console>,
    /// Name in the log.
    pub who: String,
}

/// What became of a line.
#[derive(Debug, PartialEq)]
enum Outcome {
    Taken,
    /// It will never be taken: this is the answer.
    Refused(u16),
    /// It may be taken later.
    NotNow(String),
}

impl Outcome {
    fn of_status(status: u16) -> Outcome {
        match status {
            200..=299 => Outcome::Taken,
            408 | 425 | 429 | 500..=599 => Outcome::NotNow(format!("it answers {status}")),
            _ => Outcome::Refused(status),
        }
    }
}

impl Hook {
    pub fn run(&self) {
        let config = ureq::Agent::config_builder();
        let config = config.timeout_global(Some(ANSWER)).max_redirects(0).http_status_as_error(false).build();
        let agent = ureq::Agent::new_with_config(config);
        let mut retry = Retry::new(RETRY.0, RETRY.1);
        let (mut told, mut refused, mut told_refusal) = (false, 0u64, None::<Instant>);
        loop {
            let Some(line) = self.queue.take(IDLE) else {
                if self.queue.is_closed() {
                    return;
                }
                continue;
            };
            match self.post(&agent, &line) {
                Outcome::Taken => {
                    self.queue.count_delivered();
                    retry.reset();
                    if std::mem::take(&mut told) {
                        self.log("takes lines again");
                    }
                }
                Outcome::Refused(status) => {
                    self.queue.count_dropped();
                    refused += 1;
                    if told_refusal.is_none_or(|at| at.elapsed() >= REMIND) {
                        self.log(&format!("it answers {status}: {refused} lines dropped"));
                        (refused, told_refusal) = (0, Some(Instant::now()));
                    }
                }
                Outcome::NotNow(why) => {
                    self.queue.put_back(std::iter::once(line));
                    if !std::mem::replace(&mut told, true) {
                        self.log(&format!("{}; lines wait for it", self.console.hide(&why)));
                    }
                    self.queue.pause(retry.next_wait());
                }
            }
        }
    }

    fn log(&self, text: &str) {
        self.console.log(&self.who, &format!("{}: {text}", self.target.address));
    }

    fn post(&self, agent: &ureq::Agent, line: &Line) -> Outcome {
        let body = line.without_newline();
        let mut request =
            agent.post(&self.target.address.location).header("Content-Type", "application/json");
        if let Some(value) = &self.target.authorization {
            request = request.header("Authorization", value);
        }
        if let Some(secret) = &self.target.secret {
            request = request.header(SIGNATURE, signature(secret.as_bytes(), body));
        }
        match request.send(body) {
            Ok(answer) => Outcome::of_status(answer.status().as_u16()),
            Err(error) => Outcome::NotNow(error.to_string()),
        }
    }
}

fn signature(secret: &[u8], body: &[u8]) -> String {
    let digest =
        Hmac::<Sha256>::new_from_slice(secret).map(|hmac| hmac.chain_update(body).finalize().into_bytes());
    // HMAC takes keys of any length.
    let digits = digest.map(|digest| digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    format!("sha256={}", digits.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_rfc_4231() {
        let expected = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(signature(b"Jefe", b"what do ya want for nothing?"), expected);
    }

    #[test]
    fn what_may_be_mended_is_tried_again() {
        assert_eq!(Outcome::of_status(204), Outcome::Taken);
        assert_eq!(Outcome::of_status(401), Outcome::Refused(401));
        assert_eq!(Outcome::of_status(302), Outcome::Refused(302), "it says that it is somewhere else");
        assert!(matches!(Outcome::of_status(503), Outcome::NotNow(_)));
        assert!(matches!(Outcome::of_status(429), Outcome::NotNow(_)));
    }
}
