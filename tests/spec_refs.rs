//! Requirements and their citations: each heading of the specification is
//! cited by code and by a test, and no citation leads nowhere.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const SPECIFICATIONS: [&str; 1] = ["spec/lock.md"];

/// `## Taking the lock` has the anchor `taking-the-lock`.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter_map(|c| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' => Some(c.to_ascii_lowercase()),
        _ => None,
    });
    kept.collect()
}

fn requirements() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeSet::new();
    for file in SPECIFICATIONS {
        let text = fs::read_to_string(root.join(file)).unwrap();
        let headings = text.lines().filter_map(|l| l.strip_prefix("### "));
        found.extend(headings.map(|h| format!("{file}#{}", anchor(h))));
    }
    assert!(found.len() > 10, "the specification was not found");
    found
}

fn citations(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            citations(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let cited = text
                .lines()
                .filter_map(|line| line.trim().strip_prefix("//= "));
            found.extend(cited.map(str::to_owned));
        }
    }
}

#[test]
fn every_requirement_is_cited_by_code_and_by_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let requirements = requirements();
    for directory in ["src", "tests"] {
        let mut cited = BTreeSet::new();
        citations(&root.join(directory), &mut cited);
        let missing: Vec<_> = requirements.difference(&cited).collect();
        assert!(missing.is_empty(), "{directory} does not cite {missing:#?}");
    }
}

#[test]
fn no_citation_leads_nowhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut cited = BTreeSet::new();
    for directory in ["src", "tests"] {
        citations(&root.join(directory), &mut cited);
    }
    let requirements = requirements();
    let dangling: Vec<_> = cited.difference(&requirements).collect();
    assert!(dangling.is_empty(), "no such requirement: {dangling:#?}");
}
