//! Restored files, staged in a private directory and then moved into place,
//! never outside of the directory that was opened once.
//!
//! Lives here: which names are allowed, what is created when, what may be
//! replaced. May not live here: system calls, and anything that knows what an
//! archive looks like.
//!
//! Nothing is under its final name before all of it is written. Owners are
//! not restored: everything belongs to who restores. The bits setuid, setgid
//! and sticky are dropped unless [`Target::with_special_bits`] says otherwise.
//!
//! ```
//! use qubes_fsm::backup::tree::{Target, Time};
//!
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("restored");
//! let target = Target::open(&path, false)?;
//! let image = ["vm5", "private.img"];
//! assert!(target.preflight(&[image])?.is_empty());
//!
//! let stage = target.stage()?;
//! let mut staged = stage.begin(1)?;
//! let time = Time { seconds: 1_400_000_000, nanoseconds: 5 };
//! let mut file = staged.file(&image, 1 << 30, 0o640, time)?;
//! // What is never written stays a hole.
//! file.write_at(4_096, b"data")?;
//! file.close()?;
//! staged.publish(&image, true)?;
//! stage.remove()?;
//!
//! assert_eq!(path.join("vm5/private.img").metadata()?.len(), 1 << 30);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod path;
mod publish;
mod roll;

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::FileType;

pub use super::error::TreeError;
pub use super::kernel::Time;

use self::path::RelPath;
pub(super) use self::roll::{Roll, check_path};
use super::error::kind_name;
use super::kernel::{Failed, Folder, Meta, NewFile, OWNER};

/// A directory that files are restored into. Opened once: what its path names
/// later does not matter.
#[derive(Clone, Debug)]
pub struct Target {
    place: Arc<Place>,
    overwrite: bool,
    special_bits: bool,
}

/// A private directory inside the target, for files that are not complete.
///
/// No other user can look inside, and it is locked while it is in use, so
/// that [`Target::sweep`] lets it be. It is removed with the last of the
/// stage, its [`Staged`] and their files; only [`Stage::remove`] says whether
/// that worked.
#[derive(Debug)]
pub struct Stage {
    room: Arc<Room>,
}

/// One file of the backup: a file, or a tree of directories, files and links.
///
/// It holds no descriptor: thousands may wait for [`Staged::publish`].
#[derive(Debug)]
pub struct Staged {
    room: Arc<Room>,
    /// Its directory inside the stage.
    name: RelPath,
    members: u64,
    roll: Roll,
    /// Members whose special bits are dropped, and the first.
    dropped: u64,
    first_dropped: Option<RelPath>,
    /// The first member, and each one that has less in common with it than
    /// those before: all of them together begin as all members do.
    witnesses: Vec<RelPath>,
    common: usize,
    directories: BTreeMap<RelPath, Meta>,
    links: VecDeque<Link>,
    unfinished: Arc<AtomicU64>,
}

/// A regular file that is being staged.
#[must_use = "a file that is not closed is not published"]
#[derive(Debug)]
pub struct StagedFile {
    /// Keeps the stage until the file is closed.
    room: Arc<Room>,
    file: NewFile,
    path: RelPath,
    size: u64,
    meta: Meta,
    unfinished: Arc<AtomicU64>,
    is_broken: bool,
}

/// What is in place now.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Published {
    /// Where.
    pub path: PathBuf,
    /// Members that were staged.
    pub members: u64,
    /// Existing files that were replaced.
    pub replaced: u64,
}

/// Stages are called this and something unique.
pub const STAGE_PREFIX: &str = ".qubes-fsm-restore-";
/// Bytes of one path: what the kernel takes at once, and so what any other
/// program can still open.
pub const PATH_BYTES_MAX: u64 = 4_096;
/// Bytes of one component: the limit of all usual file systems.
pub const NAME_BYTES_MAX: usize = 255;
/// Bytes of a link's target: the kernel's limit is 4,096 with its NUL.
pub const TARGET_BYTES_MAX: usize = 4_095;
/// Members of one file of the backup, with the directories above them: more
/// than a large home directory has. That none comes twice is seen in a table
/// of 218 MB at most.
pub const MEMBERS_MAX: u64 = 14_000_000;
/// Bytes of directories and links that are remembered until the end.
pub const REMEMBERED_BYTES_MAX: u64 = 256 * 1024 * 1024;
const SPECIAL_BITS: u32 = 0o7000;
const ALL_BITS: u32 = 0o7777;

