// SPDX-License-Identifier: MIT OR Apache-2.0
//! Passwords of the page: the config holds a hash by Argon2id (RFC 9106), from which nobody gets back to the password.

use std::io::IsTerminal;

use anyhow::{Context, Result, anyhow, ensure};
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2};

use crate::random;
use crate::say::say;

/// Characters, at least.
const SHORTEST: usize = 8;

/// A hash in the form `$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH`.
///
/// # Errors
/// The system has no random numbers.
pub fn hash(password: &str) -> Result<String> {
    let random = random::bytes::<16>()?;
    let wrong = |error: argon2::password_hash::Error| anyhow!("the password cannot be hashed: {error}");
    let salt = SaltString::encode_b64(&random).map_err(wrong)?;
    Ok(Argon2::default().hash_password(password.as_bytes(), &salt).map_err(wrong)?.to_string())
}

pub fn is_hash(text: &str) -> bool {
    PasswordHash::new(text)
        .is_ok_and(|hash| hash.algorithm == Algorithm::Argon2id.ident() && hash.hash.is_some())
}

/// Takes some 20 milliseconds, and as much memory as the hash says.
pub fn fits(password: &str, hash: &str) -> bool {
    let hash = PasswordHash::new(hash);
    hash.is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

/// `gclip watch --hash-password`: asks for one, on a terminal twice, and prints the line for the config.
///
/// # Errors
/// It is too short, or was typed in two ways.
pub fn ask_and_print() -> Result<()> {
    let password = if std::io::stdin().is_terminal() {
        let terminal = console::Term::stderr();
        let ask = |what: &str| -> Result<String> {
            terminal.write_str(what)?;
            Ok(terminal.read_secure_line()?)
        };
        let (first, again) = (ask("Password: ")?, ask("Again: ")?);
        ensure!(first == again, "the two are not the same");
        first
    } else {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).context("cannot read the password")?;
        line.trim_end_matches(['\n', '\r']).to_string()
    };
    ensure!(password.chars().count() >= SHORTEST, "a password has {SHORTEST} characters or more");
    say!("password = \"{}\"", hash(&password)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_fits_its_password_alone() {
        let (one, again) = (hash("correct horse").unwrap(), hash("correct horse").unwrap());
        assert_ne!(one, again, "each with a salt of its own");
        assert!(is_hash(&one) && one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{one}");
        assert!(fits("correct horse", &one) && !fits("correct horsf", &one) && !fits("", &one));
        assert!(!fits("correct horse", "correct horse"));
        for text in ["", "correct horse", "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ", "$2b$12$abc"] {
            assert!(!is_hash(text), "{text}");
        }
    }
}
