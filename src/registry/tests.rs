// SPDX-License-Identifier: MIT OR Apache-2.0

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use anyhow::anyhow;

use super::*;

#[derive(Clone, PartialEq)]
struct Method(&'static str);

impl Spec for Method {
    fn difference(&self, other: &Self) -> String {
        format!("method: {} vs {}", self.0, other.0)
    }
}

const GCLIP: Method = Method("gclip");
const HANG: Duration = Duration::from_secs(20);

#[test]
fn one_id_is_one_value_while_anybody_holds_it() {
    let registry = Registry::new();
    let first = registry.get_or_load("a", &GCLIP, "seg0", || Ok(1)).unwrap();
    let second = registry.get_or_load("a", &GCLIP, "seg1", || Ok(2)).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!(*registry.get_or_load("b", &GCLIP, "seg2", || Ok(3)).unwrap(), 3);
    drop((first, second));
    // Nobody holds it: another spec is welcome now.
    let third = registry.get_or_load("a", &Method("clip"), "seg3", || Ok(4)).unwrap();
    assert_eq!(*third, 4);
}

#[test]
fn another_spec_is_an_error_that_names_both_and_the_difference() {
    let registry = Registry::new();
    let held = registry.get_or_load("street", &GCLIP, "seg0", || Ok(1)).unwrap();
    let error = registry.get_or_load("street", &Method("clip"), "seg1", || Ok(2)).unwrap_err().to_string();
    for part in ["seg0", "seg1", "\"street\"", "method: clip vs gclip"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    assert!(Arc::ptr_eq(&held, &registry.get_or_load("street", &GCLIP, "seg2", || Ok(3)).unwrap()));
}

#[test]
fn a_failed_load_leaves_nothing_behind() {
    let registry = Registry::<_, i32>::new();
    let error = registry.get_or_load("a", &GCLIP, "seg0", || Err(anyhow!("no such file"))).unwrap_err();
    assert_eq!(error.to_string(), "no such file");
    assert_eq!(*registry.get_or_load("a", &Method("clip"), "seg1", || Ok(1)).unwrap(), 1);
}

#[test]
fn a_panic_in_a_load_leaves_the_id_usable() {
    let registry = Arc::new(Registry::<_, i32>::new());
    let same = registry.clone();
    let load = thread::spawn(move || same.get_or_load("a", &GCLIP, "seg0", || panic!("out of luck")).is_ok());
    assert!(load.join().is_err());
    assert_eq!(*registry.get_or_load("a", &GCLIP, "seg1", || Ok(1)).unwrap(), 1);
}

#[test]
fn loading_one_id_does_not_block_another_and_askers_of_one_id_load_once() {
    let registry = Registry::new();
    let loads = AtomicUsize::new(0);
    let (is_loading, loading) = channel();
    let (go, gate) = channel::<()>();
    thread::scope(|scope| {
        let (registry, loads) = (&registry, &loads);
        let slow = scope.spawn(move || {
            registry.get_or_load("slow", &GCLIP, "seg0", || {
                loads.fetch_add(1, Ordering::SeqCst);
                is_loading.send(()).unwrap();
                gate.recv_timeout(HANG).unwrap();
                Ok(7)
            })
        });
        loading.recv_timeout(HANG).unwrap();
        let also = scope.spawn(move || {
            registry.get_or_load("slow", &GCLIP, "seg1", || {
                loads.fetch_add(1, Ordering::SeqCst);
                Ok(8)
            })
        });
        // "slow" is at its gate, and opens only after this has returned.
        assert_eq!(*registry.get_or_load("quick", &GCLIP, "seg2", || Ok(1)).unwrap(), 1);
        go.send(()).unwrap();
        let (slow, also) = (slow.join().unwrap().unwrap(), also.join().unwrap().unwrap());
        assert!(Arc::ptr_eq(&slow, &also));
    });
    assert_eq!(loads.into_inner(), 1);
}

#[test]
fn ids_that_come_and_go_are_forgotten() {
    let registry = Registry::new();
    let held = registry.get_or_load("held", &GCLIP, "seg0", || Ok(0)).unwrap();
    for id in 0..100 {
        drop(registry.get_or_load(&format!("camera {id}"), &GCLIP, "seg1", || Ok(id)).unwrap());
    }
    assert_eq!(registry.slots.lock().len(), 2, "the held one and the latest");
    drop(held);
}
