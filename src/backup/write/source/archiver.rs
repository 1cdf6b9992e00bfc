//! One file of the backup, as the bytes of its inner archive.
//!
//! Lives here: headers, data, padding, end, one after the other into room
//! that a caller has; that what is read does not change. May not live here:
//! which files there are, compression, chunks.

use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::FileType;

use super::error::{SourceError, check_same};
use super::kernel::{Content, Stat};
use super::map::{SEGMENTS_MAX, map_of};
use super::walk::{Links, Walk};
use super::{Omitted, Place, SourceFile, What};
use crate::backup::error::kind_name;
use crate::format::tar::{self, NewEntry, NewKind, Segment, encode, padding};

/// Gives the inner archive of one file of the backup, piece by piece.
///
/// In memory are the headers of one member with its sparse map, the names in
/// the directories that it is in, and names of files that have another one.
#[derive(Debug)]
pub struct Archiver {
    place: Arc<Place>,
    name: Vec<u8>,
    state: State,
    /// Headers, padding or the end, and how much of it was given.
    made: Vec<u8>,
    given: usize,
    /// The file whose data is being given.
    data: Option<Data>,
    omitted: Omitted,
    known: Arc<[String]>,
    facts: Facts,
}

/// What was read for one file of the backup.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Facts {
    /// Files, directories and links.
    pub members: u64,
    /// Bytes that were read of files: holes are not.
    pub read_bytes: u64,
    /// Bytes of the inner archive.
    pub archive_bytes: u64,
    /// What was left out and is not in [`Contents::omissions`], since it was
    /// not there then; each a sentence.
    ///
    /// [`Contents::omissions`]: super::Contents::omissions
    pub omissions: Vec<String>,
}

/// Where the next member comes from.
#[derive(Debug)]
enum State {
    /// From the disk.
    Walking(Box<Walking>),
    /// There is none: what was made last is the end. With the file at the
    /// top, as it was in the beginning.
    Ended(Option<Stat>),
    /// Nothing comes after a failure.
    Broken,
}

#[derive(Debug)]
struct Walking {
    walk: Walk,
    links: Links,
    /// The file at the top, and what it should be.
    top: Option<Stat>,
    kind: FileType,
}

/// A regular file whose data is being given.
#[derive(Debug)]
struct Data {
    content: Content,
    stat: Stat,
    path: PathBuf,
    /// All of its data, in bytes.
    length: u64,
    /// What is left of the segment at hand.
    now: Segment,
    segments: std::vec::IntoIter<Segment>,
}

/// What is kept of the memory for headers from member to member.
const MADE_KEPT: usize = 1 << 20;

impl Archiver {
    pub(super) fn new(
        place: &Arc<Place>,
        file: &SourceFile,
    ) -> Result<Self, SourceError> {
        let mut archiver = Self {
            place: Arc::clone(place),
            name: file.name.clone(),
            state: State::Broken,
            made: Vec::new(),
            given: 0,
            data: None,
            omitted: Omitted::default(),
            known: Arc::from([]),
            facts: Facts::default(),
        };
        match &file.what {
            What::Held { bytes, stat } => archiver.hold(bytes, stat)?,
            What::OnDisk { kind, omitted } => {
                archiver.known = Arc::clone(omitted);
                archiver.state = State::Walking(Box::new(Walking {
                    walk: Walk::new(place, &file.name)?,
                    links: Links::default(),
                    top: None,
                    kind: *kind,
                }));
            }
        }
        Ok(archiver)
    }

    /// Fills `room`, which is not empty, with the next bytes of the inner
    /// archive. Less than asked is given only at the end; 0: it is over.
    ///
    /// Data is read straight into `room`: the larger, the fewer calls.
    ///
    /// # Errors
    /// `Changed` if a file is not what it was, or gone; `Encode` or `Limit`
    /// for what no archive can hold; `Call`. After that only `Unfinished`.
    pub fn fill(&mut self, room: &mut [u8]) -> Result<usize, SourceError> {
        let mut filled = 0;
        while let Some(rest) = room.get_mut(filled..)
            && !rest.is_empty()
        {
            match self.give(rest) {
                Ok(Some(count)) => filled += count,
                Ok(None) => break,
                Err(error) => {
                    self.state = State::Broken;
                    self.data = None;
                    self.made.clear();
                    return Err(error);
                }
            }
        }
        Ok(filled)
    }

