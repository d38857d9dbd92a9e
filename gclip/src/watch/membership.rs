// SPDX-License-Identifier: MIT OR Apache-2.0
//! The cameras of a fleet that are this worker's to play: what the fleet orders becomes what is watched.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Error, Result, anyhow};

use super::config::{self, Camera, Config};
use super::console::Console;
use super::desk;
use super::roster::{Holder, Roster};
use super::state::{Phase, Status};
use crate::fleet::{self, CameraReport, Claim, Joined, Order, Standing};

/// What a camera has said may be on its way for so long before others take it.
const DELIVERY: Duration = Duration::from_secs(1);

/// A camera that is to be played here.
struct Own {
    claim: Arc<Claim>,
    /// As the fleet has it, or what is wrong with it.
    camera: Result<Camera, String>,
}

/// Cameras that the model is being tried with.
type Trial = (Vec<Camera>, JoinHandle<Result<Option<Holder>>>);

pub struct Membership {
    joined: Joined,
    path: PathBuf,
    /// Of the file, which names no camera.
    text: String,
    own: BTreeMap<String, Own>,
    is_changed: bool,
    trial: Option<Trial>,
    /// Cameras that are to be stopped, or were, and until when their lines are waited for.
    leaving: Vec<(String, Option<Instant>)>,
}

impl Membership {
    /// # Errors
    /// The system has no thread to give.
    pub fn join(settings: fleet::Settings, path: &Path, text: &str) -> Result<Membership> {
        Ok(Membership {
            joined: Joined::join(settings)?,
            path: path.into(),
            text: text.into(),
            own: BTreeMap::new(),
            is_changed: false,
            trial: None,
            leaving: vec![],
        })
    }

    /// Does what is ordered, but waits for nothing that takes long.
    ///
    /// # Errors
    /// This worker cannot be in the fleet.
    pub fn work(&mut self, roster: &mut Roster, config: &Config, console: &Console) -> Result<()> {
        while let Ok(order) = self.joined.orders.try_recv() {
            self.take(order, console)?;
        }
        if let Some((cameras, trial)) = self.trial.take_if(|(_, trial)| trial.is_finished()) {
            let tried =
                trial.join().unwrap_or_else(|_| Err(anyhow!("the model could not be tried with them")));
            match tried {
                Ok(held) => {
                    roster.hold(held);
                    self.apply(cameras, roster, config, console);
                }
                Err(error) => self.find_culprit(&cameras, roster, config, &error, console),
            }
        }
        if self.trial.is_none() && std::mem::take(&mut self.is_changed) {
            self.begin(roster, config, console);
        }
        self.release(roster);
        Ok(())
    }

    fn take(&mut self, order: Order, console: &Console) -> Result<(), Error> {
        match order {
            Order::Play { camera, settings, claim } => {
                let checked = self.check(&camera, &settings);
                if let Err(why) = &checked {
                    console.log(&camera, &format!("it cannot be watched: {why}"));
                }
                self.own.insert(camera, Own { claim, camera: checked });
            }
            Order::Change { camera, settings } => {
                let checked = self.check(&camera, &settings);
                if let Some(own) = self.own.get_mut(&camera) {
                    match checked {
                        // What is played goes on as before.
                        Err(why) => console.log(&camera, &format!("its change is not taken: {why}")),
                        checked => own.camera = checked,
                    }
                }
            }
            Order::Stop { camera } => {
                self.own.remove(&camera);
                self.leaving.push((camera, None));
            }
            Order::Say(text) => {
                console.log("fleet", &text);
                return Ok(());
            }
            Order::Failed(error) => return Err(error.context("fleet")),
        }
        self.is_changed = true;
        Ok(())
    }

    fn check(&self, name: &str, settings: &fleet::Camera) -> Result<Camera, String> {
        let table = desk::table(name, settings)?;
        config::camera_of(&self.text, &self.path, table)
    }

