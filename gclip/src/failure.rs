// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the program ends when something is wrong, for whoever started it: a service manager tries again after some, and
//! not after others. The numbers are those of `sysexits.h`.

use anyhow::Error;

/// Anything that is not below.
const GENERAL: u8 = 1;
/// Nobody takes the results any more.
const OUTPUT: u8 = 74;
/// The config, or what it names, is wrong: another try would end the same.
const CONFIG: u8 = 78;

pub struct Failure {
    pub error: Error,
    pub code: u8,
}

impl Failure {
    pub fn of_config(error: Error) -> Failure {
        Failure { error, code: CONFIG }
    }

    pub fn of_output(error: Error) -> Failure {
        Failure { error, code: OUTPUT }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure { error, code: GENERAL }
    }
}
