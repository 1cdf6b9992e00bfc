//! A tree that is backed up, and what comes of it.
//!
//! Lives here: what most tests begin with. May not live here: what they
//! assert.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::Command;

use qubes_fsm::backup::read::{Goal, ReadError, read, read_seekable};
use qubes_fsm::backup::report::Report;
use qubes_fsm::backup::tree::Target;
use qubes_fsm::backup::write::source::Contents;
use qubes_fsm::backup::write::{Options, to_stream};
use qubes_fsm::format::compression::Level;
use tempfile::TempDir;
use zeroize::Zeroizing;

use crate::archive::PASSPHRASE;
use crate::facts::{Tree, What, tree};
use crate::running::{Done, Running};
use crate::trees::{Layout, data_at, noise, write};

pub(crate) struct Scene {
    pub(crate) directory: TempDir,
}

/// What of [`Options`] the forms of an archive differ in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    pub(crate) encrypt: bool,
    pub(crate) filter: Option<&'static str>,
    pub(crate) manifest: bool,
    pub(crate) chunk: u64,
}

/// Clear and bound, in chunks of a size that makes several of each image.
pub(crate) const FORM: Form =
    Form { encrypt: false, filter: None, manifest: true, chunk: 100_000 };

/// Directories that no file of the backup has in it: readers make them.
const ABOVE: [&[u8]; 9] = [
    b"vm3",
    b"vm5",
    b"dom0-home",
    b"appvms",
    b"appvms/work",
    b"servicevms",
    b"servicevms/net",
    b"vm-templates",
    b"",
];

/// A directory in memory, where there is one: syncing waits for the disk.
pub(crate) fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()).unwrap()
}

impl Scene {
    /// One qube with one image of 60,000 bytes.
    pub(crate) fn small() -> Self {
        Self::with(Layout::Small, |_| {})
    }

    /// Several qubes, a template, a home with every kind of link, mode, time
    /// and name; images with and without holes, one of them of 9 GiB.
    pub(crate) fn full(layout: Layout) -> Self {
        let work = match layout {
            Layout::Hidden | Layout::Small => "vm5",
            Layout::Plain => "appvms/work",
        };
        Self::with(layout, |from| {
            let at = |name: &str| from.join(work).join(name);
            write(&at("dense.img"), &noise(400_000));
            let even = vec![b'e'; 10_000];
            let pieces: [(u64, &[u8]); 3] =
                [(0, b"begin"), (5 << 30, &even), ((9 << 30) - 3, b"end")];
            data_at(&at("volatile.img"), &pieces, 9 << 30);
            // Written, not a hole; still nothing in it.
            write(&at("zero.img"), &[0; 200_000]);
            data_at(&at("hole.img"), &[], 1 << 20);
            write(&at("caf\u{e9} 'x' -rf *"), b"odd");
        })
    }

