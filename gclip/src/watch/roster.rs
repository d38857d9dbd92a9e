// SPDX-License-Identifier: MIT OR Apache-2.0
//! The cameras that are watched and where their lines go. One is added, changed or removed while the others play on;
//! it begins with none.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use gst::prelude::*;
use parking_lot::{Mutex, RwLock};

use super::camera::{Settings, Watcher};
use super::config::{self, Camera, Config};
use super::console::Console;
use super::history::History;
use super::line::Run;
use super::metrics::{OutputStatus, Snapshot};
use super::output::{Inventory, Output, Ready, Watched};
use super::pipeline;
use super::report::{Reporter, Route};
use super::state::{CameraState, Phase, Status};
use super::stop::Stop;
use crate::fleet::Claim;

/// Cameras and outputs may take this long to end, each.
const GRACE: Duration = Duration::from_secs(4);
/// How often it is looked whether one has ended.
const LOOK: Duration = Duration::from_millis(10);

pub struct Roster {
    model: String,
    console: Arc<Console>,
    run: Arc<Run>,
    started: SystemTime,
    outputs: Vec<Output>,
    inventory: Arc<Inventory>,
    members: Vec<Member>,
    directory: Arc<Directory>,
    history: Arc<History>,
    /// By camera, where others could have it.
    claims: BTreeMap<String, Arc<Claim>>,
    /// The model stays loaded while no camera is there.
    holder: Option<Holder>,
}

/// The cameras that are watched, for who looks from other threads.
#[derive(Default)]
pub struct Directory(RwLock<Vec<(Settings, Arc<Reporter>)>>);

impl Directory {
    pub fn find(&self, name: &str) -> Option<(Arc<Camera>, Arc<Reporter>)> {
        let entries = self.0.read();
        let mut all = entries.iter().map(|(settings, reporter)| (settings.get(), reporter));
        all.find(|(camera, _)| camera.name == name).map(|(camera, reporter)| (camera, reporter.clone()))
    }
}

struct Member {
    settings: Settings,
    reporter: Arc<Reporter>,
    segment: Arc<Mutex<Option<gst::Element>>>,
    /// `None`: it never has been since it is here; one that was stopped ends, or has.
    running: Option<Running>,
}

impl Member {
    fn camera(&self) -> Arc<Camera> {
        self.settings.get()
    }

    /// Looks for other words in what is played.
    fn set_words(&self, camera: &Camera) -> Result<()> {
        self.settings.set(camera.clone());
        tell_doubts(camera, &self.reporter);
        // A connection that is being made now sees for itself.
        let segment = self.segment.lock().clone();
        segment.map_or(Ok(()), |segment| pipeline::set_words(&segment, camera))
    }
}

/// A camera's thread, and the wish that it ends.
pub struct Running {
    stop: Stop,
    thread: JoinHandle<()>,
}

impl Running {
    /// Waits for the end of a camera that was told to stop. Returns whether it has ended before `deadline`.
    pub fn wait(&self, deadline: Instant) -> bool {
        while !self.thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(LOOK);
        }
        self.thread.is_finished()
    }
}

impl Roster {
    pub fn new(model: &str, console: &Arc<Console>, history: &Arc<History>) -> Roster {
        Roster {
            model: model.into(),
            console: console.clone(),
            run: Arc::new(Run::begin()),
            started: SystemTime::now(),
            outputs: vec![],
            inventory: Arc::default(),
            members: vec![],
            directory: Arc::default(),
            history: history.clone(),
            claims: BTreeMap::new(),
            holder: None,
        }
    }

    pub fn run_name(&self) -> &str {
        self.run.name()
    }

    /// What cameras say is said by these claims, from the next [`apply`](Self::apply) on.
    pub fn set_claims(&mut self, claims: BTreeMap<String, Arc<Claim>>) {
        self.claims = claims;
    }

    /// Whether the model takes the cameras that a config adds or changes; loads it if it is not there yet.
    ///
    /// # Errors
    /// The model does not load, or does not take a camera's settings.
    pub fn check(&mut self, config: &Config) -> Result<()> {
        let held = self.trial(config)?.run()?;
        self.hold(held);
        Ok(())
    }

