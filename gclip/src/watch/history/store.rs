// SPDX-License-Identifier: MIT OR Apache-2.0
//! The database: events, which of them have a picture, and how much of the picture each label took in each minute.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, Transaction, params, params_from_iter};

use super::feed::{Happening, Wanted};
use super::tally::{Sum, Sums};
use crate::watch::queue::About;

/// Another program that looks into the file may hold it for so long.
const BUSY: Duration = Duration::from_secs(2);
/// Of how the tables are made.
const VERSION: i64 = 1;
/// Times are microseconds since 1970, minutes are minutes since then. A picture has the number of its first event. The row
/// without a label in `minutes` says how often the camera was looked at.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS events (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        time INTEGER NOT NULL,
        camera TEXT NOT NULL,
        state TEXT NOT NULL,
        label TEXT,
        zone TEXT,
        line TEXT NOT NULL,
        picture INTEGER
    ) STRICT;
    CREATE INDEX IF NOT EXISTS events_by_time ON events (time);
    CREATE INDEX IF NOT EXISTS events_by_camera ON events (camera, number);
    CREATE INDEX IF NOT EXISTS events_by_label ON events (label, number) WHERE label IS NOT NULL;
    CREATE TABLE IF NOT EXISTS pictures (
        number INTEGER PRIMARY KEY,
        time INTEGER NOT NULL,
        bytes INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS minutes (
        camera TEXT NOT NULL,
        label TEXT NOT NULL,
        minute INTEGER NOT NULL,
        looks INTEGER NOT NULL,
        share REAL NOT NULL,
        areas REAL NOT NULL,
        PRIMARY KEY (camera, label, minute)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS minutes_by_time ON minutes (minute);";

/// An event, and whether it has a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    pub number: u64,
    pub line: String,
    pub picture: Option<u64>,
}

/// What is too old or too much.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Older events and minutes go; microseconds and minutes since 1970.
    pub events_from: i64,
    pub minutes_from: i64,
    pub pictures_from: i64,
    pub database_bytes: u64,
    pub picture_bytes: u64,
}

/// Who writes.
pub struct Store(Connection);

