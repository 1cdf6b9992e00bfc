//! Streams byte by byte: what is refused, with which exit, and what the
//! sender is answered.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use qubes_fsm::backup::read::{Goal, Options, ReadError, read_from_qube_into};
use qubes_fsm::backup::report::Report;
use qubes_fsm::format::qfile::{
    Encoder, Limits, QfileError, Reply, ReplyDecoder, ReplyError,
};
use rustix::process::Signal;

use crate::archive::{Codes, Form, PASSPHRASE, members, qfile, source};
use crate::running::{Done, Running};
use crate::scene::Scene;

/// The reply that a command gave on stdout.
fn reply(done: &Done) -> Reply {
    let mut decoder = ReplyDecoder::default();
    decoder.push(&done.stdout).unwrap();
    decoder.finish().unwrap_or_else(|error| panic!("{error}: {done:?}"))
}

/// A command that is given a stream, and a pipe that stays open behind it:
/// whoever read on would wait for ever.
fn open_run(scene: &Scene, arguments: &[&str], stream: &[u8]) -> Done {
    let [name, rest @ ..] = arguments else { panic!("no command") };
    let all = [&[name, "-", "--from-qube"], rest].concat();
    let mut running = Running::start(&mut scene.command(&all));
    let mut stdin = running.stdin.take().unwrap();
    let stream = stream.to_vec();
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let writer = std::thread::spawn(move || {
        use std::io::Write as _;
        let written = stdin.write_all(&stream);
        let _ = receiver.recv();
        written
    });
    let done = running.end();
    drop(sender);
    // It may have gone before all was written.
    let _ = writer.join().unwrap();
    done
}

