//! One file of a backup, gone through in order: it, and if it is a directory
//! all that is below.
//!
//! Lives here: the order of members, how a path is reached without leaving
//! the directory, how much is remembered. May not live here: what becomes of
//! a member.
//!
//! A directory comes before what is in it, names in the order of their bytes.
//! Nothing recurses; of the directories above a file at most [`FOLDERS_MAX`]
//! are held open, the others are found again by name, and must be the same.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::FileType;

use super::Place;
use super::error::{SourceError, check_same};
use super::kernel::{Failed, Folder, Stat};
use crate::format::limits::PATH_BYTES_MAX;
use crate::format::tar::safe_components;

/// Where we are in a file of the backup.
#[derive(Debug)]
pub(super) struct Walk {
    place: Arc<Place>,
    /// The directory that the file is in.
    home: Folder,
    /// Its name there.
    top: Vec<u8>,
    /// The path in the archive of what was found last.
    path: Vec<u8>,
    levels: Vec<Level>,
    next: Next,
    /// Bytes of names that are still to come.
    remembered: u64,
}

/// What to do first.
#[derive(Debug)]
enum Next {
    Top,
    /// Go into the directory that was found last.
    Enter(Stat),
    /// On with the names at hand.
    Names,
}

/// A directory that we are in.
#[derive(Debug)]
struct Level {
    /// Closed if there are many below it.
    folder: Option<Folder>,
    stat: Stat,
    /// Names still to come.
    names: std::vec::IntoIter<Vec<u8>>,
    /// Length of its path.
    end: usize,
}

/// Names of files with more than one, inside one file of the backup.
#[derive(Debug, Default)]
pub(super) struct Links {
    seen: BTreeMap<(u64, u64), Link>,
    remembered: u64,
}

#[derive(Debug)]
struct Link {
    first: Vec<u8>,
    stat: Stat,
    /// Names that did not come yet.
    left: u64,
}

/// How many directories are held open.
const FOLDERS_MAX: usize = 32;
/// Bytes of names that are remembered: of all the names in the directories
/// that we are in, and the first ones of files with more than one.
const REMEMBERED_BYTES_MAX: u64 = 256 << 20;
/// What remembering one more costs besides its bytes.
const REMEMBERED_EACH: u64 = 96;

impl Walk {
    /// Begins at the file of that name, which [`Place::find`] can reach.
    pub(super) fn new(
        place: &Arc<Place>,
        name: &[u8],
    ) -> Result<Self, SourceError> {
        let (home, top) = place.find(name)?;
        Ok(Self {
            place: Arc::clone(place),
            home,
            top,
            path: name.to_vec(),
            levels: Vec::new(),
            next: Next::Top,
            remembered: 0,
        })
    }

    /// The next member that there is, of any kind. A link is not followed.
    pub(super) fn next(&mut self) -> Result<Option<Stat>, SourceError> {
        match std::mem::replace(&mut self.next, Next::Names) {
            Next::Top => {
                let stat = self.home.stat_of(&self.top);
                let stat = stat.map_err(|f| self.failed(f))?;
                return Ok(Some(self.found(stat)));
            }
            Next::Enter(stat) => self.enter(stat)?,
            Next::Names => {}
        }
        while let Some(level) = self.levels.last_mut() {
            let end = level.end;
            let Some(name) = level.names.next() else {
                self.leave()?;
                continue;
            };
            let bytes = name.len() as u64 + REMEMBERED_EACH;
            self.remembered = self.remembered.saturating_sub(bytes);
            self.path.truncate(end);
            self.path.push(b'/');
            self.path.extend(&name);
            let max = PATH_BYTES_MAX as u64;
            if self.path.len() as u64 > max {
                let (path, what) = (self.real(), "bytes of path");
                return Err(SourceError::Limit { path, what, max });
            }
            let stat = self.folder()?.stat_of(&name);
            let stat = stat.map_err(|f| self.vanished(f, "what was listed"))?;
            return Ok(Some(self.found(stat)));
        }
        Ok(None)
    }

