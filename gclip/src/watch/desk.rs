// SPDX-License-Identifier: MIT OR Apache-2.0
//! Changes while cameras are watched. What is to be watched is a text, as in the file: a change edits the text, is
//! checked as the file is, and only then carried out; so it is right as a whole, and can be saved with the comments
//! that are in the file. Everything here happens on the program's main thread, one after the other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, TableLike};

use super::config::{self, Config};
use super::roster::{Holder, Roster};
use super::shard::Shard;
use crate::output;

pub enum Wish {
    /// The keys of a camera as they are written, but for its URL.
    Describe(String),
    Add(Map<String, Value>),
    /// Keys to set; null takes one away.
    Change(String, Map<String, Value>),
    Remove(String),
    /// Writes the file.
    Save,
    /// Reads the file again.
    Reload,
}

/// Why a wish is refused. Nothing has changed then.
#[derive(Debug, PartialEq)]
pub enum Refusal {
    /// There is no such camera.
    Unknown(String),
    /// It is wrong; one sentence.
    Wrong(String),
    /// Somebody else has changed something meanwhile.
    Conflict(String),
    /// It cannot be done now.
    Failed(String),
}

pub type Answer = Result<Value, Refusal>;

/// A wish on its way to the main thread, for a state of things that its maker knows, if that matters to him.
pub struct Order {
    pub wish: Wish,
    pub version: Option<u64>,
    pub answer: oneshot::Sender<Answer>,
}

/// Hands wishes over to the main thread.
#[derive(Clone)]
pub struct Bell(mpsc::SyncSender<Order>);

/// Wishes that may wait.
const WAITING: usize = 64;

impl Bell {
    pub async fn ring(&self, wish: Wish, version: Option<u64>) -> Answer {
        let (answer, answered) = oneshot::channel();
        let order = Order { wish, version, answer };
        self.0.try_send(order).map_err(|_| Refusal::Failed("too much is to be changed at a time".into()))?;
        answered.await.unwrap_or_else(|_| Err(Refusal::Failed("the program is ending".into())))
    }
}

pub struct Desk {
    path: PathBuf,
    part: Part,
    orders: mpsc::Receiver<Order>,
    /// Whether there is a file; what is only tried gets one when it is saved.
    is_in_file: bool,
    /// What the file said when it was last read or written, or what is tried began with.
    on_disk: String,
    /// What is watched.
    text: String,
    /// Grows with each change.
    version: u64,
    /// The change that is being made; others wait for it.
    change: Option<Change>,
}

/// Which of the cameras are this program's.
#[derive(Clone, Copy)]
pub enum Part {
    All,
    Shard(Shard),
    /// Those that a fleet gives it; they are changed there.
    OfFleet,
}

/// A change that the model is being tried with, on a thread of its own: many words take their time.
struct Change {
    text: String,
    config: Config,
    is_of_file: bool,
    trial: JoinHandle<Result<Option<Holder>>>,
    answer: oneshot::Sender<Answer>,
}

/// How a wish is answered.
enum Outcome {
    Now(Answer),
    /// When the model has taken this text, as it is in the file or not.
    Later {
        text: String,
        config: Box<Config>,
        is_of_file: bool,
    },
}

