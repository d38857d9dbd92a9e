// SPDX-License-Identifier: MIT OR Apache-2.0
//! When a job is tried again, and when it is set aside. Nothing here waits, reads or writes.
//!
//! A queue hands a job out again when its worker has gone without a word, and counts how often it was handed out. Who
//! brings worker after worker down is found by that count alone: from the second time on it runs by itself, so that no
//! other job is counted beside it, and after [`TRIES`] it is not run any more.

use std::time::Duration;

/// So often a job is run at most.
pub const TRIES: u64 = 3;
/// What cannot be read now is read again after this long, and after twice this.
const PAUSE: Duration = Duration::from_secs(2);

/// What is done with a job that was handed out.
#[derive(Clone, Debug, PartialEq)]
pub enum Start {
    /// Beside others, if the worker runs several at a time.
    Run,
    /// With no other job beside it.
    Alone,
    SetAside(String),
}

/// Why there is no result.
#[derive(Clone, Debug, PartialEq)]
pub enum Trouble {
    /// The file is nothing that can be looked at; another try would end the same.
    Source(String),
    /// The file cannot be read. A disk or a network may come back.
    Reading(String),
    /// The result cannot be written: the job is not to blame, and no other would fare better.
    Result(String),
    /// The worker cannot do it: the model is not there. If no worker can, the job is to blame.
    Worker(String),
    /// The worker is to end.
    Stopped,
    /// The job has come to an end elsewhere.
    Gone,
}

/// What is done after a run without a result.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    SetAside(String),
    /// The same again, after a pause.
    Later(Duration),
    /// Another worker may try it, and this one ends, with this to say.
    GiveBack {
        counts: bool,
        why: Option<String>,
    },
    /// Nothing: others have done it.
    Forget,
}

/// `delivery` counts from 1.
pub fn start(delivery: u64) -> Start {
    match delivery {
        0 | 1 => Start::Run,
        2..=TRIES => Start::Alone,
        _ => Start::SetAside(format!(
            "it was begun {TRIES} times, and each time its worker was gone before it was done"
        )),
    }
}

/// `delivery` is that of the run that failed.
pub fn after(trouble: Trouble, delivery: u64) -> Next {
    match trouble {
        Trouble::Source(why) => Next::SetAside(why),
        Trouble::Reading(_) if delivery < TRIES => {
            Next::Later(PAUSE.saturating_mul(u32::try_from(delivery).unwrap_or(u32::MAX)))
        }
        Trouble::Reading(why) => Next::SetAside(why),
        Trouble::Result(why) => Next::GiveBack { counts: false, why: Some(why) },
        Trouble::Worker(why) if delivery < TRIES => Next::GiveBack { counts: true, why: Some(why) },
        Trouble::Worker(why) => Next::SetAside(why),
        Trouble::Stopped => Next::GiveBack { counts: false, why: None },
        Trouble::Gone => Next::Forget,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_brings_workers_down_runs_alone_and_then_no_more() {
        assert_eq!(start(1), Start::Run);
        assert_eq!([start(2), start(3)], [Start::Alone, Start::Alone]);
        assert!(matches!(start(4), Start::SetAside(why) if why.contains("3 times")));
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let text = || "x".to_string();
        assert_eq!(after(Trouble::Source(text()), 1), Next::SetAside(text()));
        assert_eq!(after(Trouble::Reading(text()), 1), Next::Later(PAUSE));
        assert_eq!(after(Trouble::Reading(text()), 2), Next::Later(2 * PAUSE));
        assert_eq!(after(Trouble::Reading(text()), 3), Next::SetAside(text()));
        let give_back = |counts, why| Next::GiveBack { counts, why };
        assert_eq!(after(Trouble::Result(text()), 3), give_back(false, Some(text())));
        assert_eq!(after(Trouble::Worker(text()), 2), give_back(true, Some(text())));
        assert_eq!(after(Trouble::Worker(text()), 3), Next::SetAside(text()));
        assert_eq!(after(Trouble::Stopped, 3), give_back(false, None));
        assert_eq!(after(Trouble::Gone, 1), Next::Forget);
    }
}
