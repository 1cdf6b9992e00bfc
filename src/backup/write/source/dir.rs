//! What of a directory belongs to a backup.
//!
//! Lives here: `qubes.xml` and what it announces, which files a qube has,
//! what nobody announces. May not live here: how a file is read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FileType;

use super::error::{SourceError, check_same};
use super::kernel::{Failed, Folder, Stat};
use super::walk::{Links, Walk};
use super::{Contents, Omitted, Place, STORE_NAME, SourceFile, What};
use crate::backup::complete::{self, Top};
use crate::backup::error::kind_name;
use crate::backup::report::Qube;
use crate::format::chunk::{Chunk, Member};
use crate::format::document::{Dialect, Document, Edit, Limits};
use crate::format::escape::Escaped;
use crate::format::limits::{
    DECODED_BYTES_MIN, DECODED_FACTOR, FILES_MAX, STORE_BYTES_MAX,
};
use crate::format::tar::{Kind, outer_header, safe_components};

impl Contents {
    /// Looks at a directory with the layout that a restore makes: `qubes.xml`,
    /// and what it announces. Links in its path are followed here, and none
    /// below it.
    ///
    /// `only` are the names of the qubes to back up, all if it is empty;
    /// `exclude` those of qubes to leave out. What is left out so is announced
    /// no more in the document that is written; all else in it is untouched.
    ///
    /// A folder has each file and directory in it as a file of the backup;
    /// that of a template is one.
    ///
    /// # Errors
    /// `Missing` and `Kind`; `Document`; `NoSuchQube`, `NotAnnounced`,
    /// `CannotLeaveOut`; `BadPath`, `Shared`; `NothingThere` for a qube that
    /// is announced and has no file; `Changed`, `Limit`, `Call`.
    pub fn from_dir(
        dir: &Path,
        only: &[String],
        exclude: &[String],
    ) -> Result<Self, SourceError> {
        let place = Arc::new(Place::open(dir)?);
        let (document, stat) = place.document(STORE_NAME)?;
        let announced = complete::announced(&document);
        check_names(&document, &announced, only, exclude)?;
        check_paths(&announced)?;
        let is_chosen = |qube: &&Qube| {
            (only.is_empty() || only.contains(&qube.name))
                && !exclude.contains(&qube.name)
        };
        let (mut chosen, others): (Vec<&Qube>, Vec<&Qube>) =
            announced.iter().partition(is_chosen);
        chosen.sort_by_key(|qube| rank(qube));
        let document = leave_out(document, &others)?;
        let size = document.bytes().len() as u64;
        let bytes = Arc::from(document.into_bytes());
        let mut files = vec![SourceFile {
            name: STORE_NAME.to_vec(),
            qube: None,
            members: 1,
            apparent: size,
            on_disk: stat.on_disk,
            what: What::Held { bytes, stat },
        }];
        let mut omissions = Vec::new();
        if chosen.is_empty() {
            omissions.push(
                "qubes.xml: no qube that it announces is to be in the backup"
                    .to_owned(),
            );
        }
        for qube in chosen {
            files.extend(place.files_of(qube, &mut omissions)?);
        }
        check_count(files.len(), || dir.to_owned())?;
        omissions.extend(place.strays(&announced)?);
        Ok(Self { files, omissions, place })
    }
}

/// A backup may have so many files; one more is the manifest.
pub(super) fn check_count(
    files: usize,
    path: impl FnOnce() -> PathBuf,
) -> Result<(), SourceError> {
    if files < FILES_MAX {
        return Ok(());
    }
    let (path, what) = (path(), "files of a backup");
    Err(SourceError::Limit { path, what, max: FILES_MAX as u64 - 1 })
}

/// Templates after the others, and homes last.
///
/// Source: core-admin `backup.py`, `get_files_to_backup`.
fn rank(qube: &Qube) -> u8 {
    match (complete::is_home(qube), complete::is_template(qube)) {
        (true, _) => 2,
        (false, true) => 1,
        (false, false) => 0,
    }
}

/// The files of a qube that writers always had come first, in their order.
const FIRST: [&[u8]; 8] = [
    b"private.img",
    b"icon.png",
    b"apps.templates",
    b"apps",
    b"kernels",
    b"firewall.xml",
    b"whitelisted-appmenus.list",
    b"root.img",
];