    /// The part of [`check`](Self::check) that takes its time, for another thread; what it brings is to be held.
    ///
    /// # Errors
    /// It is for another model.
    pub fn trial(&self, config: &Config) -> Result<Trial> {
        ensure!(config.model == self.model, "`model` has changed: that takes a new start of the program");
        self.console.learn(&config.secrets);
        let is_known = |camera: &Camera| self.members.iter().any(|member| member.camera().is_like(camera));
        let new = config.cameras.iter().filter(|camera| !is_known(camera)).cloned();
        let nothing = self.holder.is_none() && config.cameras.is_empty();
        Ok(Trial {
            model: self.model.clone(),
            console: self.console.clone(),
            cameras: new.collect(),
            without_camera: nothing.then(|| config.segment.clone()),
        })
    }

    pub fn hold(&mut self, held: Option<Holder>) {
        if self.holder.is_none() {
            self.holder = held;
        }
    }

    /// Goes over to what a config says that was checked. Cameras and outputs that it does not change play on undisturbed.
    ///
    /// # Errors
    /// Something in it cannot be had. Then nothing has changed.
    pub fn apply(&mut self, config: &Config) -> Result<String> {
        let same = |output: &config::Output| self.outputs.iter().any(|known| known.config == *output);
        let opened = config.outputs.iter().filter(|output| !same(output)).map(Ready::new);
        let opened = opened.collect::<Result<Vec<Ready>>>()?;

        // From here on nothing can be wrong with it any more.
        let outputs = self.change_outputs(config, opened)?;
        self.inventory.set(config.cameras.iter().map(watched).collect());
        let cameras = self.change_cameras(&config.cameras)?;
        Ok(match [cameras, outputs].join("; ").trim_matches([';', ' ']) {
            "" => "nothing has changed".to_string(),
            changes => changes.to_string(),
        })
    }

    fn change_outputs(&mut self, config: &Config, opened: Vec<Ready>) -> Result<String> {
        let stays = |output: &Output| config.outputs.contains(&output.config);
        let (stay, leave): (Vec<Output>, Vec<Output>) =
            std::mem::take(&mut self.outputs).into_iter().partition(stays);
        self.outputs = stay;
        let (opens, closes) = (opened.len(), leave.len());
        // An output of the same name may take its place: first the one, then the other.
        self.close_outputs(leave);
        for ready in opened {
            self.outputs.push(ready.start(&self.console, &self.inventory)?);
        }
        Ok(match (opens, closes) {
            (0, 0) => String::new(),
            _ => format!("outputs: {opens} opened, {closes} closed"),
        })
    }

    fn change_cameras(&mut self, cameras: &[Camera]) -> Result<String> {
        let gone = |member: &Member| !cameras.iter().any(|camera| camera.name == member.camera().name);
        let leaving: Vec<String> = self
            .members
            .iter()
            .filter(|member| gone(member))
            .map(|member| member.camera().name.clone())
            .collect();
        let gone = leaving.len();
        let stopped: Vec<Running> = leaving.iter().filter_map(|name| self.remove(name)).collect();
        let (mut added, mut changed) = (0, 0);
        for camera in cameras {
            let routes = self.routes(camera);
            match self.members.iter().find(|member| member.camera().name == camera.name) {
                None => {
                    self.start(camera.clone())?;
                    added += 1;
                }
                Some(member) => {
                    member.reporter.set_claim(self.claims.get(&camera.name).cloned());
                    let wanted_frames = member.reporter.wants_frames();
                    member.reporter.set_routes(routes);
                    let same_lines = wanted_frames == member.reporter.wants_frames();
                    if same_lines && member.camera().is_like(camera) {
                        // Its outputs may be others.
                        member.settings.set(camera.clone());
                        continue;
                    }
                    changed += 1;
                    if same_lines && member.camera().differs_in_words(camera) {
                        member.set_words(camera)?;
                    } else {
                        self.replace(camera.clone())?;
                    }
                }
            }
        }
        let deadline = Instant::now() + GRACE;
        let slow = stopped.iter().filter(|running| !running.wait(deadline)).count();
        if slow > 0 {
            self.console.log("gclip", &format!("{slow} cameras that were stopped take their time to end"));
        }
        Ok(match (added, changed, gone) {
            (0, 0, 0) => String::new(),
            (added, changed, stopped) => {
                format!("cameras: {added} added, {changed} changed, {stopped} stopped")
            }
        })
    }

