//! Outside programs as decompressors: whatever a program does, the reader
//! ends, says what happened, and leaves nothing running.
//!
//! The programs are scripts of a few lines, each in a directory of its own
//! under the name of a filter.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod archive;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use archive::{Form, Member, PASSPHRASE, mac_text, members, outer, source};
use parking_lot::Mutex;
use qubes_fsm::backup::filter::{
    Ended, External, ExternalFilter, ProgramError, Programs, PushError,
    Running, Said, TAIL_BYTES_MAX,
};
use qubes_fsm::backup::read::{Goal, Options, ReadError, read};
use qubes_fsm::backup::report::Report;
use qubes_fsm::backup::tree::Target;
use qubes_fsm::fsm::cancel::{Cancel, Gate};
use rustix::process::{Pid, Signal, kill_process};
use zeroize::Zeroizing;

/// Directory, and the program `lz4` in it.
const SCRIPTS: [(&str, &str); 19] = [
    ("gzip", "exec gzip \"$@\""),
    (
        "told",
        "cat >/dev/null; echo \"$0 $*\"; wc -c </proc/$$/environ; \
         readlink /proc/$$/cwd; cut -d ' ' -f 5 /proc/$$/stat; echo $$",
    ),
    ("writes-first", "head -c 8388608 /dev/zero; cat >/dev/null"),
    ("loud", "head -c 1073741824 /dev/zero >&2; cat"),
    ("loud-3", "head -c 1073741824 /dev/zero >&2; echo ende >&2; exit 3"),
    (
        "exit-3",
        "cat >/dev/null; \
         printf 'lz4: b\\303\\266se \\351 \\033[1m\\r\\n\\nzweite Zeile\\n' \
         >&2; exit 3",
    ),
    ("kill", "kill -KILL $$"),
    ("segv", "ulimit -c 0; kill -SEGV $$"),
    ("exit-0", "exit 0"),
    ("head", "head -c 5; exit 0"),
    ("yes", "exec yes"),
    ("holds", "sleep 1000 & exit 0"),
    ("holds-3", "sleep 1000 & exit 3"),
    ("holds-shortly", "(sleep 0.3; echo late) & exit 0"),
    ("mute", "exec >&-; exec sleep 1000"),
    ("deaf", "exec <&-; echo; exec sleep 1000"),
    ("sleeps", "echo; exec sleep 1000"),
    ("stubborn", "trap '' TERM; echo; while :; do sleep 1000; done"),
    ("forks", "sleep 1000 & echo; wait"),
];

/// Where the scripts are. All are written before the first one is run: a
/// file that is open for writing, in whatever process, cannot be.
fn scripts() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("filter");
        let _ = fs::remove_dir_all(&all);
        for (name, text) in SCRIPTS {
            write_program(&all.join(name).join("lz4"), text);
        }
        // What must be passed over.
        fs::create_dir_all(all.join("folder/lz4")).unwrap();
        fs::create_dir_all(all.join("plain")).unwrap();
        fs::write(all.join("plain/lz4"), "#!/bin/sh\n").unwrap();
        all
    })
}

fn write_program(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn programs(scripts_of: &[&str]) -> Programs {
    let directories = scripts_of.iter().map(|name| scripts().join(name));
    Programs { directories: directories.collect() }
}

fn path(script: &str) -> String {
    scripts().join(script).join("lz4").to_str().unwrap().to_owned()
}

fn running() -> Running {
    Running::new(Arc::default())
}

/// The script, running.
fn start(script: &str, running: &Running) -> ExternalFilter {
    let program = programs(&[script]).find(b"lz4").unwrap();
    ExternalFilter::start(&program, running).unwrap()
}

/// Pushes all in pieces and finishes; gives what came out, too.
fn decode(
    mut filter: ExternalFilter,
    input: &[u8],
) -> (Vec<u8>, Result<(), ProgramError>) {
    let mut output = Vec::new();
    let mut sink = |piece: &[u8]| {
        assert!(piece.len() <= 64 * 1024);
        output.extend(piece);
        Ok::<_, ()>(())
    };
    let pushed = input
        .chunks(100_000)
        .try_for_each(|piece| filter.push(piece, &mut sink));
    let done = match pushed {
        Ok(()) => filter.finish(&mut sink),
        error => {
            drop(filter);
            error
        }
    };
    let done = done.map_err(|error| match error {
        PushError::Program(error) => error,
        PushError::Sink(()) => panic!("the sink takes everything"),
    });
    (output, done)
}

/// Runs a script to its end, which leaves nothing.
#[track_caller]
fn run(script: &str, input: &[u8]) -> (Vec<u8>, Result<(), ProgramError>) {
    let running = running();
    let filter = start(script, &running);
    let id = filter.id();
    let done = decode(filter, input);
    assert_gone(id);
    // Nobody is registered any more: a cancel has nobody to wait for.
    let started = Instant::now();
    assert_eq!(running.cancel(), Cancel::Accepted);
    running.kill_rest();
    assert!(started.elapsed() < Duration::from_secs(1));
    done
}

/// State and group of a process.
fn stat(id: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(1)?.parse().ok()?))
}

