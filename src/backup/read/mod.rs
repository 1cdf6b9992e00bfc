//! Reads an archive: the driver of `fsm::restore`.
//!
//! Lives here: one arm per effect of the machine, names behind its numbers,
//! texts behind its causes. May not live here: any decision about what may be
//! decoded, is complete, or is published; the machine makes it.
//!
//! The archive is read once, from its beginning to its end; where it can
//! seek and promises a manifest, that is read before it. Two chunks are in
//! memory: while one is decoded, the next is read and hashed. Nothing of a
//! chunk is decrypted before its code was verified.

mod bound;
mod files;
mod qube;

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow::{Break, Continue};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::complete;
use super::decode::{DecodeError, Decoding, Unpack};
use super::filter::{External, ProgramError, allowed};
pub use super::members::CHUNK_BYTES_MAX;
use super::members::Members;
pub use super::refusal::ReadError;
use super::report::{Binding, File, FileState, HeaderFacts, Report};
use super::supply::{Item, Supply};
use super::tree::{Stage, Staged, Target};
use crate::format::chunk;
use crate::format::cipher::Cipher;
use crate::format::compression::{CompressionError, Filter};
use crate::format::escape::Escaped;
use crate::format::header::Header;
use crate::format::hmac::{Digest, MacText, MacValue};
use crate::format::limits::{FILES_MAX, HEADER_BYTES_MAX};
use crate::format::manifest::{
    Entry, MANIFEST_NAME, Manifest, ManifestError, Place,
};
use crate::fsm::ahead::Verdict;
use crate::fsm::cancel::Gate;
use crate::fsm::restore::{
    At, Cause, Effect, End, Event, Failure, Member, Plan, Restore,
};
pub use qube::{read_from_qube, read_from_qube_into, request};

/// What is wanted of an archive.
pub enum Goal<'o> {
    /// What `qubes.xml` in it announces; nothing after it is read.
    List,
    /// Everything decoded, and nothing written.
    Verify,
    /// Files below a directory; without names all that are announced.
    Restore {
        /// Where.
        target: Target,
        /// Names of qubes, or of files in the archive; empty: all.
        wanted: Vec<String>,
    },
    /// One file, to an output.
    Cat {
        /// Its path, as in the archive.
        path: String,
        /// Where to; it is flushed once the file is whole.
        output: Option<&'o mut dyn Write>,
    },
}

/// Told often: bytes of the archive that are done with, and the member at
/// hand. The bytes never go back; reading ahead of decoding counts half.
pub type Progress<'o> = Box<dyn FnMut(u64, &[u8]) + 'o>;

/// How an archive is to be read.
pub struct Options<'o> {
    /// The passphrase.
    pub passphrase: Zeroizing<Vec<u8>>,
    /// What is wanted.
    pub goal: Goal<'o>,
    /// Leave a damaged file out and go on. Files are then put in place as
    /// each is complete, even where a manifest could still refuse them.
    pub keep_going: bool,
    /// Refuse an archive whose header promises no manifest.
    pub require_manifest: bool,
    /// Refuse a file that decodes to far more than `qubes.xml` announces
    /// ([`DECODED_FACTOR`](crate::format::limits::DECODED_FACTOR)).
    pub limit_decoded: bool,
    /// The source was asked for what is wanted alone, and for what every
    /// archive begins and ends with: nothing else is missed. That is the
    /// `wanted` files of a restore, by their names, or the beginning.
    pub only_wanted: bool,
    /// Decompress with the program that the header names, instead of what
    /// is built in. Its registry has the same `gate`.
    pub external_filter: Option<External>,
    /// Who cancels sets it.
    pub gate: Arc<parking_lot::Mutex<Gate>>,
    /// Told often: bytes that are done with, and the member at hand.
    pub progress: Progress<'o>,
}

impl<'o> Options<'o> {
    /// Strict, with a gate of its own, and silent.
    pub fn new(passphrase: Zeroizing<Vec<u8>>, goal: Goal<'o>) -> Self {
        Self {
            passphrase,
            goal,
            keep_going: false,
            require_manifest: false,
            limit_decoded: true,
            only_wanted: false,
            external_filter: None,
            gate: Arc::default(),
            progress: Box::new(|_, _| {}),
        }
    }
}

