//! What a reader may say of an archive that was damaged in a known way.
//!
//! What format 3 cannot know without a manifest, and is accepted here:
//!
//! 1. A file is not there. If `qubes.xml` announces it, the report says so.
//! 2. Files are in another order.
//! 3. Chunks at the end of a file are not there, as long as everything that
//!    the file holds came before them.
//! 4. Chunks traded places, in files that are not compressed: a filter has a
//!    checksum, a tar has none over data.
//! 5. The header is not there. The report says so.
//!
//! With a manifest only one thing: how that itself is stored, by somebody who
//! has the passphrase, as long as its text stays. No manifest lists itself.
//!
//! Lives here: that. May not live here: how it was damaged.

use std::io::Cursor;

use qubes_fsm::backup::read::{Goal, Options, read, read_seekable};
use qubes_fsm::backup::report::{Binding, FileState, Report};
use qubes_fsm::format::hmac::{Digest, Mac, MacText};
use qubes_fsm::format::manifest::MANIFEST_NAME;

use super::archive::Harm;
use super::recipe::{Fact, Filter, Made, Member, PASSPHRASE};
use super::refused;

/// Whether the archive was accepted. `made` is what it was, `damaged` what its
/// members are now, `ends` where they end in `bytes`.
pub fn judge(
    made: &Made,
    damaged: &Made,
    ends: &[usize],
    bytes: &[u8],
    harm: Harm,
) -> bool {
    let pipe = read(bytes, options(Goal::Verify));
    let seekable = read_seekable(Cursor::new(bytes), options(Goal::Verify));
    match (&pipe, &seekable) {
        (Ok(one), Ok(two)) => {
            assert_eq!(one.files, two.files);
            assert_eq!(one.binding, two.binding);
        }
        (Err(one), Err(two)) => [one, two].into_iter().for_each(|error| {
            refused(error);
        }),
        (one, two) => panic!("a pipe: {one:?}, a file: {two:?}"),
    }
    let is_raw = harm.flips > 0 || harm.cut.is_some();
    // So many members are there as far as the archive goes.
    let cut = harm.cut.unwrap_or(usize::MAX);
    let count = ends.iter().take_while(|end| **end <= cut).count();
    let there = &damaged.members[..count];
    let is_same = there.len() == made.members.len()
        && there.iter().zip(&made.members).all(|(a, b)| same(a, b));
    let report = match pipe {
        Ok(report) => report,
        Err(error) => {
            assert!(!is_same || is_raw, "not damaged, yet: {error}");
            return false;
        }
    };
    if harm.flips == 0 {
        let named = Digest::from_name(&report.header.digest);
        let digest = named.expect("a digest that is known");
        for member in there {
            let name = String::from_utf8_lossy(&member.name);
            assert!(is_authentic(member, digest), "{name}: a wrong code");
        }
    }
    let header = made.members.first().filter(|_| made.header);
    let keeps_header =
        header.is_none_or(|header| there.iter().any(|m| same(m, header)));
    if made.form.manifest && keeps_header {
        let is_bound = there.len() == made.members.len()
            && there.iter().zip(&made.members).all(|(now, then)| {
                let stays = harm.signed && is_manifest(then);
                same(now, then) || stays && now.name == then.name
            });
        assert!(is_bound || harm.flips > 0, "the manifest did not notice");
        assert!(matches!(report.binding, Binding::Bound(_)));
        whole(made, &report, !harm.signed);
        cat(&made.facts, &report, bytes, |_| true);
    } else if is_same && !is_raw || is_raw && alone(made, damaged, harm) {
        assert_eq!(report.binding, Binding::NotBound);
        whole(made, &report, true);
        cat(&made.facts, &report, bytes, |_| true);
    } else if !harm.signed && harm.flips == 0 {
        unbound(made, there, &report, bytes);
    }
    if is_same && !is_raw {
        let count = usize::from(!made.header);
        assert_eq!(report.omissions.len(), count, "{:?}", report.omissions);
    }
    true
}

/// Whether one byte of the outer archive is all that was changed.
fn alone(made: &Made, damaged: &Made, harm: Harm) -> bool {
    harm.flips == 1 && harm.cut.is_none() && made.members == damaged.members
}