impl Store {
    /// # Errors
    /// It cannot be written, or is none.
    pub fn open(file: &Path) -> Result<Store> {
        let connection = Connection::open(file)?;
        connection.busy_timeout(BUSY)?;
        // Has to be said before the first table is there: then what is freed can be given back in parts.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        // Readers and the writer do not wait for each other. After a loss of power the latest events may be missing, but
        // nothing is damaged.
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "journal_size_limit", 4 << 20)?;
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        anyhow::ensure!(
            version <= VERSION,
            "{} is of a newer version of this program: {version}",
            file.display()
        );
        connection.execute_batch(TABLES)?;
        connection.pragma_update(None, "user_version", VERSION)?;
        Ok(Store(connection))
    }

    /// The highest number that was ever given to an event that was kept.
    pub fn last(&self) -> Result<u64> {
        let last = "SELECT seq FROM sqlite_sequence WHERE name = 'events'";
        let last: Option<i64> = self.0.query_row(last, [], |row| row.get(0)).optional()?;
        Ok(last.unwrap_or(0).try_into()?)
    }

    /// The newest events, oldest first.
    pub fn newest(&self, count: usize) -> Result<Vec<Happening>> {
        let query =
            "SELECT number, time, camera, state, label, zone, line FROM events ORDER BY number DESC LIMIT ?";
        let mut statement = self.0.prepare(query)?;
        let rows = statement.query_map([i64::try_from(count)?], happening)?;
        let mut found = rows.collect::<rusqlite::Result<Vec<Happening>>>()?;
        found.reverse();
        Ok(found)
    }

    /// All of it or nothing.
    pub fn write(&mut self, events: &[Happening], minutes: &[(Arc<str>, i64, Sums)]) -> Result<()> {
        let transaction = self.0.transaction()?;
        write_events(&transaction, events)?;
        write_minutes(&transaction, minutes)?;
        Ok(transaction.commit()?)
    }

    /// These events have the picture of this number; it is new if its size is given.
    pub fn write_picture(&mut self, picture: u64, new: Option<(i64, u64)>, events: &[u64]) -> Result<()> {
        let transaction = self.0.transaction()?;
        let picture = i64::try_from(picture)?;
        if let Some((time, bytes)) = new {
            let insert = "INSERT INTO pictures (number, time, bytes) VALUES (?, ?, ?)";
            transaction.execute(insert, params![picture, time, i64::try_from(bytes)?])?;
        }
        let mut update = transaction.prepare("UPDATE events SET picture = ? WHERE number = ?")?;
        for event in events {
            update.execute(params![picture, i64::try_from(*event)?])?;
        }
        drop(update);
        Ok(transaction.commit()?)
    }

    /// Bytes of the database, and of the pictures.
    pub fn sizes(&self) -> Result<(u64, u64)> {
        let pragma = |name| self.0.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let database = (pragma("page_count")? - pragma("freelist_count")?) * pragma("page_size")?;
        let pictures: i64 =
            self.0.query_row("SELECT coalesce(sum(bytes), 0) FROM pictures", [], |row| row.get(0))?;
        Ok((database.try_into()?, pictures.try_into()?))
    }

    /// Numbers of the pictures that are to be there.
    pub fn pictures(&self) -> Result<Vec<u64>> {
        let mut statement = self.0.prepare("SELECT number FROM pictures")?;
        let rows = statement.query_map([], |row| row.get::<_, i64>(0))?;
        rows.map(|number| Ok(u64::try_from(number?)?)).collect()
    }

    /// Forgets what is too old or too much, oldest first. Returns the pictures whose files are to go.
    pub fn tidy(&mut self, limits: &Limits) -> Result<Vec<u64>> {
        let transaction = self.0.transaction()?;
        transaction.execute("DELETE FROM events WHERE time < ?", [limits.events_from])?;
        transaction.execute("DELETE FROM minutes WHERE minute < ?", [limits.minutes_from])?;
        transaction.commit()?;
        while self.sizes()?.0 > limits.database_bytes {
            let transaction = self.0.transaction()?;
            let mut gone = 0;
            for part in [
                "DELETE FROM events WHERE number IN (SELECT number FROM events ORDER BY number \
                 LIMIT 1 + (SELECT count(*) FROM events) / 20)",
                "DELETE FROM minutes WHERE minute <= (SELECT min(minute) + (max(minute) - min(minute)) / 20 FROM minutes)",
            ] {
                gone += transaction.execute(part, [])?;
            }
            transaction.commit()?;
            if gone == 0 {
                break;
            }
        }
        let gone = self.forget_pictures(limits)?;
        self.0.execute_batch("PRAGMA incremental_vacuum")?;
        Ok(gone)
    }

    fn forget_pictures(&mut self, limits: &Limits) -> Result<Vec<u64>> {
        let mut left = self.sizes()?.1;
        let transaction = self.0.transaction()?;
        let mut gone = Vec::new();
        {
            let mut all = transaction.prepare("SELECT number, time, bytes FROM pictures ORDER BY number")?;
            let mut rows = all.query([])?;
            while let Some(row) = rows.next()? {
                let (number, time, bytes): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                if time >= limits.pictures_from && left <= limits.picture_bytes {
                    break;
                }
                left = left.saturating_sub(bytes.try_into()?);
                gone.push(number);
            }
        }
        for number in &gone {
            transaction.execute("DELETE FROM pictures WHERE number = ?", [number])?;
            // Events of one picture follow each other closely.
            transaction.execute(
                "UPDATE events SET picture = NULL WHERE number BETWEEN ?1 AND ?1 + 10000 AND picture = ?1",
                [number],
            )?;
        }
        transaction.commit()?;
        gone.into_iter().map(|number| Ok(u64::try_from(number)?)).collect()
    }

    /// Whether an error says that what is in the file cannot be read by anybody.
    pub fn is_damaged(error: &anyhow::Error) -> bool {
        let code = error.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error_code);
        matches!(code, Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt))
    }
}

fn write_events(transaction: &Transaction, events: &[Happening]) -> Result<()> {
    let mut insert = transaction.prepare(
        "INSERT INTO events (number, time, camera, state, label, zone, line) VALUES (?, ?, ?, ?, ?, ?, ?)",
    )?;
    for event in events {
        let (state, label, zone) = match &event.about {
            About::Presence { label, zone, entered } => {
                (if *entered { "entered" } else { "left" }, Some(label), zone.as_ref())
            }
            About::Anomaly { label, damaged } => {
                (if *damaged { "damaged" } else { "sound" }, Some(label), None)
            }
            About::Camera { up } => (if *up { "connected" } else { "lost" }, None, None),
            About::Frame => continue,
        };
        let number = i64::try_from(event.number)?;
        insert.execute(params![number, event.time, &*event.camera, state, label, zone, &*event.line])?;
    }
    Ok(())
}

