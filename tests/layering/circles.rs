// SPDX-License-Identifier: MIT OR Apache-2.0
//! Circles of files that use each other, directly or by way of others: none of them can be read or changed alone.
//!
//! A name is followed through the `use` of the module that hands it on to the file that has it. That a module knows the
//! files below it is no circle: it is made of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::source::{Source, paths, use_paths};

/// Names of modules from the crate's root on.
type Module = Vec<String>;

/// Groups of files of one crate that use each other, as paths. `sources` are all files of the crate below `root`.
pub fn circles(root: &str, sources: &[Source]) -> Vec<Vec<String>> {
    let files: BTreeMap<Module, &Source> = sources
        .iter()
        .filter(|source| !source.is_test())
        .map(|source| (module(root, source), source))
        .collect();
    let handed_on: HashMap<&Module, HashMap<String, Module>> =
        files.iter().map(|(module, source)| (module, bindings(module, source))).collect();
    let known = Known { files: &files, handed_on: &handed_on };
    let edges: BTreeMap<&Module, BTreeSet<&Module>> = files
        .iter()
        .map(|(module, source)| {
            let named = paths(&source.code).into_iter().map(|path| absolute(module, &path.names));
            let used = named.filter_map(|path| known.home(&path, 0));
            (module, used.filter(|used| !used.starts_with(module)).collect())
        })
        .collect();
    let mut circles: Vec<Vec<String>> = strongly_connected(&edges)
        .into_iter()
        .filter(|group| group.len() > 1)
        .map(|group| group.iter().map(|module| files[*module].path.display().to_string()).collect())
        .collect();
    circles.iter_mut().for_each(|circle| circle.sort());
    circles.sort();
    circles
}

struct Known<'a> {
    files: &'a BTreeMap<Module, &'a Source>,
    handed_on: &'a HashMap<&'a Module, HashMap<String, Module>>,
}

impl<'a> Known<'a> {
    /// The module in whose file the last name of `path` is found.
    fn home(&self, path: &[String], followed: usize) -> Option<&'a Module> {
        let mut at = 0;
        while at < path.len() && self.files.contains_key(&path[..=at]) {
            at += 1;
        }
        let (here, _) = self.files.get_key_value(&path[..at])?;
        let through = path.get(at).and_then(|name| self.handed_on[here].get(name));
        match through {
            Some(target) if followed < 8 => {
                let rest = target.iter().chain(&path[at + 1..]).cloned().collect::<Vec<_>>();
                self.home(&rest, followed + 1)
            }
            _ => Some(here),
        }
    }
}

fn module(root: &str, source: &Source) -> Module {
    let below = source.path.strip_prefix(root).expect("a file below the root").with_extension("");
    let names = below.iter().map(|part| part.to_string_lossy().into_owned());
    names.filter(|name| !["mod", "lib", "main"].contains(&name.as_str())).collect()
}

/// Names that a file takes in by `use`, and may hand on, with where they come from.
fn bindings(module: &Module, source: &Source) -> HashMap<String, Module> {
    let taken = use_paths(&source.code).into_iter();
    taken.filter_map(|path| Some((path.bound()?.to_owned(), absolute(module, &path.names)))).collect()
}

/// A path as it stands in the file of `module`, from the crate's root on.
fn absolute(module: &Module, path: &[String]) -> Module {
    let up = path.iter().take_while(|name| *name == "super").count();
    match path.first().map(String::as_str) {
        Some("crate") => path[1..].to_vec(),
        Some("self") => module.iter().chain(&path[1..]).cloned().collect(),
        Some("super") => {
            let base = &module[..module.len().saturating_sub(up)];
            base.iter().chain(&path[up..]).cloned().collect()
        }
        // Of a file below, or of another crate, which then is no file here.
        _ => module.iter().chain(path).cloned().collect(),
    }
}

/// Groups in which each reaches each other: by what both ways reach. The graphs here have a hundred nodes.
fn strongly_connected<'a>(edges: &BTreeMap<&'a Module, BTreeSet<&'a Module>>) -> Vec<Vec<&'a Module>> {
    let reached: BTreeMap<&Module, BTreeSet<&Module>> = edges
        .keys()
        .map(|&start| {
            let (mut seen, mut open) = (BTreeSet::new(), vec![start]);
            while let Some(node) = open.pop() {
                open.extend(edges[node].iter().copied().filter(|next| seen.insert(*next)));
            }
            (start, seen)
        })
        .collect();
    let mut groups: Vec<Vec<&Module>> = Vec::new();
    for &node in edges.keys() {
        let mutual = |group: &&mut Vec<&'a Module>| {
            reached[group[0]].contains(node) && reached[node].contains(group[0])
        };
        match groups.iter_mut().find(mutual) {
            Some(group) => group.push(node),
            None => groups.push(vec![node]),
        }
    }
    groups
}