/// The target's descriptor, and its path for messages.
#[derive(Debug)]
struct Place {
    folder: Folder,
    path: PathBuf,
    /// It was not there before.
    is_new: bool,
}

/// The stage's descriptor and name.
#[derive(Debug)]
struct Room {
    target: Target,
    folder: Folder,
    name: Vec<u8>,
    path: PathBuf,
    is_removed: AtomicBool,
}

#[derive(Debug)]
enum Link {
    Symbolic { path: RelPath, target: Vec<u8>, time: Time },
    Hard { path: RelPath, to: RelPath },
}

impl Target {
    /// Opens the directory, creating it, but not what is above, if it is
    /// missing. Links in its path are followed here, and never again. Its
    /// name is on disk when this returns.
    ///
    /// With `overwrite` existing files are replaced and directory trees
    /// merged; without, what exists is an error.
    ///
    /// # Errors
    /// `NotFound` if what is above is missing; `Call` if it cannot be created
    /// or opened.
    pub fn open(directory: &Path, overwrite: bool) -> Result<Self, TreeError> {
        let opened = Folder::open_or_create(directory);
        let (folder, is_new) = opened.map_err(|failed| {
            if !failed.is_missing() {
                return TreeError::of(directory, Path::new(""), failed);
            }
            let (path, call) = (directory.to_owned(), failed.call);
            let text = std::io::Error::from_raw_os_error(failed.errno);
            TreeError::NotFound { path, call, text: text.to_string() }
        })?;
        let path = directory.to_owned();
        let place = Arc::new(Place { folder, path, is_new });
        Ok(Self { place, overwrite, special_bits: false })
    }

    /// Whether setuid, setgid and sticky are restored too. They are not by
    /// default: what was a harmless file of another owner could be a door
    /// with the restoring user as its owner.
    #[must_use]
    pub fn with_special_bits(self, special_bits: bool) -> Self {
        Self { special_bits, ..self }
    }

    /// Works as on a kernel without `openat2` and `renameat2`; for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn on_old_kernel(self) -> Self {
        self.place.folder.pretend_old();
        self
    }

    /// Removes the directory if [`Target::open`] made it and it is empty: for
    /// a restore that failed. What cannot be removed harms nobody.
    pub fn remove_if_new(&self) {
        if self.place.is_new {
            self.place.folder.remove_itself(&self.place.path);
        }
    }

    /// Whether existing files are replaced.
    #[must_use]
    pub fn overwrites(&self) -> bool {
        self.overwrite
    }

    /// The directory, as it was given to [`Target::open`].
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.place.path
    }

    /// Which of the paths that will be published are there already, in the
    /// order given. It changes nothing, and promises nothing: `publish` looks
    /// again.
    ///
    /// # Errors
    /// `BadPath` or `Limit` for a name that could not be written; `InTheWay`
    /// if something else is where a directory must be.
    pub fn preflight<P, N>(
        &self,
        paths: &[P],
    ) -> Result<Vec<PathBuf>, TreeError>
    where
        P: AsRef<[N]>,
        N: AsRef<[u8]>,
    {
        let mut there = Vec::new();
        for path in paths {
            let path = RelPath::new(path.as_ref())?;
            if self.place.at(&path, Folder::entry)?.is_some() {
                there.push(self.place.path.join(path.as_path()));
            }
        }
        Ok(there)
    }

    /// Makes a private directory for files that are not complete yet.
    ///
    /// # Errors
    /// `NoSpace` or `Call` if that is not possible.
    pub fn stage(&self) -> Result<Stage, TreeError> {
        let prefix = STAGE_PREFIX.as_bytes();
        let Place { folder, path, .. } = &*self.place;
        let (folder, name) = folder
            .create_unique(prefix)
            .map_err(|f| TreeError::of(path, Path::new(STAGE_PREFIX), f))?;
        let path = path.join(OsStr::from_bytes(&name));
        let target = self.clone();
        let is_removed = AtomicBool::new(false);
        let room = Room { target, folder, name, path, is_removed };
        Ok(Stage { room: Arc::new(room) })
    }

    /// Removes stages that dead processes left, and gives how many held
    /// something. Those that a living process holds stay; what cannot be
    /// removed harms nobody.
    #[must_use]
    pub fn sweep(&self) -> usize {
        let folder = &self.place.folder;
        let names = folder.names(b"").unwrap_or_default();
        let stages = names
            .into_iter()
            .filter(|name| name.starts_with(STAGE_PREFIX.as_bytes()));
        let removed = stages.filter(|name| {
            let Ok(Some(stage)) = folder.open_locked(name) else {
                return false;
            };
            // An empty one may be of somebody who could not lock it yet, and
            // who makes another then.
            let held = stage.names(b"").is_ok_and(|names| !names.is_empty());
            let is_gone =
                empty(&stage, b"").is_ok() && folder.remove_dir(name).is_ok();
            held && is_gone
        });
        removed.count()
    }
}