    pub(crate) fn with(layout: Layout, more: impl FnOnce(&Path)) -> Self {
        let directory = directory();
        let from = directory.path().join("from");
        fs::create_dir(&from).unwrap();
        layout.write(&from);
        more(&from);
        let scene = Self { directory };
        fs::write(scene.path("passphrase"), PASSPHRASE).unwrap();
        fs::create_dir(scene.path("out")).unwrap();
        scene
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn contents(&self) -> Contents {
        Contents::from_dir(&self.path("from"), &[], &[]).unwrap()
    }

    /// The archive as a pipe gets it.
    pub(crate) fn written(&self, form: Form) -> Vec<u8> {
        let mut archive = Vec::new();
        to_stream(&self.contents(), &mut archive, options(form)).unwrap();
        archive
    }

    /// The tree, as far as a backup holds it.
    pub(crate) fn tree(&self) -> Tree {
        comparable(&self.path("from"))
    }

    /// A command without a passphrase. FROM, OUT, ARCHIVE, TO and PASSPHRASE
    /// in the arguments are paths of the scene; ARCHIVE is in OUT.
    pub(crate) fn bare(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qubes-fsm"));
        for argument in arguments {
            match *argument {
                "FROM" => command.arg(self.path("from")),
                "OUT" => command.arg(self.path("out")),
                "ARCHIVE" => command.arg(self.path("out/archive")),
                "TO" => command.arg(self.path("to")),
                "PASSPHRASE" => command.arg(self.path("passphrase")),
                argument => command.arg(argument),
            };
        }
        command
    }

    /// `backup --from FROM` with the passphrase from its file, and more.
    pub(crate) fn backup(&self, more: &[&str]) -> Command {
        let first = ["backup", "--from", "FROM"];
        let passphrase = ["--passphrase-file", "PASSPHRASE"];
        self.bare(&[&first[..], &passphrase, more].concat())
    }

    pub(crate) fn run(&self, more: &[&str]) -> Done {
        Running::start(&mut self.backup(more)).finish()
    }

    /// Names in the directory of the archive, hidden ones included.
    pub(crate) fn out(&self) -> Vec<String> {
        names(&self.path("out"))
    }

    /// The archive that is there, which must be whole, is restored to the
    /// same tree.
    pub(crate) fn assert_whole(&self) {
        let archive = fs::read(self.path("out/archive")).unwrap();
        self.assert_same(&archive);
    }

    pub(crate) fn assert_same(&self, archive: &[u8]) {
        let to = directory();
        let report = restored(archive, to.path()).unwrap();
        assert_eq!(report.omissions, [""; 0]);
        same(&comparable(to.path()), &self.tree(), "restored");
    }
}

pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let name = |entry: fs::DirEntry| entry.file_name();
    let mut names: Vec<String> = entries
        .map(|entry| name(entry.unwrap()).to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

pub(crate) fn level(filter: Option<&str>) -> Level {
    filter.map_or(Level::NONE, |filter| filter.parse().unwrap())
}

pub(crate) fn passphrase() -> Zeroizing<Vec<u8>> {
    Zeroizing::new(PASSPHRASE.as_bytes().to_vec())
}

pub(crate) fn options<'o>(form: Form) -> Options<'o> {
    Options {
        encrypt: form.encrypt,
        level: level(form.filter),
        chunk_bytes: form.chunk,
        manifest: form.manifest,
        workers: 2,
        ..Options::new(passphrase())
    }
}

/// Restores from a pipe.
pub(crate) fn restored(archive: &[u8], to: &Path) -> Result<Report, ReadError> {
    read(archive, restoring(to))
}

/// Restores from a file that can seek.
pub(crate) fn restored_seekable(
    archive: &[u8],
    to: &Path,
) -> Result<Report, ReadError> {
    read_seekable(Cursor::new(archive), restoring(to))
}

fn restoring<'o>(to: &Path) -> qubes_fsm::backup::read::Options<'o> {
    let target = Target::open(to, false).unwrap().with_special_bits(true);
    let goal = Goal::Restore { target, wanted: Vec::new() };
    qubes_fsm::backup::read::Options::new(passphrase(), goal)
}

/// A tree without what an archive cannot know of it.
pub(crate) fn comparable(root: &Path) -> Tree {
    let mut tree = tree(root);
    for (path, facts) in &mut tree {
        if ABOVE.contains(&path.as_slice()) {
            assert_eq!(facts.what, What::Directory);
            (facts.mode, facts.time) = (0, (0, 0));
        }
    }
    tree
}

/// As a restore leaves it that was not told to keep them.
pub(crate) fn without_special_bits(mut tree: Tree) -> Tree {
    for facts in tree.values_mut() {
        if !matches!(facts.what, What::Symlink(_)) {
            facts.mode &= 0o777;
        }
    }
    tree
}

/// Says how two trees differ, in short.
pub(crate) fn same(found: &Tree, wanted: &Tree, what: &str) {
    let mut wrong = Vec::new();
    for (path, facts) in wanted {
        let shown = String::from_utf8_lossy(path);
        match found.get(path) {
            None => wrong.push(format!("missing: {shown:?}")),
            Some(found) if found != facts => {
                wrong.push(format!("{shown:?}: {found:?}; wanted {facts:?}"));
            }
            Some(_) => {}
        }
    }
    for path in found.keys().filter(|path| !wanted.contains_key(*path)) {
        wrong.push(format!("not wanted: {}", String::from_utf8_lossy(path)));
    }
    assert!(wrong.is_empty(), "{what}: {}", wrong.join("\n"));
}