    fn cameras(&self) -> Vec<Camera> {
        self.own.values().filter_map(|own| own.camera.clone().ok()).collect()
    }

    fn begin(&mut self, roster: &mut Roster, config: &Config, console: &Console) {
        let cameras = self.cameras();
        let tried = roster.trial(&Config { cameras: cameras.clone(), ..config.clone() }).and_then(|trial| {
            let thread = std::thread::Builder::new().name("trial".into());
            Ok(thread.spawn(|| trial.run())?)
        });
        match tried {
            Ok(thread) => self.trial = Some((cameras, thread)),
            Err(error) => console.log("fleet", &format!("{error:#}")),
        }
    }

    /// The model does not take all of these: finds those that it does not take, so that the others play.
    fn find_culprit(
        &mut self,
        cameras: &[Camera],
        roster: &mut Roster,
        config: &Config,
        error: &Error,
        console: &Console,
    ) {
        let mut found = false;
        for camera in cameras {
            let alone = Config { cameras: vec![camera.clone()], ..config.clone() };
            if let Err(why) = roster.check(&alone)
                && let Some(own) = self.own.get_mut(&camera.name)
            {
                let why = console.hide(&format!("{why:#}"));
                console.log(&camera.name, &format!("it cannot be watched: {why}"));
                own.camera = Err(why);
                found = true;
            }
        }
        if found {
            self.is_changed = true;
        } else {
            console.log("fleet", &console.hide(&format!("{error:#}")));
        }
    }

    fn apply(&mut self, cameras: Vec<Camera>, roster: &mut Roster, config: &Config, console: &Console) {
        // Some may have gone while the model was being tried.
        let cameras: Vec<Camera> =
            cameras.into_iter().filter(|camera| self.own.contains_key(&camera.name)).collect();
        roster.set_claims(self.own.iter().map(|(name, own)| (name.clone(), own.claim.clone())).collect());
        match roster.apply(&Config { cameras, ..config.clone() }) {
            Ok(changes) => console.log("fleet", &changes),
            Err(error) => console.log("fleet", &console.hide(&format!("{error:#}"))),
        }
    }

    /// Tells of cameras that are stopped, when what they have said has arrived.
    fn release(&mut self, roster: &Roster) {
        let playing = roster.directory();
        let (delivered, now) = (roster.is_delivered(), Instant::now());
        let joined = &self.joined;
        self.leaving.retain_mut(|(camera, until)| {
            if playing.find(camera).is_some() && !self.own.contains_key(camera) {
                return true;
            }
            let until = *until.get_or_insert(now + DELIVERY);
            let done = delivered || now >= until;
            if done {
                joined.stopped(camera);
            }
            !done
        });
    }

    /// How this worker's cameras are, for who asks the fleet.
    pub fn report(&self, cameras: &[Status]) {
        let reports = self.own.iter().map(|(name, own)| {
            let status = cameras.iter().find(|status| *status.name == **name);
            let (state, why) = match (&own.camera, status.map(|status| &status.phase)) {
                (Err(why), _) => ("mistake", Some(why.clone())),
                (Ok(_), None | Some(Phase::Connecting)) => ("connecting", None),
                (Ok(_), Some(Phase::Playing)) => ("playing", None),
                (Ok(_), Some(Phase::Waiting { why, .. })) => ("waiting", Some(why.clone())),
                (Ok(_), Some(Phase::Stopped)) => ("stopped", None),
            };
            let mask_age = status.and_then(|status| status.mask_age).map(|age| age.as_secs_f64());
            CameraReport { camera: name.clone(), epoch: own.claim.epoch, state: state.into(), why, mask_age }
        });
        self.joined.report(reports.collect());
    }

    pub fn standing(&self) -> Standing {
        self.joined.standing()
    }

    /// The program is ending: nothing more is taken.
    pub fn leave(&self) {
        self.joined.leave();
    }

    /// Nothing is played any more: others take the cameras.
    pub fn farewell(self) {
        self.joined.farewell();
    }
}