impl Stage {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.room.path
    }

    /// Begins the file of the backup that has this number; each number once.
    ///
    /// # Errors
    /// `NoSpace` or `Call`, also if the number was used before.
    pub fn begin(&self, file_number: u64) -> Result<Staged, TreeError> {
        let name = RelPath(file_number.to_string().into_bytes());
        self.room.at(&name, |folder, path| folder.make_dir(path, OWNER))?;
        Ok(Staged {
            room: Arc::clone(&self.room),
            name,
            members: 0,
            roll: Roll::default(),
            dropped: 0,
            first_dropped: None,
            witnesses: Vec::new(),
            common: 0,
            directories: BTreeMap::new(),
            links: VecDeque::new(),
            unfinished: Arc::default(),
        })
    }

    /// Removes the stage and all that is staged and not published.
    ///
    /// # Errors
    /// `Left` with its path if not everything could be removed.
    pub fn remove(self) -> Result<(), TreeError> {
        self.room.remove().map_err(|failed| self.room.left(b"", failed))
    }
}

impl Staged {
    /// Stages a directory; its mode and time are set at the end. A second
    /// time for the same path counts.
    ///
    /// # Errors
    /// `BadPath`, `BadTime` and `Limit`; `Twice` if the path is a file's;
    /// `InTheWay` if somebody has put a link into the stage; `NoSpace`.
    pub fn directory(
        &mut self,
        path: &[impl AsRef<[u8]>],
        mode: u32,
        time: Time,
    ) -> Result<(), TreeError> {
        let path = self.roll.directory(path, time)?;
        let meta = self.meta(&path, mode, time);
        self.see(&path);
        self.make_dir(&path)?;
        self.directories.insert(path, meta);
        Ok(())
    }

    /// Stages a regular file of `size` bytes. Directories above it that were
    /// not staged get the usual mode.
    ///
    /// # Errors
    /// As [`Staged::directory`]; `Twice` if the path was staged before.
    pub fn file(
        &mut self,
        path: &[impl AsRef<[u8]>],
        size: u64,
        mode: u32,
        time: Time,
    ) -> Result<StagedFile, TreeError> {
        let path = self.roll.file(path, time)?;
        let meta = self.meta(&path, mode, time);
        self.see(&path);
        // Only a good end takes it back.
        self.unfinished.fetch_add(1, Ordering::Relaxed);
        self.make_parent(&path)?;
        let file = self.make(&path, Folder::make_file)?;
        Ok(StagedFile {
            room: Arc::clone(&self.room),
            file,
            path,
            size,
            meta,
            unfinished: Arc::clone(&self.unfinished),
            is_broken: false,
        })
    }

