//! An archive on a disk, and commands that read it.
//!
//! Lives here: what most tests begin with. May not live here: what they
//! assert.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::archive::{Codes, Form, Member, PASSPHRASE, members, outer, source};
use crate::running::{Done, Running};

/// Members up to the first code of `vm5/firewall.xml`: from there on
/// `vm5/private.img` is in place, and firewall.xml is being read.
pub(crate) const HALF: usize = 8;
/// What is in place then.
pub(crate) const FIRST: [&str; 2] = ["qubes.xml", "vm5/private.img"];

pub(crate) struct Scene {
    pub(crate) directory: TempDir,
    pub(crate) members: Vec<Member>,
}

pub(crate) const FORM: Form = Form {
    encrypted: false,
    filter: None,
    digest: "SHA512",
    chunk: 100 << 20,
    inner: "gnu",
    sparse: "1.0",
    header: true,
    store_chunk: usize::MAX,
    codes: Codes::Here,
    padded: true,
};

impl Scene {
    pub(crate) fn new() -> Self {
        Self::with(FORM, |_| {})
    }

    /// After the tree was made, `more` may change it.
    pub(crate) fn with(form: Form, more: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let from = directory.path().join("from");
        fs::create_dir(&from).unwrap();
        source(&from);
        more(&from);
        let scene = Self { directory, members: members(&from, form) };
        fs::write(scene.path("passphrase"), PASSPHRASE).unwrap();
        scene.write(&outer(&scene.members));
        scene
    }

    /// Other bytes as the archive.
    pub(crate) fn of(archive: &[u8]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let scene = Self { directory, members: Vec::new() };
        fs::write(scene.path("passphrase"), PASSPHRASE).unwrap();
        scene.write(archive);
        scene
    }

    pub(crate) fn write(&self, archive: &[u8]) {
        fs::write(self.path("archive"), archive).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Below the tree that was packed.
    pub(crate) fn original(&self, name: &str) -> Vec<u8> {
        fs::read(self.path("from").join(name)).unwrap()
    }

    /// A command without a passphrase. ARCHIVE, PASSPHRASE and TO in the
    /// arguments are files of the scene.
    pub(crate) fn bare(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qubes-fsm"));
        for argument in arguments {
            match *argument {
                "ARCHIVE" => command.arg(self.path("archive")),
                "PASSPHRASE" => command.arg(self.path("passphrase")),
                "TO" => command.arg(self.path("to")),
                argument => command.arg(argument),
            };
        }
        command
    }

    /// The same with the passphrase from its file.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bare(arguments);
        command.arg("--passphrase-file").arg(self.path("passphrase"));
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Done {
        Running::start(&mut self.command(arguments)).finish()
    }

    /// Starts a restore of stdin into `to`, and feeds it the first half: it
    /// returns once what is whole so far is in place.
    pub(crate) fn half_restored(&self, arguments: &[&str]) -> Running {
        let all = [&["restore", "-", "--to", "TO"], arguments].concat();
        let mut running = Running::start(&mut self.command(&all));
        running.await_handlers();
        running.write(&self.first_half());
        let last = self.path("to").join(FIRST[1]);
        crate::running::await_it("vm5/private.img", || last.exists());
        // A program may keep so small a file to its end.
        if !arguments.contains(&"--external-filter") {
            crate::running::await_it("the staged file", || {
                let staged =
                    |name: &String| name.ends_with("/2/vm5/firewall.xml");
                files(&self.path("to")).iter().any(staged)
            });
        }
        running
    }

    pub(crate) fn first_half(&self) -> Vec<u8> {
        outer(&self.members[..HALF])
    }

    pub(crate) fn second_half(&self) -> Vec<u8> {
        outer(&self.members[HALF..])
    }

    /// Flips a bit in the data of a member; its code stays.
    pub(crate) fn damage(&mut self, name: &str) {
        let is_it = |member: &&mut Member| member.0 == name;
        let member = self.members.iter_mut().find(is_it).unwrap();
        *member.1.last_mut().unwrap() ^= 1;
        self.write(&outer(&self.members));
    }
}

/// Everything below a directory but directories, sorted.
pub(crate) fn files(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(at) = left.pop() {
        // What was there may be gone by now.
        for entry in fs::read_dir(at).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                // A stage is found even if it is empty.
                let name = path.file_name().unwrap().to_string_lossy();
                if name.starts_with(".qubes-fsm") {
                    found.push(name.into_owned());
                }
                left.push(path);
            } else {
                let name = path.strip_prefix(directory).unwrap();
                found.push(name.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}