fn write_minutes(transaction: &Transaction, minutes: &[(Arc<str>, i64, Sums)]) -> Result<()> {
    let mut insert = transaction.prepare(
        "INSERT INTO minutes (camera, label, minute, looks, share, areas) VALUES (?, ?, ?, ?, ?, ?) \
         ON CONFLICT DO UPDATE SET looks = looks + excluded.looks, share = share + excluded.share, \
         areas = areas + excluded.areas",
    )?;
    for (camera, minute, sums) in minutes {
        let looks = i64::try_from(sums.looks)?;
        insert.execute(params![&**camera, "", minute, looks, 0.0, 0.0])?;
        for (label, Sum { share, areas }) in &sums.labels {
            insert.execute(params![&**camera, label, minute, looks, share, areas])?;
        }
    }
    Ok(())
}

fn happening(row: &Row) -> rusqlite::Result<Happening> {
    let state: String = row.get(3)?;
    let about = match row.get::<_, Option<String>>(4)? {
        Some(label) if ["damaged", "sound"].contains(&state.as_str()) => {
            About::Anomaly { label, damaged: state == "damaged" }
        }
        Some(label) => About::Presence { label, zone: row.get(5)?, entered: state == "entered" },
        None => About::Camera { up: state == "connected" },
    };
    Ok(Happening {
        number: row.get::<_, i64>(0)?.unsigned_abs(),
        time: row.get(1)?,
        camera: row.get::<_, String>(2)?.into(),
        about,
        line: row.get::<_, String>(6)?.into(),
    })
}

/// Who asks, beside the writer.
pub struct Reader(Connection);