    /// Remembers a symbolic link. It is created last, so that no file can be
    /// written through it; its target may be anything.
    ///
    /// # Errors
    /// `BadPath`, `BadTarget`, `BadTime`, `Limit`; `Twice` if the path was
    /// staged before; `NoDirectory` if what is above it was, as a file.
    pub fn symlink(
        &mut self,
        path: &[impl AsRef<[u8]>],
        target: &[u8],
        time: Time,
    ) -> Result<(), TreeError> {
        let path = self.roll.symlink(path, target, time)?;
        self.see(&path);
        let target = target.to_owned();
        self.links.push_back(Link::Symbolic { path, target, time });
        Ok(())
    }

    /// Remembers a hard link: one more name of a file or symbolic link that
    /// is a member too: of a file given at any time, or of a link given before.
    /// Created last, in order.
    ///
    /// # Errors
    /// As [`Staged::symlink`]; `LinkTarget` for a directory.
    pub fn hard_link(
        &mut self,
        path: &[impl AsRef<[u8]>],
        to: &[impl AsRef<[u8]>],
    ) -> Result<(), TreeError> {
        let (path, to) = self.roll.hard_link(path, to)?;
        self.see(&path);
        self.links.push_back(Link::Hard { path, to });
        Ok(())
    }

    /// Creates the links, then sets modes and times of directories, deepest
    /// first. [`Staged::publish`] does it too; calling it before finds errors
    /// while nothing is decided. Nothing can be staged after it.
    ///
    /// # Errors
    /// `Unfinished`; `LinkTarget`; `NoSpace`; `Twice` where the file system
    /// takes two names for one; `InTheWay` if somebody else is in the stage.
    pub fn complete(&mut self) -> Result<(), TreeError> {
        let files = self.unfinished.load(Ordering::Relaxed);
        if files > 0 {
            let path = self.room.path_of(&self.name);
            return Err(TreeError::Unfinished { path, files });
        }
        self.roll.complete()?;
        while let Some(link) = self.links.front() {
            self.make_link(link)?;
            self.links.pop_front();
        }
        for (path, meta) in self.directories.iter().rev() {
            // Some bits less may follow when it is moved: who moves a
            // directory must be able to write to it.
            let meta = Meta { mode: meta.mode | OWNER, ..*meta };
            self.make(path, |folder, path| folder.set_meta(path, meta))?;
        }
        // Thousands of files may wait, and nothing comes any more.
        self.roll.close();
        Ok(())
    }

    /// Moves everything into place, if it is at `top` or below.
    ///
    /// Missing directories above are created. What is new is moved at once,
    /// a whole tree by one rename; what exists is an error or, with
    /// `overwrite`, merged: each file replaced by a rename of its own,
    /// directories given modes and times of the archive, whatever else they
    /// hold let be. Conflicts are looked for before anything is moved.
    /// `durable`: come back when all of it would survive a power cut.
    ///
    /// # Errors
    /// Nothing is published after `NoMember`, `MemberOutside`, `Unfinished`,
    /// `Exists`, `InTheWay`, and those of [`Staged::complete`]. `Partly` says
    /// how much of a merge was done before it failed; `Unsettled` that all
    /// files are in place. What is not published is removed.
    pub fn publish(
        mut self,
        top: &[impl AsRef<[u8]>],
        durable: bool,
    ) -> Result<Published, TreeError> {
        let published = self.publish_inner(top, durable);
        // What is left goes with the stage, where an error is reported.
        let _ = self.remove();
        published
    }

    /// How many members had setuid, setgid or sticky, and get none of them;
    /// and the path of the first.
    #[must_use]
    pub fn dropped_bits(&self) -> Option<(u64, &Path)> {
        let first = self.first_dropped.as_ref()?;
        Some((self.dropped, first.as_path()))
    }

    /// Removes what was staged.
    ///
    /// # Errors
    /// `Left` with the path if not everything could be removed.
    pub fn drop_it(self) -> Result<(), TreeError> {
        self.remove()
    }