/// The process was reaped, and nothing of its group runs.
#[track_caller]
fn assert_gone(id: u32) {
    assert_eq!(stat(id), None, "not reaped");
    let started = Instant::now();
    loop {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let ids = entries.filter_map(|entry| {
            entry.file_name().to_str().and_then(|name| name.parse().ok())
        });
        // What has lost its parent is reaped by somebody else.
        let left = ids
            .filter_map(|other: u32| Some((other, stat(other)?)))
            .find(|(_, (state, group))| *group == id && *state != 'Z');
        let Some(left) = left else { return };
        assert!(started.elapsed() < Duration::from_secs(10), "left: {left:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn status(script: &str, ended: Ended, said: &[u8]) -> ProgramError {
    let said = Said(said.to_vec());
    ProgramError::Status { program: path(script), ended, said }
}

/// Bytes that nothing compresses.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 1u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8 | 1
    };
    std::iter::repeat_with(next).take(count).collect()
}

#[test]
fn what_a_program_gets() {
    let (output, done) = run("told", b"input");
    assert_eq!(done, Ok(()));
    let output = String::from_utf8(output).unwrap();
    let lines: Vec<&str> = output.lines().collect();
    let [command, environment, directory, group, own] = lines[..] else {
        panic!("{output}");
    };
    assert_eq!(command, format!("{} -d -c", path("told")));
    assert_eq!((environment, directory), ("0", "/"));
    assert_eq!(group, own);
}

#[test]
fn the_system_s_own_gzip_decodes() {
    let text = noise(3_000_000);
    let stream = archive::run("gzip", "gzip", &["-c"], &text);
    for zeros in [0, 1, 10_240, 1_000_000] {
        let mut padded = stream.clone();
        padded.resize(stream.len() + zeros, 0);
        let program = Programs::default().find(b"gzip").unwrap();
        let running = running();
        let filter = ExternalFilter::start(&program, &running).unwrap();
        let id = filter.id();
        let (output, done) = decode(filter, &padded);
        assert_eq!(done, Ok(()));
        assert!(output == text);
        assert_gone(id);
    }
    let (output, done) = run("gzip", &stream[..stream.len() / 2]);
    assert!(text.starts_with(&output));
    let wanted = format!(
        "{}: exit 1; wanted exit 0; it said: gzip: stdin: unexpected end of \
         file",
        path("gzip")
    );
    assert_eq!(done.unwrap_err().to_string(), wanted);
}

#[test]
fn only_names_of_the_list_in_the_directories() {
    let found = Programs::default().find(b"sh").unwrap_err();
    assert_eq!(found, ProgramError::NotAllowed { name: b"sh".to_vec() });
    assert_eq!(
        Programs::default().find(b"../\x1b").unwrap_err().to_string(),
        "compression filter \"../\\u{1b}\"; wanted one of gzip, pigz, bzip2, \
         pbzip2, lbzip2, xz, lzma, zstd, zstdmt, lz4, lzop, lzip, plzip"
    );
    let all = scripts().display();
    let found = programs(&["folder", "plain", "none"]).find(b"lz4");
    assert_eq!(
        found.unwrap_err().to_string(),
        format!(
            "compression filter \"lz4\": no such program in {all}/folder, \
             {all}/plain, {all}/none; wanted it there"
        )
    );
    let first = programs(&["none", "exit-0", "yes"]).find(b"lz4");
    assert_eq!(first, programs(&["exit-0"]).find(b"lz4"));
    assert_ne!(first, programs(&["yes"]).find(b"lz4"));
}

