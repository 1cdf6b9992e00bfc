//! Which member comes next.
//!
//! Lives here: taking members from the archive, the numbers that stand for
//! their names. May not live here: whether one is authentic (`codes`); what
//! becomes of it (`files`).

use std::io::Read;

use super::{Goal, ReadError, Reader, STORE_NAME, halfway, shown};
use crate::backup::report::{File, FileState};
use crate::format::chunk;
use crate::format::limits::FILES_MAX;
use crate::fsm::restore::{At, Event, Member};

impl<R: Read + Send> Reader<'_, '_, R> {
    pub(super) fn next(&mut self) -> Result<Event, ReadError> {
        let name = match self.code.take() {
            Some(name) => name,
            None => match self.read_on()? {
                Some(name) => name,
                None => {
                    // Of what was read all the same, `bind` says it; a list
                    // may have asked for no more.
                    let is_all = self.options.only_wanted
                        && matches!(self.options.goal, Goal::List);
                    if let Some(place) = self.place.take()
                        && !self.options.keep_going
                        && !is_all
                    {
                        place.finish()?;
                    }
                    return Ok(Event::Ended);
                }
            },
        };
        let parsed = chunk::Member::parse(&name)?;
        if let Some(place) = &mut self.place {
            place.accept(parsed)?;
        }
        self.before = std::mem::replace(&mut self.last, name.clone());
        Ok(Event::Named(match parsed {
            chunk::Member::Header => Member::Header,
            chunk::Member::Chunk(chunk) => {
                self.number(chunk)?.map_or(Member::Other, Member::Chunk)
            }
            chunk::Member::HeaderMac => Member::HeaderMac,
            chunk::Member::ChunkMac(chunk) => {
                let file = self.numbers.get(chunk.file()).copied();
                let chunk = chunk.number();
                file.map_or(Member::Other, |file| {
                    Member::Mac(At { file, chunk })
                })
            }
        }))
    }

    /// Takes the next member from the archive; its name.
    pub(super) fn read_on(&mut self) -> Result<Option<Vec<u8>>, ReadError> {
        let mut item = match self.ahead.take() {
            Some(item) => Some(item),
            None => {
                self.supply.free(&mut self.item)?;
                let (supply, end) = (self.supply, self.item.end);
                let (progress, name) =
                    (&mut self.options.progress, &self.item.name);
                let mut tick = || progress(halfway(supply.offset(), end), name);
                supply.next(&mut tick)?
            }
        };
        let Some(item) = &mut item else { return Ok(None) };
        // A code alone is no chunk: what is at hand stays for the error.
        if item.name.ends_with(chunk::MAC_SUFFIX) {
            self.mac = item.data.start().to_vec();
            return Ok(Some(std::mem::take(&mut item.name)));
        }
        self.item = std::mem::take(item);
        if let Some((name, text)) = self.item.code.take() {
            (self.code, self.mac) = (Some(name), text);
        }
        self.report.archive_bytes = self.item.end;
        let bytes = halfway(self.supply.offset(), self.item.start);
        (self.options.progress)(bytes, &self.item.name);
        Ok(Some(self.item.name.clone()))
    }

    /// Files are numbered as their chunks appear; `qubes.xml` is 0.
    pub(super) fn number(
        &mut self,
        chunk: chunk::Chunk<'_>,
    ) -> Result<Option<At>, ReadError> {
        let file = match self.numbers.get(chunk.file()) {
            Some(file) => *file,
            None => {
                // Whatever comes first is `qubes.xml`, or nothing is.
                let first = self.numbers.is_empty();
                if first != (chunk.file() == STORE_NAME) {
                    return Ok(None);
                }
                let (files, limit) = (self.numbers.len(), FILES_MAX);
                if files >= limit {
                    let name = shown(&chunk.name());
                    return Err(ReadError::TooManyFiles { name, limit });
                }
                // The limit has 16 bits.
                let next = files as u16;
                self.numbers.insert(chunk.file().to_vec(), next);
                self.report.files.push(File {
                    name: chunk.file().to_vec(),
                    chunks: 0,
                    stored_bytes: 0,
                    decoded_bytes: 0,
                    state: FileState::Begun,
                });
                next
            }
        };
        Ok(Some(At { file, chunk: chunk.number() }))
    }
}
