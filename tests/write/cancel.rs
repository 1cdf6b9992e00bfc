//! Canceled and killed at moments chosen at random: the right end each time,
//! and nothing under the name that is not whole.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs;
use std::io::{PipeWriter, Read as _, Write};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use qubes_fsm::backup::write::{Options, WriteError, to_file, to_stream};
use qubes_fsm::fsm::cancel::{Cancel, Gate};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::fcntl_setpipe_size;
use rustix::process::{Pid, Signal, test_kill_process};

use crate::running::{Done, Running, await_it};
use crate::scene::{FORM, Form, Scene, directory, options, restored};
use crate::trees::{Layout, noise, write};

const SEALED: Form = Form { encrypt: true, filter: Some("gzip"), ..FORM };
const SIGNALS: [(Signal, i32, &str); 2] =
    [(Signal::INT, 130, "SIGINT"), (Signal::TERM, 143, "SIGTERM")];

/// The same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Some files, large enough for a run to take a while.
fn scene() -> Scene {
    Scene::with(Layout::Small, |from| {
        write(&from.join("vm5/root.img"), &noise(700_000));
        write(&from.join("vm5/icon.png"), b"icon");
    })
}

/// Cancels before the byte of that number goes out.
struct Canceling {
    gate: Arc<Mutex<Gate>>,
    at: u64,
    answer: Option<Cancel>,
    written: Vec<u8>,
}

impl Write for &mut Canceling {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let end = (self.written.len() + bytes.len()) as u64;
        if self.answer.is_none() && end > self.at {
            self.answer = Some(self.gate.lock().cancel());
        }
        self.written.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stream_at_any_byte() {
    let scene = scene();
    let mut random = Random(11);
    for form in [FORM, SEALED] {
        let size = scene.written(form).len() as u64;
        let (mut canceled, mut late) = (0, 0);
        for round in 0..150 {
            // Some of them near the end, where it is decided.
            let at = match round % 5 {
                0 => size - 1 - random.below(14_000),
                _ => random.below(size),
            };
            let gate = Arc::new(Mutex::new(Gate::default()));
            let (answer, written) = (None, Vec::new());
            let mut target =
                Canceling { gate: Arc::clone(&gate), at, answer, written };
            let options = Options { gate, ..options(form) };
            let contents = scene.contents();
            let outcome = to_stream(&contents, &mut target, options);
            match (target.answer, outcome) {
                (Some(Cancel::Accepted), Err(WriteError::Canceled)) => {
                    canceled += 1;
                    let to = directory();
                    let read = restored(&target.written, to.path());
                    assert!(read.is_err(), "{at} of {size}");
                }
                (Some(Cancel::TooLate), Ok(_)) => {
                    late += 1;
                    scene.assert_same(&target.written);
                }
                // Streams of one form differ by a block of the cipher.
                (None, Ok(_)) if at + 32 > size => {}
                (answer, outcome) => {
                    panic!("{at} of {size}: {answer:?}, {outcome:?}");
                }
            }
        }
        assert!(canceled > 50 && late > 0, "{canceled} {late}");
    }
}

/// Both with a name that is temporary and without one.
#[test]
fn a_file_at_any_moment() {
    let scene = scene();
    let mut random = Random(12);
    let path = scene.path("out/archive");
    let contents = scene.contents();
    let whole = quickest(|| {
        let started = Instant::now();
        to_file(&contents, &path, options(SEALED)).unwrap();
        fs::remove_file(&path).unwrap();
        started.elapsed()
    });
    for round in 0..200 {
        let after = Duration::from_nanos(random.below(whole * 5 / 4));
        let gate = Arc::new(Mutex::new(Gate::default()));
        let form = if round % 2 == 0 { FORM } else { SEALED };
        let options = Options {
            gate: Arc::clone(&gate),
            on_old_kernel: round % 4 < 2,
            ..options(form)
        };
        let (answer, outcome) = std::thread::scope(|scope| {
            let canceling = scope.spawn(|| {
                std::thread::sleep(after);
                gate.lock().cancel()
            });
            let outcome = to_file(&contents, &path, options);
            (canceling.join().unwrap(), outcome)
        });
        match (answer, outcome) {
            (Cancel::Accepted, Err(WriteError::Canceled)) => {
                assert_eq!(scene.out(), [""; 0], "{after:?}");
            }
            (Cancel::TooLate, Ok(_)) => {
                assert_eq!(scene.out(), ["archive"]);
                scene.assert_whole();
                fs::remove_file(&path).unwrap();
            }
            // It came after the end.
            (answer, outcome) => {
                panic!("{after:?}: {answer:?}, {outcome:?}")
            }
        }
    }
}

/// Each time that somebody is told of a piece.
#[test]
fn a_file_at_any_piece() {
    let scene = scene();
    let path = scene.path("out/archive");
    for old in [false, true] {
        let mut number = 0;
        loop {
            let gate = Arc::new(Mutex::new(Gate::default()));
            let (canceling, mut told) = (Arc::clone(&gate), 0);
            let progress = Box::new(move |_: u64, _: &[u8]| {
                told += 1;
                if told > number {
                    canceling.lock().cancel();
                }
            });
            let options = Options {
                gate,
                progress,
                on_old_kernel: old,
                ..options(Form { filter: Some("gzip"), ..FORM })
            };
            match to_file(&scene.contents(), &path, options) {
                Err(WriteError::Canceled) => {
                    assert_eq!(scene.out(), [""; 0], "{number}");
                }
                outcome => {
                    outcome.unwrap();
                    break;
                }
            }
            number += 1;
        }
        assert!(number > 5, "{number}");
        scene.assert_whole();
        fs::remove_file(&path).unwrap();
    }
}

/// From when it is decided on, no cancel counts.
#[test]
fn right_after_the_decision_it_is_too_late() {
    let scene = scene();
    let path = scene.path("out/archive");
    for _ in 0..20 {
        let gate = Arc::new(Mutex::new(Gate::default()));
        let options = Options { gate: Arc::clone(&gate), ..options(FORM) };
        let contents = scene.contents();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let canceling = scope.spawn(|| {
                while gate.lock().is_open() && !over.load(Ordering::SeqCst) {
                    std::hint::spin_loop();
                }
                gate.lock().cancel()
            });
            to_file(&contents, &path, options).unwrap();
            over.store(true, Ordering::SeqCst);
            assert_eq!(canceling.join().unwrap(), Cancel::TooLate);
        });
        scene.assert_whole();
        fs::remove_file(&path).unwrap();
    }
}

