//! Backups to a qube and back, and what its service is asked for.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::process::Stdio;

use serde_json::Value;

use crate::facts::tree;
use crate::scene::{Scene, files};
use crate::{Ended, Service, connected, end};

/// Backs up the tree of the scene to a qube; the archive is in its home.
fn backed_up(scene: &Scene, arguments: &[&str]) {
    let home = scene.path("home");
    fs::create_dir(&home).unwrap();
    let mut service = Service::start(scene.directory.path(), "backup");
    let mut stdin = service.child.stdin.take().unwrap();
    writeln!(stdin, "{}", home.to_str().unwrap()).unwrap();
    let mut command = scene.command(&["backup", "--to", "-"]);
    command.arg("--from").arg(scene.path("from")).args(arguments);
    command.stdin(Stdio::null()).stdout(stdin).stderr(Stdio::null());
    let child = command.spawn().unwrap();
    drop(command);
    assert_eq!(end(child), Some(0));
    let mut said = String::new();
    let mut stdout = service.child.stdout.take().unwrap();
    stdout.read_to_string(&mut said).unwrap();
    let chatter =
        format!("Starting Backupcopy\nArguments: {}\n", home.display());
    assert_eq!(said, chatter);
    let ended = service.end();
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
}

/// Runs a command on the archive in the qube.
fn from_qube(scene: &Scene, arguments: &[&str]) -> (Ended, Ended) {
    let service = Service::start(scene.directory.path(), "restore");
    let archive = scene.path("home/qubes-backup");
    let [name, rest @ ..] = arguments else { panic!("no command") };
    let mut command = scene.command(&[name]);
    command.arg(archive).arg("--from-qube");
    for argument in rest {
        match *argument {
            "TO" => command.arg(scene.path("to")),
            "REPORT" => command.arg(scene.path("report")),
            argument => command.arg(argument),
        };
    }
    connected(command, service)
}

/// What the service was asked for.
fn asked(service: &Ended) -> &str {
    let paths = service.err.lines().find_map(|l| l.strip_prefix("Paths:"));
    paths.unwrap_or_else(|| panic!("{service:?}")).trim()
}

fn replied(service: &Ended, code: u32, last: &str) {
    let line = format!("reply {code} {last}");
    assert!(service.err.lines().any(|l| l == line), "{service:?}: {line}");
}

#[test]
fn a_backup_to_a_qube_comes_back_from_it() {
    for arguments in [
        &["--chunk-size", "20000"][..],
        &["--encrypt", "--compress", "--chunk-size", "1000"],
        &["--no-manifest"],
    ] {
        let scene = Scene::new();
        backed_up(&scene, arguments);
        let (verified, service) = from_qube(&scene, &["verify"]);
        assert_eq!(verified.code, Some(0), "{verified:?}");
        assert_eq!((service.code, asked(&service)), (Some(0), ""));
        assert!(verified.err.contains("verified"), "{verified:?}");
        let is_bound = !arguments.contains(&"--no-manifest");
        let binding = if is_bound { "; bound: " } else { "; not bound: " };
        assert!(verified.err.contains(binding), "{verified:?}");

        let restore = ["restore", "--to", "TO", "--json", "--report", "REPORT"];
        let (restored, service) = from_qube(&scene, &restore);
        assert_eq!((restored.code, restored.err.as_str()), (Some(0), ""));
        assert_eq!(service.code, Some(0), "{service:?}");
        let last = match (is_bound, arguments.len()) {
            (true, _) => "backup-manifest.000.hmac",
            (false, _) => "dom0-home/user.000.hmac",
        };
        replied(&service, 0, last);
        assert_eq!(tree(&scene.path("to")), tree_of_source(&scene));
        let report = fs::read_to_string(scene.path("report")).unwrap();
        let summary: Value =
            serde_json::from_str(report.lines().last().unwrap()).unwrap();
        assert_eq!(summary["type"], "summary");
        assert_eq!(summary["exit"], 0);
    }
}

/// As a restore leaves it: a folder above what was packed is made.
fn tree_of_source(scene: &Scene) -> crate::facts::Tree {
    let (from, to) = (tree(&scene.path("from")), tree(&scene.path("to")));
    let mut wanted = from;
    for (path, facts) in &mut wanted {
        let is_made = [&b""[..], b"vm5", b"dom0-home"].contains(&&path[..]);
        if is_made && let Some(found) = to.get(path) {
            (facts.mode, facts.time) = (found.mode, found.time);
        }
    }
    wanted
}

/// The header and the document are enough, and nothing else is sent.
#[test]
fn a_list_asks_for_the_beginning_alone() {
    let scene = Scene::new();
    backed_up(&scene, &["--chunk-size", "20000"]);
    let (listed, service) = from_qube(&scene, &["list", "--report", "REPORT"]);
    assert_eq!((listed.code, listed.err.as_str()), (Some(0), ""));
    assert_eq!(asked(&service), "backup-header qubes.xml.");
    assert!(service.err.contains("all that was asked for was sent"));
    replied(&service, 0, "qubes.xml.000.hmac");
    assert_eq!(service.code, Some(0));
    let here = scene.run(&["list", "ARCHIVE"]);
    let there = fs::read_to_string(scene.path("report")).unwrap();
    let names = |text: &str| -> BTreeSet<String> {
        text.lines().map(|l| l.split('\t').next().unwrap().into()).collect()
    };
    assert_eq!(names(&there), names(&here.out));
    assert_eq!(names(&there).len(), 3);
}