fn options(goal: Goal<'_>) -> Options<'_> {
    Options::new(PASSPHRASE.to_vec().into(), goal)
}

/// Equal where it counts: the label of a code does not.
fn same(one: &Member, two: &Member) -> bool {
    let value = |member: &Member| {
        let text = MacText::parse(&member.mac);
        text.ok().map(|text| text.value().to_vec())
    };
    one.name == two.name && one.data == two.data && value(one) == value(two)
}

fn is_authentic(member: &Member, digest: Digest) -> bool {
    let Ok(text) = MacText::parse(&member.mac) else { return false };
    let mut mac = Mac::new(digest, PASSPHRASE);
    mac.update(&member.data);
    mac.finish().matches(text.value())
}

fn is_manifest(member: &Member) -> bool {
    member.name.starts_with(MANIFEST_NAME)
}

/// Exactly the files that were put in; the manifest among them, if asked.
fn whole(made: &Made, report: &Report, manifest: bool) {
    let counts = |name: &[u8]| manifest || name != MANIFEST_NAME;
    let found: Vec<_> = report
        .files
        .iter()
        .filter(|file| counts(&file.name))
        .map(|file| {
            assert_eq!(file.state, FileState::Verified);
            (&file.name, file.chunks, file.stored_bytes, file.decoded_bytes)
        })
        .collect();
    let wanted: Vec<_> = made
        .facts
        .iter()
        .filter(|fact| counts(&fact.name))
        .map(|fact| {
            let stored: usize = fact.chunks.iter().map(Vec::len).sum();
            let chunks = fact.chunks.len() as u32;
            (&fact.name, chunks, stored as u64, fact.decoded)
        })
        .collect();
    assert_eq!(found, wanted);
}

/// No code was computed anew, no manifest binds what there is.
fn unbound(made: &Made, there: &[Member], report: &Report, bytes: &[u8]) {
    assert_eq!(report.binding, Binding::NotBound);
    let has_header = there.iter().any(|m| m.name == b"backup-header");
    assert_eq!(report.header.headerless, !has_header);
    if !has_header {
        assert!(!report.omissions.is_empty(), "no header, and no word of it");
    }
    let mut traded = Vec::new();
    for file in &report.files {
        assert_eq!(file.state, FileState::Verified);
        assert_ne!(file.name, MANIFEST_NAME, "a manifest that was promised");
        let fact = made.facts.iter().find(|fact| fact.name == file.name);
        let fact = fact.expect("a file of a name that no file had");
        let number = |chunk: usize| {
            let number = format!(".{chunk:03}");
            [&fact.name, number.as_bytes()].concat()
        };
        let chunks = file.chunks as usize;
        let stays = chunks <= fact.chunks.len()
            && fact.chunks[..chunks].iter().enumerate().all(|(at, data)| {
                let name = number(at);
                there.iter().any(|m| m.name == name && m.data == *data)
            });
        if stays {
            assert!(file.decoded_bytes <= fact.decoded);
        } else {
            traded.push(&fact.name);
        }
    }
    for fact in made.facts.iter().filter(|fact| fact.announced) {
        let is_there = report.files.iter().any(|file| file.name == fact.name);
        assert!(is_there || !report.omissions.is_empty(), "not missed");
    }
    let is_checked = made.form.filter != Filter::None;
    cat(&made.facts, report, bytes, |fact| {
        is_checked || !traded.contains(&&fact.name)
    });
}

/// The content of the last file that counts, if it is there.
fn cat(
    facts: &[Fact],
    report: &Report,
    bytes: &[u8],
    counts: impl Fn(&Fact) -> bool,
) {
    let fact = facts.iter().skip(1).rfind(|fact| {
        let is_there = report.files.iter().any(|file| file.name == fact.name);
        is_there && counts(fact) && fact.name != MANIFEST_NAME
    });
    let Some(fact) = fact else { return };
    let mut content = Vec::new();
    let path = fact.path.clone();
    let goal = Goal::Cat { path, output: Some(&mut content) };
    let report = read_seekable(Cursor::new(bytes), options(goal));
    report.expect("verified, so it can be shown");
    assert!(content == fact.content, "{}: other content", fact.path);
}
