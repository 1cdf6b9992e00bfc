//! `cat`: what is printed, what cannot be, and readers that go.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::process::Stdio;

use crate::archive::{Form, mac_text, outer};
use crate::running::Running;
use crate::scene::{FORM, Scene};
use crate::writer::Recipe;

#[test]
fn the_document_and_the_manifest_are_files_too() {
    let scene = Scene::with(Form { encrypted: true, ..FORM }, |_| {});
    for name in ["qubes.xml", "vm5/private.img"] {
        let done = scene.run(&["cat", "ARCHIVE", name]);
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{name}");
        assert!(done.stdout == scene.original(name), "{name}");
    }
    let made = Recipe::new(false, true).make();
    let scene = Scene::of(&made.pack());
    let done = scene.run(&["cat", "ARCHIVE", "backup-manifest"]);
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    assert!(done.out.contains("vm5/private.img.000"), "{}", done.out);
}

#[test]
fn a_link_names_its_target_and_a_directory_is_none() {
    let scene = Scene::new();
    let names = ["dom0-home/user/hard", "dom0-home/user/.bashrc"];
    // One of the two names is the link: which one, tar's order decides.
    let both = names.map(|name| scene.run(&["cat", "ARCHIVE", name]));
    let link = usize::from(both[0].code == 0);
    let (name, target) = (names[link], names[1 - link]);
    let content = &both[1 - link];
    assert_eq!((content.code, content.out.as_str()), (0, "export A=1\n"));
    for (name, found) in [
        (name, format!("a hard link to {target}, which has the content")),
        ("dom0-home/user/relative", "a symbolic link to sub/x".to_owned()),
        ("dom0-home/user/up", "a symbolic link to ../../x".to_owned()),
        ("dom0-home/user", "a directory".to_owned()),
        ("vm7", "a directory".to_owned()),
    ] {
        let done = scene.run(&["cat", "ARCHIVE", name]);
        assert_eq!((done.code, done.out.as_str()), (14, ""), "{name}");
        let text =
            format!(": member {name}: {found}; wanted a regular file (before");
        assert!(done.error().contains(&text), "{}", done.err);
    }
    for name in ["dom0-home", "vm5/other", "qubes.xml/x", "backup-manifest"] {
        let done = scene.run(&["cat", "ARCHIVE", name]);
        assert_eq!((done.code, done.out.as_str()), (10, ""), "{name}");
        let text = format!("{name}: not in the archive; wanted ");
        assert!(done.error().starts_with(&text), "{}", done.err);
    }
}

/// As `cat | head -c1`: silent, and no success, since the file was not read
/// to its end. Others die of SIGPIPE there.
#[test]
fn a_reader_that_goes_ends_it_without_a_word() {
    let scene = Scene::with(FORM, |from| {
        fs::write(from.join("vm5/private.img"), vec![7; 4 << 20]).unwrap();
    });
    for (verbose, says) in [(&[][..], ""), (&["-v"], "its reader has gone")] {
        let arguments = [&["cat", "ARCHIVE", "vm5/private.img"], verbose];
        let (mut reader, writer) = io::pipe().unwrap();
        let mut command = scene.command(&arguments.concat());
        let running = Running::start_to(&mut command, writer.into());
        // The command has a copy of the other end.
        drop(command);
        reader.read_exact(&mut [0]).unwrap();
        drop(reader);
        let done = running.finish();
        assert_eq!(done.code, 1, "{done:?}");
        if says.is_empty() {
            assert_eq!(done.err, "");
        } else {
            assert!(done.err.contains(says), "{}", done.err);
            assert!(!done.err.contains("ERROR"), "{}", done.err);
        }
    }
}

#[test]
fn a_report_that_nobody_reads_is_no_failure() {
    let scene = Scene::new();
    for arguments in [
        &["verify", "ARCHIVE"][..],
        &["verify", "ARCHIVE", "--json"],
        &["list", "ARCHIVE"],
        &["restore", "ARCHIVE", "--to", "TO"],
    ] {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut command = scene.command(arguments);
        let done = Running::start_to(&mut command, writer.into()).finish();
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{arguments:?}");
    }
}

#[test]
fn a_full_output_is_no_space() {
    let scene = Scene::new();
    for arguments in [
        &["cat", "ARCHIVE", "vm5/private.img"][..],
        &["cat", "ARCHIVE", "qubes.xml"],
        &["verify", "ARCHIVE"],
        &["list", "ARCHIVE"],
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut command = scene.command(arguments);
        let done = Running::start_to(&mut command, Stdio::from(full)).finish();
        assert_eq!(done.code, 16, "{arguments:?}: {done:?}");
        assert!(done.error().contains("No space left on device"));
    }
}

#[test]
fn the_limit_of_what_is_announced_can_be_lifted() {
    let size = 1_181_116_416;
    let form = Form { filter: Some("zstd"), ..FORM };
    let mut scene = Scene::with(form, |from| {
        let document = from.join("qubes.xml");
        let text = fs::read_to_string(&document).unwrap();
        let path = "backup_path=\"vm5\"";
        let text = text.replace(path, &format!("{path} backup_size=\"1\""));
        fs::write(&document, text).unwrap();
    });
    // Zeros that are no hole.
    let mut header = tar::Header::new_ustar();
    header.set_path("vm5/private.img").unwrap();
    header.set_mode(0o600);
    header.set_size(size);
    header.set_mtime(1_400_000_000);
    header.set_cksum();
    let zeros = io::repeat(0).take(size + 1024);
    let inner = header.as_bytes().chain(zeros);
    let stream = zstd::stream::encode_all(inner, 1).unwrap();
    let is_it = |member: &(String, _)| member.0 == "vm5/private.img.000";
    let at = scene.members.iter().position(is_it).unwrap();
    scene.members[at + 1].1 = mac_text(&stream, form.digest);
    scene.members[at].1 = stream;
    scene.write(&outer(&scene.members));

    let done = scene.run(&["verify", "ARCHIVE"]);
    assert_eq!(done.code, 17, "{done:?}");
    let text = "vm5/private.img.000: more than 1073741828 bytes, which is 4 \
                times what qubes.xml announces and 1073741824 bytes; wanted \
                at most so many, or the option --no-decoded-limit (before";
    assert!(done.error().starts_with(text), "{}", done.err);
    let lifted = scene.run(&["verify", "ARCHIVE", "--no-decoded-limit"]);
    assert_eq!(lifted.code, 0, "{lifted:?}");
    let to_null = |arguments: &[&str]| {
        let mut command = scene.command(arguments);
        Running::start_to(&mut command, Stdio::null()).finish().code
    };
    let cat = ["cat", "ARCHIVE", "vm5/private.img", "--no-decoded-limit"];
    assert_eq!(to_null(&cat[..3]), 17);
    assert_eq!(to_null(&cat), 0);
    let to = ["restore", "ARCHIVE", "--to", "TO", "work"];
    assert_eq!(to_null(&to), 17);
    assert!(!scene.path("to/vm5/private.img").exists());
    assert_eq!(to_null(&[&to[..], &cat[3..]].concat()), 0);
    let there = fs::metadata(scene.path("to/vm5/private.img")).unwrap();
    assert_eq!(there.len(), size);
}
