//! The manifest, read before the archive is.
//!
//! Lives here: a walk over the headers of an archive that can seek, the
//! manifest at its end, and the comparison of names and sizes. May not live
//! here: any data but the header's and the manifest's.
//! Source: MANIFEST.md, R5.

use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use super::codes::unpack;
use super::files::in_memory;
use super::{Options, ReadError, shown};
use crate::backup::decode::{DecodeError, Decoding, Sink, Unpack};
use crate::backup::members::{Block, Members};
use crate::format::chunk::{HEADER_NAME, MAC_SUFFIX, Member};
use crate::format::header::Header;
use crate::format::hmac::MacText;
use crate::format::limits::MANIFEST_BYTES_MAX;
use crate::format::manifest::{MANIFEST_NAME, Manifest, ManifestError, Place};
use crate::format::tar::safe_components;

/// The manifest of an archive whose header promises one, once every name and
/// size in the archive is the one it lists; with `keep_going` whether they
/// are or not. `None` if none is promised, or if the header is wrong: reading
/// the archive says how.
pub(super) fn first<R: Read + Seek>(
    source: &mut R,
    options: &Options<'_>,
) -> Result<Option<Manifest>, ReadError> {
    let (passphrase, gate) = (&options.passphrase, &options.gate);
    let failed = |cause| ReadError::Io { offset: 0, cause };
    let length = source.seek(SeekFrom::End(0)).map_err(failed)?;
    source.seek(SeekFrom::Start(0)).map_err(failed)?;
    let mut members = Members::new(source, Arc::clone(gate));
    let Ok(Some((header, size))) = header(&mut members, passphrase) else {
        return Ok(None);
    };
    let unpack = unpack(&header, options)?;
    let mut place = Place::new(&header);
    let mut seen = vec![(HEADER_NAME.to_vec(), size)];
    let mut names = 0;
    let mut manifest = None;
    while let Some(head) = members.head()? {
        if gate.lock().is_canceled() {
            return Err(ReadError::Canceled);
        }
        let member = Member::parse(&head.name)?;
        if place.accept(member)? {
            match (member.mac(), &manifest) {
                (Some(_), _) => {
                    let mut data = Block::default();
                    members.data(&mut data)?;
                    manifest = Some((data, None));
                }
                (None, Some(_)) => {
                    let text = members.text()?;
                    manifest = manifest.map(|(data, _)| (data, Some(text)));
                }
                // A code without its manifest: the walk ends in `Missing`.
                (None, None) => members.pass(length)?,
            }
            continue;
        }
        members.pass(length)?;
        if member.mac().is_some() {
            // No manifest lists more, so no more need be kept.
            names += head.name.len();
            if names > MANIFEST_BYTES_MAX {
                let (found, limit) = (names, MANIFEST_BYTES_MAX);
                return Err(ManifestError::TooLarge { found, limit }.into());
            }
            seen.push((head.name, head.size));
        }
    }
    place.finish()?;
    let Some((data, text)) = manifest else {
        return Err(ManifestError::Missing.into());
    };
    let offset = members.taken();
    let manifest = open(&header, unpack, &data, text, passphrase, offset)?;
    match manifest.compare_headers(&seen) {
        Err(error) if !options.keep_going => Err(error.into()),
        // What is missing may be of files that are left out: the comparison
        // at the end knows, and until then each chunk is bound.
        Ok(()) | Err(_) => Ok(Some(manifest)),
    }
}

/// The header, authentic, if it promises a manifest; and its size.
fn header<R: Read>(
    members: &mut Members<R>,
    passphrase: &[u8],
) -> Result<Option<(Header, u64)>, ReadError> {
    let (mut data, mut text) = (Block::default(), Vec::new());
    for is_mac in [false, true] {
        let Some(head) = members.head()? else { return Ok(None) };
        match (Member::parse(&head.name)?, is_mac) {
            (Member::Header, false) => members.data(&mut data)?,
            (Member::HeaderMac, true) => text = members.text()?,
            (
                Member::Header
                | Member::HeaderMac
                | Member::Chunk(_)
                | Member::ChunkMac(_),
                _,
            ) => return Ok(None),
        }
    }
    let Ok(text) = MacText::parse(&text) else { return Ok(None) };
    let Some(digest) = data.guess(passphrase, &text) else {
        return Ok(None);
    };
    let header = Header::parse(data.start())?;
    header.check_digest(digest)?;
    let size = data.len() as u64;
    Ok(header.promise().is_some().then_some((header, size)))
}

/// Authenticates and decodes the manifest's one chunk.
fn open(
    header: &Header,
    unpack: Unpack,
    data: &Block,
    text: Option<Vec<u8>>,
    passphrase: &[u8],
    offset: u64,
) -> Result<Manifest, ReadError> {
    let name = [MANIFEST_NAME, b".000"].concat();
    let Some(text) = text else {
        return Err(ReadError::Truncated {
            after: shown(&name),
            wanted: shown(&[&name, MAC_SUFFIX].concat()),
        });
    };
    let text = MacText::parse(&text).map_err(|cause| {
        let name = shown(&[&name, MAC_SUFFIX].concat());
        ReadError::MacText { name, cause }
    })?;
    let value = data.mac(header.digest(), passphrase);
    if !value.matches(text.value()) {
        return Err(ReadError::Mac { name: shown(&name), offset });
    }
    let content =
        decode(header, unpack, data, passphrase).map_err(|cause| {
            let (name, cause) = (shown(&name), Box::new(cause));
            ReadError::Inner { name, offset, cause }
        })?;
    Ok(Manifest::parse(&content, header, passphrase)?)
}

fn decode(
    header: &Header,
    unpack: Unpack,
    data: &Block,
    passphrase: &[u8],
) -> Result<Vec<u8>, DecodeError> {
    let (sink, limits) = in_memory(MANIFEST_BYTES_MAX);
    let top = safe_components(MANIFEST_NAME)?;
    let top = top.into_iter().map(<[u8]>::to_vec).collect();
    let cipher = header.cipher()?;
    let mut decoding =
        Decoding::new(cipher, unpack, passphrase, limits, top, sink)?;
    for piece in data.pieces() {
        decoding.push(piece)?;
    }
    let Sink::Memory(memory) = decoding.finish()?.sink else {
        return Err(DecodeError::NotOneFile);
    };
    Ok(memory.content)
}