    /// The path in the archive of the member that is being given.
    #[must_use]
    pub fn entry_name(&self) -> &[u8] {
        match &self.state {
            State::Walking(walking) => walking.walk.path(),
            State::Ended(_) | State::Broken => &self.name,
        }
    }

    /// Ends the file: all of it must have been given, and the file at its top
    /// must be what it was when its first byte was.
    ///
    /// # Errors
    /// `Unfinished`, `Changed`, `Call`.
    pub fn finish(mut self) -> Result<Facts, SourceError> {
        let path = || self.place.real(&self.name);
        let State::Ended(top) = &self.state else {
            return Err(SourceError::Unfinished { path: path() });
        };
        if self.given < self.made.len() {
            return Err(SourceError::Unfinished { path: path() });
        }
        if let Some(top) = top {
            let (folder, name) = self.place.find(&self.name)?;
            let now = folder.stat_of(&name);
            let now = now.map_err(|f| SourceError::gone(path(), f, top))?;
            check_same(path, &now, top)?;
        }
        let mut omissions = self.omitted.finish(&self.name);
        omissions.retain(|sentence| !self.known.contains(sentence));
        self.facts.omissions = omissions;
        Ok(self.facts)
    }

    /// Gives some bytes; `None` if there are no more.
    fn give(&mut self, room: &mut [u8]) -> Result<Option<usize>, SourceError> {
        let made = self.made.get(self.given..).unwrap_or_default();
        let count = if !made.is_empty() {
            let count = made.len().min(room.len());
            for (place, byte) in room.iter_mut().zip(made) {
                *place = *byte;
            }
            self.given += count;
            count
        } else if let Some(data) = &mut self.data {
            let count = data.read(room)?;
            self.facts.read_bytes += count as u64;
            if count == 0 {
                self.end_data()?;
            }
            count
        } else {
            match &self.state {
                State::Walking(_) => self.next_member()?,
                State::Ended(_) => return Ok(None),
                State::Broken => {
                    let path = self.place.real(&self.name);
                    return Err(SourceError::Unfinished { path });
                }
            }
            0
        };
        self.facts.archive_bytes += count as u64;
        Ok(Some(count))
    }

    /// The file was given to its end; was it the same all the time?
    fn end_data(&mut self) -> Result<(), SourceError> {
        let Some(data) = self.data.take() else { return Ok(()) };
        let now = data.content.stat();
        let now = now.map_err(|f| SourceError::call(data.path.clone(), f))?;
        check_same(|| data.path, &now, &data.stat)?;
        self.make_room();
        self.made.resize(padding(data.length), 0);
        Ok(())
    }

    fn make_room(&mut self) {
        self.made.clear();
        self.made.shrink_to(MADE_KEPT);
        self.given = 0;
    }

    /// Makes the headers of the next member, or the end.
    fn next_member(&mut self) -> Result<(), SourceError> {
        self.make_room();
        let State::Walking(walking) = &mut self.state else { return Ok(()) };
        let Some(stat) = walking.walk.next()? else {
            tar::end(self.facts.archive_bytes, &mut self.made);
            self.state = State::Ended(walking.top);
            return Ok(());
        };
        walking.check_top(&stat)?;
        if self.omitted.see(walking.walk.path(), &stat) {
            return Ok(());
        }
        self.facts.members += 1;
        if let Some(first) = walking.links.first_of(&walking.walk, &stat)? {
            let kind = NewKind::HardLink { target: &first };
            let path = walking.walk.path();
            encode(&entry(path, kind, &stat), &mut self.made)?;
            return Ok(());
        }
        self.data = walking.encode(&stat, &mut self.made)?;
        Ok(())
    }

