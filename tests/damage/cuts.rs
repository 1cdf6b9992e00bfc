//! Archives that end too early: at every member, and at every byte. Only
//! zeros behind the end mark of the last member may be missing.

use std::io::Cursor;
use std::thread;

use qubes_fsm::backup::decode::DecodeError;
use qubes_fsm::backup::read::{Goal, Options, ReadError, read, read_seekable};
use qubes_fsm::backup::tree::Target;
use qubes_fsm::format::cipher::CipherError;
use qubes_fsm::format::manifest::ManifestError;
use qubes_fsm::format::tar::TarError;

use crate::row::{Row, check, options};
use crate::scene::{Facts, directory, expected, facts};
use crate::writer::{FILES, Made, Recipe, one};

#[test]
fn at_every_member() {
    let made = Recipe::new(false, false).make();
    let cut = |left| refused!(ReadError::Truncated { .. }, 15, left);
    let mut rows = Vec::new();
    for count in 0..made.pieces.len() {
        let damage = move |made: &mut Made| made.pieces.truncate(count);
        let name = |at: usize| {
            String::from_utf8_lossy(&made.pieces[at].name).into_owned()
        };
        let what = format!("before {}", name(count));
        let file_of = |name: &str| {
            FILES.iter().position(|file| {
                let rest = name.strip_prefix(file);
                rest.is_some_and(|rest| rest.starts_with('.'))
            })
        };
        let row = if count == 0 {
            let empty =
                refused!(ReadError::Outer(TarError::Truncated { .. }), 15, 0);
            Row::done(what, damage, empty)
        } else if count <= 2 {
            // The header, without and with its code.
            let promised =
                refused!(ReadError::Manifest(ManifestError::Missing), 15, 0);
            let row = Row::done(what, damage, cut(0));
            if count == 2 { row.bound(promised) } else { row }
        } else if name(count).ends_with(".hmac") {
            let left = file_of(&name(count - 1)).unwrap();
            let promised =
                refused!(ReadError::Manifest(ManifestError::Missing), 15, 0);
            Row::done(what, damage, cut(left)).bound(promised)
        } else {
            let last = file_of(&name(count - 1)).unwrap();
            let missing = |left| refused!(ReadError::Missing { .. }, 15, left);
            let promised =
                refused!(ReadError::Manifest(ManifestError::Missing), 15, 0);
            let row = if file_of(&name(count)) == Some(last) {
                let cut = inner!(
                    DecodeError::Tar(TarError::Truncated { .. }),
                    15,
                    last
                );
                // Inside of a stream, and perhaps inside of a block.
                let cipher = inner!(
                    DecodeError::CipherTruncated {
                        cause: CipherError::BadLength { .. }
                            | CipherError::BadPadding { .. }
                    },
                    15,
                    last
                );
                Row::done(what, damage, cut).sealed(cipher).keep(missing(last))
            } else {
                Row::done(what, damage, missing(last + 1))
            };
            row.bound(promised)
        };
        rows.push(row);
    }
    check(&rows);
}

/// Where the outer archive is whole in itself: behind the end mark of a piece.
fn whole_at(made: &Made) -> Vec<usize> {
    (1..=made.pieces.len())
        .map(|count| {
            let mut first = made.clone();
            first.pieces.truncate(count);
            first.pack().len()
        })
        .collect()
}

/// What a cut may be called, there and anywhere else.
fn is_named(error: &ReadError, is_whole: bool) -> bool {
    if !is_whole {
        return matches!(error, ReadError::Outer(TarError::Truncated { .. }));
    }
    matches!(
        error,
        ReadError::Truncated { .. }
            | ReadError::Missing { .. }
            | ReadError::Inner { .. }
            | ReadError::Manifest(ManifestError::Missing)
    )
}

/// Cuts an archive at these places, on as many threads as there are cores.
fn cut_all(
    archive: &[u8],
    whole: &[usize],
    places: &[usize],
    cut: fn(&[u8]) -> ReadError,
) {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for first in 0..threads {
            scope.spawn(move || {
                for place in places.iter().skip(first).step_by(threads) {
                    let error = cut(&archive[..*place]);
                    let is_whole = whole.contains(place);
                    assert!(is_named(&error, is_whole), "{place}: {error:?}");
                }
            });
        }
    });
}

fn verified(archive: &[u8]) -> ReadError {
    let verified = read(archive, options(Goal::Verify));
    verified.map(|_| archive.len()).unwrap_err()
}

