//! Whatever goes wrong: the exit code, the whole text, and a store, a mode and
//! a directory that are as before.

#![cfg(feature = "cli")]
#![expect(clippy::expect_used, reason = "a test may fail loudly")]

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{FILE, OURS, Place, await_open, document, finish, is_root};
use qubes_fsm::store::{BYTES_MAX, Store};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

const SET: [&str; 8] =
    ["set", "--wait", "30s", "--store", FILE, "work", "label", "x"];
const SHOW: [&str; 5] = ["show", "--wait", "30s", "--store", FILE];
/// A command of `update` that changes the document.
const CHANGE: &str = "sed 's/\"quiet\"/\"loud\"/'";
/// What is said of no element at all.
const NO_ROOT: &str = "line 1: column 1: the document does not have a root \
                       node; wanted well-formed XML";
/// What is said when a stranger was there meanwhile.
const CHANGED: &str = "FILE: changed by somebody else since it was loaded; \
                       wanted the file that was loaded, nothing was saved";

/// Refused with this code and this text, and nothing is changed.
#[track_caller]
fn refused(place: &Place, arguments: &[&str], code: i32, text: &str) {
    let before = place.seen();
    answered(place, place.ours(arguments), code, text);
    place.assert_as(&before);
}

#[track_caller]
fn answered(place: &Place, command: Command, code: i32, text: &str) {
    let text = format!("qubes-fsm: ERROR: {}\n", place.fill(text));
    assert_eq!(finish(command), (code, String::new(), text));
}

/// `store update` with `sh -c SCRIPT FILE`.
fn update(script: &str) -> [&str; 8] {
    ["update", "--store", FILE, "--", "sh", "-c", script, FILE]
}

#[test]
//= spec/lock.md#a-failed-save-changes-nothing
fn a_file_size_limit() {
    let place = Place::new();
    for arguments in [&SET[..], &update(CHANGE)] {
        let before = place.seen();
        let ours = place.ours(arguments);
        let mut limited = Command::new("sh");
        // One block, of 512 or 1024 bytes.
        limited.args(["-c", "ulimit -f 1; exec \"$0\" \"$@\"", OURS]);
        limited.args(ours.get_args());
        answered(
            &place,
            limited,
            16,
            "FILE: write temporary file: File too large (os error 27); wanted \
             room for the new file, the store is as it was",
        );
        place.assert_as(&before);
    }
}

#[test]
fn a_full_disk() {
    let place = Place::empty();
    let directory = place.store.parent().unwrap();
    let tmpfs = ["-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs"];
    let Some(_mounted) = Mounted::new(&tmpfs, directory) else { return };
    fs::write(&place.store, document(0)).unwrap();
    // Whatever still fits.
    let filler = fs::write(directory.join("filler"), vec![0; 1 << 20]);
    assert_eq!(filler.unwrap_err().raw_os_error(), Some(28));
    for arguments in [&SET[..], &update(CHANGE)] {
        refused(
            &place,
            arguments,
            16,
            "FILE: write temporary file: No space left on device (os error \
             28); wanted room for the new file, the store is as it was",
        );
    }
    fs::remove_file(directory.join("filler")).unwrap();
    place.succeed(&SET);
    assert_eq!(
        place.succeed(&["get", "--store", FILE, "work", "label"]),
        "x\n"
    );
}

#[test]
fn a_read_only_file_system() {
    let place = Place::new();
    let directory = place.store.parent().unwrap();
    let path = directory.to_str().unwrap();
    let bind = ["--bind", path];
    let Some(_mounted) = Mounted::new(&bind, directory) else { return };
    let remount = ["-o", "remount,bind,ro", path];
    assert!(mount(&remount).status().unwrap().success());
    let text = "FILE: open: Read-only file system (os error 30)";
    refused(&place, &SET, 1, text);
    refused(&place, &update(CHANGE), 1, text);
    assert!(place.succeed(&SHOW).contains("work"));
}

#[test]
fn a_directory_without_the_right_to_write() {
    let place = Place::with(document(0).as_bytes());
    let directory = place.store.parent().unwrap();
    let chmod = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    chmod(&place.store, 0o666);
    chmod(directory, 0o555);
    let before = place.seen();
    let elsewhere = tempfile::tempdir().unwrap();
    let mut ours = place.ours(&SET);
    if is_root() {
        // Rights are for others: be one, with a binary that it can reach.
        chmod(elsewhere.path(), 0o755);
        let copy = elsewhere.path().join("qubes-fsm");
        // Not by this process: a child of another test could have the copy
        // open for writing, and then it cannot be run.
        let cp = Command::new("cp").args([OURS.as_ref(), &*copy]).status();
        assert!(cp.unwrap().success());
        let mut other = Command::new(copy);
        other.args(ours.get_args()).uid(65534).gid(65534).current_dir("/");
        ours = other;
    }
    answered(
        &place,
        ours,
        1,
        "FILE: create temporary file: Permission denied (os error 13)",
    );
    place.assert_as(&before);
    chmod(directory, 0o755);
}

