//! What `restore` refuses, `verify` has refused, in the same words: whoever
//! verified a backup may delete the original.
//!
//! Lives here: archives whose codes and manifest fit and that cannot be put on
//! any disk, and the nearest ones that can. May not live here: damage that is
//! found on the way (the other files).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::process::Command;

use qubes_fsm::backup::read::{Goal, Options, ReadError, read, read_seekable};
use qubes_fsm::backup::report::{FileState, Report};
use qubes_fsm::backup::tree::Target;

use crate::row::options;
use crate::scene::directory;
use crate::writer::{
    File, PASSPHRASE, Recipe, archive, entry, image, link, one, pax,
};

const IMAGE: &str = "vm5/private.img";
const HOME: &str = "dom0-home/user";
const OWN: &[u8] = b"dom0-home/user/own";
const BELOW: &[u8] = b"dom0-home/user/own/below";
const BELOW_D: &[u8] = b"dom0-home/user/d/again";
const TWICE: &str = "found a second member; wanted each path once";
const LINK: &str = "wanted a file of the same archive";
const NO_DIRECTORY: &str = "at dom0-home/user/own; wanted a directory";
const LONG: &str = "found a name of more than 255 bytes";
const APART: &str = "which is another file of the archive; wanted files that \
                     stand apart";

struct Row {
    name: &'static str,
    recipe: fn(&mut Recipe),
    /// What is said, and the exit code; empty: nothing is wrong.
    text: &'static str,
    exit: i32,
}

fn refused(
    name: &'static str,
    text: &'static str,
    recipe: fn(&mut Recipe),
) -> Row {
    Row { name, recipe, text, exit: 13 }
}

fn accepted(name: &'static str, recipe: fn(&mut Recipe)) -> Row {
    Row { name, recipe, text: "", exit: 0 }
}

fn home(recipe: &mut Recipe, entries: &[Vec<u8>]) {
    let top = entry(b"dom0-home/user/", b'5', b"");
    recipe.inner(HOME, &[&[top], entries].concat());
}

fn file(path: &[u8]) -> Vec<u8> {
    entry(path, b'0', b"text")
}

/// A member whose path, or the target of the link that it is, is too long for
/// a header of its own.
fn long(key: &str, value: &str, member: Vec<u8>) -> Vec<u8> {
    [pax(&[(key, value)]), member].concat()
}

fn in_home(length: usize) -> String {
    format!("dom0-home/user/{}", "n".repeat(length))
}

/// One more file of a qube, behind all others.
fn more(recipe: &mut Recipe, name: &str, inner: Vec<u8>) {
    recipe.files.push(File { name: name.to_owned(), inner, stored: None });
}

fn rows() -> Vec<Row> {
    let mut rows = vec![
        accepted("as it was written", |_| {}),
        refused("an image twice", TWICE, |recipe| {
            let image = entry(IMAGE.as_bytes(), b'0', &image(5));
            recipe.inner(IMAGE, &[image.clone(), image]);
        }),
        refused("an image twice in a template", TWICE, |recipe| {
            let top = entry(b"vm7/./", b'5', b"");
            let root = entry(b"vm7/./root.img", b'0', b"root");
            let again = entry(b"vm7/root.img", b'0', b"evil");
            recipe.inner("vm7/.", &[top, root, again]);
        }),
        refused("announced above the directory", "component \"..\"", |r| {
            r.store("backup_path=\"vm6\"", "backup_path=\"../vm6\"");
        }),
        refused("announced with a long name", LONG, |recipe| {
            let path = format!("backup_path=\"{}\"", "n".repeat(256));
            recipe.store("backup_path=\"vm6\"", &path);
        }),
        refused(
            "announced where unfinished restores are swept",
            "found the name of an unfinished restore",
            |recipe| {
                let path = "backup_path=\".qubes-fsm-restore-1\"";
                recipe.store("backup_path=\"vm6\"", path);
                let name = ".qubes-fsm-restore-1/private.img";
                let file = recipe.file("vm6/private.img");
                file.name = name.to_owned();
                file.inner = one(name.as_bytes(), b"image");
            },
        ),
    ];
    rows.extend(apart());
    rows.extend(in_one_tree());
    rows
}

