// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pass against the tower that sees every picture as a whole, on the demo model's six blocks.

use std::collections::HashMap;
use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::*;
use crate::transformer::{Loader, Qkv};
use crate::vision::{Positions, Trunk, VisionTower, Wanted};
use crate::weights::Checkpoint;

fn tower(kind: Kind) -> VisionTower {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/demo");
    let mut checkpoint = Checkpoint::open(folder.to_str().unwrap()).unwrap();
    let architecture = checkpoint.architecture;
    let mut loader = Loader { weights: &mut checkpoint.weights, device: Device::Cpu, kind, wide: false };
    let mut tower = VisionTower::load(&mut loader, &architecture, Positions::Plain).unwrap();
    tower.pack();
    tower
}

/// Everything that a method can ask for.
fn wanted() -> Wanted {
    Wanted { mean_maps: vec![1, 2], head_maps: vec![2, 3], outputs: vec![0, 4], qkv: vec![3] }
}

/// `[count, 3, height, width]`, as different as pictures can be.
fn pictures(count: i64, height: i64, width: i64) -> Tensor {
    Tensor::randn([count, 3, height, width], (Kind::Float, Device::Cpu))
}

fn run(tower: &VisionTower, input: &Tensor, pictures: &mut [Seen]) -> Trunk {
    let changes = Changes::find(tower, input, pictures).unwrap();
    let trunks = pass(tower, &wanted(), input, changes, pictures).unwrap();
    let cat = |part: &dyn Fn(&Trunk) -> &Tensor| Tensor::cat(&trunks.iter().map(part).collect::<Vec<_>>(), 0);
    let qkv = |of: &dyn Fn(&Trunk) -> &Qkv| Qkv {
        q: cat(&|trunk| &of(trunk).q),
        k: cat(&|trunk| &of(trunk).k),
        v: cat(&|trunk| &of(trunk).v),
    };
    let maps = |of: &dyn Fn(&Trunk) -> &HashMap<usize, Tensor>| -> HashMap<usize, Tensor> {
        of(&trunks[0]).keys().map(|block| (*block, cat(&|trunk| &of(trunk)[block]))).collect()
    };
    Trunk {
        is_one_picture: false,
        helper_saw: None,
        input: input.shallow_clone(),
        grid: trunks[0].grid,
        x: cat(&|trunk| &trunk.x),
        qkv: qkv(&|trunk| &trunk.qkv),
        mean_maps: maps(&|trunk| &trunk.mean_maps),
        head_maps: maps(&|trunk| &trunk.head_maps),
        outputs: maps(&|trunk| &trunk.outputs),
        earlier_qkv: [(3, qkv(&|trunk| &trunk.earlier_qkv[&3]))].into(),
    }
}

/// Largest difference, relative to the largest number.
fn off(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.size(), expected.size());
    let number = |tensor: Tensor| tensor.to_kind(Kind::Float).abs().max().double_value(&[]);
    number(found - expected) / number(expected.shallow_clone())
}

fn assert_same(found: &Trunk, expected: &Trunk, tolerance: f64) {
    let mut pairs = vec![("x", &found.x, &expected.x)];
    let qkv = [
        ("q", &found.qkv.q, &expected.qkv.q),
        ("k", &found.qkv.k, &expected.qkv.k),
        ("v", &found.qkv.v, &expected.qkv.v),
        ("earlier k", &found.earlier_qkv[&3].k, &expected.earlier_qkv[&3].k),
    ];
    pairs.extend(qkv);
    pairs.extend([1, 2].map(|block| ("mean map", &found.mean_maps[&block], &expected.mean_maps[&block])));
    pairs.extend([2, 3].map(|block| ("head map", &found.head_maps[&block], &expected.head_maps[&block])));
    pairs.extend([0, 4].map(|block| ("output", &found.outputs[&block], &expected.outputs[&block])));
    for (name, found, expected) in pairs {
        let off = off(found, expected);
        assert!(off < tolerance, "{name} is off by {off:e}");
    }
}

#[test]
fn the_first_look_is_that_of_the_tower() {
    tch::manual_seed(1);
    for (kind, tolerance) in [(Kind::Float, 2e-5), (Kind::BFloat16, 0.05)] {
        let tower = tower(kind);
        let input = pictures(2, 96, 160);
        let expected = tower.trunk(&input, &wanted()).unwrap();
        let mut states = [State::default(), State::default()];
        let mut seen: Vec<Seen> =
            states.iter_mut().map(|state| Seen::new(state, 0.05, CUT, true).unwrap()).collect();
        assert_same(&run(&tower, &input, &mut seen), &expected, tolerance);
        let tokens = (1 + 6 * 10) * tower.blocks.len();
        assert!(seen.iter().all(|picture| picture.whole && picture.worked == tokens));
        assert!(states.iter().all(|state| state.bytes() > tokens * 192 * 2 * 3));
    }
}

#[test]
fn where_every_token_differs_all_are_worked_on_by_rows_as_a_whole() {
    tch::manual_seed(2);
    for (kind, tolerance) in [(Kind::Float, 2e-5), (Kind::BFloat16, 0.05)] {
        let tower = tower(kind);
        // One stream has a past, another joins it.
        let (before, input) = (pictures(1, 96, 160), pictures(2, 96, 160));
        let mut states = [State::default(), State::default()];
        let [old, new] = &mut states;
        run(&tower, &before, &mut [Seen::new(old, 0.0, CUT, true).unwrap()]);
        let never_a_cut = 2.0;
        let mut seen =
            [Seen::new(old, 0.0, never_a_cut, false).unwrap(), Seen::new(new, 0.0, CUT, true).unwrap()];
        let found = run(&tower, &input, &mut seen);
        assert!(!seen[0].whole && seen[1].whole);
        assert_eq!(seen[0].worked, seen[1].worked);
        assert_same(&found, &tower.trunk(&input, &wanted()).unwrap(), tolerance);
    }
}