/// Every name that a caller gave is one of a qube.
fn check_names(
    document: &Document,
    announced: &[Qube],
    only: &[String],
    exclude: &[String],
) -> Result<(), SourceError> {
    let qubes = document.qubes().len();
    for name in only.iter().chain(exclude) {
        if document.qube(name).is_err() {
            let name = name.clone();
            return Err(SourceError::NoSuchQube { name, qubes });
        }
    }
    let announced: BTreeSet<&str> =
        announced.iter().map(|qube| qube.name.as_str()).collect();
    match only.iter().find(|name| !announced.contains(name.as_str())) {
        None => Ok(()),
        Some(name) => Err(SourceError::NotAnnounced {
            name: name.clone(),
            announced: announced.len(),
        }),
    }
}

/// Every qube has a directory of its own.
pub(super) fn check_paths(announced: &[Qube]) -> Result<(), SourceError> {
    let mut paths = Vec::new();
    for qube in announced {
        let components = safe_components(qube.path.as_bytes());
        match components {
            // Readers compare what is written.
            Ok(names) if names.join(&b'/') == qube.path.as_bytes() => {
                paths.push((names, qube));
            }
            _ => {
                let (name, path) = (qube.name.clone(), qube.path.clone());
                return Err(SourceError::BadPath { name, path });
            }
        }
    }
    // What is in a directory comes right behind it.
    paths.sort_by(|(names, _), (others, _)| names.cmp(others));
    for pair in paths.windows(2) {
        if let [(outer, other), (inner, qube)] = pair
            && inner.starts_with(outer)
        {
            return Err(SourceError::Shared {
                name: qube.name.clone(),
                path: qube.path.clone(),
                other: other.name.clone(),
            });
        }
    }
    Ok(())
}

/// The document in which these qubes are announced no more.
fn leave_out(
    document: Document,
    others: &[&Qube],
) -> Result<Document, SourceError> {
    let Some(first) = others.first() else {
        return Ok(document);
    };
    let edit = |qube: &&Qube| Edit {
        qube: qube.name.clone(),
        attribute: "backup_content".to_owned(),
        untrusted_value: "False".to_owned(),
    };
    match document.dialect() {
        Dialect::Core2 => {
            let edits: Vec<_> = others.iter().map(edit).collect();
            Ok(document.set_all(&edits)?)
        }
        Dialect::Core3 => {
            let name = first.name.clone();
            Err(SourceError::CannotLeaveOut { name })
        }
    }
}

pub(super) fn limits() -> Limits {
    Limits { bytes_max: STORE_BYTES_MAX, ..Limits::default() }
}

impl Place {
    pub(super) fn open(dir: &Path) -> Result<Self, SourceError> {
        let (path, wanted) = (dir.to_owned(), "a directory");
        match Folder::open(dir) {
            Ok(folder) => Ok(Self { folder, path, moved: Vec::new() }),
            Err(failed) if failed.is_missing() => {
                Err(SourceError::Missing { path, wanted })
            }
            Err(failed) => Err(SourceError::call(path, failed)),
        }
    }

    /// Reads `qubes.xml`, which has that name here.
    pub(super) fn document(
        &self,
        name: &[u8],
    ) -> Result<(Document, Stat), SourceError> {
        let path = || self.real(name);
        let wanted = "a regular file";
        let call = |failed: Failed| match failed.is_missing() {
            true => SourceError::Missing { path: path(), wanted },
            false => SourceError::call(path(), failed),
        };
        let before = self.folder.stat_of(name).map_err(call)?;
        if before.kind != FileType::RegularFile {
            let found = kind_name(before.kind);
            return Err(SourceError::Kind { path: path(), found, wanted });
        }
        let content = self.folder.content(name).map_err(call)?;
        let stat = content.stat().map_err(call)?;
        check_same(path, &stat, &before)?;
        // One byte more shows that it is too large, or grows.
        let most = (STORE_BYTES_MAX as u64).min(stat.size) + 1;
        let mut bytes = vec![0; usize::try_from(most).unwrap_or_default()];
        let mut count = 0;
        while let Some(room) = bytes.get_mut(count..)
            && !room.is_empty()
        {
            match content.read_at(room, count as u64).map_err(call)? {
                0 => break,
                more => count += more,
            }
        }
        bytes.truncate(count);
        check_same(path, &content.stat().map_err(call)?, &stat)?;
        Ok((Document::parse(bytes, &limits())?, stat))
    }

