//! Whether all is there, and how a run ends.
//!
//! Lives here: what was announced beside what came, the manifest beside what
//! was read, what is left under which name, the text behind each cause. May
//! not live here: which end it is; the machine knows.

use std::collections::BTreeMap;
use std::io::Read;

use super::codes::digest_of;
use super::{Goal, ReadError, Reader, STORE_NAME, shown};
use crate::backup::complete;
use crate::backup::report::{Binding, FileState};
use crate::format::chunk;
use crate::format::manifest::{Entry, Manifest, ManifestError};
use crate::fsm::restore::{Cause, End, Event, Failure};

impl<R: Read + Send> Reader<'_, '_, R> {
    /// Compares what is complete with what was announced.
    pub(super) fn count(&mut self) -> Result<Event, ReadError> {
        if let Goal::Restore { wanted, .. } = &self.options.goal {
            for name in wanted {
                let is_there = self.report.files.iter().any(|file| {
                    file.name == name.as_bytes()
                        || self
                            .qube_of(&file.name)
                            .is_some_and(|qube| qube.name == *name)
                });
                if !is_there {
                    let name = shown(name.as_bytes());
                    return Err(ReadError::NotFound { name });
                }
            }
        }
        if let (Goal::Cat { path, .. }, false) =
            (&self.options.goal, self.found)
        {
            let name = shown(path.as_bytes());
            return Err(ReadError::NotFound { name });
        }
        let (nothing, omissions) = match self.options.only_wanted {
            true => Default::default(),
            false => complete::missing(&self.report.qubes, &self.report.files),
        };
        self.report.omissions.extend(omissions);
        if !nothing.is_empty() {
            let error = ReadError::Missing { qubes: nothing };
            self.failures.push(Some(error));
            return Ok(Event::Missing);
        }
        if !self.hold {
            self.bind()?;
        }
        Ok(Event::Whole)
    }

    pub(super) fn bind(&mut self) -> Result<Event, ReadError> {
        if let Some(error) = self.bound.refused.take() {
            return Err(error);
        }
        let promised = self.header.as_ref().and_then(|header| header.promise());
        match (promised, &self.manifest) {
            (Some(id), Some(manifest)) => {
                let lost = |name: &[u8]| {
                    self.is_lost(name) || !self.is_asked_for(name)
                };
                let of = manifest.entries().len();
                let read = manifest.compare_but(&self.seen, lost)?;
                self.report.binding = if read == of {
                    Binding::Bound(id)
                } else {
                    Binding::Partly { id, read, of }
                };
                Ok(Event::Good)
            }
            (Some(_), None) => Err(ManifestError::Missing.into()),
            (None, _) => Ok(Event::Good),
        }
    }

    /// Whether the source had to give a member.
    pub(super) fn is_asked_for(&self, name: &[u8]) -> bool {
        let Goal::Restore { wanted, .. } = &self.options.goal else {
            return true;
        };
        let file = match chunk::Member::parse(name) {
            Ok(chunk::Member::Chunk(chunk)) if self.options.only_wanted => {
                chunk.file().to_vec()
            }
            _ => return true,
        };
        file == STORE_NAME || wanted.iter().any(|w| w.as_bytes() == file)
    }

    /// Whether a member is of a file that was lost.
    pub(super) fn is_lost(&self, name: &[u8]) -> bool {
        let Ok(member) = chunk::Member::parse(name) else { return false };
        let (chunk::Member::Chunk(chunk) | chunk::Member::ChunkMac(chunk)) =
            member
        else {
            return false;
        };
        let file = self.numbers.get(chunk.file());
        let file = file.and_then(|n| self.report.files.get(usize::from(*n)));
        file.is_some_and(|file| file.state == FileState::Lost)
    }

    pub(super) fn stop(&mut self) {
        if let Err(error) = self.supply.stop() {
            self.report.omissions.push(error.to_string());
        }
        for (file, staged) in std::mem::take(&mut self.ready) {
            // Whole, and it did not get its name.
            if staged.is_some() {
                self.set(file, FileState::Withheld);
            }
        }
        self.decoding = None;
        if let Some(stage) = self.stage.take()
            && let Err(error) = stage.remove()
        {
            self.report.omissions.push(error.to_string());
        }
    }

