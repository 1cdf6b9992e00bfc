//! Whether a member is authentic.
//!
//! Lives here: the codes of members compared with what was read, and with
//! their lines of a manifest that was read first; the header, which names the
//! digest. May not live here: which digest is decided on; the machine knows.

use std::io::Read;

use super::{Options, ReadError, Reader, shown};
use crate::backup::decode::Unpack;
use crate::backup::filter::{External, ProgramError, allowed};
use crate::backup::report::{Binding, HeaderFacts};
use crate::format::chunk;
use crate::format::compression::{CompressionError, Filter};
use crate::format::header::Header;
use crate::format::hmac::{Digest, MacText, MacValue};
use crate::format::manifest::{Entry, MANIFEST_NAME, Place};
use crate::fsm::ahead::Verdict;
use crate::fsm::restore::Event;

impl<R: Read + Send> Reader<'_, '_, R> {
    pub(super) fn mac_text(&self) -> Result<MacText, ReadError> {
        MacText::parse(&self.mac).map_err(|cause| {
            let name = shown(&[&self.item.name, chunk::MAC_SUFFIX].concat());
            ReadError::MacText { name, cause }
        })
    }

    /// The code of the member at hand, computed over what was read.
    pub(super) fn mac_of(&self, digest: Digest) -> MacValue {
        self.item.data.mac(digest, &self.options.passphrase)
    }

    /// The verdict on the chunk at hand, by its own code and, where that was
    /// read first, by the manifest.
    pub(super) fn verify(&mut self) -> Result<Event, ReadError> {
        if let Err(error) = self.mac_text() {
            // No code is no better than a wrong one, and costs no more.
            self.failures.push(Some(error));
            return Ok(Event::Bad);
        }
        if self.item.verdict != Some(Verdict::Good) {
            return Ok(Event::Bad);
        }
        if let Some(value) = self.item.value.take() {
            if let Err(error) = self.check(&value) {
                // The machine says what a bad chunk costs; this is why.
                self.failures.push(Some(error));
                return Ok(Event::Bad);
            }
            self.saw(&value);
        }
        Ok(Event::Good)
    }

    /// Compares an authentic member with its line of the manifest.
    pub(super) fn check(&mut self, value: &MacValue) -> Result<(), ReadError> {
        let Some(manifest) = &self.bound.manifest else { return Ok(()) };
        let name = &self.item.name;
        let left = manifest.entries().get(self.listed..).unwrap_or_default();
        // Lines of a file that is lost are passed over. Without a line it is
        // the manifest itself, or was not there when names were compared:
        // the comparison of all of them will say that.
        let Some(at) = left.iter().position(|entry| entry.name == *name) else {
            return Ok(());
        };
        self.listed += at + 1;
        left.get(at).map_or(Ok(()), |entry| Ok(entry.check_mac(value)?))
    }

    /// Remembers an authentic member, for the manifest: all but its own.
    pub(super) fn saw(&mut self, mac: &MacValue) {
        let is_own = matches!(
            chunk::Member::parse(&self.item.name),
            Ok(chunk::Member::Chunk(chunk)) if chunk.file() == MANIFEST_NAME
        );
        let header = self.header.as_ref();
        if is_own || header.is_none_or(|header| header.promise().is_none()) {
            return;
        }
        self.seen.push(Entry {
            mac: mac.bytes().to_vec(),
            size: self.item.size,
            name: self.item.name.clone(),
        });
    }

    pub(super) fn parse(&mut self) -> Result<Event, ReadError> {
        let header = Header::parse(self.item.data.start())?;
        let named = Digest::ALL.iter().position(|d| *d == header.digest());
        // The list has a few entries.
        let named = named.unwrap_or_default() as u8;
        match self.guessed.flatten() {
            Some(verified) if verified != header.digest() => {
                let error = header.check_digest(verified);
                self.failures.push(error.err().map(ReadError::from));
            }
            _ => {
                let mac = self.mac_of(header.digest());
                self.begin(header)?;
                self.check(&mac)?;
                self.saw(&mac);
            }
        }
        Ok(Event::Parsed(named))
    }

    /// The header is there: what it names must be known.
    pub(super) fn begin(&mut self, header: Header) -> Result<(), ReadError> {
        let cipher = header.cipher()?;
        self.unpack = unpack(&header, &self.options)?;
        if header.promise().is_none() && self.options.require_manifest {
            return Err(ReadError::NotBound);
        }
        self.report.header = HeaderFacts {
            digest: header.digest().name().to_owned(),
            cipher: cipher.map(|cipher| cipher.name().to_owned()),
            filter: header.filter().map(str::to_owned),
            headerless: header.is_headerless(),
        };
        self.report.binding = match header.promise() {
            Some(_) => Binding::NotCompared,
            None => Binding::NotBound,
        };
        self.place = Some(Place::new(&header));
        self.supply.begin(header.digest());
        self.header = Some(header);
        Ok(())
    }
}

/// What takes the compression of a header off.
pub(super) fn unpack(
    header: &Header,
    options: &Options<'_>,
) -> Result<Unpack, ReadError> {
    let Some(name) = header.filter().map(str::as_bytes) else {
        return Ok(match header.is_headerless() {
            true => Unpack::Guess,
            false => Unpack::BuiltIn(Filter::None),
        });
    };
    if let Some(External { programs, running }) = &options.external_filter {
        let program = programs.find(name)?;
        return Ok(Unpack::Outside(program, running.clone()));
    }
    match (Filter::by_name(name), allowed(name)) {
        (Ok(filter), _) => Ok(Unpack::BuiltIn(filter)),
        (Err(CompressionError::UnknownFilter { .. }), Some(name)) => {
            Err(ProgramError::NotAsked { name }.into())
        }
        (Err(error), _) => Err(error.into()),
    }
}

pub(super) fn digest_of(number: u8) -> Option<Digest> {
    Digest::ALL.get(usize::from(number)).copied()
}
