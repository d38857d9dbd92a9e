// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclip fleet`: how the fleet is, and its cameras.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use async_nats::Client;
use async_nats::jetstream::kv::{CreateErrorKind, Entry, Operation, Store, UpdateErrorKind};
use async_nats::jetstream::{self};
use futures_util::StreamExt;
use serde_json::{Value, json};

use super::records::{self, CameraReport, Key, Report};
use crate::nats::{self, keys};
use crate::redact;
use crate::say::say;
use crate::watch;

/// Workers have so long to say how they are.
const ANSWERS: Duration = Duration::from_secs(1);
/// Settings that others change at the same time are read and changed again so often.
const TRIES: u32 = 10;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    servers: nats::args::Args,
    /// Which fleet: the `bucket` in the [fleet] of its workers
    #[arg(long, value_name = "NAME", default_value = "gclip")]
    bucket: String,
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Workers and cameras: who plays what, since which epoch, and how old the last masks are.
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// The cameras and their settings; what is secret in them is not shown.
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Add a camera.
    Add {
        name: String,
        /// Settings as in a [[camera]], such as url=rtsp://10.0.0.7/1 prompts='cat; dog' fps=5
        #[arg(required = true, value_name = "KEY=VALUE")]
        settings: Vec<String>,
    },
    /// Change settings of a camera; the others stay.
    Set {
        name: String,
        /// KEY= takes one away
        #[arg(required = true, value_name = "KEY=VALUE")]
        settings: Vec<String>,
    },
    /// Remove a camera. Who plays it stops.
    Remove { name: String },
    /// Take the cameras of a config of `gclip watch` into the fleet, with what its [defaults] say.
    Import {
        file: PathBuf,
        /// Also those that are there already, with other settings
        #[arg(long)]
        replace: bool,
    },
    /// Take a worker's cameras away one after the other, as before an upgrade; it gets none until --undo.
    Drain {
        worker: String,
        /// Let it have cameras again
        #[arg(long)]
        undo: bool,
    },
}

/// # Errors
/// One sentence: what cannot be done, and why.
pub fn run(args: &Args) -> Result<()> {
    let servers = args.servers.servers()?;
    ensure!(
        watch::is_name_of_bucket(&args.bucket),
        "--bucket: a name has letters, digits, `-` and `_` of ASCII only"
    );
    nats::run(async {
        let client = servers.connect("gclip-fleet").await?;
        let context = jetstream::new(client.clone());
        let [fleet, cameras] = records::open(&context, &args.bucket).await?;
        match &args.what {
            What::Status { json } => status(&client, &args.bucket, &fleet, &cameras, *json).await,
            What::List { json } => list(&cameras, *json).await,
            What::Add { name, settings } => add(&cameras, name, settings).await,
            What::Set { name, settings } => set(&cameras, name, settings).await,
            What::Remove { name } => remove(&cameras, name).await,
            What::Import { file, replace } => import(&cameras, file, *replace).await,
            What::Drain { worker, undo } => drain(&fleet, worker, *undo).await,
        }
    })
}

/// All that these keys hold.
async fn all(store: &Store, keys: &[&str]) -> Result<Vec<Entry>> {
    // The format is among them, so that there is always an end.
    let mut watch = store.watch_many_with_history(keys.iter().copied()).await?;
    let mut entries = vec![];
    while let Some(entry) = watch.next().await {
        let entry = entry?;
        let is_last = entry.seen_current;
        if entry.operation == Operation::Put && entry.key != records::FORMAT_KEY {
            entries.push(entry);
        }
        if is_last {
            break;
        }
    }
    Ok(entries)
}

async fn settings_of_all(store: &Store) -> Result<BTreeMap<String, records::Camera>> {
    let entries = all(store, &[">"]).await?;
    let settings =
        |entry: &Entry| Some((keys::name(&entry.key)?, records::read(&entry.value, &entry.key).ok()?));
    Ok(entries.iter().filter_map(settings).collect())
}

// How it is.

struct Worker {
    record: records::Worker,
    drains: bool,
    report: Option<Report>,
}

