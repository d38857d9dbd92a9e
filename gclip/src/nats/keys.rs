// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names as parts of keys and subjects. A key may hold letters, digits, `-`, `_`, `=` and `/` of ASCII, with `.` between
//! its parts; all else of a name is written as `=` and two hexadecimal digits a byte, so that each name has its own.

use std::fmt::Write as _;

/// The name as one part of a key or subject.
pub fn token(name: &str) -> String {
    let mut token = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_".contains(&byte) {
            token.push(char::from(byte));
        } else {
            // Writing into a text cannot fail.
            let _ = write!(token, "={byte:02X}");
        }
    }
    token
}

/// The name that a part of a key stands for; `None` if it is none of [`token`]'s.
pub fn name(token: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(token.len());
    let mut rest = token.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'=' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_key_of_its_own_and_comes_back() {
        for text in ["gate", "Tür 1", "a.b", "a=b", "a*>b", "=2E", "犬", "a/b\n"] {
            let token = token(text);
            assert!(
                token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_=".contains(&byte)),
                "{token}"
            );
            assert_eq!(name(&token).as_deref(), Some(text));
        }
        assert_eq!(token("a.b"), "a=2Eb");
        for wrong in ["", "=", "=2", "=zz", "=FF"] {
            assert_eq!(name(wrong), None, "{wrong}");
        }
    }
}
