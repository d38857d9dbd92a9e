// SPDX-License-Identifier: MIT OR Apache-2.0
//! The GObject side: class, pads, properties, states.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use anyhow::{Context, Result};
use glib::subclass::Signal;
use gst::prelude::*;
use gst::subclass::prelude::*;
use parking_lot::Mutex;

use super::CAT;
use super::prompts::PromptWorker;
use super::properties::{self, Concerns};
use super::settings::Settings;
use super::specs;
use super::stream::{Session, Stream};
use crate::engine::{Client, Engine, Wish};
use crate::frame::{self, Importer};
use crate::model::ModelSpec;
use crate::pads;

pub struct Segment {
    pub sinkpad: gst::Pad,
    pub srcpad: gst::Pad,
    pub settings: Mutex<Settings>,
    /// From NULL->READY to READY->NULL.
    pub loaded: Mutex<Option<Loaded>>,
    /// From READY->PAUSED to PAUSED->READY.
    pub session: Mutex<Option<Arc<Session>>>,
    pub stream: Arc<Stream>,
    /// Keeps the order of settings and wishes equal when several threads set prompts.
    prompt_order: Mutex<()>,
}

/// The model at work, and what it was loaded from.
pub struct Loaded {
    pub client: Arc<Client>,
    pub importer: Arc<Importer>,
    pub prompts: PromptWorker,
    pub spec: ModelSpec,
    instance: Option<String>,
    /// Tells this from what was loaded before.
    pub number: u64,
}

#[glib::object_subclass]
impl ObjectSubclass for Segment {
    const NAME: &'static str = "GstGclipSegment";
    type Type = super::Segment;
    type ParentType = gst::Element;

    fn with_class(class: &Self::Class) -> Self {
        let (sink, src) = pads::builders(class);
        Segment {
            sinkpad: sink
                .flags(gst::PadFlags::PROXY_CAPS)
                .activatemode_function(|_, parent, _, active| {
                    Segment::catch_panic_pad_function(parent, panicked, |this| {
                        this.activate_sink(active);
                        Ok(())
                    })
                })
                .chain_function(|_, parent, buffer| {
                    let failed = || Err(gst::FlowError::Error);
                    Segment::catch_panic_pad_function(parent, failed, |this| this.chain(buffer))
                })
                .event_full_function(|_, parent, event| {
                    let failed = || Err(gst::FlowError::Error);
                    Segment::catch_panic_pad_function(parent, failed, |this| this.sink_event(event))
                })
                .query_function(|_, parent, query| {
                    Segment::catch_panic_pad_function(parent, || false, |this| this.sink_query(query))
                })
                .build(),
            srcpad: src
                .flags(gst::PadFlags::PROXY_CAPS)
                .activatemode_function(|_, parent, _, active| {
                    Segment::catch_panic_pad_function(parent, panicked, |this| this.activate_src(active))
                })
                .event_function(|_, parent, event| {
                    Segment::catch_panic_pad_function(parent, || false, |this| this.src_event(event))
                })
                .query_function(|_, parent, query| {
                    Segment::catch_panic_pad_function(parent, || false, |this| this.src_query(query))
                })
                .build(),
            settings: Mutex::default(),
            loaded: Mutex::default(),
            session: Mutex::default(),
            stream: Arc::default(),
            prompt_order: Mutex::default(),
        }
    }
}

fn panicked() -> Result<(), gst::LoggableError> {
    Err(gst::loggable_error!(CAT, "a panic while activating a pad"))
}

impl ObjectImpl for Segment {
    fn constructed(&self) {
        self.parent_constructed();
        pads::add(self.obj().upcast_ref(), &self.sinkpad, &self.srcpad);
    }