async fn status(
    client: &Client,
    fleet: &str,
    of_fleet: &Store,
    of_cameras: &Store,
    as_json: bool,
) -> Result<()> {
    let mut workers: BTreeMap<String, Worker> = BTreeMap::new();
    let mut claims: BTreeMap<String, (u64, records::Claim)> = BTreeMap::new();
    let mut draining = vec![];
    for entry in all(of_fleet, &records::TOLD).await? {
        match Key::parse(&entry.key) {
            Some(Key::Worker(name)) => {
                let record = records::read(&entry.value, &entry.key)?;
                workers.insert(name, Worker { record, drains: false, report: None });
            }
            Some(Key::Claim(camera)) => {
                let claim = records::read(&entry.value, &entry.key)?;
                claims.insert(camera, (entry.revision, claim));
            }
            Some(Key::Drain(worker)) => draining.push(worker),
            Some(Key::Beat(_)) | None => {}
        }
    }
    for name in draining {
        if let Some(worker) = workers.get_mut(&name) {
            worker.drains = true;
        }
    }
    for report in reports(client, fleet, workers.len()).await? {
        let of_session = |worker: &&mut Worker| worker.record.session == report.session;
        if let Some(worker) = workers.get_mut(&report.worker).filter(of_session) {
            worker.report = Some(report);
        }
    }
    let cameras = settings_of_all(of_cameras).await?;
    let owner = |camera: &str| {
        let (epoch, claim) = claims.get(camera)?;
        let worker = workers.get(&claim.worker).filter(|worker| worker.record.session == claim.session)?;
        let of_camera = |report: &CameraReport| report.camera == camera && report.epoch == *epoch;
        let told =
            worker.report.as_ref().and_then(|report| report.cameras.iter().find(|told| of_camera(told)));
        Some((claim.worker.as_str(), *epoch, told))
    };
    let load =
        |name: &str| cameras.keys().filter(|camera| owner(camera).is_some_and(|(of, ..)| of == name)).count();
    let state = |worker: &Worker| match &worker.report {
        None => "does not answer",
        Some(report) if report.holds => "holds its lines",
        Some(_) if worker.drains => "drains",
        Some(_) => "works",
    };
    if as_json {
        let of_worker = |(name, worker): (&String, &Worker)| {
            let records::Worker { session, capacity, host, version } = &worker.record;
            json!({ "worker": name, "session": session, "host": host, "version": version, "capacity": capacity,
                    "cameras": load(name), "drains": worker.drains, "state": state(worker) })
        };
        let of_camera = |camera: &String| {
            let owner = owner(camera);
            let told = owner.and_then(|(.., told)| told);
            json!({ "camera": camera, "worker": owner.map(|(name, ..)| name), "epoch": owner.map(|(_, epoch, _)| epoch),
                    "state": told.map(|told| &told.state), "why": told.and_then(|told| told.why.as_ref()),
                    "mask_age": told.and_then(|told| told.mask_age) })
        };
        let all = json!({ "workers": workers.iter().map(of_worker).collect::<Vec<_>>(),
                          "cameras": cameras.keys().map(of_camera).collect::<Vec<_>>() });
        say!("{all:#}");
        return Ok(());
    }
    let rows = workers.iter().map(|(name, worker)| {
        let records::Worker { capacity, host, version, .. } = &worker.record;
        [
            name.clone(),
            host.clone(),
            version.clone(),
            capacity.to_string(),
            load(name).to_string(),
            state(worker).into(),
        ]
    });
    table(["WORKER", "HOST", "VERSION", "CAPACITY", "CAMERAS", "STATE"], rows.collect());
    say!("");
    let rows = cameras.keys().map(|camera| {
        let Some((worker, epoch, told)) = owner(camera) else {
            return [camera.clone(), "-".into(), "-".into(), "nobody has it".into(), "-".into()];
        };
        let state = match told {
            Some(CameraReport { state, why: Some(why), .. }) => format!("{state}: {}", redact::urls(why)),
            Some(told) => told.state.clone(),
            None => "not known".into(),
        };
        let age = told.and_then(|told| told.mask_age).map_or("-".into(), |age| format!("{age:.1} s"));
        [camera.clone(), worker.into(), epoch.to_string(), state, age]
    });
    table(["CAMERA", "WORKER", "EPOCH", "STATE", "LAST MASKS"], rows.collect());
    Ok(())
}

/// What workers say of themselves: at most this many.
async fn reports(client: &Client, fleet: &str, count: usize) -> Result<Vec<Report>> {
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await?;
    client.publish_with_reply(records::status_subject(fleet), inbox, "".into()).await?;
    let mut reports = vec![];
    let collect = async {
        while reports.len() < count {
            let Some(answer) = answers.next().await else { break };
            // Where nobody listens the server says so, without a text.
            if let Ok(report) = records::read(&answer.payload, "status") {
                reports.push(report);
            }
        }
    };
    // Who is silent is shown so.
    let _ = tokio::time::timeout(ANSWERS, collect).await;
    Ok(reports)
}

