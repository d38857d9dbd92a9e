// SPDX-License-Identifier: MIT OR Apache-2.0
//! The queue on NATS servers. Two streams make it:
//!
//! * `gclip-NAME`, a work queue: `gclip-jobs.NAME.job.PRIORITY.ID` is a job. A consumer for each priority hands it out, again
//!   when nobody has said for [`PATIENCE`] that it is being run, and the stream forgets it when it is acknowledged.
//! * `gclip-NAME-ends`: `gclip-jobs.NAME.end.KIND.ID` is how a job ended. The id of the message is the job's: of two ends of one
//!   job the servers keep the first, and tell the other that it came second.
//!
//! The end is written first, and acknowledged then: who goes down between the two has its job handed out again, and
//! whoever gets it sees that it has ended.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use async_nats::jetstream::consumer::{AckPolicy, Consumer, pull};
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{self, DiscardPolicy, RetentionPolicy, Stream};
use async_nats::jetstream::{self, Context as JetStream};
use async_nats::{Client, RequestErrorKind};
use futures_util::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use super::job::{Id, Job};
use super::queue::{Back, Counts, End, Handle, Priority, Queue, Record, Taken};
use super::reactor::Reactor;
use super::worker;
use crate::nats::keys::token;
use crate::nats::{self, Servers};
use crate::random;

/// Who has said nothing for so long is gone.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Ends of one job within this time are known to be two: longer than a worker may sleep and wake.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// What is asked of the servers is answered within this.
const ANSWER: Duration = Duration::from_secs(5);
/// Handed out at a time, to all workers.
const HANDED_OUT: i64 = 20_000;
/// Messages on their way at a time.
const IN_FLIGHT: usize = 64;

const KINDS: [&str; 3] = ["done", "set-aside", "cancelled"];

pub struct Remote {
    reactor: Reactor,
    client: Client,
    context: JetStream,
    names: Names,
    /// Who this is, in what it leaves.
    worker: String,
    work: Stream,
    ends: Stream,
    /// One for each priority, in their order.
    consumers: Vec<Consumer<pull::Config>>,
    patience: Duration,
}

struct Names {
    /// As the user calls it.
    queue: String,
    /// As a part of subjects.
    token: String,
}

/// A job on its way.
#[derive(Serialize, Deserialize)]
struct Ticket {
    job: Job,
    /// Which time it was handed in: another time it may end once more.
    #[serde(default)]
    round: String,
    /// Runs that counted before it was given back.
    #[serde(default)]
    tried: u64,
    /// How often it was given back: another message than the one before.
    #[serde(default)]
    given_back: u64,
}

/// What became of jobs that were handed in.
#[derive(Debug, Default, PartialEq)]
pub struct HandedIn {
    pub new: usize,
    /// They wait, run or have ended.
    pub known: usize,
}

impl Names {
    fn work(&self) -> String {
        format!("gclip-{}", self.token)
    }

    fn ends(&self) -> String {
        format!("gclip-{}-ends", self.token)
    }

    fn job(&self, priority: &str, id: &str) -> String {
        format!("gclip-jobs.{}.job.{priority}.{id}", self.token)
    }

    fn end(&self, kind: &str, id: &str) -> String {
        format!("gclip-jobs.{}.end.{kind}.{id}", self.token)
    }
}

fn kind(end: &End) -> &'static str {
    match end {
        End::Done(_) => KINDS[0],
        End::SetAside { .. } => KINDS[1],
        End::Cancelled => KINDS[2],
    }
}

/// The id at the end of a subject.
fn id_in(subject: &str) -> Option<Id> {
    Id::parse(subject.rsplit('.').next()?)
}

/// Whether a queue that is not there is made.
#[derive(Clone, Copy, PartialEq)]
enum Wish {
    Find,
    /// It has this patience from now on; `None`: as it is.
    Make(Option<Duration>),
}

impl Remote {
    /// The queue of that name.
    ///
    /// # Errors
    /// The servers cannot be used, or have no such queue.
    pub fn find(servers: &Servers, queue: &str) -> Result<Remote> {
        Remote::open(servers, queue, Wish::Find)
    }

    /// The same; it is made where it is not there. `patience`: it has this from now on.
    ///
    /// # Errors
    /// The servers cannot be used, or do not let it be made.
    pub fn make(servers: &Servers, queue: &str, patience: Option<Duration>) -> Result<Remote> {
        Remote::open(servers, queue, Wish::Make(patience))
    }