fn restored(archive: &[u8], keep_going: bool) -> ReadError {
    let to = directory();
    let target = Target::open(to.path(), false).unwrap();
    let goal = Goal::Restore { target, wanted: Vec::new() };
    let options = Options { keep_going, ..options(goal) };
    let error = read(archive, options).map(|_| archive.len()).unwrap_err();
    let all = expected(&FILES, &Facts::new());
    for (name, fact) in facts(to.path()) {
        assert_eq!(all.get(&name), Some(&fact), "{name}: {error}");
    }
    error
}

/// 100 KB, restored; not bound, so that whole files get their names.
#[test]
fn one_form_at_every_byte() {
    let made = Recipe::new(false, false).make();
    let (archive, whole) = (made.pack(), whole_at(&made));
    assert!(archive.len() > 80_000, "{}", archive.len());
    let places: Vec<_> = (0..archive.len()).collect();
    cut_all(&archive, &whole, &places, |cut| restored(cut, false));
}

/// As many bytes, clear and encrypted, bound and not, verified.
#[test]
fn every_form_at_some_bytes() {
    for bits in 0..4 {
        let made = Recipe::new(bits & 1 > 0, bits & 2 > 0).make();
        let (archive, whole) = (made.pack(), whole_at(&made));
        let places: Vec<_> = (bits..archive.len()).step_by(29).collect();
        cut_all(&archive, &whole, &places, verified);
    }
}

/// Around every block and at some bytes inside, restored.
#[test]
fn around_every_block() {
    for bits in 0..4 {
        let made = Recipe::new(bits & 1 > 0, bits & 2 > 0).make();
        let (archive, whole) = (made.pack(), whole_at(&made));
        let is_near = |at: &usize| matches!(at % 512, 0 | 1 | 511 | 97);
        let places: Vec<_> = (0..archive.len()).filter(is_near).collect();
        cut_all(&archive, &whole, &places, |cut| restored(cut, false));
        cut_all(&archive, &whole, &places, |cut| restored(cut, true));
        cut_all(&archive, &whole, &places, |cut| {
            let source = Cursor::new(cut);
            let verified = read_seekable(source, options(Goal::Verify));
            verified.map(|_| cut.len()).unwrap_err()
        });
    }
}

/// One qube, restored at every byte.
#[test]
fn at_every_byte_restored() {
    let mut recipe = Recipe::new(false, true);
    let store = "<QubesVmCollection default_template=\"None\">\
        <QubesAppVm qid=\"5\" name=\"work\" backup_content=\"True\" \
        backup_path=\"vm5\"/></QubesVmCollection>";
    recipe.files.truncate(3);
    recipe.file("qubes.xml").inner = one(b"qubes.xml", store.as_bytes());
    recipe.file("vm5/private.img").inner = one(b"vm5/private.img", b"small");
    let made = recipe.make();
    let (archive, whole) = (made.pack(), whole_at(&made));
    let places: Vec<_> = (0..archive.len()).collect();
    cut_all(&archive, &whole, &places, |cut| {
        let to = directory();
        let target = Target::open(to.path(), false).unwrap();
        let goal = Goal::Restore { target, wanted: Vec::new() };
        let error = read(cut, options(goal)).map(|_| cut.len()).unwrap_err();
        // Bound: nothing at all before the end.
        assert_eq!(facts(to.path()), Facts::new(), "{}", cut.len());
        error
    });
    assert!(read(archive.as_slice(), options(Goal::Verify)).is_ok());
}

/// Zeros that fill up the last piece may be missing, but by whole blocks.
#[test]
fn zeros_at_the_end() {
    for bits in 0..4 {
        let made = Recipe::new(bits & 1 > 0, bits & 2 > 0).make();
        let mut archive = made.pack();
        let end = archive.len();
        archive.resize(end.next_multiple_of(10_240) + 10_240, 0);
        let is_near = |at: &usize| matches!(at % 512, 0..3 | 511 | 97);
        for place in (end - 1_024..=archive.len()).filter(is_near) {
            let outcome = read(&archive[..place], options(Goal::Verify));
            if place >= end && place % 512 == 0 {
                assert!(outcome.is_ok(), "{place}");
            } else {
                let error = outcome.map(|_| place).unwrap_err();
                assert!(is_named(&error, false), "{place}: {error}");
            }
        }
    }
}