#[test]
fn a_program_that_writes_before_it_reads() {
    let (output, done) = run("writes-first", &noise(1 << 20));
    assert_eq!(done, Ok(()));
    assert_eq!(output.len(), 8 << 20);
}

#[test]
fn a_gigabyte_of_messages() {
    let (output, done) = run("loud", b"data");
    assert_eq!((output.as_slice(), done), (&b"data"[..], Ok(())));
    let (_, done) = run("loud-3", b"data");
    let mut said = vec![0; TAIL_BYTES_MAX - 5];
    said.extend(b"ende\n");
    let error = done.unwrap_err();
    assert_eq!(error, status("loud-3", Ended::Exit(3), &said));
    let text = error.to_string();
    assert!(text.len() < 10_000, "{} bytes", text.len());
    assert!(text.contains("it said: ...\\u{0}"));
    assert!(text.ends_with("\\u{0}ende"));
}

#[test]
fn a_message_in_another_language() {
    let (_, done) = run("exit-3", &noise(1 << 20));
    assert_eq!(
        done.unwrap_err().to_string(),
        format!(
            "{}: exit 3; wanted exit 0; it said: lz4: böse \\xe9 \\u{{1b}}[1m; \
             zweite Zeile",
            path("exit-3")
        )
    );
}

#[test]
fn a_program_that_a_signal_ends() {
    for (script, signal) in [("kill", 9), ("segv", 11)] {
        for input in [&b"data"[..], &noise(1 << 20)] {
            let (_, done) = run(script, input);
            let error = done.unwrap_err();
            assert_eq!(error, status(script, Ended::Signal(signal), b""));
            let text = format!(
                "{}: killed by signal {signal}; wanted exit 0; it said: \
                 nothing",
                path(script)
            );
            assert_eq!(error.to_string(), text);
        }
    }
}

#[test]
fn a_program_that_ends_before_it_has_read_all() {
    let unread = |script| {
        let (program, said) = (path(script), Said::default());
        Err(ProgramError::Unread { program, said })
    };
    // More than a pipe holds, and less.
    for input in [noise(1 << 20), noise(3)] {
        assert_eq!(run("exit-0", &input).1, unread("exit-0"));
    }
    // What tar fills up with may stay, and nothing may.
    let mut padded = b"right".to_vec();
    for zeros in [0, 3, 1 << 20] {
        padded.resize(5 + zeros, 0);
        let done = run("head", &padded);
        assert_eq!(done, (b"right".to_vec(), Ok(())));
    }
    padded.push(1);
    assert_eq!(run("head", &padded).1, unread("head"));
}

#[test]
fn output_without_end_is_the_sink_s_to_refuse() {
    let running = running();
    let mut filter = start("yes", &running);
    let id = filter.id();
    let mut count = 0;
    let mut sink = |piece: &[u8]| {
        count += piece.len();
        if count > 1 << 20 { Err("too much") } else { Ok(()) }
    };
    let started = Instant::now();
    let done = filter.push(&noise(1 << 20), &mut sink);
    assert!(matches!(done, Err(PushError::Sink("too much"))));
    drop(filter);
    assert!(started.elapsed() < Duration::from_secs(2));
    assert_gone(id);
}

#[test]
fn another_process_that_holds_the_output() {
    let (output, done) = run("holds-shortly", b"");
    assert_eq!((output.as_slice(), done), (&b"late\n"[..], Ok(())));
    let started = Instant::now();
    let (_, done) = run("holds-3", b"");
    assert_eq!(done, Err(status("holds-3", Ended::Exit(3), b"")));
    assert!(started.elapsed() < Duration::from_secs(2));
    assert_eq!(
        run("holds", b"").1.unwrap_err().to_string(),
        format!(
            "{}: it has ended, and its output has not for 5 seconds; wanted \
             both to end",
            path("holds")
        )
    );
}

#[test]
fn a_program_that_closes_its_output_and_stays() {
    assert_eq!(
        run("mute", &noise(1 << 20)).1.unwrap_err().to_string(),
        format!(
            "{}: its output has ended, and it has not for 5 seconds; wanted \
             both to end",
            path("mute")
        )
    );
}