impl Desk {
    /// For what was read from a file, or, if it is not there yet, is to be saved at `path`.
    pub fn new(path: &Path, is_in_file: bool, part: Part, text: String) -> (Desk, Bell) {
        let (bell, orders) = mpsc::sync_channel(WAITING);
        let (path, on_disk) = (path.into(), text.clone());
        (Desk { path, part, orders, is_in_file, on_disk, text, version: 1, change: None }, Bell(bell))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Does what has been asked for, but waits for nothing. Returns what is to be said of it in the log.
    pub fn work(&mut self, roster: &mut Roster, first: &Config) -> Vec<String> {
        let mut said = Vec::new();
        loop {
            if let Some(change) = self.change.take_if(|change| change.trial.is_finished()) {
                said.extend(self.finish(change, roster));
            }
            if self.change.is_some() {
                return said;
            }
            let Ok(order) = self.orders.try_recv() else { return said };
            said.extend(self.begin(order, roster, first));
        }
    }

    fn begin(&mut self, order: Order, roster: &Roster, first: &Config) -> Option<String> {
        let Order { wish, version, answer } = order;
        let outcome = match version {
            Some(known) if known != self.version => Outcome::Now(Err(Refusal::Conflict(
                "somebody else has changed the cameras meanwhile: look again, then change".into(),
            ))),
            _ => self.carry_out(wish, first).unwrap_or_else(|refusal| Outcome::Now(Err(refusal))),
        };
        let tried = match outcome {
            Outcome::Now(outcome) => return self.reply(answer, outcome),
            Outcome::Later { text, config, is_of_file } => roster.trial(&config).and_then(|trial| {
                let thread = std::thread::Builder::new().name("trial".into());
                Ok((text, config, is_of_file, thread.spawn(|| trial.run())?))
            }),
        };
        match tried {
            Ok((text, config, is_of_file, trial)) => {
                self.change = Some(Change { text, config: *config, is_of_file, trial, answer });
                None
            }
            Err(error) => self.reply(answer, Err(wrong(&error))),
        }
    }

    fn finish(&mut self, change: Change, roster: &mut Roster) -> Option<String> {
        let Change { text, config, is_of_file, trial, answer } = change;
        let tried = trial.join().unwrap_or_else(|_| Err(anyhow!("the model could not be tried with it")));
        let changes = tried.and_then(|held| {
            roster.hold(held);
            roster.apply(&config)
        });
        let outcome = changes.map(|changes| {
            self.is_watched(text, is_of_file);
            let read =
                if is_of_file { format!("{} read again: ", self.path.display()) } else { String::new() };
            json!({ "done": read + &changes })
        });
        self.reply(answer, outcome.map_err(|error| wrong(&error)))
    }

    /// Answers; returns what is to be said in the log.
    fn reply(&self, answer: oneshot::Sender<Answer>, outcome: Answer) -> Option<String> {
        let said = outcome.as_ref().ok().and_then(|said| said["done"].as_str().map(str::to_string));
        let outcome = outcome.map(|mut value| {
            value["version"] = self.version.into();
            value["saved"] = (self.is_in_file && self.text == self.on_disk).into();
            value
        });
        // Whoever has asked may have left.
        let _ = answer.send(outcome);
        said
    }

    fn is_watched(&mut self, text: String, is_of_file: bool) {
        if is_of_file {
            self.on_disk = text.clone();
        }
        if text != self.text {
            (self.text, self.version) = (text, self.version + 1);
        }
    }

    fn carry_out(&mut self, wish: Wish, first: &Config) -> Result<Outcome, Refusal> {
        let mut document = self.document()?;
        if let (Part::OfFleet, false) = (self.part, matches!(wish, Wish::Describe(_))) {
            let what = "the cameras are kept by the fleet's servers: change them with `gclip fleet`";
            return Err(Refusal::Failed(what.into()));
        }
        match wish {
            Wish::Describe(name) => {
                let keys = describe(&document, &name)?;
                return Ok(Outcome::Now(Ok(json!({ "keys": keys }))));
            }
            Wish::Save => return Ok(Outcome::Now(self.save())),
            Wish::Reload => {
                let text = self.file().map_err(|error| wrong(&error))?;
                let config = config::parse(&text, &self.path).map_err(|error| wrong(&error))?;
                return self.later(text, config, true, first);
            }
            Wish::Add(keys) => {
                let mut table = Table::new();
                set(&mut table, &keys)?;
                cameras(&mut document)?.push(table);
            }
            Wish::Change(name, keys) => {
                ensure_same_name(&name, &keys)?;
                set(find(cameras(&mut document)?, &name)?, &keys)?;
            }
            Wish::Remove(name) => {
                let all = cameras(&mut document)?;
                let is_it = |table: &Table| name_of(table) == Some(&name);
                let at = all.iter().position(is_it).ok_or_else(|| unknown(&name))?;
                all.remove(at);
            }
        }
        let text = document.to_string();
        let config = config::parse_change(&text, &self.path).map_err(Refusal::Wrong)?;
        self.later(text, config, false, first)
    }

    fn later(
        &self,
        text: String,
        config: Config,
        is_of_file: bool,
        first: &Config,
    ) -> Result<Outcome, Refusal> {
        let config = self.own_part(config, first).map_err(|error| wrong(&error))?;
        Ok(Outcome::Later { text, config: Box::new(config), is_of_file })
    }

    fn document(&self) -> Result<DocumentMut, Refusal> {
        self.text
            .parse()
            .map_err(|error| Refusal::Failed(format!("the text in force cannot be read: {error}")))
    }

    /// What of it is this program's to watch.
    fn own_part(&self, mut config: Config, first: &Config) -> Result<Config> {
        for (key, changed) in [
            ("metrics", config.metrics != first.metrics),
            ("web", config.web != first.web),
            ("history", config.history != first.history),
        ] {
            ensure!(!changed, "`{key}` has changed: that takes a new start of the program");
        }
        if let Part::Shard(shard) = self.part {
            shard.keep_own(&mut config.cameras);
        }
        Ok(config)
    }

    /// Reads the file again, at once. One with a mistake changes nothing.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn reload(&mut self, roster: &mut Roster, first: &Config) -> Result<String> {
        if let Part::OfFleet = self.part {
            bail!("a worker of a fleet reads its file when it starts, and its cameras come from the servers");
        }
        let text = self.file()?;
        let config = self.own_part(config::parse(&text, &self.path)?, first)?;
        roster.check(&config)?;
        let changes = roster.apply(&config)?;
        // What was being changed by others began before it, and is not what is in the file.
        if let Some(Change { answer, .. }) = self.change.take() {
            let why = "the file has been read again meanwhile: look again, then change";
            let _ = answer.send(Err(Refusal::Conflict(why.into())));
        }
        self.is_watched(text, true);
        Ok(changes)
    }

