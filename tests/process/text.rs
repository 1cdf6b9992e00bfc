//! Names that are no text, and how much is said.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use crate::running::{Done, Running};
use crate::scene::Scene;
use crate::writer::{Made, Recipe};

/// Of a file that `qubes.xml` does not announce.
const ODD: &[u8] = b"vm5/\x1b[31m\xff\n\xe2\x80\xaex";
/// The same, fit for a terminal.
const SHOWN: &str = "vm5/\\u{1b}[31m\\xff\\u{a}\\u{202e}x";

fn odd() -> Made {
    let mut recipe = Recipe::new(false, false);
    let mut file = recipe.file("vm5/firewall.xml").clone();
    file.name = "vm5/odd".to_owned();
    file.inner = crate::writer::one(ODD, b"content");
    recipe.files.push(file);
    let mut made = recipe.make();
    for (name, end) in [("vm5/odd.000", ""), ("vm5/odd.000.hmac", ".hmac")] {
        let at = made.at(name);
        made.pieces[at].name = [ODD, b".000", end.as_bytes()].concat();
    }
    made
}

fn raw(done: &Done) -> bool {
    let text = format!("{}{}", done.out, done.err);
    text.contains(['\x1b', '\u{fffd}', '\u{202e}'])
}

#[test]
fn names_are_escaped_for_people_and_in_json() {
    let mut made = odd();
    let scene = Scene::of(&made.pack());
    let done = scene.run(&["verify", "ARCHIVE"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.out.contains(SHOWN) && !raw(&done), "{done:?}");
    let done = scene.run(&["verify", "ARCHIVE", "--json"]);
    assert_eq!(done.files()[6], ("verified".into(), SHOWN.into()));
    assert!(!raw(&done), "{done:?}");
    // The same in errors and omissions.
    let at = made.pieces.len() - 2;
    made.pieces[at].data[600] ^= 1;
    scene.write(&made.pack());
    let done = scene.run(&["verify", "ARCHIVE", "--json"]);
    assert_eq!(done.code, 13, "{done:?}");
    let text = format!("{SHOWN}.000: its authentication code does not fit");
    assert!(done.error().starts_with(&text), "{}", done.err);
    assert!(!raw(&done), "{done:?}");
    done.lines();
    for form in [&["--keep-going"][..], &["--keep-going", "--json"]] {
        let arguments = [&["verify", "ARCHIVE"], form].concat();
        let done = scene.run(&arguments);
        assert_eq!(done.code, 3, "{done:?}");
        let text = format!("{SHOWN}: left out: ");
        let text =
            text.replace('\\', if form.len() > 1 { "\\\\" } else { "\\" });
        assert!(done.out.contains(&text) && !raw(&done), "{done:?}");
    }
}

#[test]
fn names_that_were_typed_are_escaped_too() {
    let scene = Scene::new();
    let name = OsStr::from_bytes(b"/no\x1bsuch\xff");
    let shown = "/no\\u{1b}such\\xff: No such file or directory (os error 2)";
    let mut command = scene.command(&["verify", "--json"]);
    let done = Running::start(command.arg(name)).finish();
    assert_eq!(done.code, 10, "{done:?}");
    assert_eq!(done.error(), shown);
    assert!(!raw(&done), "{done:?}");
    done.lines();
    let done = scene.run(&["cat", "ARCHIVE", "a\u{1b}b"]);
    assert_eq!(done.code, 10, "{done:?}");
    assert!(done.error().starts_with("a\\u{1b}b: not in"), "{}", done.err);
}

#[test]
fn quiet_says_nothing_and_verbose_explains() {
    let scene = Scene::new();
    let verify = ["verify", "ARCHIVE"];
    let of = |more: &[&str]| scene.run(&[&verify[..], more].concat());
    let (usual, quiet) = (of(&[]), of(&["-q"]));
    assert_eq!((usual.err.as_str(), quiet.err.as_str()), ("", ""));
    let (once, twice) = (of(&["-v"]), of(&["-vv"]));
    for text in ["passphrase: from ", "a manifest is read first", "SHA512"] {
        assert!(once.err.contains(text), "{text}: {}", once.err);
    }
    let qube = "qubes.xml announces work at vm5";
    assert!(twice.err.contains(qube) && !once.err.contains(qube));
    for done in [&once, &twice] {
        let lines = done.err.lines();
        assert!({ lines }.all(|line| line.starts_with("qubes-fsm: ")));
        assert!(!done.err.contains(crate::archive::PASSPHRASE));
    }
    // An error is no note: it is said even so.
    let done = scene.run(&["cat", "ARCHIVE", "missing", "-q"]);
    assert!(done.error().starts_with("missing: "), "{}", done.err);
    // What a cancel says besides its error is.
    for (more, notes) in [(&[][..], 1), (&["-q"], 0)] {
        let arguments = [&["verify", "-"], more].concat();
        let running = Running::start(&mut scene.command(&arguments));
        running.await_handlers();
        running.signal(rustix::process::Signal::INT);
        let done = running.end();
        let note = "qubes-fsm: canceling\n";
        assert_eq!(done.err.matches(note).count(), notes, "{}", done.err);
        done.error();
    }
}