    /// All files of a qube that is announced.
    fn files_of(
        self: &Arc<Self>,
        qube: &Qube,
        omissions: &mut Vec<String>,
    ) -> Result<Vec<SourceFile>, SourceError> {
        let path = qube.path.as_bytes();
        let nothing = || SourceError::NothingThere {
            name: qube.name.clone(),
            path: self.real(path),
        };
        let Some(folder) = self.reach(path)? else { return Err(nothing()) };
        let mut names = Vec::new();
        let listed = folder.names(|name| {
            names.push(name.to_vec());
            names.len() <= FILES_MAX
        });
        listed.map_err(|f| SourceError::call(self.real(path), f))?;
        check_count(names.len(), || self.real(path))?;
        let whole = match (rank(qube), names.is_empty()) {
            (2, _) => Some(path.to_vec()),
            (1, false) => Some([path, b"/."].concat()),
            (_, true) => return Err(nothing()),
            (_, false) => None,
        };
        let mut omitted = Omitted::default();
        let mut files = Vec::new();
        if let Some(whole) = whole {
            files.extend(self.file(qube, whole, &mut omitted)?);
        } else {
            names.sort_by_key(|name| {
                let first = FIRST.iter().position(|first| name == first);
                (first.unwrap_or(FIRST.len()), name.clone())
            });
            for name in &names {
                let name = [path, b"/", name].concat();
                files.extend(self.file(qube, name, &mut omitted)?);
            }
        }
        if files.is_empty() {
            return Err(nothing());
        }
        for end in complete::wanted(qube) {
            let name = end.strip_prefix('/').unwrap_or_default().as_bytes();
            if !name.is_empty() && !names.iter().any(|found| found == name) {
                let (path, qube) =
                    (Escaped(path), Escaped(qube.name.as_bytes()));
                omitted.add(format!(
                    "{path}{end}: not there, although qubes.xml announces the \
                     qube {qube}"
                ));
            }
        }
        omissions.extend(omitted.finish(path));
        Ok(files)
    }

    /// One file of the backup, unless it cannot be one.
    pub(super) fn file(
        self: &Arc<Self>,
        qube: &Qube,
        name: Vec<u8>,
        omitted: &mut Omitted,
    ) -> Result<Option<SourceFile>, SourceError> {
        let mut walk = Walk::new(self, &name)?;
        let Some(top) = walk.next()? else { return Ok(None) };
        if omitted.see(&name, &top) {
            return Ok(None);
        }
        let kind = match top.kind {
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink { target: Vec::new() },
            FileType::RegularFile
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => Kind::File,
        };
        if let Some(wanted) = Top::of(&name).refuses(&kind) {
            let (name, found) = (Escaped(&name), kind_name(top.kind));
            omitted.add(format!("{name}: {found}, left out; wanted {wanted}"));
            return Ok(None);
        }
        if let Some(why) = unfit(&name) {
            omitted.add(format!("{}: left out: {why}", Escaped(&name)));
            return Ok(None);
        }
        let mut own = Omitted::default();
        let mut file = SourceFile {
            name,
            qube: Some(qube.name.clone()),
            members: 0,
            apparent: 0,
            on_disk: 0,
            what: What::OnDisk { kind: top.kind, omitted: Arc::from([]) },
        };
        file.measure(&mut walk, top, &mut own)?;
        let own = own.finish(&file.name);
        omitted.sentences.extend(own.iter().cloned());
        file.what = What::OnDisk { kind: top.kind, omitted: own.into() };
        omitted.sentences.extend(file.larger_than_announced(qube));
        Ok(Some(file))
    }

    /// The directory of that path; `None` if there is nothing.
    pub(super) fn reach(
        &self,
        path: &[u8],
    ) -> Result<Option<Folder>, SourceError> {
        let reached = self
            .find(path)
            .and_then(|(above, name)| self.enter(&above, &name, path));
        match reached {
            Err(SourceError::Missing { .. }) => Ok(None),
            reached => reached.map(Some),
        }
    }