    /// What the file says now, or what is tried began with.
    fn file(&self) -> Result<String> {
        if self.is_in_file { config::read(&self.path) } else { Ok(self.on_disk.clone()) }
    }

    /// Writes the file beside its place and moves it there, unless somebody else has changed it.
    fn save(&mut self) -> Answer {
        let failed = |error: Error| Refusal::Failed(format!("{error:#}"));
        let path = self.path.display();
        if !self.is_in_file && self.path.exists() {
            return Err(Refusal::Conflict(format!("{path} is there already: move it elsewhere")));
        }
        if self.is_in_file && self.file().map_err(failed)? != self.on_disk {
            return Err(Refusal::Conflict(format!(
                "{path} has been changed by hand: reload it, or undo that"
            )));
        }
        write(&self.path, &self.text).map_err(failed)?;
        (self.on_disk, self.is_in_file) = (self.text.clone(), true);
        Ok(json!({ "done": format!("{} written", self.path.display()) }))
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    // The file may be a link into a folder of its own; that one is written.
    let path = if path.is_symlink() {
        path.canonicalize().with_context(|| format!("cannot write {}", path.display()))?
    } else {
        path.to_path_buf()
    };
    output::write(&path, |file| Ok(file.write_all(text.as_bytes())?))
}

// The text.

fn cameras(document: &mut DocumentMut) -> Result<&mut ArrayOfTables, Refusal> {
    let all = document.entry("camera").or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
    let what = "the cameras are not written as [[camera]] tables, so they cannot be changed here";
    all.as_array_of_tables_mut().ok_or_else(|| Refusal::Failed(what.into()))
}

fn name_of(table: &Table) -> Option<&str> {
    table.get("name").and_then(Item::as_str)
}

fn wrong(error: &Error) -> Refusal {
    Refusal::Wrong(format!("{error:#}"))
}

fn unknown(name: &str) -> Refusal {
    Refusal::Unknown(format!("there is no camera \"{name}\""))
}

fn find<'a>(all: &'a mut ArrayOfTables, name: &str) -> Result<&'a mut Table, Refusal> {
    all.iter_mut().find(|table| name_of(table) == Some(name)).ok_or_else(|| unknown(name))
}

fn ensure_same_name(name: &str, keys: &Map<String, Value>) -> Result<(), Refusal> {
    match keys.get("name") {
        Some(other) if other.as_str() != Some(name) => Err(Refusal::Wrong(format!(
            "camera.{name}.name: a camera keeps its name; remove it and add another"
        ))),
        _ => Ok(()),
    }
}

