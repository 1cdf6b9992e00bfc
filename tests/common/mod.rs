//! A store in a directory of its own, and what is run on it.

#![allow(dead_code, reason = "each test program uses some of it")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test may fail loudly")]

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The program under test.
pub(crate) const OURS: &str = env!("CARGO_BIN_EXE_qubes-fsm");
/// Stands for the store's path, in arguments and in texts.
pub(crate) const FILE: &str = "FILE";
/// The program that speaks the protocol of 2014; run it with [`python`].
pub(crate) const INCREMENT: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/increment.py");
/// Longer than anything takes: when it is over, something hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A store, alone in its directory.
pub(crate) struct Place {
    pub(crate) directory: TempDir,
    pub(crate) store: PathBuf,
}

/// All that a refused command must leave as it was.
#[derive(Eq, PartialEq)]
pub(crate) struct Seen {
    /// `None`: no regular file.
    bytes: Option<Vec<u8>>,
    /// Mode, owner, group.
    kind: Option<(u32, u32, u32)>,
    names: Vec<OsString>,
}

/// A store with odd but legal bytes; `work` has this `backup_size`.
pub(crate) fn document(backup_size: u64) -> String {
    let mut text = String::from(
        "<?xml version='1.0' encoding='UTF-8'?>\r\n\
         <QubesVmCollection updatevm=\"3\" default_kernel=\"3.7.6-2\">\r\n\
         \t<!-- <QubesAppVm name=\"other\" backup_size=\"7\"/> ż -->\n\
         \t<QubesNetVm qid='2' name='netvm'\tkernelopts='iommu=soft'\n\
         \t\tuses_default_kernelopts='True' pcidevs=\"['02:00.0']\" />\n",
    );
    let _ = writeln!(
        text,
        "  <QubesAppVm qid=\"5\" name=\"work\" label='a&#9;&lt;b' \
         kernelopts=\"quiet\" backup_size=\"{backup_size}\"\r\n    \
         dir_path=\"appvms/work\"><![CDATA[]]></QubesAppVm>"
    );
    // Larger than the file size limit of a shell can be small.
    for number in 0..40 {
        let _ = writeln!(
            text,
            "  <QubesAppVm qid=\"{}\" name=\"qube-{number}\" label=\"red\"/>",
            100 + number
        );
    }
    text.push_str("</QubesVmCollection>\n<!-- no line break here -->");
    text
}

impl Place {
    /// With [`document`], mode 0640 and, where allowed, a group that new
    /// files do not get by themselves.
    pub(crate) fn new() -> Self {
        let place = Self::with(document(0).as_bytes());
        let mode = fs::Permissions::from_mode(0o640);
        fs::set_permissions(&place.store, mode).unwrap();
        if is_root() {
            chown(&place.store, None, Some(1234)).unwrap();
        }
        place
    }

    /// With any content.
    pub(crate) fn with(content: &[u8]) -> Self {
        let place = Self::empty();
        fs::write(&place.store, content).unwrap();
        place
    }

    /// Without a store.
    pub(crate) fn empty() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap();
        Self { store: path.join("qubes.xml"), directory }
    }

    /// `qubes-fsm store ...`, to be run; [`FILE`] becomes the path.
    pub(crate) fn ours(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(OURS);
        command.arg("store");
        command.args(arguments.iter().map(|text| self.fill(text)));
        command.stdin(Stdio::null());
        command
    }

    /// Runs it, and gives exit code, stdout and stderr.
    pub(crate) fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        finish(self.ours(arguments))
    }

    /// Runs what must succeed, and gives stdout.
    pub(crate) fn succeed(&self, arguments: &[&str]) -> String {
        let (code, out, err) = self.run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {err}");
        out
    }

    /// The text with the path in place of [`FILE`].
    pub(crate) fn fill(&self, text: &str) -> String {
        text.replace(FILE, self.store.to_str().unwrap())
    }

    /// The content, which is UTF-8.
    pub(crate) fn read(&self) -> String {
        fs::read_to_string(&self.store).unwrap()
    }

    /// All names beside the store, sorted.
    pub(crate) fn others(&self) -> Vec<OsString> {
        let mut names = names(self.store.parent().unwrap());
        names
            .retain(|name| name.as_os_str() != self.store.file_name().unwrap());
        names
    }

    /// What is there now.
    pub(crate) fn seen(&self) -> Seen {
        let stat = fs::symlink_metadata(&self.store).ok();
        let kind = stat.as_ref().map(|s| (s.mode(), s.uid(), s.gid()));
        let is_file = stat.is_some_and(|stat| stat.is_file());
        let bytes = is_file.then(|| fs::read(&self.store).unwrap());
        Seen { bytes, kind, names: names(self.store.parent().unwrap()) }
    }

    /// Refuses any difference to what was seen before.
    pub(crate) fn assert_as(&self, before: &Seen) {
        let now = self.seen();
        assert_eq!(now.names, before.names, "the directory changed");
        assert_eq!(now.kind, before.kind, "mode, owner or group changed");
        assert!(now.bytes == before.bytes, "the store's bytes changed");
    }
}

fn names(directory: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<OsString> =
        entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

/// Runs a command to its end: exit code, stdout, stderr.
pub(crate) fn finish(command: Command) -> (i32, String, String) {
    let mut command = assert_cmd::Command::from_std(command);
    let Output { status, stdout, stderr } =
        command.timeout(PATIENCE).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let code = status.code().unwrap_or_else(|| {
        panic!("{command:?}: {status}; wanted an exit code")
    });
    (code, text(stdout), text(stderr))
}

/// Whether we may do everything.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// [`INCREMENT`] with these arguments, to be run.
pub(crate) fn increment<S: AsRef<OsStr>>(arguments: &[S]) -> Command {
    let mut command = Command::new(python());
    command.args(["-I", "-S", INCREMENT]).args(arguments);
    command.stdin(Stdio::null());
    command
}

/// The interpreter itself, not a wrapper that takes its time.
pub(crate) fn python() -> &'static str {
    static PYTHON: OnceLock<String> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let output = Command::new("python3")
            .args(["-c", "import sys; print(sys.executable)"])
            .output();
        let missing = "python3 does not run; install the package python3";
        let output = output.unwrap_or_else(|_| panic!("{missing}"));
        assert!(output.status.success(), "{missing}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    })
}

/// Returns once the process has the file open: from then on it waits for the
/// lock of this file. The kernel has no event for that, so it is asked.
pub(crate) fn await_open(child: &mut Child, path: &Path) {
    let directory = format!("/proc/{}/fd", child.id());
    let start = Instant::now();
    loop {
        let links = fs::read_dir(&directory).unwrap().flatten();
        let mut links = links.flat_map(|link| fs::read_link(link.path()));
        if links.any(|target| target == path) {
            return;
        }
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none(), "ended before it opened the store: {ended:?}");
        assert!(start.elapsed() < PATIENCE, "the store is never opened");
        std::thread::yield_now();
    }
}

/// A number from the environment.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|error| {
            panic!("{name}={text}: {error}; wanted a number")
        }),
        Err(_) => default,
    }
}