    /// Says of what is in place that no manifest binds it, where one is
    /// promised and does not list all of it as it was read.
    pub(super) fn unbind(&mut self) {
        if self.header.as_ref().is_none_or(|header| header.promise().is_none())
        {
            return;
        }
        let manifest = self.bound.manifest.as_ref().or(self.manifest.as_ref());
        let listed = by_file(manifest.map_or(&[], Manifest::entries));
        let seen = by_file(&self.seen);
        for file in &mut self.report.files {
            let name = file.name.as_slice();
            let listed = listed.get(name);
            let is_bound = listed.is_some() && listed == seen.get(name);
            if file.state == FileState::Restored && !is_bound {
                file.state = FileState::Unbound;
            }
        }
    }

    pub(super) fn end(&mut self, end: End) -> Result<(), ReadError> {
        match end {
            End::Done => Ok(()),
            End::Omitted { headerless, .. } => {
                if let Some(digest) = headerless.and_then(digest_of) {
                    self.report.omissions.push(format!(
                        "backup-header: none; the digest {} was found by \
                         trying, and a header that was taken away would look \
                         the same",
                        digest.name()
                    ));
                }
                Ok(())
            }
            End::Failed(cause) => Err(self.error(cause)),
            End::Canceled(_) => Err(ReadError::Canceled),
        }
    }

    /// The text behind a cause.
    pub(super) fn error(&mut self, cause: Cause) -> ReadError {
        let last = shown(&self.last);
        let own = match cause {
            Cause::Failed(Failure(number)) => {
                self.failures.get_mut(usize::from(number))
            }
            Cause::Truncated
            | Cause::Sequence
            | Cause::Passphrase
            | Cause::Header
            | Cause::Mac(_)
            | Cause::Missing
            | Cause::Binding => {
                self.failures.iter_mut().find(|failure| failure.is_some())
            }
        };
        match (cause, own.and_then(Option::take)) {
            (Cause::Failed(_) | Cause::Missing, Some(error)) => error,
            (Cause::Truncated, _) => {
                let (after, wanted) = place(&self.last);
                ReadError::Truncated { after, wanted }
            }
            (Cause::Sequence, _) => {
                let (after, wanted) = place(&self.before);
                ReadError::Sequence { found: last, after, wanted }
            }
            (Cause::Passphrase, _) => {
                ReadError::Passphrase { name: shown(&self.item.name) }
            }
            // The driver gives its own error for it: see `parse`.
            (Cause::Header, error) => error.unwrap_or_else(|| {
                ReadError::Passphrase { name: shown(&self.item.name) }
            }),
            (Cause::Mac(_), Some(error)) => error,
            (Cause::Mac(_), None) => ReadError::Mac {
                name: shown(&self.item.name),
                offset: self.item.end,
            },
            (Cause::Binding, _) => ManifestError::Mac.into(),
            (Cause::Failed(_) | Cause::Missing, None) => {
                ReadError::Missing { qubes: Vec::new() }
            }
        }
    }
}

/// A place in the archive by the name of the member before it: that name as
/// it is shown, and what must stand there.
fn place(before: &[u8]) -> (String, String) {
    if before.is_empty() {
        let wanted = "backup-header, or qubes.xml.000 of an archive without it";
        return ("nothing".to_owned(), wanted.to_owned());
    }
    let wanted = match chunk::Member::parse(before) {
        Ok(member) => match (member.mac(), member) {
            (Some(mac), _) => shown(&mac.name()),
            (None, chunk::Member::ChunkMac(chunk)) => {
                let next = chunk.next().map(|next| shown(&next.name()));
                let next = next.map_or(String::new(), |next| next + ", or ");
                format!("{next}number 000 of a file that was not there before")
            }
            (None, _) => shown(&[STORE_NAME, b".000"].concat()),
        },
        // Refused when it was read.
        Err(_) => "a chunk or its code".to_owned(),
    };
    (shown(before), wanted)
}

/// The chunks of each file, in their order.
fn by_file(entries: &[Entry]) -> BTreeMap<&[u8], Vec<&Entry>> {
    let mut files: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for entry in entries {
        if let Ok(chunk::Member::Chunk(chunk)) =
            chunk::Member::parse(&entry.name)
        {
            files.entry(chunk.file()).or_default().push(entry);
        }
    }
    files
}
