//! `list`, `verify`, `restore` and `cat` as a user types them: output, exit
//! codes, JSON lines, passphrases from every source.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod archive;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use archive::{Form, PASSPHRASE, members, outer, source};
use serde_json::Value;
use tempfile::TempDir;

struct Place {
    directory: TempDir,
    archive: PathBuf,
    passphrase: PathBuf,
}

fn place(form: Form) -> Place {
    let directory = tempfile::tempdir().unwrap();
    let from = directory.path().join("from");
    fs::create_dir(&from).unwrap();
    source(&from);
    let archive = directory.path().join("archive");
    fs::write(&archive, outer(&members(&from, form))).unwrap();
    let passphrase = directory.path().join("passphrase");
    fs::write(&passphrase, format!("{PASSPHRASE}\nnot this\n")).unwrap();
    Place { directory, archive, passphrase }
}

impl Place {
    fn run(&self, command: &str, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_qubes-fsm"))
            .arg(command)
            .arg(&self.archive)
            .args(arguments)
            .arg("--passphrase-file")
            .arg(&self.passphrase)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

#[test]
fn list_prints_what_is_announced() {
    let place = place(Form { encrypted: true, ..Form::default() });
    let output = place.run("list", &[]);
    assert_eq!(
        (code(&output), text(&output.stdout).as_str()),
        (
            0,
            "dom0\tQubesAdminVm\t?\tdom0-home/user\n\
             fedora\tQubesTemplateVm\t?\tvm7\nwork\tQubesAppVm\t?\tvm5\n"
        )
    );
    let output = place.run("list", &["--json"]);
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["header"]["cipher"], "aes-256-cbc");
    assert_eq!(value["qubes"][2]["name"], "work");
}

#[test]
fn verify_restore_and_cat() {
    let place = place(Form { filter: Some("gzip"), ..Form::default() });
    let output = place.run("verify", &["--json"]);
    let out = text(&output.stdout);
    let lines: Vec<Value> =
        out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let last = lines.last().unwrap();
    assert_eq!((&last["type"], &last["exit"]), (&"summary".into(), &0.into()));
    let files = lines.iter().filter(|line| line["type"] == "file");
    assert_eq!(files.count(), 5);
    let output = place.run("verify", &["--require-manifest"]);
    assert_eq!(code(&output), 13);

    let to = place.path("to");
    let output = place.run("restore", &["--to", &to]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let again = place.run("restore", &["--to", &to]);
    assert_eq!(code(&again), 1);
    assert_eq!(
        text(&again.stderr),
        format!(
            "qubes-fsm: ERROR: {to}/dom0-home/user: found an existing file; \
             wanted none, nothing was replaced; --overwrite replaces it\n"
        )
    );
    let over = place.run("restore", &["--to", &to, "--overwrite"]);
    assert_eq!(code(&over), 0, "{}", text(&over.stderr));
    let image = fs::read(Path::new(&to).join("vm5/private.img")).unwrap();
    let output = place.run("cat", &["vm5/private.img"]);
    assert_eq!(code(&output), 0);
    assert!(output.stdout == image);
    let output = place.run("cat", &["vm5/other.img"]);
    assert_eq!(code(&output), 10);
}

/// A directory and something else never replace one another, so there the
/// option is no help.
#[test]
fn what_is_in_the_way_is_named() {
    let place = place(Form::default());
    let to = place.path("to");
    fs::create_dir(&to).unwrap();
    fs::write(Path::new(&to).join("vm5"), "mine").unwrap();
    for option in [None, Some("--overwrite")] {
        let options: Vec<&str> =
            ["--to", &to].into_iter().chain(option).collect();
        let output = place.run("restore", &options);
        assert_eq!(code(&output), 1);
        assert_eq!(
            text(&output.stderr),
            format!(
                "qubes-fsm: ERROR: {to}/vm5: found a regular file; wanted a \
                 directory; --overwrite does not replace it\n"
            )
        );
        assert_eq!(fs::read(Path::new(&to).join("vm5")).unwrap(), b"mine");
    }
}

#[test]
fn exit_codes_name_what_is_wrong() {
    let mut place = place(Form::default());
    let whole = fs::read(&place.archive).unwrap();
    fs::write(&place.archive, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(code(&place.run("verify", &[])), 15);
    let mut flipped = whole.clone();
    let at = flipped.windows(8).position(|w| w == b"firewall").unwrap();
    // In the data of a chunk, not in a header of the outer archive.
    let at = at + 512 + 512;
    flipped[at] ^= 1;
    fs::write(&place.archive, &flipped).unwrap();
    let output = place.run("verify", &[]);
    assert_eq!(code(&output), 13, "{}", text(&output.stderr));
    fs::write(&place.archive, b"no archive").unwrap();
    assert_ne!(code(&place.run("verify", &[])), 0);
    fs::write(&place.archive, &whole).unwrap();
    fs::write(&place.passphrase, "wrong\n").unwrap();
    assert_eq!(code(&place.run("verify", &[])), 12);
    fs::write(&place.passphrase, "").unwrap();
    assert_eq!(code(&place.run("verify", &[])), 2);
    place.archive = place.directory.path().join("missing");
    fs::write(&place.passphrase, PASSPHRASE).unwrap();
    assert_eq!(code(&place.run("verify", &[])), 10);
}

#[test]
fn a_passphrase_from_a_command_and_an_archive_from_a_pipe() {
    let place = place(Form::default());
    let mut child = Command::new(env!("CARGO_BIN_EXE_qubes-fsm"))
        .args(["verify", "-", "--passphrase-command"])
        .arg(format!("echo '{PASSPHRASE}'"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let archive = fs::read(&place.archive).unwrap();
    child.stdin.take().unwrap().write_all(&archive).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 0);
    assert!(text(&output.stdout).contains("not bound"));

    let output = Command::new(env!("CARGO_BIN_EXE_qubes-fsm"))
        .args(["verify", "-", "--passphrase-command", "exit 3"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(code(&output), 18);
}
