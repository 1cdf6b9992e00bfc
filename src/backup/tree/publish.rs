//! From the stage into place.
//!
//! Lives here: what may be replaced, and in which order it is moved. May not
//! live here: what is staged, and system calls.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rustix::fs::FileType;

use super::path::RelPath;
use super::{Published, Staged, Target, Time, TreeError};
use crate::backup::error::kind_name;
use crate::backup::kernel::{Folder, Meta, OWNER};
/// How far a merge has got.
#[derive(Debug, Default)]
struct Merge {
    moved: u64,
    replaced: u64,
    /// Existing directories that had to be made accessible.
    loosened: Vec<(RelPath, u32)>,
}
impl Staged {
    pub(super) fn publish_inner(
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