    fn make_link(&self, link: &Link) -> Result<(), TreeError> {
        let (path, to) = match link {
            Link::Symbolic { path, target, time } => {
                self.make_parent(path)?;
                return self.make(path, |folder, path| {
                    folder.make_symlink(path, target, *time)
                });
            }
            Link::Hard { path, to } => (path, to),
        };
        let kind = self.make(to, Folder::entry)?.map(|entry| entry.kind);
        if !matches!(kind, Some(FileType::RegularFile | FileType::Symlink)) {
            let found = kind.map_or("nothing", kind_name);
            let (path, to) = (path.into(), to.into());
            return Err(TreeError::LinkTarget { path, to, found });
        }
        self.make_parent(path)?;
        let to = self.inside(to);
        self.make(path, |folder, path| folder.make_link(path, &to.0))
    }

    /// Creates the directory, and those above it, unless they are there.
    fn make_dir(&self, path: &RelPath) -> Result<(), TreeError> {
        let kind = self.make(path, Folder::entry)?.map(|entry| entry.kind);
        if kind == Some(FileType::Directory) {
            return Ok(());
        }
        self.make_parent(path)?;
        self.make(path, |folder, path| folder.make_dir(path, 0o777))
    }

    fn make_parent(&self, path: &RelPath) -> Result<(), TreeError> {
        let Some(parent) = path.parents().next_back() else { return Ok(()) };
        let inside = self.inside(&parent);
        // The usual case first: it is there.
        let entry = self.make(path, |folder, _| folder.entry(&inside.0))?;
        if entry.is_some_and(|entry| entry.kind == FileType::Directory) {
            return Ok(());
        }
        self.make(path, |folder, _| folder.make_dirs(&inside.0, |_| {}))
    }

    /// One call inside the stage, on the member `path`.
    fn make<T>(
        &self,
        path: &RelPath,
        call: impl FnOnce(&Folder, &[u8]) -> Result<T, Failed>,
    ) -> Result<T, TreeError> {
        call(&self.room.folder, &self.inside(path).0).map_err(|failed| {
            if failed.is_there_already() {
                return TreeError::Twice { path: path.into() };
            }
            match &failed.in_the_way {
                Some((part, kind)) => TreeError::NoDirectory {
                    path: path.into(),
                    above: (&self.outside(part)).into(),
                    found: kind_name(*kind),
                },
                None => self.room.error(&self.inside(path), failed),
            }
        })
    }

    fn inside(&self, path: &RelPath) -> RelPath {
        self.name.join(&path.0)
    }

    /// The member that is at `path` of the stage.
    fn outside(&self, path: &[u8]) -> RelPath {
        let below = path.strip_prefix(self.name.0.as_slice());
        let below = below.and_then(|path| path.strip_prefix(b"/"));
        RelPath(below.unwrap_or(path).to_owned())
    }

    fn remove(&self) -> Result<(), TreeError> {
        let Room { folder, .. } = &*self.room;
        empty(folder, &self.name.0)
            .and_then(|()| folder.remove_dir(&self.name.0))
            .map_err(|failed| self.room.left(&self.name.0, failed))
    }

    /// Remembers of a member what all of them have in common.
    fn see(&mut self, path: &RelPath) {
        self.members += 1;
        let common = match self.witnesses.first() {
            Some(first) => first.common(path).min(self.common),
            None => path.0.split(|&b| b == b'/').count(),
        };
        if self.witnesses.is_empty() || common < self.common {
            self.witnesses.push(path.clone());
        }
        self.common = common;
    }

    fn meta(&mut self, path: &RelPath, mode: u32, time: Time) -> Meta {
        let special = self.room.target.special_bits;
        let bits = if special { ALL_BITS } else { ALL_BITS & !SPECIAL_BITS };
        if mode & SPECIAL_BITS & !bits != 0 {
            self.dropped += 1;
            self.first_dropped.get_or_insert_with(|| path.clone());
        }
        Meta { mode: mode & bits, time }
    }
}