/// Files of the archive beside one another.
fn apart() -> Vec<Row> {
    vec![
        refused("a file inside of a template", APART, |recipe| {
            more(recipe, "vm7/root.img", one(b"vm7/root.img", b"root"));
        }),
        refused("a template around a file", APART, |recipe| {
            let file = one(b"vm7/root.img", b"root");
            let (name, stored) = ("vm7/root.img".to_owned(), None);
            recipe.files.insert(1, File { name, inner: file, stored });
        }),
        refused("a template twice, by two names", APART, |recipe| {
            let inner = archive(&[entry(b"vm7/", b'5', b"")]);
            more(recipe, "vm7", inner);
        }),
        refused("a file below an image", APART, |recipe| {
            let name = "vm5/private.img/x";
            more(recipe, name, one(name.as_bytes(), b"x"));
        }),
        refused("a qube below qubes.xml", APART, |recipe| {
            let path = "backup_path=\"qubes.xml\"";
            recipe.store("backup_path=\"vm6\"", path);
            let name = "qubes.xml/private.img";
            let file = recipe.file("vm6/private.img");
            file.name = name.to_owned();
            file.inner = one(name.as_bytes(), b"image");
        }),
        accepted("a file of nearly the same name", |recipe| {
            let name = "vm5/private.img-x";
            more(recipe, name, one(name.as_bytes(), b"x"));
        }),
        accepted("one in the way that nobody announces", |recipe| {
            let inner = archive(&[entry(b"vm9/", b'5', b"")]);
            more(recipe, "vm9", inner);
            more(recipe, "vm9/x", one(b"vm9/x", b"x"));
        }),
    ]
}

/// Members of one inner archive beside one another.
fn in_one_tree() -> Vec<Row> {
    vec![
        refused("a file twice", TWICE, |r| home(r, &[file(OWN), file(OWN)])),
        refused("a directory, then a file", TWICE, |recipe| {
            home(recipe, &[entry(OWN, b'5', b""), file(OWN)]);
        }),
        refused("a file, then a directory", TWICE, |recipe| {
            home(recipe, &[file(OWN), entry(OWN, b'5', b"")]);
        }),
        refused("a file where others are below", TWICE, |recipe| {
            home(recipe, &[file(BELOW), file(OWN)]);
        }),
        refused("a link over a file", TWICE, |recipe| {
            home(recipe, &[file(OWN), link(OWN, b'2', b"x")]);
        }),
        refused("a file over a link", TWICE, |recipe| {
            home(recipe, &[link(OWN, b'2', b"x"), file(OWN)]);
        }),
        refused("a link twice", TWICE, |recipe| {
            home(recipe, &[link(OWN, b'2', b"x"), link(OWN, b'2', b"x")]);
        }),
        refused("a hard link twice", TWICE, |recipe| {
            let hard = link(BELOW, b'1', b"dom0-home/user/f");
            home(recipe, &[file(b"dom0-home/user/f"), hard.clone(), hard]);
        }),
        refused("below a file", NO_DIRECTORY, |recipe| {
            home(recipe, &[file(OWN), file(BELOW)]);
        }),
        refused("a directory below a file", NO_DIRECTORY, |recipe| {
            home(recipe, &[file(OWN), entry(BELOW, b'5', b"")]);
        }),
        refused("below a link", NO_DIRECTORY, |recipe| {
            home(recipe, &[link(OWN, b'2', b"/tmp"), file(BELOW)]);
        }),
        refused("a link below a hard link", NO_DIRECTORY, |recipe| {
            let f = b"dom0-home/user/f";
            let (hard, below) = (link(OWN, b'1', f), link(BELOW, b'2', b"x"));
            home(recipe, &[file(f), hard, below]);
        }),
        refused("a hard link to nothing", LINK, |recipe| {
            home(recipe, &[link(OWN, b'1', b"dom0-home/user/no")]);
        }),
        refused("a hard link to another file", LINK, |recipe| {
            home(recipe, &[link(OWN, b'1', IMAGE.as_bytes())]);
        }),
        refused("a hard link to itself", LINK, |recipe| {
            home(recipe, &[link(OWN, b'1', OWN)]);
        }),
        accepted("a hard link to a file that comes later", |recipe| {
            let to = b"dom0-home/user/later";
            let again = link(BELOW_D, b'1', OWN);
            home(recipe, &[link(OWN, b'1', to), again, file(to)]);
        }),
        refused("a hard link to a link that comes later", LINK, |recipe| {
            let to = b"dom0-home/user/later";
            home(recipe, &[link(OWN, b'1', to), link(to, b'2', b"x")]);
        }),
        refused("a hard link to a later hard link", LINK, |recipe| {
            let (f, to) = (b"dom0-home/user/f", b"dom0-home/user/later");
            home(recipe, &[file(f), link(OWN, b'1', to), link(to, b'1', f)]);
        }),
        refused("a hard link to a later directory", LINK, |recipe| {
            let to = b"dom0-home/user/later";
            home(recipe, &[link(OWN, b'1', to), entry(to, b'5', b"")]);
        }),
        refused("a hard link to a directory", LINK, |recipe| {
            home(recipe, &[link(OWN, b'1', b"dom0-home/user")]);
        }),
        refused("a hard link to what others are below", LINK, |recipe| {
            let to = b"dom0-home/user/d";
            home(recipe, &[file(b"dom0-home/user/d/f"), link(OWN, b'1', to)]);
        }),
        refused("a name of 256 bytes", LONG, |recipe| {
            home(recipe, &[long("path", &in_home(256), file(b"x"))]);
        }),
        refused("a directory of 300 bytes", LONG, |recipe| {
            let path = format!("{}/f", in_home(300));
            home(recipe, &[long("path", &path, file(b"x"))]);
        }),
        refused("a hard link to a name of 300 bytes", LONG, |recipe| {
            let link = link(OWN, b'1', b"x");
            home(recipe, &[long("linkpath", &in_home(300), link)]);
        }),
        refused(
            "a link to 4,096 bytes",
            "found a link target of more than 4,095 bytes",
            |recipe| {
                let link = link(OWN, b'2', b"x");
                home(recipe, &[long("linkpath", &"x".repeat(4096), link)]);
            },
        ),
        accepted("a directory twice", |recipe| {
            let directory = entry(OWN, b'5', b"");
            home(recipe, &[file(BELOW), directory.clone(), directory]);
        }),
        accepted("the longest name, the longest target", |recipe| {
            let link = link(OWN, b'2', b"x");
            let link = long("linkpath", &"x".repeat(4095), link);
            home(recipe, &[long("path", &in_home(255), file(b"x")), link]);
        }),
        accepted("hard links to a file, a link and a hard link", |recipe| {
            let (f, l) = (b"dom0-home/user/f", b"dom0-home/user/l");
            let (a, b) = (b"dom0-home/user/d/a", b"dom0-home/user/d/b");
            home(
                recipe,
                &[
                    file(f),
                    link(l, b'2', b"nowhere"),
                    link(a, b'1', f),
                    link(b, b'1', a),
                    link(OWN, b'1', l),
                ],
            );
        }),
    ]
}