    /// What nobody announces, each as a sentence.
    fn strays(&self, announced: &[Qube]) -> Result<Vec<String>, SourceError> {
        let (mut known, mut above) = (BTreeSet::new(), BTreeSet::new());
        known.insert(STORE_NAME);
        for qube in announced {
            let path = qube.path.as_bytes();
            known.insert(path);
            let slashes = path.iter().enumerate().filter(|(_, b)| **b == b'/');
            above.extend(slashes.filter_map(|(at, _)| path.get(..at)));
        }
        let mut omitted = Omitted::default();
        let mut left = vec![Vec::new()];
        while let Some(path) = left.pop() {
            let folder = match path.as_slice() {
                b"" => None,
                path => match self.reach(path)? {
                    Some(folder) => Some(folder),
                    None => continue,
                },
            };
            let listed = folder.as_ref().unwrap_or(&self.folder);
            let listed = listed.names(|name| {
                let name = match path.as_slice() {
                    b"" => name.to_vec(),
                    path => [path, b"/", name].concat(),
                };
                if above.contains(name.as_slice()) {
                    left.push(name);
                } else if !known.contains(name.as_slice()) {
                    let name = Escaped(&name);
                    omitted.add(format!(
                        "{name}: left out, no qube that qubes.xml announces is \
                         there"
                    ));
                }
                true
            });
            listed.map_err(|f| SourceError::call(self.real(&path), f))?;
        }
        let mut sentences = omitted.finish(b".");
        sentences.sort();
        Ok(sentences)
    }
}

impl SourceFile {
    /// Goes through all of it, and counts.
    pub(super) fn measure(
        &mut self,
        walk: &mut Walk,
        top: Stat,
        omitted: &mut Omitted,
    ) -> Result<(), SourceError> {
        let mut links = Links::default();
        let mut next = Some(top);
        while let Some(stat) = next {
            if !omitted.see(walk.path(), &stat) {
                self.members += 1;
                if links.first_of(walk, &stat)?.is_none() {
                    self.count(&stat);
                }
            }
            next = walk.next()?;
        }
        Ok(())
    }

    fn count(&mut self, stat: &Stat) {
        self.on_disk = self.on_disk.saturating_add(stat.on_disk);
        if stat.kind == FileType::RegularFile {
            self.apparent = self.apparent.saturating_add(stat.size);
        }
    }

    /// What is said if readers would take it for a bomb.
    fn larger_than_announced(&self, qube: &Qube) -> Option<String> {
        let bytes = qube.bytes?;
        let most = bytes.saturating_mul(DECODED_FACTOR);
        let most = most.saturating_add(DECODED_BYTES_MIN);
        (self.on_disk > most).then(|| {
            format!(
                "{}: {} bytes on the disk, and qubes.xml announces {bytes} \
                 for the qube {}; readers will want --no-decoded-limit",
                Escaped(&self.name),
                self.on_disk,
                Escaped(qube.name.as_bytes())
            )
        })
    }
}

/// Why no member of the outer archive can have the name of a chunk of it.
fn unfit(name: &[u8]) -> Option<String> {
    let longest = match Chunk::new(name, u32::MAX) {
        Ok(chunk) => Member::ChunkMac(chunk).name(),
        Err(error) => return Some(error.to_string()),
    };
    outer_header(&longest, 0, 0).err().map(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_readers_would_take_for_a_bomb_is_named() {
        let sentence = |on_disk, bytes| {
            let qube = Qube {
                name: "work".to_owned(),
                class: "AppVM".to_owned(),
                path: "vm5".to_owned(),
                bytes,
            };
            let file = SourceFile {
                name: b"vm5/private.img".to_vec(),
                qube: None,
                members: 1,
                apparent: 0,
                on_disk,
                what: What::OnDisk {
                    kind: FileType::RegularFile,
                    omitted: Arc::from([]),
                },
            };
            file.larger_than_announced(&qube)
        };
        let most = 40 + (1 << 30);
        assert_eq!(sentence(most, Some(10)), None);
        assert_eq!(sentence(u64::MAX, None), None);
        let text = "vm5/private.img: 1073741865 bytes on the disk, and \
                    qubes.xml announces 10 for the qube work; readers will \
                    want --no-decoded-limit";
        assert_eq!(sentence(most + 1, Some(10)).as_deref(), Some(text));
    }
}
