// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a broker is told beside the lines, so that who subscribes later knows how things stand: whether the program and
//! each camera are there, who is in the picture, and for Home Assistant what there is at all.

use std::sync::Arc;

use parking_lot::RwLock;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::watch::config::MqttTarget;
use crate::watch::queue::About;

/// What can be seen by the cameras, for all outputs; changes when the config is read again.
#[derive(Default)]
pub struct Inventory(RwLock<Arc<[Watched]>>);

/// One camera of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Watched {
    pub camera: String,
    pub labels: Vec<String>,
    pub zones: Vec<String>,
}

impl Inventory {
    pub fn set(&self, watched: Vec<Watched>) {
        *self.0.write() = watched.into();
    }

    pub fn get(&self) -> Arc<[Watched]> {
        self.0.read().clone()
    }
}

/// A message that the broker keeps for later subscribers.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    pub topic: String,
    pub payload: String,
}

const ON: &str = "ON";
const OFF: &str = "OFF";
pub const ONLINE: &str = "online";
pub const OFFLINE: &str = "offline";

/// To be said when the connection to the broker has come about.
pub fn greeting(target: &MqttTarget, inventory: &[Watched]) -> Vec<Kept> {
    let mut kept: Vec<Kept> = program(target, ONLINE).into_iter().collect();
    if let Some(prefix) = &target.discovery {
        kept.extend(inventory.iter().flat_map(|watched| discovery(target, prefix, watched)));
    }
    kept
}

/// Whether the program is there; also the last will.
pub fn program(target: &MqttTarget, state: &str) -> Option<Kept> {
    Some(Kept { topic: target.availability.clone()?, payload: state.to_string() })
}

/// To be said beside a line.
pub fn beside(target: &MqttTarget, inventory: &[Watched], camera: &str, about: &About) -> Vec<Kept> {
    match about {
        About::Frame | About::Anomaly { .. } => vec![],
        About::Presence { label, zone, entered } if target.retain_presence => {
            let topic = presence(target, camera, label, zone.as_deref());
            vec![Kept { topic, payload: if *entered { ON } else { OFF }.to_string() }]
        }
        About::Presence { .. } => vec![],
        About::Camera { up } => {
            let state = if *up { ONLINE } else { OFFLINE }.to_string();
            let there = target.availability.is_some();
            let mut kept: Vec<Kept> = there
                .then(|| Kept { topic: camera_state(target, camera), payload: state })
                .into_iter()
                .collect();
            // After a new connection everything that is there enters again.
            if *up && target.retain_presence {
                let watched = inventory.iter().find(|watched| watched.camera == camera);
                kept.extend(watched.into_iter().flat_map(Watched::places).map(|(label, zone)| Kept {
                    topic: presence(target, camera, label, zone),
                    payload: OFF.to_string(),
                }));
            }
            kept
        }
    }
}

impl Watched {
    /// Every label in the whole picture and in each zone.
    fn places(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let zones = || std::iter::once(None).chain(self.zones.iter().map(|zone| Some(zone.as_str())));
        self.labels.iter().flat_map(move |label| zones().map(move |zone| (label.as_str(), zone)))
    }
}

pub fn of_camera(target: &MqttTarget, camera: &str) -> String {
    target.topic.replace("{camera}", camera)
}

fn camera_state(target: &MqttTarget, camera: &str) -> String {
    format!("{}/{camera}/availability", base(target, camera))
}

fn presence(target: &MqttTarget, camera: &str, label: &str, zone: Option<&str>) -> String {
    let zone = zone.map(|zone| format!("{}/", word(zone))).unwrap_or_default();
    format!("{}/{camera}/presence/{zone}{}", base(target, camera), word(label))
}

/// What the topic of lines has before the camera's name; all of it where it has none.
fn base(target: &MqttTarget, camera: &str) -> String {
    let topic = of_camera(target, camera);
    let before = topic.split_once(&format!("/{camera}")).map_or(topic.as_str(), |(before, _)| before);
    before.trim_end_matches('/').to_string()
}

/// A text as part of a topic or an id: its ASCII letters and digits, and a checksum where something was left out.
fn word(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ' ') {
        return plain;
    }
    let sum = Sha256::digest(text.as_bytes());
    format!("{plain}_{:02x}{:02x}{:02x}", sum[0], sum[1], sum[2])
}