    /// Makes all of an archive whose one file is in memory.
    fn hold(&mut self, bytes: &[u8], stat: &Stat) -> Result<(), SourceError> {
        let size = bytes.len() as u64;
        let kind = NewKind::File { size, map: None };
        encode(&entry(&self.name, kind, stat), &mut self.made)?;
        self.made.extend(bytes);
        self.made.resize(self.made.len() + padding(size), 0);
        tar::end(self.made.len() as u64, &mut self.made);
        self.facts.members = 1;
        self.facts.read_bytes = size;
        self.state = State::Ended(None);
        Ok(())
    }
}

impl Walking {
    /// What comes first is the file that was found when it was planned.
    fn check_top(&mut self, stat: &Stat) -> Result<(), SourceError> {
        if self.top.is_some() {
            return Ok(());
        }
        self.top = Some(*stat);
        if stat.kind == self.kind {
            return Ok(());
        }
        let path = self.walk.real();
        let found = kind_name(stat.kind).to_owned();
        let wanted = kind_name(self.kind).to_owned();
        Err(SourceError::Changed { path, found, wanted })
    }

    /// Makes the headers of what was found last; its data, if it has some.
    fn encode(
        &mut self,
        stat: &Stat,
        made: &mut Vec<u8>,
    ) -> Result<Option<Data>, SourceError> {
        let real = self.walk.real();
        let gone = |failed| SourceError::gone(real.clone(), failed, stat);
        if stat.kind == FileType::Directory {
            // As GNU tar writes it.
            let path = [self.walk.path(), b"/"].concat();
            encode(&entry(&path, NewKind::Directory, stat), made)?;
            return Ok(None);
        }
        let (folder, name) = self.walk.at()?;
        if stat.kind == FileType::Symlink {
            let target = folder.target_of(name).map_err(gone)?;
            let kind = NewKind::Symlink { target: &target };
            encode(&entry(self.walk.path(), kind, stat), made)?;
            return Ok(None);
        }
        let content = folder.content(name).map_err(gone)?;
        let now = content.stat().map_err(gone)?;
        check_same(|| real.clone(), &now, stat)?;
        let map = map_of(&content, stat.size).map_err(gone)?;
        let Some(map) = map else {
            let (path, what) = (real, "pieces of data");
            let max = SEGMENTS_MAX as u64;
            return Err(SourceError::Limit { path, what, max });
        };
        let kind = NewKind::File { size: stat.size, map: Some(&map) };
        let length = encode(&entry(self.walk.path(), kind, stat), made)?;
        let (stat, path) = (*stat, real);
        let (now, segments) = (Segment::default(), map.into_iter());
        Ok(Some(Data { content, stat, path, length, now, segments }))
    }
}

impl Data {
    /// Reads some bytes; 0 if all was read.
    fn read(&mut self, room: &mut [u8]) -> Result<usize, SourceError> {
        while self.now.length == 0 {
            match self.segments.next() {
                Some(next) => self.now = next,
                None => return Ok(0),
            }
        }
        let Segment { offset, length } = self.now;
        let count = usize::try_from(length).unwrap_or(usize::MAX);
        let count = count.min(room.len());
        let room = room.get_mut(..count).unwrap_or_default();
        let read = self.content.read_at(room, offset);
        let read = read.map_err(|f| SourceError::call(self.path.clone(), f))?;
        if read == 0 {
            return Err(SourceError::Changed {
                path: self.path.clone(),
                found: format!("its end at byte {offset}"),
                wanted: format!("{} bytes", self.stat.size),
            });
        }
        self.now.offset += read as u64;
        self.now.length -= read as u64;
        Ok(read)
    }
}

fn entry<'a>(path: &'a [u8], kind: NewKind<'a>, stat: &Stat) -> NewEntry<'a> {
    let Stat { mode, uid, gid, mtime, .. } = *stat;
    NewEntry { path, kind, mode, uid, gid, mtime }
}