    /// Watches one more camera.
    ///
    /// # Errors
    /// There is one of this name, or the system has no thread to give.
    pub fn start(&mut self, camera: Camera) -> Result<()> {
        let known = self.members.iter().any(|member| member.camera().name == camera.name);
        ensure!(!known, "there is a camera {} already", camera.name);
        let state = Arc::new(CameraState::new(&camera.name));
        let routes = self.routes(&camera);
        let (console, run) = (self.console.clone(), self.run.clone());
        let reporter = Arc::new(Reporter::new(state, console, run, routes, self.history.clone()));
        reporter.set_claim(self.claims.get(&camera.name).cloned());
        tell_doubts(&camera, &reporter);
        let member = self.member(camera, reporter, None)?;
        self.members.push(member);
        self.list();
        Ok(())
    }

    /// Has a camera no longer. `None` if it was not watched; its end can be waited for.
    fn remove(&mut self, name: &str) -> Option<Running> {
        let index = self.members.iter().position(|member| member.camera().name == name)?;
        let running = self.members.remove(index).running;
        self.list();
        running.inspect(|running| running.stop.request())
    }

    /// Watches a camera by other settings. The new connection begins when the old one has ended, as many cameras bear
    /// few at a time; what was counted so far stays.
    ///
    /// # Errors
    /// There is none of this name, or the system has no thread to give.
    pub fn replace(&mut self, camera: Camera) -> Result<()> {
        let index = self.members.iter().position(|member| member.camera().name == camera.name);
        let index = index.with_context(|| format!("there is no camera {}", camera.name))?;
        let old = self.members.remove(index);
        if let Some(running) = &old.running {
            running.stop.request();
        }
        let member = self.member(camera, old.reporter, old.running)?;
        self.members.insert(index, member);
        self.list();
        Ok(())
    }

    fn list(&self) {
        let entry = |member: &Member| (member.settings.clone(), member.reporter.clone());
        *self.directory.0.write() = self.members.iter().map(entry).collect();
    }

    pub fn directory(&self) -> Arc<Directory> {
        self.directory.clone()
    }

