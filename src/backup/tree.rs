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

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::FileType;

pub use super::error::TreeError;
pub use super::kernel::Time;

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
    /// The first member, and each one that has less in common with it than
    /// those before: all of them together begin as all members do.
    witnesses: Vec<RelPath>,
    common: usize,
    directories: BTreeMap<RelPath, Meta>,
    links: VecDeque<Link>,
    /// Bytes of the two above.
    remembered: u64,
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
/// Members of one file of the backup: more than a large home directory has.
pub const MEMBERS_MAX: u64 = 16_000_000;
/// Bytes of directories and links that are remembered until the end.
pub const REMEMBERED_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// What remembering one more costs besides its bytes.
const REMEMBERED_EACH: u64 = 96;
const SPECIAL_BITS: u32 = 0o7000;
const ALL_BITS: u32 = 0o7777;

/// The target's descriptor, and its path for messages.
#[derive(Debug)]
struct Place {
    folder: Folder,
    path: PathBuf,
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

/// A checked path below a directory, with `/` between its components.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
struct RelPath(Vec<u8>);

#[derive(Debug)]
enum Link {
    Symbolic { path: RelPath, target: Vec<u8>, time: Time },
    Hard { path: RelPath, to: RelPath },
}

/// How far a merge has got.
#[derive(Debug, Default)]
struct Merge {
    moved: u64,
    replaced: u64,
    /// Existing directories that had to be made accessible.
    loosened: Vec<(RelPath, u32)>,
}

impl Target {
    /// Opens the directory, creating it, but not what is above, if it is
    /// missing. Links in its path are followed here, and never again.
    ///
    /// With `overwrite` existing files are replaced and directory trees
    /// merged; without, what exists is an error.
    ///
    /// # Errors
    /// `Call` if it cannot be created or opened.
    pub fn open(directory: &Path, overwrite: bool) -> Result<Self, TreeError> {
        let folder = Folder::open_or_create(directory)
            .map_err(|f| TreeError::of(directory, Path::new(""), f))?;
        let place = Arc::new(Place { folder, path: directory.to_owned() });
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
        let Place { folder, path } = &*self.place;
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
            witnesses: Vec::new(),
            common: 0,
            directories: BTreeMap::new(),
            links: VecDeque::new(),
            remembered: 0,
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
        let path = RelPath::new(path)?;
        let meta = self.meta(&path, mode, time)?;
        self.count(&path, path.0.len())?;
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
        let path = RelPath::new(path)?;
        let meta = self.meta(&path, mode, time)?;
        self.count(&path, 0)?;
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
    /// `BadPath`, `BadTarget`, `BadTime`, `Limit`.
    pub fn symlink(
        &mut self,
        path: &[impl AsRef<[u8]>],
        target: &[u8],
        time: Time,
    ) -> Result<(), TreeError> {
        let path = RelPath::new(path)?;
        let found = match target {
            [] => Some("without a byte"),
            target if target.contains(&0) => Some("with a NUL"),
            target if target.len() > TARGET_BYTES_MAX => {
                Some("of more than 4,095 bytes")
            }
            _ => None,
        };
        if let Some(found) = found {
            return Err(TreeError::BadTarget { path: (&path).into(), found });
        }
        self.meta(&path, 0, time)?;
        self.count(&path, path.0.len() + target.len())?;
        let target = target.to_owned();
        self.links.push_back(Link::Symbolic { path, target, time });
        Ok(())
    }

    /// Remembers a hard link: one more name of a file or symbolic link that
    /// is a member too, and by then was given. Created last, in order.
    ///
    /// # Errors
    /// `BadPath`, `Limit`.
    pub fn hard_link(
        &mut self,
        path: &[impl AsRef<[u8]>],
        to: &[impl AsRef<[u8]>],
    ) -> Result<(), TreeError> {
        let path = RelPath::new(path)?;
        let to = RelPath::new(to)?;
        self.count(&path, path.0.len() + to.0.len())?;
        self.links.push_back(Link::Hard { path, to });
        Ok(())
    }

    /// Creates the links, then sets modes and times of directories, deepest
    /// first. [`Staged::publish`] does it too; calling it before finds errors
    /// of the archive while nothing is decided.
    ///
    /// # Errors
    /// `Twice` for a link where something is; `LinkTarget`; `Unfinished`;
    /// `InTheWay`; `NoSpace`.
    pub fn complete(&mut self) -> Result<(), TreeError> {
        let files = self.unfinished.load(Ordering::Relaxed);
        if files > 0 {
            let path = self.room.path_of(&self.name);
            return Err(TreeError::Unfinished { path, files });
        }
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

    /// Removes what was staged.
    ///
    /// # Errors
    /// `Left` with the path if not everything could be removed.
    pub fn drop_it(self) -> Result<(), TreeError> {
        self.remove()
    }

    fn publish_inner(
        &mut self,
        top: &[impl AsRef<[u8]>],
        durable: bool,
    ) -> Result<Published, TreeError> {
        let top = &RelPath::new(top)?;
        self.check_top(top)?;
        self.complete()?;
        let merged = self.is_merge(top)?;
        let mut merge = Merge::default();
        if merged {
            self.check_merge(top)?;
        }
        if durable {
            self.sync(top)?;
        }
        if merged {
            self.merge(top, &mut merge)?;
        } else {
            self.move_whole(top, &mut merge)?;
        }
        let place = &self.room.target.place;
        let path = place.path.join(top.as_path());
        if let Err(error) = self.settle(top, merged.then_some(&merge), durable)
        {
            let cause = Box::new(error);
            return Err(TreeError::Unsettled { path, cause });
        }
        let Merge { replaced, .. } = merge;
        Ok(Published { path, members: self.members, replaced })
    }

    /// Everything must lie at `top` or below.
    fn check_top(&self, top: &RelPath) -> Result<(), TreeError> {
        if self.witnesses.is_empty() {
            return Err(TreeError::NoMember { path: top.into() });
        }
        match self.witnesses.iter().find(|path| !path.is_below(top)) {
            Some(path) => Err(TreeError::MemberOutside {
                path: path.into(),
                top: top.into(),
            }),
            None => Ok(()),
        }
    }

    /// Whether `top` is a directory that exists, and is to be merged.
    fn is_merge(&self, top: &RelPath) -> Result<bool, TreeError> {
        let target = &self.room.target;
        let Some(old) = target.place.at(top, Folder::entry)? else {
            return Ok(false);
        };
        let path = target.place.path.join(top.as_path());
        if !target.overwrite {
            return Err(TreeError::Exists { path });
        }
        let new = self.make(top, Folder::entry)?.map(|entry| entry.kind);
        let new_is_dir = new == Some(FileType::Directory);
        check_kinds(path, new_is_dir, old.kind)?;
        Ok(new_is_dir)
    }

    /// Moves what is new, or replaces one file.
    fn move_whole(
        &self,
        top: &RelPath,
        merge: &mut Merge,
    ) -> Result<(), TreeError> {
        let target = &self.room.target;
        let mut made = Vec::new();
        let moved = target
            .place
            .make_parents(top, &mut made)
            .and_then(|()| self.move_one(top, merge));
        if moved.is_err() {
            // Only empty ones can be removed: nobody else's file is lost.
            for path in made.iter().rev() {
                let _ = target.place.folder.remove_dir(&path.0);
            }
        }
        moved
    }

    /// Moves one name; an existing file gives way if that is allowed.
    fn move_one(
        &self,
        at: &RelPath,
        merge: &mut Merge,
    ) -> Result<(), TreeError> {
        let Target { place, overwrite, .. } = &self.room.target;
        let from = &self.room.folder;
        let inside = self.inside(at);
        let moved = place.at(at, |to, path| {
            match from.move_to(&inside.0, to, path) {
                Err(failed) if failed.is_there_already() && *overwrite => {
                    from.replace(&inside.0, to, path)?;
                    merge.replaced += 1;
                    Ok(Ok(()))
                }
                Err(failed) if failed.is_there_already() => Ok(Err(())),
                moved => moved.map(Ok),
            }
        })?;
        if moved.is_err() {
            let path = place.path.join(at.as_path());
            return Err(TreeError::Exists { path });
        }
        merge.moved += 1;
        Ok(())
    }

    /// Looks for conflicts, and changes nothing but for a moment.
    fn check_merge(&self, top: &RelPath) -> Result<(), TreeError> {
        let mut merge = Merge::default();
        let checked = self.walk(top, &mut merge, |_, _| Ok(()));
        self.tighten(&merge);
        checked
    }

    fn merge(&self, top: &RelPath, merge: &mut Merge) -> Result<(), TreeError> {
        let done = self.walk(top, merge, |at, merge| self.move_one(at, merge));
        if done.is_err() {
            self.tighten(merge);
        }
        match done {
            Err(cause) if merge.moved > 0 => Err(TreeError::Partly {
                path: self.room.target.place.path.join(top.as_path()),
                moved: merge.moved,
                cause: Box::new(cause),
            }),
            done => done,
        }
    }

    /// Calls `act` for each staged name whose parent exists in the target
    /// already, and that is no directory in both.
    fn walk(
        &self,
        top: &RelPath,
        merge: &mut Merge,
        mut act: impl FnMut(&RelPath, &mut Merge) -> Result<(), TreeError>,
    ) -> Result<(), TreeError> {
        let place = &self.room.target.place;
        let mut directories = vec![top.clone()];
        while let Some(directory) = directories.pop() {
            // If it cannot be done, what needs it says so.
            if let Ok(Some(mode)) = place.folder.loosen(&directory.0) {
                merge.loosened.push((directory.clone(), mode));
            }
            for name in self.make(&directory, Folder::names)? {
                let at = directory.join(&name);
                let new = self.make(&at, Folder::entry)?;
                let new = new.map(|entry| entry.kind == FileType::Directory);
                let new_is_dir = new.unwrap_or_default();
                let Some(old) = place.at(&at, Folder::entry)? else {
                    act(&at, merge)?;
                    continue;
                };
                let path = place.path.join(at.as_path());
                check_kinds(path, new_is_dir, old.kind)?;
                if new_is_dir {
                    directories.push(at);
                } else {
                    act(&at, merge)?;
                }
            }
        }
        Ok(())
    }

    /// Gives existing directories the modes back that they had.
    fn tighten(&self, merge: &Merge) {
        let folder = &self.room.target.place.folder;
        for (path, mode) in merge.loosened.iter().rev() {
            let _ = folder.set_dir_mode(&path.0, *mode);
        }
    }

    /// What a directory gets when it is in place, and what makes it durable.
    fn settle(
        &self,
        top: &RelPath,
        merge: Option<&Merge>,
        durable: bool,
    ) -> Result<(), TreeError> {
        let place = &self.room.target.place;
        let mut last: BTreeMap<&RelPath, (u32, Option<Time>)> = BTreeMap::new();
        for (path, mode) in merge.iter().flat_map(|merge| &merge.loosened) {
            last.insert(path, (*mode, None));
        }
        for (path, meta) in &self.directories {
            if merge.is_some() || meta.mode & OWNER != OWNER {
                last.insert(path, (meta.mode, Some(meta.time)));
            }
        }
        for (path, (mode, time)) in last.iter().rev() {
            place.at(path, |folder, path| match *time {
                Some(time) => folder.set_meta(path, Meta { mode: *mode, time }),
                None => folder.set_dir_mode(path, *mode),
            })?;
        }
        if !durable {
            return Ok(());
        }
        if merge.is_some() || !last.is_empty() {
            return place.at(&RelPath::default(), |to, _| to.sync_all());
        }
        for parent in top.parents().rev() {
            place.at(&parent, Folder::sync)?;
        }
        place.at(&RelPath::default(), Folder::sync)
    }

    /// Contents must be on disk before their name is.
    fn sync(&self, top: &RelPath) -> Result<(), TreeError> {
        let entry = self.make(top, Folder::entry)?;
        let is_file =
            entry.is_some_and(|entry| entry.kind == FileType::RegularFile);
        self.make(top, |folder, path| {
            if is_file {
                match folder.sync(path) {
                    // Its mode may forbid to open it.
                    Err(failed) if failed.call == "open" => {}
                    synced => return synced,
                }
            }
            folder.sync_all()
        })
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

    /// Counts a member, and what of it is remembered.
    fn count(
        &mut self,
        path: &RelPath,
        remembered: usize,
    ) -> Result<(), TreeError> {
        self.members += 1;
        if remembered > 0 {
            self.remembered += remembered as u64 + REMEMBERED_EACH;
        }
        let limits = [
            ("members", self.members, MEMBERS_MAX),
            (
                "bytes of directories and links",
                self.remembered,
                REMEMBERED_BYTES_MAX,
            ),
        ];
        for (what, found, max) in limits {
            if found > max {
                let path = path.into();
                return Err(TreeError::Limit { path, what, found, max });
            }
        }
        let common = match self.witnesses.first() {
            Some(first) => first.common(path).min(self.common),
            None => path.0.split(|&b| b == b'/').count(),
        };
        if self.witnesses.is_empty() || common < self.common {
            self.witnesses.push(path.clone());
        }
        self.common = common;
        Ok(())
    }

    fn meta(
        &self,
        path: &RelPath,
        mode: u32,
        time: Time,
    ) -> Result<Meta, TreeError> {
        if time.nanoseconds > 999_999_999 {
            let nanoseconds = time.nanoseconds;
            return Err(TreeError::BadTime { path: path.into(), nanoseconds });
        }
        let special = self.room.target.special_bits;
        let bits = if special { ALL_BITS } else { ALL_BITS & !SPECIAL_BITS };
        Ok(Meta { mode: mode & bits, time })
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

impl RelPath {
    fn new(components: &[impl AsRef<[u8]>]) -> Result<Self, TreeError> {
        let names = components.iter().map(AsRef::as_ref);
        let joined = names.clone().collect::<Vec<_>>().join(&b'/');
        let found = match components {
            [] => Some("no name"),
            _ => names.clone().find_map(fault),
        };
        let path = PathBuf::from(OsStr::from_bytes(&joined));
        if let Some(found) = found {
            return Err(TreeError::BadPath { path, found });
        }
        let found = joined.len() as u64;
        if found > PATH_BYTES_MAX {
            let (what, max) = ("bytes of path", PATH_BYTES_MAX);
            return Err(TreeError::Limit { path, what, found, max });
        }
        Ok(Self(joined))
    }

    fn join(&self, name: &[u8]) -> Self {
        let slash: &[u8] = if self.0.is_empty() { b"" } else { b"/" };
        Self([&self.0, slash, name].concat())
    }

    /// The directories above, the highest first.
    fn parents(&self) -> impl DoubleEndedIterator<Item = Self> {
        let bytes = self.0.iter().enumerate();
        let slashes = bytes.filter(|(_, byte)| **byte == b'/');
        slashes.map(|(at, _)| {
            Self(self.0.get(..at).unwrap_or_default().to_owned())
        })
    }

    /// Whether it is `top` or below.
    fn is_below(&self, top: &Self) -> bool {
        let rest = self.0.strip_prefix(top.0.as_slice());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    }

    /// How many components both begin with.
    fn common(&self, other: &Self) -> usize {
        let ours = self.0.split(|&b| b == b'/');
        let theirs = other.0.split(|&b| b == b'/');
        ours.zip(theirs).take_while(|(a, b)| a == b).count()
    }

    fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }
}

impl From<&RelPath> for PathBuf {
    fn from(path: &RelPath) -> Self {
        path.as_path().to_owned()
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

/// A directory and something else do not replace one another.
fn check_kinds(
    path: PathBuf,
    new_is_dir: bool,
    old: FileType,
) -> Result<(), TreeError> {
    let old_is_dir = old == FileType::Directory;
    if new_is_dir == old_is_dir {
        return Ok(());
    }
    let wanted = if new_is_dir { "a directory" } else { "a file or nothing" };
    Err(TreeError::InTheWay { path, found: kind_name(old), wanted })
}

/// Why a component must not be used.
fn fault(name: &[u8]) -> Option<&'static str> {
    match name {
        [] => Some("an empty name"),
        b"." => Some("the name \".\""),
        b".." => Some("the name \"..\""),
        name if name.contains(&b'/') => Some("a name with a slash"),
        name if name.contains(&0) => Some("a name with a NUL"),
        name if name.len() > NAME_BYTES_MAX => {
            Some("a name of more than 255 bytes")
        }
        _ => None,
    }
}