#[test]
fn a_still_picture_is_worked_on_once() {
    tch::manual_seed(3);
    for kind in [Kind::Float, Kind::BFloat16] {
        let tower = tower(kind);
        let input = pictures(1, 96, 160);
        let mut state = State::default();
        let first = run(&tower, &input, &mut [Seen::new(&mut state, 0.01, CUT, true).unwrap()]);
        let mut seen = [Seen::new(&mut state, 0.01, CUT, false).unwrap()];
        let second = run(&tower, &input, &mut seen);
        assert_eq!((seen[0].worked, seen[0].whole), (0, false));
        assert_same(&second, &first, 1e-12);
    }
}

#[test]
fn a_patch_that_changes_is_worked_on_with_the_class_token() {
    tch::manual_seed(4);
    let tower = tower(Kind::Float);
    let input = pictures(1, 96, 160);
    let mut state = State::default();
    run(&tower, &input, &mut [Seen::new(&mut state, 0.05, CUT, true).unwrap()]);
    // The patch in row 2, column 3.
    let changed = input.copy();
    let mut patch = changed.narrow(2, 32, 16).narrow(3, 48, 16);
    patch.copy_(&pictures(1, 16, 16));
    // A threshold that only an input of another picture passes: nothing spreads.
    let mut seen = [Seen::new(&mut state, 0.05, CUT, false).unwrap()];
    let found = run(&tower, &changed, &mut seen);
    assert!(seen[0].worked >= 2 && seen[0].worked <= 2 * tower.blocks.len(), "{}", seen[0].worked);
    let expected = tower.trunk(&changed, &wanted()).unwrap();
    let token = |trunk: &Trunk| trunk.x.select(1, 1 + 2 * 10 + 3);
    let moved = off(&token(&expected), &token(&tower.trunk(&input, &wanted()).unwrap()));
    let error = off(&token(&found), &token(&expected));
    assert!(error < moved / 4.0, "the patch moved by {moved} and is off by {error}");
}

#[test]
fn above_the_cut_the_whole_picture_is_worked_on() {
    tch::manual_seed(5);
    let tower = tower(Kind::Float);
    let mut state = State::default();
    run(&tower, &pictures(1, 96, 160), &mut [Seen::new(&mut state, 0.05, CUT, true).unwrap()]);
    let input = pictures(1, 96, 160);
    let mut seen = [Seen::new(&mut state, 0.05, CUT, false).unwrap()];
    let found = run(&tower, &input, &mut seen);
    assert!(seen[0].whole);
    assert_same(&found, &tower.trunk(&input, &wanted()).unwrap(), 2e-5);
}

fn look(since: Option<Since>, whole: bool) -> Looked {
    let key = Key { model: 1, size: vec![3, 32, 32], windows: None, threshold: 0.1, vocabulary: Weak::new() };
    Looked { state: State::default(), key, since, worked: 5, tokens: 10, whole }
}

fn reuse(seconds: u64) -> Reuse {
    Reuse { threshold: 0.1, at: Some(Duration::from_secs(seconds)), ..Reuse::default() }
}

#[test]
fn a_past_is_of_use_until_the_refresh_and_for_the_same_key() {
    let memory = Memory::default();
    let key = look(None, true).key;
    memory.keep(0, &reuse(100), look(None, true));
    let (_, since) = memory.take(0, &key, &reuse(105)).unwrap().open();
    assert!(memory.take(0, &key, &reuse(105)).is_none(), "it was taken");
    // A look at parts does not start the time anew.
    memory.keep(0, &reuse(105), look(Some(since), false));
    let (_, since) = memory.take(0, &key, &reuse(109)).unwrap().open();
    memory.keep(0, &reuse(109), look(Some(since), false));
    assert!(memory.take(0, &key, &reuse(110)).is_none());
    assert_eq!(memory.counts(), Counts { whole: 1, partial: 2, worked: 15, tokens: 30, bytes: 0 });

    memory.keep(0, &reuse(100), look(None, true));
    assert!(memory.take(0, &key, &reuse(99)).is_none(), "time has gone back");
    memory.keep(0, &reuse(100), look(None, true));
    assert!(memory.take(0, &Key { model: 2, ..key.clone() }, &reuse(101)).is_none());
    memory.keep(0, &reuse(100), look(None, true));
    assert!(memory.take(1, &key, &reuse(101)).is_none(), "another window");
    memory.forget();
    assert!(memory.take(0, &key, &reuse(101)).is_none(), "forgotten");
}

#[test]
fn where_every_look_is_a_cut_more_and_more_looks_rest() {
    let memory = Memory::default();
    let key = look(None, true).key;
    let mut rested = Vec::new();
    for second in 0..6 {
        memory.keep(0, &reuse(second), look(None, true));
        let (_, since) = memory.take(0, &key, &reuse(second)).unwrap().open();
        memory.keep(0, &reuse(second), look(Some(since), true));
        let mut rests = 0;
        while memory.rests() {
            rests += 1;
        }
        rested.push(rests);
    }
    assert_eq!(rested, [0, 1, 2, 4, 8, 8]);
    // One look that is none ends it.
    memory.keep(0, &reuse(10), look(Some(Since(Moment::Shown(Duration::ZERO))), false));
    assert!(!memory.rests());
    memory.keep(0, &reuse(10), look(Some(Since(Moment::Shown(Duration::ZERO))), true));
    assert!(!memory.rests());
}