    fn properties() -> &'static [glib::ParamSpec] {
        static SPECS: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(specs::param_specs);
        &SPECS
    }

    fn signals() -> &'static [Signal] {
        static SIGNALS: LazyLock<Vec<Signal>> = LazyLock::new(specs::signals);
        &SIGNALS
    }

    fn set_property(&self, _id: usize, value: &glib::Value, spec: &glib::ParamSpec) {
        let name = spec.name();
        let outcome = match properties::concern(name) {
            Concerns::Model => self.set_model_property(name, value),
            Concerns::Prompts => self.set_prompt_property(name, value),
            Concerns::Limits | Concerns::Frames => {
                let mut settings = self.settings.lock();
                let outcome = settings.set(name, value);
                self.stream.set_rules(&settings.policy);
                outcome
            }
        };
        match outcome {
            Err(error) => self.warn(&format!("property \"{name}\" stays as it was: {error:#}")),
            Ok(()) if properties::concern(name) == Concerns::Limits => self.limits_changed(),
            Ok(()) => (),
        }
    }

    fn property(&self, _id: usize, spec: &glib::ParamSpec) -> glib::Value {
        match spec.name() {
            "stats" => self.stats().to_value(),
            name => self.settings.lock().get(name).unwrap_or_else(|| spec.default_value().clone()),
        }
    }
}

impl GstObjectImpl for Segment {}

impl ElementImpl for Segment {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "GCLIP segmentation",
                "Filter/Analyzer/Video",
                "Finds what text prompts name in video frames and attaches masks",
                env!("CARGO_PKG_REPOSITORY"),
            )
        });
        Some(&*METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let caps = frame::caps();
            pads::templates(&caps, &caps)
        });
        &TEMPLATES
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        match transition {
            gst::StateChange::NullToReady => self.load()?,
            gst::StateChange::ReadyToPaused => {
                // What was set in READY.
                self.load()?;
                self.open_session();
            }
            gst::StateChange::PlayingToPaused => self.set_quiet(),
            _ => (),
        }
        let success = self.parent_change_state(transition)?;
        match transition {
            gst::StateChange::PausedToReady => {
                let session = self.session.lock().take();
                drop(session);
                self.stream.reset();
            }
            gst::StateChange::ReadyToNull => {
                let loaded = self.loaded.lock().take();
                drop(loaded);
            }
            _ => (),
        }
        Ok(success)
    }
}

impl Segment {
    /// Loads the model and encodes the prompts, as far as the settings ask for others than are there.
    /// What is wrong is posted as an error.
    fn load(&self) -> Result<(), gst::StateChangeError> {
        let settings = self.settings.lock().clone();
        self.try_load(&settings).map_err(|error| {
            gst::element_imp_error!(self, gst::ResourceError::Settings, ("{error:#}"));
            gst::StateChangeError
        })
    }

    fn try_load(&self, settings: &Settings) -> Result<()> {
        let spec = settings.model_spec()?;
        // Before the model: a mistake in the prompts need not wait for the weights.
        let wish = settings.wish()?;
        self.load_engine(spec, settings.model_instance_id.clone())?;
        let (client, generation) = {
            let loaded = self.loaded.lock();
            let loaded = loaded.as_ref().context("the element is shutting down")?;
            if loaded.client.active().is_some_and(|active| active.wish == wish) {
                return Ok(());
            }
            (loaded.client.clone(), loaded.prompts.next_generation())
        };
        self.tell_doubts(&wish);
        client.look_for(generation, &wish).context("cannot encode the prompts")?;
        self.tell_useless_thresholds();
        self.prompts_ready(generation);
        Ok(())
    }