/// Whether a key's value names a file or a device of this machine: what it holds would be shown to whoever asks.
fn names_a_file(key: &str, value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default().trim_start();
    match key {
        "url" => ["file:", "v4l2:"].iter().any(|scheme| text.to_ascii_lowercase().starts_with(scheme)),
        "prompts" => text.starts_with('@'),
        "prompt-template" => !["", "imagenet", "none"].contains(&text) && !text.contains("{}"),
        "segment" => value.as_object().into_iter().flatten().any(|(name, value)| names_a_file(name, value)),
        "exemplars" | "exemplars-file" | "prompts-file" | "embeddings" | "descriptions" | "helper-model" => {
            !text.is_empty()
        }
        _ => false,
    }
}

fn set(table: &mut Table, keys: &Map<String, Value>) -> Result<(), Refusal> {
    for (key, value) in keys {
        // What is there already stays: who sends all keys back has changed nothing.
        let is_there = || table.get(key).and_then(json_value).as_ref() == Some(value);
        if names_a_file(key, value) && !is_there() {
            return Err(Refusal::Wrong(format!(
                "{key}: files and devices of this machine are named in the config file only"
            )));
        }
        if value.is_null() {
            table.remove(key);
            continue;
        }
        let mut value = toml_value(value)
            .ok_or_else(|| Refusal::Wrong(format!("{key}: this is nothing that a config file can hold")))?;
        // Comments beside the old value stay.
        if let Some(old) = table.get(key).and_then(Item::as_value) {
            *value.decor_mut() = old.decor().clone();
        }
        table[key] = Item::Value(value);
    }
    Ok(())
}

/// A camera as a file would have it.
///
/// # Errors
/// A value that no file can hold, or that names a file of this machine.
pub fn table(name: &str, keys: &Map<String, Value>) -> Result<Table, String> {
    let mut table = Table::new();
    table["name"] = toml_edit::value(name);
    set(&mut table, keys).map_err(|refusal| match refusal {
        Refusal::Unknown(why) | Refusal::Wrong(why) | Refusal::Conflict(why) | Refusal::Failed(why) => why,
    })?;
    Ok(table)
}

/// The cameras of a file as they are written, with what its defaults say, by name.
///
/// # Errors
/// What is wrong with it.
pub fn cameras_of(text: &str) -> Result<BTreeMap<String, Map<String, Value>>, String> {
    let mut document: DocumentMut =
        text.parse().map_err(|error: toml_edit::TomlError| error.message().to_string())?;
    let keys = |table: &dyn TableLike| -> Map<String, Value> {
        table.iter().filter_map(|(key, item)| Some((key.to_string(), json_value(item)?))).collect()
    };
    let defaults = document.get("defaults").and_then(Item::as_table_like).map(keys).unwrap_or_default();
    let mut all = BTreeMap::new();
    let tables = cameras(&mut document).map_err(|refusal| format!("{refusal:?}"))?;
    for (index, table) in tables.iter().enumerate() {
        let name = name_of(table).ok_or_else(|| format!("camera[{index}].name: it is missing"))?.to_string();
        let mut settings = defaults.clone();
        settings.extend(keys(table).into_iter().filter(|(key, _)| key != "name"));
        if all.insert(name.clone(), settings).is_some() {
            return Err(format!("two cameras are called \"{name}\""));
        }
    }
    Ok(all)
}

fn toml_value(value: &Value) -> Option<toml_edit::Value> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => whole.into(),
            None => number.as_f64().filter(|number| number.is_finite())?.into(),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(values) => values.iter().map(toml_value).collect::<Option<toml_edit::Array>>()?.into(),
        Value::Object(keys) => {
            let pair = |(key, value): (&String, &Value)| Some((key.clone(), toml_value(value)?));
            keys.iter().map(pair).collect::<Option<toml_edit::InlineTable>>()?.into()
        }
    })
}

/// A URL may hold a password: it is not told.
fn describe(document: &DocumentMut, name: &str) -> Result<Value, Refusal> {
    let all = document.get("camera").and_then(Item::as_array_of_tables);
    let table = all.and_then(|all| all.iter().find(|table| name_of(table) == Some(name)));
    let table = table.ok_or_else(|| unknown(name))?;
    let keys = table.iter().filter(|(key, _)| *key != "url");
    Ok(Value::Object(keys.filter_map(|(key, item)| Some((key.to_string(), json_value(item)?))).collect()))
}