/// Reads the whole archive from a source that is read once, such as a pipe.
///
/// A manifest is the last thing in it: with one, and without `keep_going`,
/// every file stays under a temporary name until it was compared. A source
/// whose `read` blocks keeps this function from returning; one that knows
/// better gives [`Interrupted`](std::io::ErrorKind::Interrupted) once the
/// gate is not open any more.
///
/// ```
/// use qubes_fsm::backup::read::{Goal, Options, ReadError, read};
///
/// let options = Options::new(b"passphrase".to_vec().into(), Goal::Verify);
/// // Two blocks of zeros: an archive of nothing, which is no backup.
/// let refused = read([0; 1024].as_slice(), options).unwrap_err();
/// assert!(matches!(refused, ReadError::Truncated { .. }), "{refused}");
/// ```
///
/// # Errors
/// The first thing that is wrong; [`read_into`] keeps the report then.
pub fn read(
    source: impl Read + Send,
    options: Options<'_>,
) -> Result<Report, ReadError> {
    let mut report = Report::default();
    read_into(source, options, &mut report)?;
    Ok(report)
}

/// [`read`], and the report of how far it came even if it fails.
///
/// # Errors
/// As [`read`].
pub fn read_into(
    source: impl Read + Send,
    options: Options<'_>,
    report: &mut Report,
) -> Result<(), ReadError> {
    let members = Members::new(source, Arc::clone(&options.gate));
    run(members, options, Bound::default(), report).0
}

/// Reads an archive that can seek, from its first byte.
///
/// As [`read`], but a manifest is read first: names and sizes are compared
/// with it before any data is read, and each chunk before it is used.
///
/// # Errors
/// As [`read`].
pub fn read_seekable(
    source: impl Read + Seek + Send,
    options: Options<'_>,
) -> Result<Report, ReadError> {
    let mut report = Report::default();
    read_seekable_into(source, options, &mut report)?;
    Ok(report)
}

/// [`read_seekable`], and the report of how far it came even if it fails.
///
/// # Errors
/// As [`read`].
pub fn read_seekable_into(
    mut source: impl Read + Seek + Send,
    options: Options<'_>,
    report: &mut Report,
) -> Result<(), ReadError> {
    let mut bound = Bound::default();
    // What a list says comes from `qubes.xml` alone.
    if !matches!(options.goal, Goal::List) {
        match bound::first(&mut source, &options) {
            Ok(manifest) => bound.manifest = manifest,
            Err(error) if options.keep_going => bound.refused = Some(error),
            Err(error) => return Err(error),
        }
        let start = source.seek(SeekFrom::Start(0));
        start.map_err(|cause| ReadError::Io { offset: 0, cause })?;
    }
    let members = Members::new(source, Arc::clone(&options.gate));
    run(members, options, bound, report).0
}

fn run<R: Read + Send>(
    members: Members<R>,
    options: Options<'_>,
    bound: Bound,
    report: &mut Report,
) -> (Result<(), ReadError>, Members<R>) {
    let passphrase = options.passphrase.clone();
    let supply = Supply::new(members, &passphrase);
    let outcome = std::thread::scope(|scope| {
        let mut reader = Reader::new(&supply, options, bound)?;
        // The first file is all that a list wants: nothing is read ahead.
        let started = if matches!(reader.options.goal, Goal::List) {
            Ok(())
        } else {
            supply.start(scope)
        };
        let outcome = started.and_then(|()| reader.run());
        reader.stop();
        if outcome.is_err() {
            reader.add_unread();
            reader.unbind();
        }
        *report = reader.report;
        outcome
    });
    (outcome, supply.into_members())
}

/// What is known of the manifest before the archive is read.
#[derive(Default)]
struct Bound {
    /// It was read first, and names and sizes are as it says.
    manifest: Option<Manifest>,
    /// Why it cannot bind anything; the archive is read all the same.
    refused: Option<ReadError>,
}

struct Reader<'r, 'o, R> {
    supply: &'r Supply<'r, R>,
    options: Options<'o>,
    /// A member that was read before it was asked for.
    ahead: Option<Item>,
    /// The chunk at hand, with its code.
    item: Item,
    /// That code, if it was not asked for yet.
    code: Option<Vec<u8>>,
    /// The name of the last member, and of the one before it.
    last: Vec<u8>,
    before: Vec<u8>,
    mac: Vec<u8>,
    numbers: BTreeMap<Vec<u8>, u16>,
    guessed: Option<Option<Digest>>,
    header: Option<Header>,
    unpack: Unpack,
    place: Option<Place>,
    seen: Vec<Entry>,
    bound: Bound,
    /// Lines of the manifest that were passed.
    listed: usize,
    manifest: Option<Manifest>,
    decoding: Option<Decoding<'o>>,
    document: bool,
    hold: bool,
    stage: Option<Stage>,
    /// Whole and under temporary names, in the order of finishing.
    ready: Vec<(u16, Option<Staged>)>,
    failures: Vec<Option<ReadError>>,
    report: Report,
    /// Where the file of `cat` goes, and whether it came.
    output: Option<&'o mut dyn Write>,
    found: bool,
}