/// Whoever sees the name has an archive, and no cancel takes it back.
#[test]
fn when_the_name_is_there_it_is_too_late() {
    let scene = scene();
    let path = scene.path("out/archive");
    for round in 0..30 {
        let gate = Arc::new(Mutex::new(Gate::default()));
        let options = Options {
            gate: Arc::clone(&gate),
            on_old_kernel: round % 2 == 0,
            ..options(FORM)
        };
        let contents = scene.contents();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let canceling = scope.spawn(|| {
                while !path.exists() && !over.load(Ordering::SeqCst) {
                    std::hint::spin_loop();
                }
                gate.lock().cancel()
            });
            let outcome = to_file(&contents, &path, options);
            over.store(true, Ordering::SeqCst);
            assert_eq!(canceling.join().unwrap(), Cancel::TooLate);
            outcome.unwrap();
        });
        fs::remove_file(&path).unwrap();
    }
}

/// Starts one that has the passphrase still to come, on stdin.
fn start(scene: &Scene, more: &[&str]) -> Running {
    let first = ["backup", "--from", "FROM", "--passphrase-fd", "0"];
    let mut command = scene.bare(&[&first, more].concat());
    let running = Running::start(&mut command);
    running.await_handlers();
    running
}

fn whole_time(scene: &Scene, more: &[&str]) -> u64 {
    let time = || {
        let mut running = start(scene, more);
        let started = Instant::now();
        running.write(b"correct horse\n");
        let done = running.finish();
        assert_eq!(done.code, 0, "{done:?}");
        let _ = fs::remove_file(scene.path("out/archive"));
        started.elapsed()
    };
    quickest(time)
}

/// In nanoseconds. A machine that is busy with something else for a while
/// must not make all waits long.
fn quickest(time: impl FnMut() -> Duration) -> u64 {
    let times = std::iter::repeat_with(time).take(3);
    let least = times.min().unwrap().min(Duration::from_millis(300));
    least.as_nanos() as u64
}

/// What is said fits the code.
fn ended(done: &Done, (_, code, name): (Signal, i32, &str)) -> bool {
    let late = done.err.contains("too late to cancel: it is complete");
    let accepted = done.err.contains("canceling");
    if done.code == 0 {
        assert!(!accepted, "{done:?}");
        return false;
    }
    assert_eq!(done.code, code, "{done:?}");
    assert!(accepted && !late, "{done:?}");
    assert!(done.error().contains(&format!(": canceled by {name}")));
    true
}