/// What was said, and of which files that they are whole.
type Verdict = (Option<String>, Vec<String>, Vec<(Vec<u8>, bool)>);

fn verdict(outcome: Result<Report, ReadError>) -> Verdict {
    let is_whole = |state| match state {
        FileState::Verified | FileState::Restored => true,
        FileState::Begun
        | FileState::Unbound
        | FileState::LeftOut
        | FileState::Unknown
        | FileState::Withheld
        | FileState::Lost
        | FileState::NotRead => false,
    };
    match outcome {
        Ok(report) => {
            // What nobody announces is looked at by `verify` alone.
            let files = report.files.into_iter();
            let files = files.filter(|file| !file.name.starts_with(b"vm9"));
            let files = files.map(|file| (file.name, is_whole(file.state)));
            (None, report.omissions, files.collect())
        }
        Err(error) => (Some(error.to_string()), Vec::new(), Vec::new()),
    }
}

//= spec/format3.md#what-is-verified-can-be-restored
//= spec/format3.md#files-stand-apart
#[test]
fn verify_and_restore_say_the_same() {
    let mut wrong = Vec::new();
    for row in rows() {
        for bits in 0..16 {
            let (sealed, bound) = (bits & 1 > 0, bits & 2 > 0);
            let (keep_going, seeks) = (bits & 4 > 0, bits & 8 > 0);
            let mut recipe = Recipe::new(sealed, bound);
            (row.recipe)(&mut recipe);
            let packed = recipe.make().pack();
            let to = directory();
            let run = |goal| {
                let options = Options { keep_going, ..options(goal) };
                verdict(match seeks {
                    true => read_seekable(Cursor::new(&packed), options),
                    false => read(packed.as_slice(), options),
                })
            };
            let verified = run(Goal::Verify);
            let target = Target::open(to.path(), false).unwrap();
            let restored = run(Goal::Restore { target, wanted: Vec::new() });
            let said = match &verified {
                (Some(error), ..) => error.clone(),
                (None, omissions, _) => omissions.concat(),
            };
            let is_right = match row.text {
                "" => said.is_empty(),
                text => said.contains(text),
            };
            if verified != restored || !is_right {
                wrong.push(format!(
                    "{} ({bits:04b}):\n  {verified:?}\n  {restored:?}",
                    row.name
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn so_do_the_commands() {
    for row in rows() {
        let mut recipe = Recipe::new(false, true);
        (row.recipe)(&mut recipe);
        let directory = directory();
        let path = |name| directory.path().join(name);
        fs::write(path("passphrase"), PASSPHRASE).unwrap();
        fs::write(path("archive"), recipe.make().pack()).unwrap();
        let verified = command(directory.path(), &["verify"]);
        let restored =
            command(directory.path(), &["restore", "--to", "restored"]);
        assert_eq!(verified, restored, "{}", row.name);
        let (exit, err) = verified;
        assert_eq!(exit, row.exit, "{}: {err}", row.name);
        assert!(err.contains(row.text), "{}: {err}", row.name);
    }
}

fn command(directory: &Path, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qubes-fsm"));
    command.current_dir(directory).args(arguments);
    command.args(["archive", "--passphrase-file", "passphrase"]);
    let output = command.output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), err)
}