    fn load_engine(&self, spec: ModelSpec, instance: Option<String>) -> Result<()> {
        let is_loaded = |loaded: &Loaded| loaded.spec == spec && loaded.instance == instance;
        if self.loaded.lock().as_ref().is_some_and(is_loaded) {
            return Ok(());
        }
        let replaced = self.loaded.lock().take();
        drop(replaced);
        let started = std::time::Instant::now();
        let engine = match &instance {
            Some(id) => Engine::shared(id, &spec, &self.obj().name()),
            None => Engine::private(&spec),
        }?;
        let weights = engine.weights();
        let info = &weights.info;
        gst::info!(
            CAT,
            imp = self,
            "{} in {:?}: {}, {} on {}",
            spec.model,
            started.elapsed(),
            info.method,
            info.precision,
            info.device
        );
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let element = self.obj().downgrade();
        let reloaded = move || {
            if let Some(element) = element.upgrade() {
                element.imp().model_changed(number);
            }
        };
        let client = Arc::new(engine.join(&self.obj().name(), reloaded));
        let element = self.obj().downgrade();
        let prompts = PromptWorker::start(client.clone(), move |generation, outcome| {
            if let Some(element) = element.upgrade() {
                element.imp().prompts_encoded(generation, outcome);
            }
        })?;
        let importer = Arc::new(Importer::new(&info.device));
        self.share_context(&importer);
        *self.loaded.lock() = Some(Loaded { client, importer, prompts, spec, instance, number });
        Ok(())
    }

    /// What the prompt thread calls when it is done with a wish.
    fn prompts_encoded(&self, generation: u64, outcome: Result<()>) {
        match outcome {
            Ok(()) => {
                gst::debug!(CAT, imp = self, "prompts of generation {generation} are encoded");
                self.tell_useless_thresholds();
            }
            Err(error) => {
                self.warn(&format!("the new prompts could not be encoded, the old ones stay: {error:#}"));
            }
        }
        self.prompts_ready(generation);
    }

    fn open_session(&self) {
        let options = self.settings.lock().policy.session_options();
        let engine = self.loaded.lock().as_ref().map(|loaded| loaded.client.engine().clone());
        self.stream.reset();
        if let Some(engine) = engine {
            let session = engine.session(options, self.stream.waker());
            // Nobody waits for a stream that has not begun.
            session.set_quiet();
            *self.session.lock() = Some(Arc::new(session));
        }
    }

    fn set_model_property(&self, name: &str, value: &glib::Value) -> Result<()> {
        anyhow::ensure!(
            self.session.lock().is_none(),
            "it names the model, which is loaded on the way to PAUSED: set it in NULL or READY, or emit reload-model"
        );
        self.settings.lock().set(name, value)
    }

    /// With a model at hand, prompts that mean nothing are refused, and others are asked for at once.
    fn set_prompt_property(&self, name: &str, value: &glib::Value) -> Result<()> {
        let _order = self.prompt_order.lock();
        let mut changed = self.settings.lock().clone();
        changed.set(name, value)?;
        if self.loaded.lock().is_none() {
            return self.settings.lock().set(name, value);
        }
        let wish = changed.wish()?;
        self.settings.lock().set(name, value)?;
        self.tell_doubts(&wish);
        self.ask_for(wish);
        Ok(())
    }

    fn tell_useless_thresholds(&self) {
        let active = self.loaded.lock().as_ref().and_then(|loaded| loaded.client.active());
        let Some(active) = active else { return };
        let useless = active.vocabulary.useless_thresholds(&active.wish.prompts.thresholds);
        useless.iter().for_each(|doubt| self.warn(doubt));
    }

    /// What of the prompts will not do what it says.
    pub fn tell_doubts(&self, wish: &Wish) {
        wish.prompts.doubts().iter().for_each(|doubt| self.warn(doubt));
    }

    /// Asks the prompt thread for a wish, and returns the generation it will be.
    pub fn ask_for(&self, wish: Wish) -> Option<u64> {
        self.loaded.lock().as_ref().map(|loaded| loaded.prompts.ask(wish))
    }

    fn limits_changed(&self) {
        let options = self.settings.lock().policy.session_options();
        let session = self.session.lock().clone();
        if let Some(session) = session {
            session.set_options(options);
            self.post_latency();
        }
    }
}