    /// The path in the archive of what was found last.
    pub(super) fn path(&self) -> &[u8] {
        &self.path
    }

    /// The same, where it is.
    pub(super) fn real(&self) -> PathBuf {
        self.place.real(&self.path)
    }

    /// The directory that what was found last is in, and its name there.
    pub(super) fn at(&mut self) -> Result<(&Folder, &[u8]), SourceError> {
        let Some(level) = self.levels.last() else {
            return Ok((&self.home, &self.top));
        };
        let start = level.end.saturating_add(1);
        self.open_again()?;
        let name = self.path.get(start..).unwrap_or_default();
        let last = self.levels.last().and_then(|last| last.folder.as_ref());
        Ok((last.unwrap_or(&self.home), name))
    }

    fn found(&mut self, stat: Stat) -> Stat {
        if stat.kind == FileType::Directory {
            self.next = Next::Enter(stat);
        }
        stat
    }

    /// Goes into the directory that was found last.
    fn enter(&mut self, stat: Stat) -> Result<(), SourceError> {
        let (folder, name) = self.at()?;
        let entered = folder.enter(name);
        let folder = entered
            .map_err(|failed| SourceError::gone(self.real(), failed, &stat))?;
        let now = folder.stat().map_err(|f| self.failed(f))?;
        check_same(|| self.real(), &now, &stat)?;
        let mut names: Vec<Vec<u8>> = Vec::new();
        let mut remembered = self.remembered;
        let listed = folder.names(|name| {
            remembered += name.len() as u64 + REMEMBERED_EACH;
            names.push(name.to_vec());
            remembered <= REMEMBERED_BYTES_MAX
        });
        listed.map_err(|f| self.failed(f))?;
        check_remembered(|| self.real(), remembered)?;
        self.remembered = remembered;
        names.sort_unstable();
        if let Some(depth) = self.levels.len().checked_sub(FOLDERS_MAX)
            && let Some(level) = self.levels.get_mut(depth)
        {
            level.folder = None;
        }
        let (names, end) = (names.into_iter(), self.path.len());
        let folder = Some(folder);
        self.levels.push(Level { folder, stat, names, end });
        Ok(())
    }

    /// Leaves the last directory; it must be what it was.
    fn leave(&mut self) -> Result<(), SourceError> {
        let now = self.folder()?.stat();
        let Some(level) = self.levels.pop() else { return Ok(()) };
        self.path.truncate(level.end);
        let now = now.map_err(|f| self.failed(f))?;
        check_same(|| self.real(), &now, &level.stat)
    }

    /// The last directory, which is open.
    fn folder(&mut self) -> Result<&Folder, SourceError> {
        self.open_again()?;
        let last = self.levels.last().and_then(|last| last.folder.as_ref());
        Ok(last.unwrap_or(&self.home))
    }

    /// Opens the last directory, and some above it, if it was closed.
    fn open_again(&mut self) -> Result<(), SourceError> {
        if self.levels.last().is_none_or(|last| last.folder.is_some()) {
            return Ok(());
        }
        let first_kept = self.levels.len().saturating_sub(FOLDERS_MAX);
        let mut above: Option<Folder> = None;
        let mut start = None;
        for depth in 0..self.levels.len() {
            let Some(level) = self.levels.get(depth) else { break };
            let (end, stat) = (level.end, level.stat);
            let name = match start {
                None => &self.top,
                Some(start) => self.path.get(start..end).unwrap_or_default(),
            };
            let from = match depth.checked_sub(1) {
                None => Some(&self.home),
                Some(depth) => {
                    let kept = self.levels.get(depth);
                    let kept = kept.and_then(|kept| kept.folder.as_ref());
                    kept.or(above.as_ref())
                }
            };
            let from = from.unwrap_or(&self.home);
            let path = || {
                let path = self.path.get(..end).unwrap_or_default();
                self.place.real(path)
            };
            let folder = from
                .enter(name)
                .map_err(|f| SourceError::gone(path(), f, &stat))?;
            let now = folder.stat();
            let now = now.map_err(|f| SourceError::call(path(), f))?;
            check_same(path, &now, &stat)?;
            start = Some(end.saturating_add(1));
            match self.levels.get_mut(depth) {
                Some(level) if depth >= first_kept => {
                    level.folder = Some(folder);
                }
                _ => above = Some(folder),
            }
        }
        Ok(())
    }