#[test]
fn processes_are_canceled_by_signals() {
    let scene = scene();
    let mut random = Random(13);
    let ways: [&[&str]; 3] = [
        &["--to", "ARCHIVE", "--compress", "--encrypt"],
        &["--to", "ARCHIVE", "--json"],
        &["--to", "-", "--chunk-size", "50000", "--compress=gzip:1"],
    ];
    let mut canceled = 0;
    for way in ways {
        let whole = whole_time(&scene, way);
        for round in 0..50 {
            let signal = SIGNALS[round % 2];
            let after = Duration::from_nanos(random.below(whole));
            let mut running = start(&scene, way);
            running.write(b"correct horse\n");
            std::thread::sleep(after);
            running.signal(signal.0);
            // A second one changes nothing.
            running.signal(signal.0);
            let done = running.end();
            let is_canceled = ended(&done, signal);
            canceled += usize::from(is_canceled);
            if way.contains(&"--json") {
                let lines = done.lines();
                let summary = lines.last().unwrap();
                assert_eq!(summary["type"], "summary", "{done:?}");
                assert_eq!(summary["exit"], done.code, "{done:?}");
                assert_eq!(summary["error"].is_string(), is_canceled);
            }
            match (way[1], is_canceled) {
                ("-", true) => {
                    let to = directory();
                    let read = restored(&done.stdout, to.path());
                    assert!(read.is_err(), "{after:?}");
                }
                ("-", false) => scene.assert_same(&done.stdout),
                (_, true) => assert_eq!(scene.out(), [""; 0]),
                (_, false) => {
                    assert_eq!(scene.out(), ["archive"]);
                    scene.assert_whole();
                    fs::remove_file(scene.path("out/archive")).unwrap();
                }
            }
        }
    }
    eprintln!("canceled: {canceled} of 150");
}

#[test]
fn processes_are_killed() {
    let scene = scene();
    let mut random = Random(14);
    let way = ["--to", "ARCHIVE", "--compress", "--encrypt"];
    let whole = whole_time(&scene, &way);
    for _ in 0..200 {
        let after = Duration::from_nanos(random.below(whole));
        let mut running = start(&scene, &way);
        running.write(b"correct horse\n");
        std::thread::sleep(after);
        running.slay();
        let out = scene.out();
        if out.contains(&"archive".to_owned()) {
            scene.assert_whole();
            fs::remove_file(scene.path("out/archive")).unwrap();
        }
    }
    // What a file system needs a name for is gone after the next run.
    assert_eq!(scene.run(&way).code, 0);
    assert_eq!(scene.out(), ["archive"]);
    scene.assert_whole();
}

fn is_full(writer: &PipeWriter) -> bool {
    let mut polled = [PollFd::new(writer, PollFlags::OUT)];
    poll(&mut polled, Some(&Timespec::default())).unwrap() == 0
}

#[test]
fn nobody_reads_the_pipe() {
    let scene = scene();
    for signal in SIGNALS {
        let (_reader, writer) = std::io::pipe().unwrap();
        let mut command = scene.backup(&["--to", "-"]);
        let watched = writer.try_clone().unwrap();
        let running = Running::start_to(&mut command, writer.into());
        running.await_handlers();
        await_it("a full pipe", || is_full(&watched));
        running.signal(signal.0);
        let done = running.end();
        assert!(ended(&done, signal), "{done:?}");
    }
}

#[test]
fn too_late_for_a_pipe_whose_last_bytes_nobody_has_read() {
    let scene = Scene::small();
    let archive = scene.run(&["--to", "-"]).stdout;
    // What comes when all is decided: the last code and the end.
    let last = b"backup-manifest.000.hmac";
    let at = archive.windows(24).position(|name| name == last).unwrap();
    assert!(archive.len() - at > 4_096, "the pipe must hold less");
    for signal in SIGNALS {
        let (mut reader, writer) = std::io::pipe().unwrap();
        fcntl_setpipe_size(&writer, 4_096).unwrap();
        let watched = writer.try_clone().unwrap();
        let mut command = scene.backup(&["--to", "-"]);
        let running = Running::start_to(&mut command, writer.into());
        let mut found = vec![0; at];
        reader.read_exact(&mut found).unwrap();
        await_it("a full pipe", || is_full(&watched));
        running.signal(signal.0);
        let late = "too late to cancel: it is complete";
        await_it("a note", || running.err_so_far().contains(late));
        // The command keeps the writer of the pipe open here.
        drop((command, watched));
        reader.read_to_end(&mut found).unwrap();
        let done = running.end();
        assert!(!ended(&done, signal), "{done:?}");
        assert!(done.err.contains(late), "{done:?}");
        scene.assert_same(&found);
    }
}

#[test]
fn the_command_for_the_passphrase_ends_too() {
    let scene = scene();
    let child = scene.path("child");
    let script = format!(
        "echo $$ > {0}~; mv {0}~ {0}; exec sleep 1000",
        child.display()
    );
    for signal in SIGNALS {
        let arguments = ["backup", "--from", "FROM", "--to", "ARCHIVE"];
        let passphrase = ["--passphrase-command", &script];
        let mut command = scene.bare(&[&arguments[..], &passphrase].concat());
        command.stdin(Stdio::null());
        let running = Running::start(&mut command);
        await_it("the child", || child.exists());
        let number = fs::read_to_string(&child).unwrap();
        fs::remove_file(&child).unwrap();
        running.signal(signal.0);
        assert!(ended(&running.end(), signal));
        assert_eq!(scene.out(), [""; 0]);
        let pid = Pid::from_raw(number.trim().parse().unwrap()).unwrap();
        assert!(test_kill_process(pid).is_err(), "it still runs");
    }
}
