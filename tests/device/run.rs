//! `qubes-fsm device`, and a directory that stands for `/dev`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use serde_json::Value;
use tempfile::TempDir;

/// What a run came to.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs `qubes-fsm device` with these arguments.
pub(crate) fn device<S: AsRef<OsStr>>(arguments: &[S]) -> Done {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qubes-fsm"));
    command.arg("device").args(arguments).stdin(Stdio::null());
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let code = status.code().unwrap();
    Done { code, out: text(stdout), err: text(stderr) }
}

/// A directory with device files of ours.
pub(crate) struct Dev {
    directory: TempDir,
    path: PathBuf,
}

impl Dev {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap();
        Self { directory, path }
    }

    pub(crate) fn path(&self) -> &Path {
        assert!(self.directory.path().exists());
        &self.path
    }

    /// Makes a block device; `false`, and a line on stderr, where we may not.
    pub(crate) fn make(&self, name: &str, major: u32, minor: u32) -> bool {
        let file = self.path.join(name);
        let number = makedev(major, minor);
        let kind = FileType::BlockDevice;
        match mknodat(CWD, &file, kind, Mode::RUSR, number) {
            Ok(()) => true,
            Err(error) => {
                eprintln!("not tested, mknod of {name} is refused: {error}");
                false
            }
        }
    }

    /// `device NAME --dev DIR --json`.
    pub(crate) fn ask(&self, name: &str) -> Done {
        let dev = self.path.to_str().unwrap();
        device(&[name, "--dev", dev, "--json"])
    }
}