    fn failed(&self, failed: Failed) -> SourceError {
        self.vanished(failed, "what was there")
    }

    fn vanished(&self, failed: Failed, wanted: &str) -> SourceError {
        let path = self.real();
        if !failed.is_missing() {
            return SourceError::call(path, failed);
        }
        let (found, wanted) = ("nothing".to_owned(), wanted.to_owned());
        SourceError::Changed { path, found, wanted }
    }
}

impl Links {
    /// The first name of a file, if this is another one of it.
    pub(super) fn first_of(
        &mut self,
        walk: &Walk,
        stat: &Stat,
    ) -> Result<Option<Vec<u8>>, SourceError> {
        if stat.links < 2 || stat.kind == FileType::Directory {
            return Ok(None);
        }
        if let Some(link) = self.seen.get_mut(&stat.id) {
            check_same(|| walk.real(), stat, &link.stat)?;
            link.left = link.left.saturating_sub(1);
            if link.left > 0 {
                return Ok(Some(link.first.clone()));
            }
            let last = self.seen.remove(&stat.id).map(|link| link.first);
            let bytes = last.as_ref().map_or(0, Vec::len) as u64;
            let bytes = bytes.saturating_add(REMEMBERED_EACH);
            self.remembered = self.remembered.saturating_sub(bytes);
            return Ok(last);
        }
        let first = walk.path().to_vec();
        self.remembered += first.len() as u64 + REMEMBERED_EACH;
        check_remembered(|| walk.real(), self.remembered)?;
        let left = stat.links.saturating_sub(1);
        self.seen.insert(stat.id, Link { first, stat: *stat, left });
        Ok(None)
    }
}

fn check_remembered(
    path: impl FnOnce() -> PathBuf,
    remembered: u64,
) -> Result<(), SourceError> {
    let (max, what) = (REMEMBERED_BYTES_MAX, "bytes of names in memory");
    if remembered > max {
        return Err(SourceError::Limit { path: path(), what, max });
    }
    Ok(())
}

impl Place {
    /// The directory that a file of the backup is in, reached without a link,
    /// and its name there.
    pub(super) fn find(
        &self,
        name: &[u8],
    ) -> Result<(Folder, Vec<u8>), SourceError> {
        if let Some((place, name)) = self.moved(name) {
            return place.find(&name);
        }
        let mut components = match safe_components(name) {
            Ok(components) => components,
            Err(error) => return Err(SourceError::Encode(error.into())),
        };
        let last = components.pop().unwrap_or_default();
        let mut reached = Vec::new();
        let here = self.folder.enter(b".");
        let mut folder =
            here.map_err(|f| SourceError::call(self.path.clone(), f))?;
        for component in components {
            if !reached.is_empty() {
                reached.push(b'/');
            }
            reached.extend(component);
            folder = self.enter(&folder, component, &reached)?;
        }
        Ok((folder, last.to_vec()))
    }

    /// Opens the directory `name` of `folder`; `path` is its path.
    pub(super) fn enter(
        &self,
        folder: &Folder,
        name: &[u8],
        path: &[u8],
    ) -> Result<Folder, SourceError> {
        folder.enter(name).map_err(|failed| {
            let path = self.real(path);
            let wanted = "a directory";
            if failed.is_missing() {
                return SourceError::Missing { path, wanted };
            }
            match folder.stat_of(name) {
                Ok(stat) if failed.is_no_directory() => {
                    let found = crate::backup::error::kind_name(stat.kind);
                    SourceError::Kind { path, found, wanted }
                }
                _ => SourceError::call(path, failed),
            }
        })
    }
}