impl<'r, 'o, R: Read + Send> Reader<'r, 'o, R> {
    fn new(
        supply: &'r Supply<'r, R>,
        mut options: Options<'o>,
        bound: Bound,
    ) -> Result<Self, ReadError> {
        let mut output = None;
        let stage = match &mut options.goal {
            Goal::Restore { target, .. } => Some(target.stage()?),
            Goal::Cat { output: given, .. } => {
                output = given.take();
                None
            }
            Goal::List | Goal::Verify => None,
        };
        Ok(Self {
            supply,
            options,
            ahead: None,
            item: Item::default(),
            code: None,
            last: Vec::new(),
            before: Vec::new(),
            mac: Vec::new(),
            numbers: BTreeMap::new(),
            guessed: None,
            header: None,
            unpack: Unpack::Guess,
            place: None,
            seen: Vec::new(),
            bound,
            listed: 0,
            manifest: None,
            decoding: None,
            document: false,
            hold: false,
            stage,
            ready: Vec::new(),
            failures: Vec::new(),
            report: Report::default(),
            output,
            found: false,
        })
    }

    fn run(&mut self) -> Result<(), ReadError> {
        self.ahead = self.supply.next(&mut || {})?;
        // A hint before the header is authentic: if it lies, the header's
        // code does not fit, and nothing is published anyway.
        let promise = b"backup-manifest=";
        let promised = self.ahead.as_ref().is_some_and(|item| {
            let data = item.data.start();
            item.data.len() <= HEADER_BYTES_MAX
                && data.windows(promise.len()).any(|text| text == promise)
        });
        let restores = matches!(self.options.goal, Goal::Restore { .. });
        let late = self.bound.manifest.is_none() && !self.options.keep_going;
        self.hold = restores && promised && late;
        let mut machine = Restore::new(Plan {
            verify: !restores,
            keep_going: self.options.keep_going,
            hold: self.hold,
            digests: Digest::ALL.len() as u8,
            ..Plan::default()
        });
        loop {
            let effect = match machine.effect() {
                Continue(effect) => effect,
                Break(end) => return self.end(end),
            };
            let event = if !effect.is_cleanup() && self.is_canceled() {
                Event::Canceled
            } else {
                match self.perform(effect) {
                    Ok(event) => event,
                    Err(ReadError::Canceled) if !effect.is_cleanup() => {
                        Event::Canceled
                    }
                    Err(error) => self.failed(error),
                }
            };
            machine = machine.step(event)?;
            let listed = matches!(self.options.goal, Goal::List)
                && self.document
                && matches!(event, Event::Finished);
            if listed {
                let decided = self.options.gate.lock().decide();
                return decided.map_err(|_| ReadError::Canceled);
            }
        }
    }

    fn is_canceled(&self) -> bool {
        self.options.gate.lock().is_canceled()
    }

    fn perform(&mut self, effect: Effect) -> Result<Event, ReadError> {
        Ok(match effect {
            Effect::Next => self.next()?,
            Effect::VerifyLead(_, digest) => {
                let text = self.mac_text()?;
                let key = &self.options.passphrase;
                // All digests are tried at once, at equal cost.
                let found = *self
                    .guessed
                    .get_or_insert_with(|| self.item.data.guess(key, &text));
                verdict(found.is_some() && found == digest_of(digest))
            }
            Effect::Parse => self.parse()?,
            Effect::Verify(..) => self.verify()?,
            Effect::Release(at, digest) => self.release(at, digest)?,
            Effect::Finish(file) => self.finish(file)?,
            Effect::Publish(file) => {
                let staged = self.ready.pop().and_then(|(_, staged)| staged);
                self.publish(file, staged)?;
                Event::Published
            }
            Effect::Drop(file) => {
                self.drop_file(file)?;
                Event::Dropped
            }
            Effect::Count { .. } => self.count()?,
            Effect::Bind => self.bind()?,
            Effect::Decide => match self.options.gate.lock().decide() {
                Ok(()) => Event::Decided,
                Err(_) => Event::Canceled,
            },
            Effect::Rename(held) => {
                let held = self.ready.get_mut(usize::from(held));
                if let Some((file, staged)) = held {
                    let (file, staged) = (*file, staged.take());
                    self.publish(file, staged)?;
                }
                Event::Renamed
            }
            Effect::Stop => {
                self.stop();
                Event::Stopped
            }
        })
    }