    /// A camera that is watched, if it is to be, as soon as it is no longer watched as before.
    fn member(&self, camera: Camera, reporter: Arc<Reporter>, before: Option<Running>) -> Result<Member> {
        let segment = Arc::default();
        if !camera.enabled {
            if before.is_none() {
                reporter.state.enter(Phase::Stopped);
            }
            return Ok(Member { settings: Settings::new(camera), reporter, segment, running: before });
        }
        let stop = Stop::default();
        let (name, settings) = (camera.name.clone(), Settings::new(camera));
        let watcher = Watcher {
            settings: settings.clone(),
            model: self.model.clone(),
            reporter: reporter.clone(),
            stop: stop.clone(),
            segment: Arc::clone(&segment),
        };
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            if let Some(before) = before {
                // It has nothing to say, not even that it has panicked: that was said then.
                let _ = before.thread.join();
            }
            watcher.run();
        })?;
        Ok(Member { settings, reporter, segment, running: Some(Running { stop, thread }) })
    }

    fn routes(&self, camera: &Camera) -> Vec<Route> {
        let wanted = self.outputs.iter().filter(|output| camera.outputs.contains(&output.config.name));
        wanted.map(Output::route).collect()
    }

    /// Says what there is to say about outputs.
    pub fn tell_losses(&self) {
        self.outputs.iter().for_each(|output| output.tell_losses(&self.console));
    }

    /// Whether everything that was said has arrived.
    pub fn is_delivered(&self) -> bool {
        self.outputs.iter().all(|output| output.queue.undelivered() == 0)
    }

    /// Whether there is nobody left to whom anything could be told.
    pub fn is_unheard(&self) -> bool {
        !self.outputs.is_empty() && self.outputs.iter().all(Output::is_broken)
    }

    pub fn snapshot(&self) -> Snapshot {
        let cameras: Vec<Status> = self.members.iter().map(|member| member.reporter.state.status()).collect();
        let outputs = self.outputs.iter().map(|output| OutputStatus {
            name: output.config.name.clone(),
            delivered: output.queue.delivered(),
            dropped: output.queue.dropped(),
            waiting: output.queue.undelivered(),
        });
        let (outputs, model) = (outputs.collect(), self.statistics());
        Snapshot {
            started: self.started,
            cameras,
            outputs,
            model,
            history: self.history.status(),
            fleet: None,
        }
    }

    /// Statistics of any element: those of the model are the same in all.
    fn statistics(&self) -> Option<gst::Structure> {
        let playing = self.members.iter().find_map(|member| member.segment.lock().clone());
        let segment = playing.or_else(|| self.holder.as_ref().map(|holder| holder.0.clone()))?;
        Some(segment.property::<gst::Structure>("stats"))
    }

    /// Leaves all cameras, then lets what waits go out.
    pub fn close(mut self) {
        let members = std::mem::take(&mut self.members);
        members
            .iter()
            .filter_map(|member| member.running.as_ref())
            .for_each(|running| running.stop.request());
        let deadline = Instant::now() + GRACE;
        for member in members {
            if member.running.as_ref().is_some_and(|running| !running.wait(deadline)) {
                self.console.log(&member.camera().name, "it does not end in time and is left as it is");
            }
        }
        let outputs = std::mem::take(&mut self.outputs);
        self.close_outputs(outputs);
        self.history.close();
    }

    fn close_outputs(&self, outputs: Vec<Output>) {
        outputs.iter().for_each(Output::end);
        let deadline = Instant::now() + GRACE;
        for output in outputs {
            let name = format!("output.{}", output.config.name);
            match output.close(deadline) {
                0 => {}
                left => self.console.log(&name, &format!("{left} lines could not be delivered")),
            }
        }
    }
}

fn watched(camera: &Camera) -> Watched {
    Watched { camera: camera.name.clone(), labels: camera.labels.clone(), zones: camera.zone_names() }
}

/// Says what of the camera's words will not do what it says.
fn tell_doubts(camera: &Camera, reporter: &Reporter) {
    camera.doubts.iter().for_each(|doubt| reporter.log(&format!("note: {doubt}")));
}

/// Whether the model takes these cameras.
pub struct Trial {
    model: String,
    console: Arc<Console>,
    cameras: Vec<Camera>,
    /// Properties to load the model with where no camera does.
    without_camera: Option<Vec<String>>,
}

impl Trial {
    /// # Errors
    /// The model does not load, or does not take a camera's settings.
    pub fn run(self) -> Result<Option<Holder>> {
        let mut held = None;
        if let Some(properties) = &self.without_camera {
            held = Some(self.try_model(pipeline::loader(&self.model, properties)?, "[segment]")?);
        }
        for camera in &self.cameras {
            let element = pipeline::segment(camera, &self.model)?;
            held.get_or_insert(self.try_model(element, &format!("camera.{}", camera.name))?);
        }
        Ok(held)
    }

    /// Encodes the prompts, by the element that will use them.
    fn try_model(&self, element: gst::Element, of: &str) -> Result<Holder> {
        let element = Holder(element);
        let bus = gst::Bus::new();
        element.0.set_bus(Some(&bus));
        if element.0.set_state(gst::State::Ready).is_err() {
            let error = bus.pop_filtered(&[gst::MessageType::Error]);
            let why = match error.as_ref().map(|message| message.view()) {
                Some(gst::MessageView::Error(error)) => error.error().to_string(),
                _ => "gclipsegment does not start".into(),
            };
            bail!("{} ({of})", self.console.hide(&why));
        }
        element.0.set_bus(None);
        Ok(element)
    }
}

/// An element that keeps the shared model loaded.
pub struct Holder(gst::Element);

impl Drop for Holder {
    fn drop(&mut self) {
        // A state change to NULL cannot fail.
        let _ = self.0.set_state(gst::State::Null);
    }
}