#[test]
fn no_such_file() {
    let place = Place::empty();
    let text = "FILE: no such file; wanted an existing store";
    refused(&place, &SET, 10, text);
    refused(&place, &SHOW, 10, text);
    refused(&place, &update("cat"), 10, text);
}

#[test]
fn removed_while_waiting_for_the_lock() {
    for arguments in [&SET[..], &SHOW] {
        let place = Place::new();
        let lock = Store::open(&place.store).unwrap().lock().unwrap();
        let mut ours = place.ours(arguments);
        ours.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut ours = ours.spawn().unwrap();
        await_open(&mut ours, &place.store);
        fs::remove_file(&place.store).unwrap();
        lock.release();
        let output = ours.wait_with_output().unwrap();
        let text = "qubes-fsm: ERROR: FILE: no such file; wanted an existing \
                    store\n";
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(err, place.fill(text), "{arguments:?}");
        assert_eq!(output.status.code(), Some(10), "{arguments:?}");
        let others = place.others();
        assert!(others.is_empty() && !place.store.exists(), "{others:?}");
    }
}

#[test]
fn removed_while_a_command_runs() {
    for script in ["rm \"$0\"; cat", &format!("rm \"$0\"; {CHANGE}")] {
        let place = Place::new();
        answered(&place, place.ours(&update(script)), 19, CHANGED);
        let others = place.others();
        assert!(others.is_empty() && !place.store.exists(), "{others:?}");
    }
}

#[test]
fn replaced_by_an_editor_while_a_command_runs() {
    for last in ["cat", CHANGE] {
        let place = Place::new();
        let script = "sed s/netvm/sys-net/ \"$0\" >\"$0.new\" && \
                      mv \"$0.new\" \"$0\"; ";
        let script = format!("{script}{last}");
        answered(&place, place.ours(&update(&script)), 19, CHANGED);
        assert_eq!(place.read(), document(0).replace("netvm", "sys-net"));
        let others = place.others();
        assert!(others.is_empty(), "{others:?}");
    }
}

/// Device, inode, size and time are as they were: the digest is not.
#[test]
//= spec/lock.md#refuse-what-was-not-loaded
fn rewritten_in_place_with_its_old_time() {
    let elsewhere = tempfile::tempdir().unwrap();
    let time = elsewhere.path().join("time");
    for last in ["cat", CHANGE] {
        let place = Place::new();
        let before = fs::metadata(&place.store).unwrap();
        let script = format!(
            "touch -r \"$0\" {time}; printf '<!' | \
             dd of=\"$0\" bs=1 conv=notrunc 2>{time}.log; \
             touch -r {time} \"$0\"; {last}",
            time = time.display()
        );
        answered(&place, place.ours(&update(&script)), 19, CHANGED);
        let after = fs::metadata(&place.store).unwrap();
        assert_eq!(after.modified().unwrap(), before.modified().unwrap());
        assert_eq!(after.len(), before.len());
        assert_eq!(place.read(), document(0).replacen("<?", "<!", 1));
        assert!(place.others().is_empty());
    }
}

#[test]
fn a_directory_in_place_of_the_file() {
    let place = Place::empty();
    fs::create_dir(&place.store).unwrap();
    let text = "FILE: found a directory; wanted a regular file";
    refused(&place, &SET, 14, text);
    refused(&place, &SHOW, 14, text);
}

#[test]
fn a_named_pipe_in_place_of_the_file() {
    let place = Place::empty();
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, &place.store, FileType::Fifo, mode, 0).unwrap();
    let text = "FILE: found a named pipe; wanted a regular file";
    refused(&place, &SET, 14, text);
    refused(&place, &SHOW, 14, text);
}