impl StagedFile {
    /// Writes bytes at an offset. What is never written is a hole.
    ///
    /// # Errors
    /// `PastEnd` if they go beyond the size; `NoSpace`; `Call`. The file can
    /// not be closed then, nor what it belongs to published.
    pub fn write_at(
        &mut self,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), TreeError> {
        let end = offset.saturating_add(bytes.len() as u64);
        let written = if end > self.size {
            let path = (&self.path).into();
            Err(TreeError::PastEnd { path, end, size: self.size })
        } else {
            self.file
                .write_at(offset, bytes)
                .map_err(|failed| self.room.error(&self.path, failed))
        };
        self.is_broken |= written.is_err();
        written
    }

    /// Gives the file its size, mode and time.
    ///
    /// # Errors
    /// `Unfinished` after a failed write; `NoSpace`; `Call`.
    pub fn close(self) -> Result<(), TreeError> {
        if self.is_broken {
            let path = self.room.path_of(&self.path);
            return Err(TreeError::Unfinished { path, files: 1 });
        }
        self.file
            .finish(self.size, self.meta)
            .map_err(|failed| self.room.error(&self.path, failed))?;
        self.unfinished.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }
}

impl Place {
    /// One call in the target, on `path`.
    fn at<T>(
        &self,
        path: &RelPath,
        call: impl FnOnce(&Folder, &[u8]) -> Result<T, Failed>,
    ) -> Result<T, TreeError> {
        call(&self.folder, &path.0)
            .map_err(|failed| TreeError::of(&self.path, path.as_path(), failed))
    }

    /// Creates missing directories above `path`; those are added to `made`.
    fn make_parents(
        &self,
        path: &RelPath,
        made: &mut Vec<RelPath>,
    ) -> Result<(), TreeError> {
        let Some(parent) = path.parents().next_back() else { return Ok(()) };
        self.at(&parent, |folder, parent| {
            folder.make_dirs(parent, |path| made.push(RelPath(path.to_vec())))
        })
    }
}

impl Room {
    fn at<T>(
        &self,
        path: &RelPath,
        call: impl FnOnce(&Folder, &[u8]) -> Result<T, Failed>,
    ) -> Result<T, TreeError> {
        call(&self.folder, &path.0).map_err(|failed| self.error(path, failed))
    }

    fn error(&self, path: &RelPath, failed: Failed) -> TreeError {
        TreeError::of(&self.path, path.as_path(), failed)
    }

    fn path_of(&self, path: &RelPath) -> PathBuf {
        self.path.join(path.as_path())
    }

    fn left(&self, path: &[u8], failed: Failed) -> TreeError {
        let path = RelPath(path.to_owned());
        let cause = Box::new(self.error(&path, failed));
        let path = match path.0.as_slice() {
            [] => self.path.clone(),
            _ => self.path_of(&path),
        };
        TreeError::Left { path, cause }
    }

    fn remove(&self) -> Result<(), Failed> {
        if self.is_removed.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        empty(&self.folder, b"")?;
        self.target.place.folder.remove_dir(&self.name)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // Best effort; `Stage::remove` is there for those who want to know.
        let _ = self.remove();
    }
}

/// Removes what is in the directory `top`; each directory is looked at once.
/// Goes on after a failure, and gives the first one.
fn empty(folder: &Folder, top: &[u8]) -> Result<(), Failed> {
    enum Step {
        Empty(RelPath),
        Remove(RelPath),
    }
    let mut first = Ok(());
    let mut steps = vec![Step::Empty(RelPath(top.to_owned()))];
    while let Some(step) = steps.pop() {
        let path = match step {
            Step::Empty(path) => path,
            Step::Remove(path) => {
                first = first.and(folder.remove_dir(&path.0));
                continue;
            }
        };
        match folder.remove_files(&path.0) {
            Ok((directories, failed)) => {
                first = first.and(failed.map_or(Ok(()), Err));
                for path in directories.iter().map(|name| path.join(name)) {
                    steps.push(Step::Remove(path.clone()));
                    steps.push(Step::Empty(path));
                }
            }
            Err(failed) => first = first.and(Err(failed)),
        }
    }
    first
}