#[test]
fn a_drop_ends_everything() {
    for script in ["sleeps", "deaf", "forks", "stubborn"] {
        let filter = ready(start(script, &running()));
        let id = filter.id();
        let started = Instant::now();
        drop(filter);
        let took = started.elapsed();
        assert_gone(id);
        let two = Duration::from_secs(2);
        assert_eq!(took >= two, script == "stubborn", "{script}: {took:?}");
        assert!(took < 2 * two, "{script}: {took:?}");
    }
}

/// Returns once the script has said that it is set up.
fn ready(mut filter: ExternalFilter) -> ExternalFilter {
    let mut is_ready = false;
    while !is_ready {
        // One byte, so that the pipe stays empty enough for it.
        let mut sink = |_: &[u8]| {
            is_ready = true;
            Ok::<_, ()>(())
        };
        filter.push(b"x", &mut sink).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    filter
}

#[test]
fn a_cancel_wakes_the_thread_that_waits() {
    for script in ["sleeps", "deaf", "forks", "stubborn"] {
        for by_gate in [false, true] {
            let gate = Arc::new(Mutex::new(Gate::default()));
            let running = Running::new(Arc::clone(&gate));
            let mut filter = ready(start(script, &running));
            let id = filter.id();
            let (sender, receiver) = channel();
            let worker = std::thread::spawn(move || {
                let sink = &mut |_: &[u8]| Ok::<_, ()>(());
                sender.send(()).unwrap();
                // Waits in the push, for nobody reads.
                let pushed = filter.push(&noise(1 << 20), sink);
                drop(filter);
                pushed
            });
            receiver.recv().unwrap();
            std::thread::sleep(Duration::from_millis(50));
            let started = Instant::now();
            let answer = match by_gate {
                true => gate.lock().cancel(),
                false => running.cancel(),
            };
            assert_eq!(answer, Cancel::Accepted);
            if !by_gate {
                running.kill_rest();
            }
            let done = worker.join().unwrap();
            let is_canceled =
                matches!(done, Err(PushError::Program(ProgramError::Canceled)));
            assert!(is_canceled, "{script}: {done:?}");
            assert_gone(id);
            let limit = if script == "stubborn" { 5 } else { 1 };
            assert!(started.elapsed() < Duration::from_secs(limit));
            assert_eq!(running.cancel(), Cancel::Already);
            let program = programs(&[script]).find(b"lz4").unwrap();
            let again = ExternalFilter::start(&program, &running);
            assert_eq!(again.map(drop), Err(ProgramError::Canceled));
        }
    }
}

#[test]
fn the_canceling_thread_ends_what_the_worker_cannot() {
    for (script, is_stubborn) in [("sleeps", false), ("stubborn", true)] {
        let running = running();
        let mut filter = ready(start(script, &running));
        let id = filter.id();
        // This thread does not come to the filter: it is the worker, busy.
        let started = Instant::now();
        let canceler = std::thread::spawn({
            let running = running.clone();
            move || {
                assert_eq!(running.cancel(), Cancel::Accepted);
                running.kill_rest();
            }
        });
        while stat(id).unwrap().0 != 'Z' {
            assert!(started.elapsed() < Duration::from_secs(10), "{script}");
            std::thread::sleep(Duration::from_millis(2));
        }
        let took = started.elapsed();
        assert_eq!(took >= Duration::from_secs(2), is_stubborn, "{took:?}");
        let done = filter.push(b"x", &mut |_: &[u8]| Ok::<_, ()>(()));
        let is_canceled =
            matches!(done, Err(PushError::Program(ProgramError::Canceled)));
        assert!(is_canceled, "{script}: {done:?}");
        drop(filter);
        assert_gone(id);
        canceler.join().unwrap();
    }
}

#[test]
fn a_decided_run_is_not_signalled() {
    let gate = Arc::new(Mutex::new(Gate::default()));
    let running = Running::new(Arc::clone(&gate));
    let filter = ready(start("sleeps", &running));
    gate.lock().decide().unwrap();
    assert_eq!(running.cancel(), Cancel::TooLate);
    std::thread::sleep(Duration::from_millis(50));
    assert_ne!(stat(filter.id()).unwrap().0, 'Z');
}

struct Place {
    directory: tempfile::TempDir,
    members: Vec<Member>,
    form: Form,
}

/// An archive that gzip wrote, with another filter in its header.
fn place(form: Form, filter: &str) -> Place {
    let directory = tempfile::tempdir().unwrap();
    let from = directory.path().join("from");
    fs::create_dir(&from).unwrap();
    source(&from);
    let mut members = members(&from, form);
    let header = archive::header(Form { filter: Some("gzip"), ..form });
    let header = header.replace("=gzip", &format!("={filter}")).into_bytes();
    members[1].1 = mac_text(&header, form.digest);
    members[0].1 = header;
    Place { directory, members, form }
}

impl Place {
    fn to(&self) -> PathBuf {
        self.directory.path().join("to")
    }

    fn restore(
        &self,
        script: Option<&str>,
        gate: Arc<Mutex<Gate>>,
    ) -> Result<Report, ReadError> {
        let target = Target::open(&self.to(), false).unwrap();
        let external = script.map(|script| External {
            programs: programs(&[script]),
            running: Running::new(Arc::clone(&gate)),
        });
        let passphrase = Zeroizing::new(PASSPHRASE.as_bytes().to_vec());
        let goal = Goal::Restore { target, wanted: Vec::new() };
        let options = Options {
            external_filter: external,
            gate,
            ..Options::new(passphrase, goal)
        };
        read(outer(&self.members).as_slice(), options)
    }

    fn assert_nothing_restored(&self) {
        assert_eq!(fs::read_dir(self.to()).unwrap().count(), 0);
    }

    /// The command, with the archive from a file or, without, from stdin.
    fn command(&self, is_file: bool, arguments: &[&str]) -> Command {
        let path = |name| self.directory.path().join(name);
        fs::write(path("archive"), outer(&self.members)).unwrap();
        fs::write(path("passphrase"), PASSPHRASE).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_qubes-fsm"));
        let archive = if is_file { path("archive") } else { "-".into() };
        command.args(arguments).arg(archive).arg("--passphrase-file");
        command.arg(path("passphrase")).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.command(true, arguments).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), text)
    }
}