impl Reader {
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn open(file: &Path) -> Result<Reader> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(file, flags)
            .with_context(|| format!("cannot read {}", file.display()))?;
        connection.busy_timeout(BUSY)?;
        Ok(Reader(connection))
    }

    /// The newest of the events that are wanted, oldest first.
    pub fn find(&self, wanted: &Wanted, limit: usize) -> Result<Vec<Kept>> {
        let Wanted { camera, label, zone, from, to, since, before } = wanted;
        let mut conditions = vec!["number > ?"];
        let mut values: Vec<Value> = vec![i64::try_from(*since).unwrap_or(i64::MAX).into()];
        let mut add = |condition, value: Option<Value>| {
            if let Some(value) = value {
                conditions.push(condition);
                values.push(value);
            }
        };
        let text = |text: &Option<String>| text.clone().map(Value::from);
        add("number < ?", before.map(|before| i64::try_from(before).unwrap_or(i64::MAX).into()));
        add("camera = ?", text(camera));
        add("label = ?", text(label));
        add("label IS NOT NULL AND coalesce(zone, '') = ?", text(zone));
        add("time >= ?", from.map(Value::from));
        add("time <= ?", to.map(Value::from));
        values.push(i64::try_from(limit)?.into());
        let query = format!(
            "SELECT number, line, picture FROM events WHERE {} ORDER BY number DESC LIMIT ?",
            conditions.join(" AND ")
        );
        let mut statement = self.0.prepare(&query)?;
        let rows = statement.query_map(params_from_iter(values), kept)?;
        let mut found = rows.collect::<rusqlite::Result<Vec<Kept>>>()?;
        found.reverse();
        Ok(found)
    }

    /// Sums over steps of so many minutes, from one minute to another, both included, in the order of camera, label and time;
    /// those without a label first, of how often the camera was looked at.
    pub fn sums(
        &self,
        (camera, label): (Option<&str>, Option<&str>),
        (from, to): (i64, i64),
        step: i64,
    ) -> Result<Vec<StepSum>> {
        let query = "SELECT camera, label, (minute - ?1) / ?3, sum(looks), sum(share), sum(areas) FROM minutes \
                     WHERE minute BETWEEN ?1 AND ?2 AND (?4 IS NULL OR camera = ?4) \
                     AND (?5 IS NULL OR label = ?5 OR label = '') GROUP BY 1, 2, 3 ORDER BY 1, 2, 3";
        let mut statement = self.0.prepare(query)?;
        let rows = statement.query_map(params![from, to, step, camera, label], |row| {
            Ok(StepSum {
                camera: row.get(0)?,
                label: row.get(1)?,
                step: row.get(2)?,
                looks: row.get(3)?,
                share: row.get(4)?,
                areas: row.get(5)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

/// Sums over one step; of one label, or of the camera where there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct StepSum {
    pub camera: String,
    pub label: String,
    /// Counted from 0.
    pub step: i64,
    pub looks: i64,
    pub share: f64,
    pub areas: f64,
}

fn kept(row: &Row) -> rusqlite::Result<Kept> {
    let number = |index| row.get::<_, Option<i64>>(index).map(|number| number.map(i64::unsigned_abs));
    Ok(Kept { number: number(0)?.unwrap_or(0), line: row.get(1)?, picture: number(2)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERYTHING: Limits = Limits {
        events_from: 0,
        minutes_from: 0,
        pictures_from: 0,
        database_bytes: u64::MAX,
        picture_bytes: u64::MAX,
    };

    fn event(number: u64, label: &str, zone: Option<&str>) -> Happening {
        let about = match label {
            "" => About::Camera { up: true },
            label => About::Presence {
                label: label.into(),
                zone: zone.map(str::to_string),
                entered: number.is_multiple_of(2),
            },
        };
        let line = format!("{{\"n\":{number}}}");
        Happening {
            number,
            time: number as i64 * 1_000_000,
            camera: ["gate", "yard"][number as usize % 2].into(),
            about,
            line: line.into(),
        }
    }

    fn sums(looks: u64, labels: &[(&str, f64)]) -> Sums {
        let of =
            |(label, share): &(&str, f64)| (label.to_string(), Sum { share: *share, areas: 2.0 * share });
        Sums { looks, labels: labels.iter().map(of).collect() }
    }

    #[test]
    fn what_is_written_is_found_as_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("events.db");
        let events = [
            event(5, "", None),
            event(6, "cat", None),
            event(7, "cat", Some("door")),
            event(8, "dog", Some("door")),
            event(9, "", None),
        ];
        let mut store = Store::open(&file).unwrap();
        assert_eq!(store.last().unwrap(), 0);
        store.write(&events, &[]).unwrap();
        drop(store);
        let store = Store::open(&file).unwrap();
        assert_eq!((store.last().unwrap(), store.newest(3).unwrap()), (9, events[2..].to_vec()));
        let reader = Reader::open(&file).unwrap();
        let text = |text: &str| Some(text.to_string());
        for wanted in [
            Wanted::default(),
            Wanted { since: 6, ..Wanted::default() },
            Wanted { before: Some(8), ..Wanted::default() },
            Wanted { camera: text("yard"), ..Wanted::default() },
            Wanted { label: text("cat"), ..Wanted::default() },
            Wanted { zone: text("door"), ..Wanted::default() },
            Wanted { zone: text(""), ..Wanted::default() },
            Wanted { from: Some(6_000_000), to: Some(8_000_000), ..Wanted::default() },
            Wanted { camera: text("gate' OR 1=1 --"), ..Wanted::default() },
        ] {
            for limit in [1, 10] {
                let found = reader.find(&wanted, limit).unwrap();
                let mut expected: Vec<_> = events.iter().filter(|event| wanted.takes(event)).collect();
                expected.drain(..expected.len().saturating_sub(limit));
                assert_eq!(
                    found.iter().map(|kept| (kept.number, kept.line.as_str())).collect::<Vec<_>>(),
                    expected.iter().map(|event| (event.number, &*event.line)).collect::<Vec<_>>(),
                    "{wanted:?}"
                );
            }
        }
        // All of it or nothing.
        let mut store = store;
        assert!(store.write(&[event(10, "", None), event(9, "", None)], &[]).is_err());
        assert_eq!(store.newest(1).unwrap()[0].number, 9);
    }

    #[test]
    fn minutes_are_added_up_and_taken_together() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("events.db");
        let mut store = Store::open(&file).unwrap();
        let gate: Arc<str> = "gate".into();
        let row = |minute, sums| (gate.clone(), minute, sums);
        store.write(&[], &[row(100, sums(10, &[("cat", 1.0)]))]).unwrap();
        // The program was started again in this minute.
        store.write(&[], &[row(100, sums(20, &[("cat", 2.0), ("dog", 4.0)]))]).unwrap();
        store.write(&[], &[row(101, sums(60, &[]))]).unwrap();
        store.write(&[], &[row(110, sums(60, &[("dog", 6.0)]))]).unwrap();
        let reader = Reader::open(&file).unwrap();
        let found = |label, step| -> Vec<(String, i64, i64, f64)> {
            let all = reader.sums((Some("gate"), label), (100, 119), step).unwrap();
            all.into_iter().map(|sum| (sum.label, sum.step, sum.looks, sum.share)).collect()
        };
        let row = |label: &str, step, looks, share| (label.to_string(), step, looks, share);
        assert_eq!(
            found(Some("dog"), 10),
            [row("", 0, 90, 0.0), row("", 1, 60, 0.0), row("dog", 0, 20, 4.0), row("dog", 1, 60, 6.0)]
        );
        assert_eq!(found(None, 1)[..2], [row("", 0, 30, 0.0), row("", 1, 60, 0.0)]);
        assert!(reader.sums((Some("yard"), None), (0, 1000), 1).unwrap().is_empty());
    }

    #[test]
    fn the_oldest_go_when_it_is_too_much_or_too_old() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(&folder.path().join("events.db")).unwrap();
        let events: Vec<Happening> = (1..=5000).map(|number| event(number, "cat", None)).collect();
        store
            .write(&events, &[("gate".into(), 100, sums(1, &[])), ("gate".into(), 200, sums(1, &[]))])
            .unwrap();
        for number in 1..=10 {
            let events = [10 * number, 10 * number + 1];
            store.write_picture(events[0], Some((events[0] as i64 * 1_000_000, 1000)), &events).unwrap();
        }
        assert_eq!(store.tidy(&EVERYTHING).unwrap(), [0; 0]);
        assert_eq!(store.sizes().unwrap().1, 10_000);
        let reader = Reader::open(&folder.path().join("events.db")).unwrap();
        let event = |number: u64| {
            reader
                .find(&Wanted { since: number - 1, before: Some(number + 1), ..Wanted::default() }, 1)
                .unwrap()
                .pop()
        };
        let picture = |number| event(number).unwrap().picture;
        assert_eq!((picture(20), picture(21), picture(22)), (Some(20), Some(20), None));
        // Pictures beyond their bytes, and older than their time.
        assert_eq!(store.tidy(&Limits { picture_bytes: 8_500, ..EVERYTHING }).unwrap(), [10, 20]);
        assert_eq!((picture(20), picture(21), picture(30)), (None, None, Some(30)));
        assert_eq!(store.tidy(&Limits { pictures_from: 41_000_000, ..EVERYTHING }).unwrap(), [30, 40]);
        assert_eq!(store.pictures().unwrap().len(), 6);
        // Events by time.
        store.tidy(&Limits { events_from: 1001 * 1_000_000, minutes_from: 150, ..EVERYTHING }).unwrap();
        assert_eq!((event(1000), picture(1001)), (None, None));
        assert_eq!(reader.sums((None, None), (0, 1000), 1).unwrap().len(), 1);
        // And by bytes; the newest stay.
        let (before, _) = store.sizes().unwrap();
        store.tidy(&Limits { database_bytes: before / 2, ..EVERYTHING }).unwrap();
        let (after, _) = store.sizes().unwrap();
        assert!(after <= before / 2 && after > before / 4, "{after} of {before}");
        assert!(event(5000).is_some());
        // What cannot be reached ends too.
        store.tidy(&Limits { database_bytes: 0, ..EVERYTHING }).unwrap();
        assert_eq!(store.newest(1).unwrap(), []);
        assert_eq!(store.last().unwrap(), 5000, "no number is given twice");
    }

    #[test]
    fn what_is_no_database_is_told_from_what_cannot_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("events.db");
        std::fs::write(&file, "this is a letter, and no database at all: ".repeat(100)).unwrap();
        assert!(Store::open(&file).err().is_some_and(|error| Store::is_damaged(&error)));
        let nowhere = Store::open(&folder.path().join("none/events.db")).err().unwrap();
        assert!(!Store::is_damaged(&nowhere), "{nowhere}");
    }
}
