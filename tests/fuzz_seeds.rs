//! Every seed of every fuzz target, judged as the fuzzer judges it.
//!
//! `QUBES_FSM_CORPUS=fuzz/corpus` judges what a campaign has collected, too.

#![cfg(all(feature = "backup", feature = "check"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

#[path = "tar_support/random.rs"]
mod random;
mod tar_support;
#[path = "../fuzz/src/targets/mod.rs"]
mod targets;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use targets::{TARGETS, Target, dictionary};

fn fuzz() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz"))
}

fn target(name: &str) -> Target {
    TARGETS.into_iter().find(|target| target.name == name).unwrap()
}

fn replay(name: &str) {
    let target = target(name);
    let mut names = BTreeSet::new();
    for seed in (target.seeds)() {
        println!("{name}/{}", seed.name);
        let good = (target.run)(&seed.bytes);
        if let Some(wanted) = seed.good {
            assert_eq!(good, wanted, "{name}/{}", seed.name);
        }
        assert!(names.insert(seed.name), "a name that comes twice");
    }
    assert!(names.len() > 5, "{name}: {} seeds", names.len());
    let Some(corpus) = std::env::var_os("QUBES_FSM_CORPUS") else { return };
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join(corpus).join(name);
    for entry in fs::read_dir(&corpus).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        (target.run)(&fs::read(&path).unwrap());
    }
}

#[test]
fn archive() {
    replay("archive");
}

#[test]
fn chunk_sequence() {
    replay("chunk_sequence");
}

#[test]
fn device() {
    replay("device");
}

#[test]
fn document() {
    replay("document");
}

#[test]
fn header() {
    replay("header");
}

#[test]
fn hmac_text() {
    replay("hmac_text");
}

#[test]
fn kernel_log() {
    replay("kernel_log");
}

#[test]
fn qfile() {
    replay("qfile");
}

#[test]
fn session() {
    replay("session");
}

#[test]
fn tar_inner() {
    replay("tar_inner");
}

#[test]
fn trace() {
    replay("trace");
}

#[test]
fn archives_of_every_form_and_damages_of_every_kind_are_among_the_seeds() {
    let seeds = (target("archive").seeds)();
    let count = |begin: &str| {
        seeds.iter().filter(|seed| seed.name.starts_with(begin)).count()
    };
    // Five filters, encrypted or not, with a manifest or without.
    assert_eq!(count("good-"), 20);
    let kinds = [
        "flip", "cut", "drop", "losemac", "losedata", "double", "move",
        "trade", "rename", "renumber", "mac", "header", "outer", "outercut",
    ];
    for kind in kinds {
        assert!(count(&format!("damaged-{kind}")) >= 2, "{kind}");
    }
    for kind in ["flip-signed", "cut-signed", "drop", "move"] {
        assert!(count(&format!("bound-{kind}")) >= 1, "{kind}");
    }
}

#[test]
fn every_target_has_its_file_and_dictionaries_are_as_written() {
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(fuzz().join("fuzz_targets")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        files.insert(name.strip_suffix(".rs").unwrap().to_owned());
    }
    let names = TARGETS.map(|target| target.name.to_owned());
    assert_eq!(files, BTreeSet::from(names));
    for target in TARGETS {
        let words = (target.words)();
        let path = fuzz().join("dictionaries").join(target.name);
        let found = fs::read_to_string(path).unwrap_or_default();
        assert_eq!(found, dictionary(&words), "{}", target.name);
    }
}
