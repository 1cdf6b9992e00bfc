//! The layers of ARCHITECTURE.md: who may use whom, and who may touch what.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs;
use std::path::{Path, PathBuf};

/// What each layer may use besides itself.
const LAYERS: [(&str, &[&str]); 7] = [
    ("format", &[]),
    ("fsm", &["format"]),
    ("sim", &["format", "fsm"]),
    ("store", &["format", "fsm"]),
    ("backup", &["format", "fsm"]),
    ("check", &["format", "fsm", "sim", "store", "backup"]),
    ("cli", &["format", "fsm", "sim", "store", "backup", "check"]),
];

/// Layers that only compute.
const PURE: [&str; 3] = ["format", "fsm", "sim"];

/// What a pure layer may not name.
const WORLD: [&str; 9] = [
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "std::time",
    "std::path",
];

/// The files that make system calls.
const CALLS: [&str; 8] = [
    "src/backup/filter/kernel.rs",
    "src/backup/kernel.rs",
    "src/backup/write/kernel.rs",
    "src/backup/write/source/kernel.rs",
    "src/check/conform/kernel.rs",
    "src/cli/device/kernel.rs",
    "src/cli/kernel.rs",
    "src/store/kernel.rs",
];

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Every line of code of the crate: file, number, text without comment.
fn lines() -> Vec<(String, usize, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut lines = Vec::new();
    for path in sources(&root.join("src")) {
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap().to_owned();
            lines.push((name.clone(), number + 1, code));
        }
    }
    assert!(lines.len() > 1000, "the sources were not found");
    lines
}

fn layer(file: &str) -> Option<&'static str> {
    let rest = file.strip_prefix("src/")?;
    let names = LAYERS.map(|(name, _)| name);
    names.into_iter().find(|name| {
        rest.strip_prefix(name).is_some_and(|rest| rest.starts_with(['/', '.']))
    })
}

#[test]
fn a_layer_uses_only_those_below_it() {
    let mut wrong = Vec::new();
    for (file, number, code) in lines() {
        let Some(own) = layer(&file) else { continue };
        let allowed = LAYERS.iter().find(|(name, _)| *name == own).unwrap().1;
        for (other, _) in LAYERS {
            let named = code.contains(&format!("crate::{other}::"))
                || code.contains(&format!("crate::{other};"));
            if named && other != own && !allowed.contains(&other) {
                wrong.push(format!("{file}:{number}: {own} uses {other}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_layers_do_not_name_the_world() {
    let mut wrong = Vec::new();
    for (file, number, code) in lines() {
        if !layer(&file).is_some_and(|layer| PURE.contains(&layer)) {
            continue;
        }
        for name in WORLD.into_iter().chain(["rustix::", "nix::"]) {
            if code.contains(name) {
                wrong.push(format!("{file}:{number}: {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn system_calls_are_made_in_one_file_per_driver() {
    let mut wrong = Vec::new();
    for (file, number, code) in lines() {
        if CALLS.contains(&file.as_str()) {
            continue;
        }
        // Types may be named elsewhere: they are what a call answered.
        let called = [
            "rustix::event",
            "rustix::fs::{",
            "rustix::io",
            "rustix::pipe",
            "rustix::process",
            "rustix::termios",
            "nix::fcntl",
            "libc::",
        ];
        for name in called {
            if code.contains(name) {
                wrong.push(format!("{file}:{number}: {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_map_names_every_file_that_makes_system_calls() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let map = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    for file in CALLS {
        assert!(root.join(file).is_file(), "{file}: no such file");
        assert!(map.contains(&format!("`{file}`")), "{file} is not named");
    }
}

#[test]
fn every_file_says_what_it_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for directory in ["src", "tests"] {
        for path in sources(&root.join(directory)) {
            let in_ui = path.components().any(|c| c.as_os_str() == "ui");
            let text = fs::read_to_string(&path).unwrap();
            assert!(
                in_ui || text.starts_with("//! "),
                "{}: no //! line at the top",
                path.display()
            );
        }
    }
}

#[test]
fn only_one_file_knows_that_loom_may_be_configured() {
    for (file, number, code) in lines() {
        assert!(
            !code.contains("cfg(loom)") || file == "src/sync.rs",
            "{file}:{number}: cfg(loom)"
        );
    }
}
