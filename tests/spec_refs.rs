//! Requirements and their citations: each heading of the specification is
//! cited by code and by a test, and no citation leads nowhere.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const SPECIFICATIONS: [&str; 3] =
    ["spec/lock.md", "spec/format3.md", "spec/phases.md"];

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
        let before = found.len();
        for heading in headings {
            let name = format!("{file}#{}", anchor(heading));
            assert!(found.insert(name), "{file}: {heading:?} comes twice");
        }
        assert!(found.len() > before + 10, "{file} was not found");
    }
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

/// What the checker calls a property of the phases is its heading, and none
/// of them is without one.
#[test]
fn properties_of_the_phases_are_headings() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut named = BTreeSet::new();
    for entry in fs::read_dir(root.join("src/check/phases")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let constants = text.lines().filter_map(|line| {
            let (_, value) = line.split_once(": &str = \"")?;
            value.strip_suffix("\";")
        });
        let is_property = |name: &&str| {
            let (letter, rest) = name.split_at(1);
            letter.chars().all(char::is_uppercase)
                && rest.starts_with(|c: char| c.is_ascii_digit() || c == ' ')
        };
        let names = constants.filter(is_property);
        named.extend(names.map(|n| format!("spec/phases.md#{}", anchor(n))));
    }
    let wanted: BTreeSet<_> = requirements()
        .into_iter()
        .filter(|name| name.starts_with("spec/phases.md"))
        .collect();
    assert_eq!(named, wanted);
}