    fn failed(&mut self, error: ReadError) -> Event {
        let number = self.failures.len() as u16;
        self.failures.push(Some(error));
        Event::Failed(Failure(number))
    }

    fn next(&mut self) -> Result<Event, ReadError> {
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
    fn read_on(&mut self) -> Result<Option<Vec<u8>>, ReadError> {
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
    fn number(
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

    fn mac_text(&self) -> Result<MacText, ReadError> {
        MacText::parse(&self.mac).map_err(|cause| {
            let name = shown(&[&self.item.name, chunk::MAC_SUFFIX].concat());
            ReadError::MacText { name, cause }
        })
    }

    /// The code of the member at hand, computed over what was read.
    fn mac_of(&self, digest: Digest) -> MacValue {
        self.item.data.mac(digest, &self.options.passphrase)
    }

    /// The verdict on the chunk at hand, by its own code and, where that was
    /// read first, by the manifest.
    fn verify(&mut self) -> Result<Event, ReadError> {
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
    fn check(&mut self, value: &MacValue) -> Result<(), ReadError> {
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
    fn saw(&mut self, mac: &MacValue) {
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

    fn parse(&mut self) -> Result<Event, ReadError> {
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
    fn begin(&mut self, header: Header) -> Result<(), ReadError> {
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
        if header.promise().is_some() {
            self.report.binding = Binding::NotCompared;
        }
        self.place = Some(Place::new(&header));
        self.supply.begin(header.digest());
        self.header = Some(header);
        Ok(())
    }

    fn release(
        &mut self,
        at: At,
        artificial: Option<u8>,
    ) -> Result<Event, ReadError> {
        if let Some(digest) = artificial.and_then(digest_of) {
            // Without a header the first bytes say whether it is encrypted.
            let salted = self.item.data.start().starts_with(b"Salted__");
            let cipher = salted.then_some(Cipher::Aes256);
            self.begin(Header::artificial(digest, cipher, None)?)?;
        }
        if at.chunk == 0 {
            self.decoding = self.start(at.file)?;
        }
        if let Some(file) = self.report.files.get_mut(usize::from(at.file)) {
            file.chunks += 1;
            file.stored_bytes += self.item.size;
        }
        let Some(mut decoding) = self.decoding.take() else {
            return Ok(Event::Released);
        };
        let (mut done, name) = (self.item.start, &self.item.name);
        let mut pushed = Ok(());
        for piece in self.item.data.pieces() {
            if self.is_canceled() {
                pushed = Err(ReadError::Canceled);
                break;
            }
            let piece_pushed = decoding.push(piece);
            if let Err(error) = piece_pushed {
                pushed = Err(self.inner(error));
                break;
            }
            done = done.saturating_add(piece.len() as u64);
            let bytes = halfway(self.supply.offset(), done);
            (self.options.progress)(bytes, name);
        }
        self.decoding = Some(decoding);
        pushed?;
        self.supply.free(&mut self.item)?;
        Ok(Event::Released)
    }

    fn inner(&self, error: DecodeError) -> ReadError {
        self.inner_at(shown(&self.item.name), error)
    }

    fn inner_at(&self, name: String, error: DecodeError) -> ReadError {
        ReadError::Inner { name, offset: self.item.end, cause: Box::new(error) }
    }

    /// Compares what is complete with what was announced.
    fn count(&mut self) -> Result<Event, ReadError> {
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

    fn bind(&mut self) -> Result<Event, ReadError> {
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
    fn is_asked_for(&self, name: &[u8]) -> bool {
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
    fn is_lost(&self, name: &[u8]) -> bool {
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

    fn set(&mut self, file: u16, state: FileState) {
        if let Some(file) = self.report.files.get_mut(usize::from(file)) {
            file.state = state;
        }
    }

    fn stop(&mut self) {
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
    fn unbind(&mut self) {
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

    fn end(&mut self, end: End) -> Result<(), ReadError> {
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
    fn error(&mut self, cause: Cause) -> ReadError {
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

const STORE_NAME: &[u8] = b"qubes.xml";

/// How far a reader is that has read `read` bytes and decoded `done`.
fn halfway(read: u64, done: u64) -> u64 {
    (read / 2).saturating_add(done / 2)
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

fn verdict(good: bool) -> Event {
    if good { Event::Good } else { Event::Bad }
}

/// What takes the compression of a header off.
fn unpack(header: &Header, options: &Options<'_>) -> Result<Unpack, ReadError> {
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

fn digest_of(number: u8) -> Option<Digest> {
    Digest::ALL.get(usize::from(number)).copied()
}

fn shown(untrusted: &[u8]) -> String {
    Escaped(untrusted).to_string()
}