fn json_value(item: &Item) -> Option<Value> {
    if let Some(table) = item.as_table_like() {
        let pairs = table.iter().filter_map(|(key, item)| Some((key.to_string(), json_value(item)?)));
        return Some(Value::Object(pairs.collect()));
    }
    let of_value = |value: &toml_edit::Value| json_value(&Item::Value(value.clone()));
    Some(match item.as_value()? {
        toml_edit::Value::String(text) => text.value().as_str().into(),
        toml_edit::Value::Integer(number) => (*number.value()).into(),
        toml_edit::Value::Float(number) => (*number.value()).into(),
        toml_edit::Value::Boolean(value) => (*value.value()).into(),
        toml_edit::Value::Array(values) => Value::Array(values.iter().filter_map(of_value).collect()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# all of it\nmodel = 'demo'\n\n[[camera]] # by the door\nname = 'gate'\nurl = 'rtsp://me:secret@x/1'\n\
                        prompts = 'cat' # not the dog\nfps = 2.5\n\n[[camera]]\nname = 'yard'\nurl = 'rtsp://x/2'\n";

    fn keys(json: Value) -> Map<String, Value> {
        json.as_object().unwrap().clone()
    }

    #[test]
    fn a_change_touches_nothing_else() {
        let mut document: DocumentMut = FILE.parse().unwrap();
        let gate = find(cameras(&mut document).unwrap(), "gate").unwrap();
        set(gate, &keys(json!({ "prompts": "cat; \"dog\"", "fps": null, "segment": { "threshold": 0.3 } })))
            .unwrap();
        let text = document.to_string();
        let expected = FILE.replace(
            "'cat' # not the dog\nfps = 2.5\n",
            "'cat; \"dog\"' # not the dog\nsegment = { threshold = 0.3 }\n",
        );
        assert_eq!(text, expected);
        assert_eq!(
            describe(&document, "gate").unwrap(),
            json!({ "name": "gate", "prompts": "cat; \"dog\"", "segment": { "threshold": 0.3 } })
        );
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let mut document: DocumentMut = FILE.parse().unwrap();
        assert_eq!(describe(&document, "hall"), Err(unknown("hall")));
        assert!(matches!(find(cameras(&mut document).unwrap(), ""), Err(Refusal::Unknown(_))));
        assert!(matches!(ensure_same_name("gate", &keys(json!({ "name": "yard" }))), Err(Refusal::Wrong(_))));
        let gate = find(cameras(&mut document).unwrap(), "gate").unwrap();
        assert!(matches!(set(gate, &keys(json!({ "outputs": [null] }))), Err(Refusal::Wrong(_))));
        for file in [
            json!({ "url": "file:///home/me/film.mp4" }),
            json!({ "url": "V4L2:///dev/video0" }),
            json!({ "prompts": "@/etc/passwd" }),
            json!({ "segment": { "exemplars": "x=/home/me/a.png" } }),
            json!({ "segment": { "descriptions": "/etc/passwd" } }),
            json!({ "segment": { "prompt-template": "/etc/passwd" } }),
        ] {
            let Err(Refusal::Wrong(why)) = set(gate, &keys(file.clone())) else { panic!("{file} is taken") };
            assert!(why.contains("config file only"), "{why}");
        }
        set(gate, &keys(json!({ "segment": { "prompt-template": "a {}", "exemplars": "" } }))).unwrap();
        gate["prompts"] = toml_edit::value("@words.txt");
        set(gate, &keys(json!({ "prompts": "@words.txt" }))).unwrap();
        assert!(set(gate, &keys(json!({ "prompts": "@other.txt" }))).is_err());
        let mut other: DocumentMut = "camera = []".parse().unwrap();
        assert!(matches!(cameras(&mut other), Err(Refusal::Failed(_))));
    }

    #[test]
    fn the_file_is_written_whole_and_keeps_its_mode() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("cameras.toml"), folder.path().join("link.toml"));
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        write(&link, "new").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(link.is_symlink());
        assert!(write(&folder.path().join("nowhere/cameras.toml"), "new").is_err());
    }
}
