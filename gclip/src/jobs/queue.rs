// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a worker asks of a queue, wherever the queue is.

use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::job::{Id, Job};

/// Which jobs come first. All of one are handed out before the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Priority {
    High,
    #[default]
    Normal,
    Low,
}

impl Priority {
    pub const ALL: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];

    pub fn name(self) -> &'static str {
        match self {
            Priority::High => "high",
            Priority::Normal => "normal",
            Priority::Low => "low",
        }
    }
}

/// A job that this worker has.
#[derive(Clone, Debug)]
pub struct Taken {
    pub id: Id,
    pub job: Job,
    /// How often it was handed out, this time included.
    pub delivery: u64,
    pub handle: Handle,
}

/// What the queue knows a job by that it has handed out.
#[derive(Clone, Debug, Default)]
pub struct Handle {
    /// Where it is told of the job.
    pub reply: String,
    /// Which time it was handed in.
    pub round: String,
}

/// How a job ended. It ends once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "kebab-case")]
pub enum End {
    Done(Done),
    SetAside { why: String },
    Cancelled,
}

/// What is there of a job that is done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// Where the results are.
    pub results: Vec<String>,
    pub frames: u64,
    pub seconds: f64,
}

/// The end of one job, as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub id: Id,
    pub source: String,
    /// Who says so.
    pub worker: String,
    #[serde(flatten)]
    pub end: End,
}

/// How a job goes back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Back {
    /// This run counts; the next is after a pause.
    Later(Duration),
    /// As if it had not been handed out.
    Untried,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Counts {
    pub waiting: u64,
    /// Handed out: run now, or wait for another try.
    pub running: u64,
    pub done: u64,
    pub set_aside: u64,
    pub cancelled: u64,
}

impl Counts {
    pub fn total(&self) -> u64 {
        self.waiting + self.running + self.ended()
    }

    pub fn ended(&self) -> u64 {
        self.done + self.set_aside + self.cancelled
    }

    /// Whether there is nothing left to do.
    pub fn is_over(&self) -> bool {
        self.waiting + self.running == 0
    }
}

/// Jobs on their way. An error says that the queue cannot be reached; what was asked for is then unknown.
pub trait Queue: Send + Sync {
    /// The next job, if there is one now.
    fn take(&self) -> Result<Option<Taken>>;

    /// To be called about four times within the time after which a job is taken for abandoned ([`Queue::patience`]).
    /// Whether the job is still open: `false` if it has come to an end elsewhere.
    fn hold(&self, taken: &Taken) -> Result<bool>;

    fn patience(&self) -> Duration;

    /// The job has come to this end. Whether it is the first that is told of it.
    fn settle(&self, taken: &Taken, end: End) -> Result<bool>;

    fn put_back(&self, taken: &Taken, back: Back) -> Result<()>;

    fn counts(&self) -> Result<Counts>;

    /// Whether nothing is left to do: asked often, of queues that have better to do than to count.
    fn is_over(&self) -> Result<bool> {
        Ok(self.counts()?.is_over())
    }
}