fn table<const N: usize>(heads: [&str; N], rows: Vec<[String; N]>) {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([heads[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    for row in std::iter::once(heads.map(str::to_string)).chain(rows) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        say!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

// Its cameras.

async fn list(store: &Store, as_json: bool) -> Result<()> {
    let mut cameras = settings_of_all(store).await?;
    for value in cameras.values_mut().flat_map(|settings| settings.values_mut()) {
        if let Value::String(text) = value {
            *text = redact::urls(text);
        }
    }
    if as_json {
        say!("{:#}", json!(cameras));
        return Ok(());
    }
    for (name, settings) in cameras {
        let settings = settings.iter().map(|(key, value)| match value {
            Value::String(text) => format!("{key}={text}"),
            value => format!("{key}={value}"),
        });
        say!("{name}: {}", settings.collect::<Vec<_>>().join(" "));
    }
    Ok(())
}

/// `KEY=VALUE` as a file would have them; null takes one away.
fn parsed(settings: &[String]) -> Result<records::Camera> {
    let pair = |text: &String| {
        let (key, value) =
            text.split_once('=').with_context(|| format!("`{text}` is no setting: write KEY=VALUE"))?;
        let value = match (value, value.parse::<i64>(), value.parse::<f64>()) {
            ("", ..) => Value::Null,
            ("true", ..) => true.into(),
            ("false", ..) => false.into(),
            (_, Ok(whole), _) => whole.into(),
            (_, _, Ok(number)) if number.is_finite() => number.into(),
            (text, ..) if text.starts_with(['[', '{']) => serde_json::from_str(text).unwrap_or(text.into()),
            (text, ..) => text.into(),
        };
        Ok((key.to_string(), value))
    };
    settings.iter().map(pair).collect()
}

/// # Errors
/// What is wrong with a camera's settings.
fn check(name: &str, settings: &records::Camera) -> Result<()> {
    watch::check_camera(name, settings).map_err(|why| anyhow!("camera {name}: {why}"))
}

async fn add(store: &Store, name: &str, settings: &[String]) -> Result<()> {
    let mut settings = parsed(settings)?;
    settings.retain(|_, value| !value.is_null());
    check(name, &settings)?;
    let written = store.create(keys::token(name), records::write(&settings).into()).await;
    written.map_err(|error| match error.kind() {
        CreateErrorKind::AlreadyExists => {
            anyhow!("there is a camera \"{name}\" already: `gclip fleet set` changes it")
        }
        _ => anyhow!("the camera cannot be added: {error}"),
    })?;
    say!("camera {name} added");
    Ok(())
}

async fn set(store: &Store, name: &str, settings: &[String]) -> Result<()> {
    let changes = parsed(settings)?;
    for _ in 0..TRIES {
        let (mut settings, revision) = known(store, name).await?;
        for (key, value) in &changes {
            match value {
                Value::Null => drop(settings.remove(key)),
                value => drop(settings.insert(key.clone(), value.clone())),
            }
        }
        check(name, &settings)?;
        match store.update(keys::token(name), records::write(&settings).into(), revision).await {
            Ok(_) => {
                say!("camera {name} changed");
                return Ok(());
            }
            Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => {}
            Err(error) => bail!("the camera cannot be changed: {error}"),
        }
    }
    bail!("others change the camera {name} all the time: nothing has changed")
}

async fn known(store: &Store, name: &str) -> Result<(records::Camera, u64)> {
    let key = keys::token(name);
    let entry = store.entry(key.clone()).await?.filter(|entry| entry.operation == Operation::Put);
    let entry = entry.with_context(|| format!("there is no camera \"{name}\" in the fleet"))?;
    Ok((records::read(&entry.value, &key)?, entry.revision))
}

async fn remove(store: &Store, name: &str) -> Result<()> {
    known(store, name).await?;
    store.delete(keys::token(name)).await?;
    say!("camera {name} removed");
    Ok(())
}

async fn import(store: &Store, file: &std::path::Path, replace: bool) -> Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let cameras = watch::cameras_of(&text).map_err(|why| anyhow!("{}: {why}", file.display()))?;
    ensure!(!cameras.is_empty(), "{}: there is no [[camera]] in it", file.display());
    let there = settings_of_all(store).await?;
    // All are right, or none is taken.
    for (name, settings) in &cameras {
        check(name, settings).with_context(|| file.display().to_string())?;
        ensure!(
            replace || there.get(name).is_none_or(|known| known == settings),
            "there is a camera \"{name}\" with other settings already: --replace takes those of {}",
            file.display()
        );
    }
    let (mut added, mut changed) = (0, 0);
    for (name, settings) in &cameras {
        match there.get(name) {
            Some(known) if known == settings => continue,
            Some(_) => changed += 1,
            None => added += 1,
        }
        store.put(keys::token(name), records::write(settings).into()).await?;
    }
    say!("{added} cameras added, {changed} changed, {} as they were", cameras.len() - added - changed);
    Ok(())
}

async fn drain(store: &Store, worker: &str, undo: bool) -> Result<()> {
    let key = Key::Drain(worker.into()).to_string();
    if undo {
        store.delete(key).await?;
        say!("worker {worker} gets cameras again");
        return Ok(());
    }
    let there = store.get(Key::Worker(worker.into()).to_string()).await?;
    ensure!(there.is_some(), "there is no worker \"{worker}\" in the fleet: `gclip fleet status` shows them");
    store.put(key, "1".into()).await?;
    say!("worker {worker} gives its cameras away");
    Ok(())
}