#[test]
fn files_are_asked_for_by_their_names() {
    let scene = Scene::new();
    backed_up(&scene, &["--chunk-size", "20000"]);
    let (restored, service) =
        from_qube(&scene, &["restore", "vm5/private.img", "--to", "TO"]);
    assert_eq!(restored.code, Some(0), "{restored:?}");
    assert_eq!(
        asked(&service),
        "backup-header qubes.xml. vm5/private.img. backup-manifest."
    );
    replied(&service, 0, "backup-manifest.000.hmac");
    assert_eq!(service.code, Some(0));
    assert_eq!(files(&scene.path("to")), ["vm5/private.img"]);
    let found = fs::read(scene.path("to/vm5/private.img")).unwrap();
    assert_eq!(found, scene.original("vm5/private.img"));
    // All that was asked for is in the manifest, and as it says.
    assert!(restored.err.contains("bound: "), "{restored:?}");
    assert!(!restored.err.contains("not bound"), "{restored:?}");
    // What is not there is not found, not missing.
    let (failed, service) =
        from_qube(&scene, &["restore", "vm5/nothing", "--to", "TO"]);
    assert_eq!(failed.code, Some(10), "{failed:?}");
    replied(&service, 5, "backup-manifest.000.hmac");
    assert_eq!(service.code, Some(1));
    // What was asked for and does not come is missed.
    let path = scene.path("home/qubes-backup");
    let mut archive = fs::read(&path).unwrap();
    let name = b"backup-manifest.000";
    let at = archive.windows(name.len()).position(|w| w == name).unwrap();
    assert!(at.is_multiple_of(512));
    archive[at..].fill(0);
    fs::write(path, archive).unwrap();
    fs::remove_dir_all(scene.path("to")).unwrap();
    let arguments = ["restore", "vm5/private.img", "--to", "TO"];
    let (failed, service) = from_qube(&scene, &arguments);
    assert_eq!(failed.code, Some(15), "{failed:?}");
    assert!(failed.err.contains("manifest: the archive ends without it"));
    replied(&service, 22, "vm5/private.img.003.hmac");
    assert_eq!(files(&scene.path("to")), [""; 0]);
}

/// Where a qube's files are is in the document, which comes too late to ask.
#[test]
fn a_qube_is_picked_out_of_everything() {
    let scene = Scene::new();
    backed_up(&scene, &["--chunk-size", "20000"]);
    for names in [&["work"][..], &["work", "vm7/."], &["vm5/a b", "work"]] {
        let arguments = [&["restore"], names, &["--to", "TO"]].concat();
        let (restored, service) = from_qube(&scene, &arguments);
        assert_eq!(asked(&service), "");
        if names.contains(&"vm5/a b") {
            assert_eq!(restored.code, Some(10), "{restored:?}");
            continue;
        }
        assert_eq!(restored.code, Some(0), "{restored:?}");
        assert_eq!(service.code, Some(0), "{service:?}");
        let found = files(&scene.path("to"));
        let begins =
            |begin| found.iter().any(|f: &String| f.starts_with(begin));
        assert!(begins("vm5/private.img") && begins("vm5/firewall.xml"));
        assert_eq!(begins("vm7/"), names.contains(&"vm7/."));
        assert!(!begins("dom0-home/") && !begins("qubes.xml"));
        fs::remove_dir_all(scene.path("to")).unwrap();
    }
}

/// The service writes, and nobody reads: it is answered all the same.
#[test]
fn a_service_that_is_stopped_learns_why() {
    let mut scene = Scene::with(crate::scene::FORM, |from| {
        fs::write(from.join("vm5/private.img"), vec![7; 9 << 20]).unwrap();
    });
    scene.damage("vm5/private.img.000");
    fs::create_dir(scene.path("home")).unwrap();
    // More than any pipe holds follows the damage.
    let big = ("vm9/big.img.000".to_owned(), vec![1; 8 << 20]);
    scene.members.push(big);
    let archive = crate::archive::outer(&scene.members);
    fs::write(scene.path("home/qubes-backup"), archive).unwrap();
    let (failed, service) = from_qube(&scene, &["verify"]);
    assert_eq!(failed.code, Some(13), "{failed:?}");
    assert!(failed.err.contains("vm5/private.img.000: "), "{failed:?}");
    assert!(service.err.contains("stopped by the receiver"), "{service:?}");
    assert!(service.err.contains("\nreply 22 "), "{service:?}");
    assert_eq!(service.code, Some(1));
}

#[test]
fn a_service_without_the_archive_is_a_stream_that_was_cut() {
    let scene = Scene::new();
    fs::create_dir(scene.path("home")).unwrap();
    let (failed, service) = from_qube(&scene, &["verify"]);
    assert_eq!(failed.code, Some(15), "{failed:?}");
    assert!(failed.err.contains("qfile byte 0: the stream ends without"));
    assert!(service.err.contains("Invalid command"));
    assert_eq!(service.code, Some(2));
}