#[test]
fn a_symbolic_link_is_followed_and_stays() {
    let place = Place::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let link = elsewhere.path().join("link.xml");
    symlink(&place.store, &link).unwrap();
    let mut ours = Command::new(OURS);
    ours.args(["store", "set", "--store"]).arg(&link);
    ours.args(["work", "backup_size", "1"]);
    assert_eq!(finish(ours), (0, String::new(), String::new()));
    assert_eq!(fs::read_link(&link).unwrap(), place.store);
    assert_eq!(place.read(), document(1));
    assert!(place.others().is_empty());
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 1);

    // It is the file that is named when something is wrong with it.
    fs::remove_file(&place.store).unwrap();
    let text =
        format!("{}: no such file; wanted an existing store", link.display());
    let mut ours = Command::new(OURS);
    ours.args(["store", "show", "--store"]).arg(&link);
    answered(&place, ours, 10, &text);
}

#[test]
fn a_file_of_17_mib() {
    let place = Place::with(b"");
    let file = fs::OpenOptions::new().write(true).open(&place.store).unwrap();
    file.set_len(17 << 20).unwrap();
    let text = "FILE: 17825792 bytes; wanted at most 16777216 bytes";
    refused(&place, &SET, 17, text);
    refused(&place, &SHOW, 17, text);
    assert_eq!(BYTES_MAX, 16_777_216);
}

#[test]
fn what_is_no_store() {
    let utf16: Vec<u8> =
        "\u{feff}<qubes/>".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let cases: [(&[u8], i32, &str); 6] = [
        (
            &utf16,
            14,
            "encoding UTF-16LE by its byte order mark; wanted UTF-8 or \
             US-ASCII",
        ),
        (
            b"<!DOCTYPE qubes><qubes/>",
            14,
            "line 1: a document type declaration; wanted none",
        ),
        (
            b"<",
            13,
            "line 1: column 2: invalid name token at 1:2; wanted well-formed \
             XML",
        ),
        (b"", 13, NO_ROOT),
        (
            b"<html/>",
            14,
            "line 1: root element \"html\"; wanted \"QubesVmCollection\" or \
             \"qubes\"",
        ),
        (b"<qubes>\xff</qubes>", 14, "byte 7: not valid UTF-8; wanted UTF-8"),
    ];
    for (content, code, text) in cases {
        let place = Place::with(content);
        let text = format!("FILE: {text}");
        refused(&place, &SET, code, &text);
        refused(&place, &SHOW, code, &text);
        refused(&place, &["get", "--store", FILE, "a", "b"], code, &text);
    }
}

#[test]
fn a_command_that_goes_wrong() {
    let place = Place::new();
    let path = "/nonexistent/command";
    let no_command = ["update", "--store", FILE, "--", path];
    let text = format!("{path}: No such file or directory (os error 2)");
    refused(&place, &no_command, 18, &text);
    let cases: [(&str, i32, &str); 5] = [
        (
            "cat; exit 3",
            18,
            "sh: ended with exit 3; wanted exit 0, the store is as it was",
        ),
        (
            "cat; kill -9 $$",
            18,
            "sh: killed by signal 9; wanted exit 0, the store is as it was",
        ),
        (
            "echo garbage",
            13,
            "sh: line 1: column 1: unknown token at 1:1; wanted \
             well-formed XML",
        ),
        ("true", 13, &format!("sh: {NO_ROOT}")),
        (
            "head -c 17825792 /dev/zero",
            17,
            "sh: more than 16777216 bytes; wanted at most so many",
        ),
    ];
    for (script, code, text) in cases {
        refused(&place, &update(script), code, text);
    }
}

#[test]
fn unknown_names() {
    let place = Place::new();
    let qube = "FILE: no qube \"nobody\" among 42; wanted the name of one \
                of them";
    for verb in ["show", "get", "set", "kernelopts"] {
        let rest: &[&str] = match verb {
            "get" => &["nobody", "label"],
            "set" => &["nobody", "label", "x"],
            _ => &["nobody"],
        };
        let arguments = [&[verb, "--store", FILE][..], rest].concat();
        refused(&place, &arguments, 10, qube);
    }
    refused(
        &place,
        &["get", "--store", FILE, "work", "colour"],
        10,
        "FILE: line 6: qube \"work\" has no attribute \"colour\"; wanted \
         one that it has",
    );
}