/// The same with the end of the stream as the end of the pipe.
fn run(scene: &Scene, arguments: &[&str], stream: &[u8]) -> Done {
    let [name, rest @ ..] = arguments else { panic!("no command") };
    let all = [&[name, "-", "--from-qube"], rest].concat();
    let mut command = scene.command(&all);
    std::fs::write(scene.path("stream"), stream).unwrap();
    let from = std::fs::File::open(scene.path("stream")).unwrap();
    command.stdin(from);
    let output = command.output().unwrap();
    Done {
        code: output.status.code().unwrap(),
        out: String::new(),
        stdout: output.stdout,
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Where the header of an entry begins.
fn entry_at(stream: &[u8], name: &str) -> usize {
    let name = [name.as_bytes(), b"\0"].concat();
    let at = stream.windows(name.len()).position(|w| w == name);
    at.unwrap() - 32
}

/// Arguments, the stream, the exit, the code of the reply, a part of the error.
type Row<'r> = (&'r [&'r str], &'r [u8], i32, u32, &'r str);

#[test]
fn every_exit_and_every_reply() {
    let scene = Scene::new();
    let (stream, encoder) = qfile(&scene.members);
    let verify = &["verify"][..];
    let at = entry_at(&stream, "vm5/private.img.000");
    let changed = |at: usize, bytes: &[u8]| {
        let mut stream = stream.clone();
        stream[at..at + bytes.len()].copy_from_slice(bytes);
        stream
    };
    let behind = [&stream[..], b"x"].concat();
    // What a service of another kind says before its data.
    let chatter = [b"Starting Backupcopy\n", &stream[..]].concat();
    let rows: [Row<'_>; 13] = [
        (verify, &chatter, 17, 36, "a name of 1918989395 bytes"),
        (verify, &stream, 0, 0, ""),
        (
            verify,
            &stream[..at + 100],
            15,
            31_415_926,
            "the stream ends within the data",
        ),
        (verify, &stream[..at], 15, 31_415_926, "ends without its last entry"),
        (verify, &changed(at + 32, b"../"), 13, 84, "a component \"..\""),
        (verify, &changed(at + 4, &[0xff; 4]), 14, 22, "mode 0o37777777777"),
        (verify, &changed(at + 31, &[0xff]), 13, 22, "nanoseconds"),
        (verify, &changed(at, &[19]), 13, 22, "the name ends with"),
        (verify, &changed(at, &[1, 1, 0, 0]), 17, 36, "a name of 257 bytes"),
        (verify, &changed(at + 12, &[1]), 17, 122, "at most 268435456"),
        (verify, &changed(at + 60, &[0xee]), 13, 22, "authentication code"),
        (
            &["verify", "--bytes-max", "9999"],
            &stream,
            17,
            122,
            "at most 9999 allowed",
        ),
        (&["verify", "--files-max", "5"], &stream, 17, 122, "entries 6"),
    ];
    for (arguments, stream, exit, code, text) in rows {
        let done = run(&scene, arguments, stream);
        assert_eq!(done.code, exit, "{text}: {done:?}");
        let reply = reply(&done);
        assert_eq!(reply.errno(), code, "{text}: {done:?}");
        if exit == 0 {
            assert_eq!(encoder.judge(&reply), Ok(()));
        } else {
            assert!(done.error().contains(text), "{text}: {done:?}");
            assert!(encoder.judge(&reply).is_err());
        }
        // All but what needs the end of the pipe to be seen.
        if exit != 15 {
            let open = open_run(&scene, arguments, stream);
            assert_eq!(open.code, exit, "{text}: {open:?}");
            // Of a failure, how much was read ahead is a matter of time.
            let again = self::reply(&open);
            assert_eq!(again.code, reply.code, "{text}");
            assert!(exit > 0 || again == reply, "{text}");
        }
    }
    let done = run(&scene, verify, &behind);
    assert_eq!((done.code, reply(&done).code), (13, 22), "{done:?}");
    assert!(done.error().contains("behind the end"), "{done:?}");
}

/// What nobody authenticates may change on the way: only the sender, who knows
/// what it sent, can tell.
#[test]
fn a_wrong_checksum_is_for_the_sender_to_see() {
    let scene = Scene::new();
    let (mut stream, encoder) = qfile(&scene.members);
    let at = entry_at(&stream, "vm5/private.img.000");
    // The time of a member.
    stream[at + 24] ^= 1;
    let done = run(&scene, &["verify"], &stream);
    assert_eq!(done.code, 0, "{done:?}");
    let reply = reply(&done);
    let wanted = u64::from(encoder.crc());
    let error = ReplyError::Crc { found: reply.crc, wanted };
    assert_eq!(encoder.judge(&reply), Err(error));
}

/// A list has enough before the end, and says so while the sender sends.
#[test]
fn a_reply_before_the_end() {
    let scene = Scene::new();
    let (stream, _) = qfile(&scene.members);
    let done = open_run(&scene, &["list"], &stream);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.err.contains("work"), "{done:?}");
    let reply = reply(&done);
    assert_eq!(reply.errno(), 122);
    // A sender that has not sent its end, and is told that all is well.
    let early = Reply { code: 0, ..reply };
    let error = Encoder::default().judge(&early);
    assert_eq!(error, Err(ReplyError::Early { sent: 0 }));
}

#[test]
fn without_a_header_it_is_done_with_an_omission() {
    let form = Form { header: false, ..crate::scene::FORM };
    let scene = Scene::with(form, |_| {});
    let (stream, encoder) = qfile(&scene.members);
    let done = run(&scene, &["verify"], &stream);
    assert_eq!(done.code, 3, "{done:?}");
    assert_eq!(encoder.judge(&reply(&done)), Ok(()));
}

#[test]
fn a_wrong_passphrase_is_no_fault_of_the_sender() {
    let scene = Scene::new();
    std::fs::write(scene.path("passphrase"), "wrong").unwrap();
    let (stream, _) = qfile(&scene.members);
    let done = run(&scene, &["verify"], &stream);
    assert_eq!((done.code, reply(&done).code), (12, 5), "{done:?}");
}

#[test]
fn a_signal_while_the_sender_stalls() {
    for (signal, exit) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let scene = Scene::new();
        let (stream, _) = qfile(&scene.members);
        let half = &stream[..entry_at(&stream, "vm7/..000")];
        let all = ["restore", "-", "--from-qube", "--to", "TO"];
        let mut running = Running::start(&mut scene.command(&all));
        running.await_handlers();
        running.write(half);
        let image = scene.path("to/vm5/private.img");
        crate::running::await_it("vm5/private.img", || image.exists());
        running.signal(signal);
        let done = running.end();
        assert_eq!(done.code, exit, "{done:?}");
        assert_eq!(reply(&done).code, 125, "{done:?}");
        assert!(done.err.contains("restored"), "{done:?}");
    }
}

#[test]
fn what_cannot_be_asked_for_is_wrong_usage() {
    let scene = Scene::new();
    for (arguments, text) in [
        (
            &["verify", "a\nb", "--from-qube"][..],
            "wanted a path of one line of UTF-8",
        ),
        (&["verify", "ARCHIVE", "--report", "x"], "--from-qube"),
        (&["verify", "ARCHIVE", "--bytes-max", "1"], "--from-qube"),
        (&["cat", "ARCHIVE", "x", "--from-qube"], "unexpected argument"),
        (&["verify", "-", "--from-qube", "--passphrase-fd", "0"], "both"),
    ] {
        let mut command = match arguments.contains(&"--passphrase-fd") {
            true => scene.bare(arguments),
            false => scene.command(arguments),
        };
        let done = Running::start(&mut command).finish();
        assert_eq!(done.code, 2, "{done:?}");
        assert!(done.err.contains(text), "{done:?}");
        assert_eq!(done.out, "", "nothing was asked");
    }
}

/// In this process, where it is quick: every cut is one, wherever it is, and
/// nothing that was not whole is called so.
#[test]
fn a_stream_cut_at_every_byte() {
    let directory = tempfile::tempdir().unwrap();
    source(directory.path());
    let form = Form {
        filter: Some("gzip"),
        padded: false,
        chunk: 700,
        codes: Codes::Here,
        ..Form::default()
    };
    let mut members = members(directory.path(), form);
    // Some files are enough; what is announced is not counted before.
    members.retain(|(name, _)| !name.starts_with("vm5/private"));
    let (stream, _) = qfile(&members);
    assert!((2_000..20_000).contains(&stream.len()), "{}", stream.len());
    let read = |stream: &[u8]| {
        let passphrase = PASSPHRASE.as_bytes().to_vec().into();
        let options = Options::new(passphrase, Goal::Verify);
        let mut report = Report::default();
        read_from_qube_into(stream, Limits::default(), options, &mut report)
    };
    for end in 0..stream.len() {
        let (read, reply) = read(&stream[..end]);
        let error = read.unwrap_err();
        let ReadError::Qfile(QfileError::Truncated { at, .. }) = &error else {
            panic!("{end}: {error}")
        };
        assert_eq!(at.offset, end as u64);
        assert_eq!(reply.code, 31_415_926, "{end}");
        let crc = Encoder::default().crc();
        assert!(end == 0 || reply.crc != u64::from(crc), "{end}");
    }
    let (whole, reply) = read(&stream);
    whole.unwrap();
    assert_eq!(reply.code, 0);
}