    fn open(servers: &Servers, queue: &str, wish: Wish) -> Result<Remote> {
        let reactor = Reactor::start()?;
        let worker = worker();
        let names = Names { queue: queue.into(), token: token(queue) };
        ensure!(!names.token.is_empty(), "--queue has no name in it");
        let opening = async {
            let client = servers.connect(&format!("gclip jobs {worker}")).await?;
            let mut context = jetstream::new(client.clone());
            context.set_timeout(ANSWER);
            if wish != Wish::Find {
                make_streams(&context, &names).await?;
            }
            let work = names.open(&context, &names.work(), servers).await?;
            let ends = names.open(&context, &names.ends(), servers).await?;
            let mut consumers = Vec::new();
            for priority in Priority::ALL {
                consumers.push(names.consumer(&work, priority, wish).await?);
            }
            Ok::<_, Error>((client, context, work, ends, consumers))
        };
        let (client, context, work, ends, consumers) = reactor.wait(opening)?;
        let patience = consumers.first().map_or(PATIENCE, |consumer| consumer.cached_info().config.ack_wait);
        Ok(Remote { reactor, client, context, names, worker, work, ends, consumers, patience })
    }

    /// Hands jobs in that are not known yet; with `again`, those that have ended too. `progress` counts.
    ///
    /// # Errors
    /// The servers do not take one.
    pub fn hand_in(
        &self,
        jobs: &[Job],
        priority: Priority,
        again: bool,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<HandedIn> {
        self.reactor.wait(async {
            let waiting = self.ids(&self.work, &self.names.job("*", "*")).await?;
            let ended = self.ids(&self.ends, &self.names.end("*", "*")).await?;
            let mut handed_in = HandedIn::default();
            let mut new = Vec::new();
            for job in jobs {
                let id = job.id();
                if waiting.contains(&id) || !again && ended.contains(&id) {
                    handed_in.known += 1;
                    progress(1);
                } else {
                    new.push((ended.contains(&id), id, job));
                }
            }
            handed_in.new = new.len();
            let publishing = new.into_iter().map(|(has_ended, id, job)| async move {
                if has_ended {
                    self.ends.purge().filter(self.names.end("*", &id.to_string())).await?;
                }
                let round = if again { random::hex()? } else { String::new() };
                let ticket = Ticket { job: job.clone(), round, tried: 0, given_back: 0 };
                self.publish_job(priority.name(), &id, &ticket).await?;
                progress(1);
                Ok::<(), Error>(())
            });
            futures_util::stream::iter(publishing).buffer_unordered(IN_FLIGHT).try_collect::<()>().await?;
            Ok(handed_in)
        })
    }

    async fn publish_job(&self, priority: &str, id: &Id, ticket: &Ticket) -> Result<()> {
        let payload = serde_json::to_vec(ticket)?;
        // Two who hand the same in at a time hand it in once.
        let name = format!("{id}.{}.{}", ticket.round, ticket.given_back);
        let publish = PublishMessage::build().message_id(name).payload(payload.into());
        let sent = self.context.send_publish(self.names.job(priority, &id.to_string()), publish);
        let refused = || format!("the queue {} does not take a job", self.names.queue);
        sent.await.with_context(refused)?.await.with_context(refused)?;
        Ok(())
    }

    /// Ends these jobs if they have not ended: those of some files, or all. How many it were.
    pub fn cancel(&self, sources: Option<&[String]>) -> Result<usize> {
        self.reactor.wait(async {
            let mut ids = self.ids(&self.work, &self.names.job("*", "*")).await?;
            if let Some(sources) = sources {
                let halves: HashSet<String> =
                    sources.iter().map(|source| super::job::of_source(source)).collect();
                ids.retain(|id| halves.contains(id.source()));
            }
            let cancelling = ids.into_iter().map(|id| async move {
                let subject = self.names.job("*", &id.to_string());
                let ticket = match self.work.get_last_raw_message_by_subject(&subject).await {
                    Ok(message) => serde_json::from_slice::<Ticket>(&message.payload)?,
                    // It has just been done.
                    Err(_) => return Ok(0),
                };
                let first = self.write_end(&id, &ticket.round, &ticket.job.source, End::Cancelled).await?;
                self.work.purge().filter(subject).await?;
                Ok::<usize, Error>(usize::from(first))
            });
            let cancelled: Vec<usize> =
                futures_util::stream::iter(cancelling).buffer_unordered(IN_FLIGHT).try_collect().await?;
            Ok(cancelled.iter().sum())
        })
    }

    /// The latest ends of one kind, at most so many.
    pub fn set_aside(&self, most: usize) -> Result<Vec<Record>> {
        self.reactor.wait(async {
            let subject = self.names.end(KINDS[1], "*");
            let reader = self.reader(&subject).await?;
            let mut records = Vec::new();
            let mut messages = reader.fetch().max_messages(most).messages().await?;
            while let Some(message) = messages.next().await {
                let message = message.map_err(|error| anyhow!("{error}"))?;
                records.extend(serde_json::from_slice::<Record>(&message.payload).ok());
            }
            Ok(records)
        })
    }

    /// All ids in a stream under these subjects.
    async fn ids(&self, stream: &Stream, subjects: &str) -> Result<HashSet<Id>> {
        let mut found = HashSet::new();
        let mut all = stream.info_with_subjects(subjects).await?;
        while let Some(entry) = all.try_next().await? {
            found.extend(id_in(&entry.0));
        }
        Ok(found)
    }

    /// A consumer for counting and reading ends, which the servers forget by themselves.
    async fn reader(&self, subject: &str) -> Result<Consumer<pull::Config>> {
        let config = pull::Config {
            filter_subject: subject.into(),
            ack_policy: AckPolicy::None,
            inactive_threshold: Duration::from_secs(30),
            memory_storage: true,
            ..pull::Config::default()
        };
        Ok(self.ends.create_consumer(config).await?)
    }

    /// How the job ended, if it has.
    async fn end_of(&self, id: &Id) -> Result<Option<Record>> {
        match self.ends.get_last_raw_message_by_subject(&self.names.end("*", &id.to_string())).await {
            Ok(message) => Ok(Some(serde_json::from_slice(&message.payload)?)),
            Err(error) if error.kind() == stream::LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it is the end of this job: another may have come first.
    async fn write_end(&self, id: &Id, round: &str, source: &str, end: End) -> Result<bool> {
        // It may be this worker's: written, and not acknowledged then.
        if let Some(record) = self.end_of(id).await? {
            return Ok(record.worker == self.worker);
        }
        let kind = kind(&end);
        let record = Record { id: id.clone(), source: source.into(), worker: self.worker.clone(), end };
        let payload = serde_json::to_vec(&record)?;
        let publish = PublishMessage::build().message_id(format!("{id}.{round}")).payload(payload.into());
        let sent = self.context.send_publish(self.names.end(kind, &id.to_string()), publish).await?;
        if sent.await?.duplicate {
            return Ok(self.end_of(id).await?.is_some_and(|record| record.worker == self.worker));
        }
        Ok(true)
    }

    /// Says something about a job that was handed out, and waits until the servers have heard it. The client's own way to
    /// do that takes a consumer that is gone for one that has heard.
    async fn answer(&self, handle: &str, what: &'static str) -> Result<()> {
        let asked = self.client.request(handle.to_string(), what.into()).await;
        match asked {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == RequestErrorKind::NoResponders => {
                bail!("the queue {} is not there any more", self.names.queue)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// How many wait, and how many are handed out.
    async fn left(&self) -> Result<(u64, u64)> {
        let (mut waiting, mut running) = (0, 0);
        for consumer in &self.consumers {
            let info = consumer.get_info().await?;
            waiting += info.num_pending;
            running += u64::try_from(info.num_ack_pending).unwrap_or(0);
        }
        Ok((waiting, running))
    }

    async fn next(&self) -> Result<Option<Taken>> {
        for consumer in &self.consumers {
            // What has ended is passed over: it was handed out again before that was known.
            loop {
                let mut messages = consumer.fetch().max_messages(1).messages().await?;
                let asked = tokio::time::timeout(ANSWER, messages.next()).await;
                let Some(message) = asked.context("it does not answer")? else { break };
                let message = message.map_err(|error| anyhow!("{error}"))?;
                let handle = message.reply.clone().context("a job came without a way to answer")?.to_string();
                let id = id_in(&message.subject).context("a job came under no name")?;
                let delivered = message.info().map_err(|error| anyhow!("{error}"))?.delivered;
                let delivered = u64::try_from(delivered).unwrap_or(1);
                let Ok(ticket) = serde_json::from_slice::<Ticket>(&message.payload) else {
                    let why = "it was handed in by another version of this program".to_string();
                    self.write_end(&id, "", "", End::SetAside { why }).await?;
                    self.answer(&handle, "+TERM").await?;
                    continue;
                };
                let delivery = ticket.tried + delivered;
                if delivered > 1 && self.end_of(&id).await?.is_some() {
                    self.answer(&handle, "+ACK").await?;
                    continue;
                }
                let handle = Handle { reply: handle, round: ticket.round };
                return Ok(Some(Taken { id, job: ticket.job, delivery, handle }));
            }
        }
        Ok(None)
    }

    async fn return_untried(&self, taken: &Taken) -> Result<()> {
        let subject = self.names.job("*", &taken.id.to_string());
        let message = match self.work.get_last_raw_message_by_subject(&subject).await {
            Ok(message) => message,
            // It was cancelled.
            Err(error) if error.kind() == stream::LastRawMessageErrorKind::NoMessageFound => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let mut ticket: Ticket = serde_json::from_slice(&message.payload)?;
        ticket.tried = taken.delivery.saturating_sub(1);
        ticket.given_back += 1;
        let priority = message.subject.split('.').nth(3).unwrap_or(Priority::Normal.name()).to_string();
        // The new one first: of two one is known to be done, of none nobody knows.
        self.publish_job(&priority, &taken.id, &ticket).await?;
        self.answer(&taken.handle.reply, "+ACK").await
    }
}

impl Names {
    async fn open(&self, context: &JetStream, name: &str, servers: &Servers) -> Result<Stream> {
        context.get_stream(name).await.map_err(|error| match error.kind() {
            GetStreamErrorKind::JetStream(error)
                if error.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND =>
            {
                anyhow!(
                    "NATS at {} has no queue {}: gclip jobs submit makes one",
                    servers.shown(),
                    self.queue
                )
            }
            _ => anyhow!("the queue {} cannot be opened: {error}", self.queue),
        })
    }

    async fn consumer(
        &self,
        work: &Stream,
        priority: Priority,
        wish: Wish,
    ) -> Result<Consumer<pull::Config>> {
        let name = priority.name();
        let wrong = || format!("the queue {} cannot be opened", self.queue);
        let patience = if let Wish::Make(patience) = wish { patience } else { None };
        if let Ok(consumer) = work.get_consumer::<pull::Config>(name).await
            && patience.is_none_or(|patience| consumer.cached_info().config.ack_wait == patience)
        {
            return Ok(consumer);
        }
        let config = pull::Config {
            durable_name: Some(name.into()),
            filter_subject: self.job(name, "*"),
            ack_policy: AckPolicy::Explicit,
            ack_wait: patience.unwrap_or(PATIENCE),
            // Who is not to be handed out any more, workers decide: they also write why.
            max_deliver: -1,
            max_ack_pending: HANDED_OUT,
            ..pull::Config::default()
        };
        work.create_consumer(config).await.with_context(wrong)
    }
}

/// In as many copies as the cluster has servers for.
async fn make_streams(context: &JetStream, names: &Names) -> Result<()> {
    let work = stream::Config {
        name: names.work(),
        description: Some("files to be looked at by gclip jobs work".into()),
        subjects: vec![names.job("*", "*")],
        retention: RetentionPolicy::WorkQueue,
        // Full, it refuses what is new and forgets nothing.
        discard: DiscardPolicy::New,
        ..stream::Config::default()
    };
    let ends = stream::Config {
        name: names.ends(),
        description: Some("what became of them".into()),
        subjects: vec![names.end("*", "*")],
        discard: DiscardPolicy::New,
        duplicate_window: REMEMBERED,
        ..stream::Config::default()
    };
    for config in [work, ends] {
        let made = nats::stream(context, config).await;
        made.map_err(|error| anyhow!("the queue {} cannot be made: {error}", names.queue))?;
    }
    Ok(())
}

impl Queue for Remote {
    fn take(&self) -> Result<Option<Taken>> {
        self.reactor.wait(self.next())
    }

    fn hold(&self, taken: &Taken) -> Result<bool> {
        self.reactor.wait(async {
            self.answer(&taken.handle.reply, "+WPI").await?;
            Ok(self.end_of(&taken.id).await?.is_none())
        })
    }

    fn patience(&self) -> Duration {
        self.patience
    }

    fn settle(&self, taken: &Taken, end: End) -> Result<bool> {
        self.reactor.wait(async {
            let word = if matches!(end, End::SetAside { .. }) { "+TERM" } else { "+ACK" };
            let first = self.write_end(&taken.id, &taken.handle.round, &taken.job.source, end).await?;
            self.answer(&taken.handle.reply, word).await?;
            Ok(first)
        })
    }

    fn put_back(&self, taken: &Taken, back: Back) -> Result<()> {
        self.reactor.wait(async {
            match back {
                Back::Untried => self.return_untried(taken).await,
                Back::Later(pause) => {
                    let word = format!("-NAK {{\"delay\": {}}}", pause.as_nanos());
                    self.client.request(taken.handle.reply.clone(), word.into()).await?;
                    Ok(())
                }
            }
        })
    }

    fn counts(&self) -> Result<Counts> {
        self.reactor.wait(async {
            let (waiting, running) = self.left().await?;
            let mut counts = Counts { waiting, running, ..Counts::default() };
            let ends = [&mut counts.done, &mut counts.set_aside, &mut counts.cancelled];
            for (kind, count) in KINDS.iter().zip(ends) {
                let reader = self.reader(&self.names.end(kind, "*")).await?;
                *count = reader.cached_info().num_pending;
                // The servers forget it in half a minute in any case.
                let _ = self.ends.delete_consumer(&reader.cached_info().name).await;
            }
            Ok(counts)
        })
    }

    fn is_over(&self) -> Result<bool> {
        Ok(self.reactor.wait(self.left())? == (0, 0))
    }
}