#[test]
fn wrong_usage() {
    let place = Place::new();
    let before = place.seen();
    let cases: [(&[&str], &str); 4] = [
        (
            &["set", "--store", FILE, "work", "label"],
            "the following required arguments were not provided:\n  \
             <VALUE>\n\nUsage: qubes-fsm store set --store <FILE> <QUBE> \
             <ATTRIBUTE> <VALUE>",
        ),
        (
            &["set", "work", "label", "x"],
            "the following required arguments were not provided:\n  --store \
             <FILE>\n\nUsage: qubes-fsm store set --store <FILE> <QUBE> \
             <ATTRIBUTE> <VALUE>",
        ),
        (
            &["update", "--store", FILE],
            "the following required arguments were not provided:\n  \
             <COMMAND>...\n\nUsage: qubes-fsm store update --store <FILE> -- \
             <COMMAND>...",
        ),
        (
            &["set", "--wait", "soon", "--store", FILE, "a", "b", "c"],
            "invalid value 'soon' for '--wait <DURATION>': expected number \
             at 0",
        ),
    ];
    for (arguments, text) in cases {
        let answer = place.run(arguments);
        let text = format!(
            "qubes-fsm: ERROR: {text}\n\nFor more information, try '--help'.\n"
        );
        assert_eq!(answer, (2, String::new(), text));
    }
    let cases = [
        (
            ["label", "\u{1}"],
            "FILE: character '\\u{1}' in the value for attribute \
             \"label\" of qube \"work\"; wanted characters that XML 1.0 can \
             carry",
        ),
        (["name", ""], "FILE: an empty name for qube \"work\"; wanted a name"),
        (
            ["qid", "2"],
            "FILE: line 4: qube \"netvm\" has qid \"2\"; wanted a qid for qube \
             \"work\" that no other has",
        ),
        (
            ["a b", "x"],
            "FILE: attribute name \"a b\"; wanted an XML name without a \
             colon",
        ),
    ];
    for ([attribute, value], text) in cases {
        let set = ["set", "--store", FILE, "work", attribute, value];
        refused(&place, &set, 2, text);
    }
    place.assert_as(&before);
}

#[test]
//= spec/lock.md#a-wait-has-an-end
fn a_signal_while_waiting_for_the_lock() {
    let place = Place::new();
    let before = place.seen();
    let lock = Store::open(&place.store).unwrap().lock().unwrap();
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        for arguments in [&SET[..], &update("cat"), &SHOW] {
            let mut ours = place.ours(arguments);
            ours.stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut ours = ours.spawn().unwrap();
            await_open(&mut ours, &place.store);
            kill_process(Pid::from_child(&ours), signal).unwrap();
            let output = ours.wait_with_output().unwrap();
            let text = "qubes-fsm: ERROR: FILE: canceled; the store is as it \
                        was\n";
            let err = String::from_utf8(output.stderr).unwrap();
            assert_eq!(err, place.fill(text), "{arguments:?}");
            assert_eq!(output.status.code(), Some(code), "{arguments:?}");
            place.assert_as(&before);
        }
    }
    lock.release();
    place.succeed(&SET);
}

#[test]
fn a_signal_while_a_command_runs() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let place = Place::new();
        let before = place.seen();
        // It ends by itself some time, so that nothing hangs.
        let script = update("echo $$ >&2; exec sleep 100");
        let mut ours = place.ours(&script);
        let mut ours = ours.stderr(Stdio::piped()).spawn().unwrap();
        let mut err = BufReader::new(ours.stderr.take().unwrap());
        let mut line = String::new();
        err.read_line(&mut line).unwrap();
        let command = Pid::from_raw(line.trim().parse().unwrap()).unwrap();
        let start = Instant::now();
        kill_process(Pid::from_child(&ours), signal).unwrap();
        let mut text = String::new();
        err.read_line(&mut text).unwrap();
        assert_eq!(ours.wait().unwrap().code(), Some(code));
        assert!(
            start.elapsed() < Duration::from_secs(50),
            "the command ran on"
        );
        let wanted =
            "qubes-fsm: ERROR: FILE: canceled; the store is as it was\n";
        assert_eq!(text, place.fill(wanted));
        let gone = test_kill_process(command).unwrap_err();
        assert_eq!(gone, rustix::io::Errno::SRCH);
        place.assert_as(&before);
    }
}

/// Unmounts when dropped.
struct Mounted(PathBuf);

impl Mounted {
    /// `None`, and a line on stderr, where we may not.
    fn new(arguments: &[&str], directory: &Path) -> Option<Self> {
        let output = mount(arguments).arg(directory).output();
        let output = output.expect("mount; install the package mount");
        if output.status.success() {
            return Some(Self(directory.to_owned()));
        }
        eprintln!(
            "not tested, mount is refused: {}; a_file_size_limit and \
             a_directory_without_the_right_to_write are what is left",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        None
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let done = Command::new("umount").arg(&self.0).status();
        assert!(done.is_ok_and(|status| status.success()), "umount");
    }
}

fn mount(arguments: &[&str]) -> Command {
    let mut command = Command::new("mount");
    command.args(arguments);
    command
}