const GZIP: Form = Form {
    encrypted: true,
    filter: Some("gzip"),
    digest: "SHA512",
    chunk: 20_000,
    inner: "gnu",
    sparse: "1.0",
    header: true,
    store_chunk: usize::MAX,
    codes: archive::Codes::Here,
    padded: true,
};

#[test]
fn an_archive_is_restored_with_a_program() {
    let place = place(GZIP, "lz4");
    let report = place.restore(Some("gzip"), Arc::default()).unwrap();
    assert_eq!(report.omissions, [""; 0]);
    assert_eq!(report.header.filter.as_deref(), Some("lz4"));
    for name in ["vm5/private.img", "vm7/private.img"] {
        let found = fs::read(place.to().join(name)).unwrap();
        let from = place.directory.path().join("from").join(name);
        assert!(found == fs::read(from).unwrap(), "{name}");
    }
}

#[test]
fn without_a_request_no_program_runs() {
    let place = place(GZIP, "lz4");
    let error = place.restore(None, Arc::default()).unwrap_err();
    let text = "compression filter \"lz4\": not built in; wanted one that is, \
                or the option --external-filter, which runs the program lz4";
    assert_eq!(error.to_string(), text);
    place.assert_nothing_restored();
    let error = format!("qubes-fsm: ERROR: {text}\n");
    for command in [
        &["list"][..],
        &["verify"],
        &["restore", "--to", place.to().to_str().unwrap()],
    ] {
        assert_eq!(place.run(command), (14, error.clone()), "{command:?}");
    }
    // A name that is on no list is refused either way.
    let place = self::place(place.form, "sh");
    let (code, text) = place.run(&["verify"]);
    assert_eq!((code, text.contains("--external-filter")), (14, false));
    let (code, text) = place.run(&["verify", "--external-filter"]);
    assert_eq!(code, 14, "{text}");
    assert!(text.contains("compression filter \"sh\"; wanted one of gzip, "));
}

#[test]
fn a_program_that_fails_is_named_with_the_chunk() {
    let place = place(GZIP, "lz4");
    let error = place.restore(Some("exit-3"), Arc::default()).unwrap_err();
    let text = error.to_string();
    let wanted = format!(
        "qubes.xml.000: {}: exit 3; wanted exit 0; it said: lz4: böse \\xe9 \
         \\u{{1b}}[1m; zweite Zeile (before byte ",
        path("exit-3")
    );
    assert!(text.starts_with(&wanted), "{text}");
    place.assert_nothing_restored();
}

