// SPDX-License-Identifier: MIT OR Apache-2.0
//! What nobody else may guess or have.

use anyhow::{Result, anyhow};

/// # Errors
/// The system gives no random numbers; so do the others.
pub fn bytes<const COUNT: usize>() -> Result<[u8; COUNT]> {
    let mut bytes = [0; COUNT];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("the system gives no random numbers: {error}"))?;
    Ok(bytes)
}

/// 24 digits.
pub fn hex() -> Result<String> {
    Ok(bytes::<12>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A random UUID (RFC 4122, version 4).
pub fn uuid() -> Result<String> {
    let mut bits = u128::from_be_bytes(bytes()?);
    bits = bits & !(0xf << 76) | 4 << 76;
    bits = bits & !(0b11 << 62) | 0b10 << 62;
    let digits = format!("{bits:032x}");
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    Ok(parts.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_says_that_it_is_random() {
        let (one, two) = (uuid().unwrap(), uuid().unwrap());
        assert_ne!(one, two);
        assert!(
            one.len() == 36 && one.as_bytes()[14] == b'4' && b"89ab".contains(&one.as_bytes()[19]),
            "{one}"
        );
    }
}