/// Home Assistant's MQTT discovery: a binary sensor for every label, in the picture and in each zone, of one device a
/// camera.
fn discovery<'a>(
    target: &'a MqttTarget,
    prefix: &'a str,
    watched: &'a Watched,
) -> impl Iterator<Item = Kept> + 'a {
    let camera = word(&watched.camera);
    watched.places().map(move |(label, zone)| {
        let place = zone.map(|zone| format!("{}_", word(zone))).unwrap_or_default();
        let id = format!("gclip_{camera}_{place}{}", word(label));
        let name = zone.map_or_else(|| label.to_string(), |zone| format!("{label} ({zone})"));
        let topics = target.availability.iter().cloned().chain([camera_state(target, &watched.camera)]);
        let available: Vec<_> = topics.map(|topic| json!({ "topic": topic })).collect();
        let config = json!({
            "name": name,
            "unique_id": id,
            "state_topic": presence(target, &watched.camera, label, zone),
            "payload_on": ON,
            "payload_off": OFF,
            "device_class": "occupancy",
            "availability": available,
            "availability_mode": "all",
            "device": {
                "identifiers": [format!("gclip_{camera}")],
                "name": watched.camera,
                "manufacturer": "gclip",
                "model": "gclip watch",
                "sw_version": env!("CARGO_PKG_VERSION"),
            },
            "origin": { "name": "gclip", "sw_version": env!("CARGO_PKG_VERSION") },
        });
        Kept { topic: format!("{prefix}/binary_sensor/{id}/config"), payload: config.to_string() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> MqttTarget {
        MqttTarget {
            broker: crate::address::Address::parse("mqtt://h", &["mqtt"]).unwrap(),
            topic: "site/gclip/{camera}".into(),
            trusted: None,
            availability: Some("site/gclip/availability".into()),
            retain_presence: true,
            discovery: Some("homeassistant".into()),
        }
    }

    fn kept(topic: &str, payload: &str) -> Kept {
        Kept { topic: topic.into(), payload: payload.into() }
    }

    #[test]
    fn who_comes_later_knows_how_things_stand() {
        let watched =
            [Watched { camera: "gate".into(), labels: vec!["fire truck".into()], zones: vec!["a/b".into()] }];
        let target = target();
        let presence = About::Presence { label: "fire truck".into(), zone: None, entered: true };
        assert_eq!(
            beside(&target, &watched, "gate", &presence),
            [kept("site/gclip/gate/presence/fire_truck", "ON")]
        );
        let up = beside(&target, &watched, "gate", &About::Camera { up: true });
        assert_eq!(
            up[..2],
            [
                kept("site/gclip/gate/availability", "online"),
                kept("site/gclip/gate/presence/fire_truck", "OFF")
            ]
        );
        assert!(
            up[2].topic.starts_with("site/gclip/gate/presence/a_b_") && up[2].topic.ends_with("/fire_truck")
        );
        let down = beside(&target, &watched, "gate", &About::Camera { up: false });
        assert_eq!(down, [kept("site/gclip/gate/availability", "offline")]);
        assert!(beside(&target, &watched, "gate", &About::Frame).is_empty());
        let silent = MqttTarget { availability: None, retain_presence: false, discovery: None, ..target };
        assert!(greeting(&silent, &watched).is_empty());
        assert!(beside(&silent, &watched, "gate", &About::Camera { up: true }).is_empty());
        assert!(beside(&silent, &watched, "gate", &presence).is_empty());
    }

    #[test]
    fn home_assistant_is_told_every_label_of_every_place() {
        let watched = [Watched {
            camera: "tor.nord".into(),
            labels: vec!["person".into(), "Hund".into()],
            zones: vec!["door".into()],
        }];
        let target = target();
        let greeting = greeting(&target, &watched);
        assert_eq!(greeting[0], kept("site/gclip/availability", "online"));
        assert_eq!(greeting.len(), 1 + 4);
        for message in &greeting[1..] {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "_/".contains(c);
            assert!(message.topic.starts_with("homeassistant/binary_sensor/gclip_tor_nord_"), "{message:?}");
            assert!(message.topic.chars().all(allowed), "{message:?}");
            let config: serde_json::Value = serde_json::from_str(&message.payload).unwrap();
            let state = config["state_topic"].as_str().unwrap();
            assert!(state.starts_with("site/gclip/tor.nord/presence/"), "{config}");
            assert_eq!(config["availability"][1]["topic"], "site/gclip/tor.nord/availability");
        }
    }
}