#[test]
fn the_limits_bound_what_a_program_gives() {
    let place = place(GZIP, "lz4");
    let started = Instant::now();
    let error = place.restore(Some("yes"), Arc::default()).unwrap_err();
    assert!(matches!(error, ReadError::Inner { .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(5));
    place.assert_nothing_restored();
}

#[test]
fn a_restore_is_canceled_while_its_program_sleeps() {
    let place = place(GZIP, "lz4");
    let gate = Arc::new(Mutex::new(Gate::default()));
    let canceler = std::thread::spawn({
        let gate = Arc::clone(&gate);
        move || {
            let started = Instant::now();
            // The program is there: only now.
            while gate.lock().running().next().is_none() {
                assert!(started.elapsed() < Duration::from_secs(20));
                std::thread::sleep(Duration::from_millis(2));
            }
            gate.lock().cancel()
        }
    });
    let error = place.restore(Some("sleeps"), Arc::clone(&gate)).unwrap_err();
    assert!(matches!(error, ReadError::Canceled), "{error}");
    assert_eq!(canceler.join().unwrap(), Cancel::Accepted);
    assert_eq!(gate.lock().running().count(), 0);
    place.assert_nothing_restored();
}

#[test]
fn the_command_runs_the_program_of_the_system() {
    let whole = place(GZIP, "gzip");
    for command in [
        &["list", "--external-filter"][..],
        &["verify", "--external-filter"],
        &["cat", "--external-filter", "--", "vm5/firewall.xml"],
        &["restore", "--external-filter", "--to"],
    ] {
        let output = match command {
            ["cat", ..] => {
                let mut run = whole.command(true, &command[..2]);
                run.arg("vm5/firewall.xml").output().unwrap()
            }
            ["restore", ..] => {
                let mut run = whole.command(true, &command[..2]);
                run.arg("--to").arg(whole.to()).output().unwrap()
            }
            _ => whole.command(true, command).output().unwrap(),
        };
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{command:?}: {text}");
    }
    // It is the program, not what is built in: its words are shown.
    let wrong = place(Form { filter: None, ..GZIP }, "gzip");
    assert_eq!(wrong.run(&["verify"]).0, 13);
    let (code, text) = wrong.run(&["verify", "--external-filter"]);
    assert_eq!(code, 18, "{text}");
    assert!(text.contains("it said: gzip: stdin: not in gzip format"));
}

#[test]
fn a_signal_ends_the_command_and_its_program() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let place = place(GZIP, "gzip");
        let mut command = place.command(false, &["verify"]);
        command.arg("--external-filter").stdin(Stdio::piped());
        let mut ours = command.stderr(Stdio::null()).spawn().unwrap();
        // Up to the last chunk of a file but one: its program waits then.
        let end = place
            .members
            .iter()
            .position(|(name, _)| name.starts_with("vm5/private.img.001"));
        let archive = outer(&place.members[..end.unwrap()]);
        let mut stdin = ours.stdin.take().unwrap();
        stdin.write_all(&archive).unwrap();
        let program = await_child(ours.id());
        let id = Pid::from_raw(ours.id().try_into().unwrap()).unwrap();
        let started = Instant::now();
        kill_process(id, signal).unwrap();
        assert_eq!(ours.wait().unwrap().code(), Some(code));
        assert!(started.elapsed() < Duration::from_secs(2));
        assert_gone(program);
        drop(stdin);
    }
}

/// The program that a process waits with: that of `qubes.xml` ends soon, so
/// it is the one that is still there a while later.
fn await_child(id: u32) -> u32 {
    let started = Instant::now();
    let mut seen: Option<(u32, Instant)> = None;
    loop {
        let tasks = fs::read_dir(format!("/proc/{id}/task")).unwrap();
        let child = tasks.flatten().find_map(|task| {
            let text = fs::read_to_string(task.path().join("children"));
            text.ok()?.split(' ').next()?.parse().ok()
        });
        match (child, seen) {
            (Some(child), Some((same, since))) if child == same => {
                if since.elapsed() > Duration::from_millis(300) {
                    return child;
                }
            }
            _ => seen = child.map(|child| (child, Instant::now())),
        }
        assert!(started.elapsed() < Duration::from_secs(20), "no program");
        std::thread::sleep(Duration::from_millis(5));
    }
}
