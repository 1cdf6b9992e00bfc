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
mod codes;
mod ending;
mod files;
mod names;
mod qube;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow::{Break, Continue};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::complete::ByPath;
use super::decode::{DecodeError, Decoding, Unpack};
use super::filter::External;
pub use super::members::CHUNK_BYTES_MAX;
use super::members::Members;
pub use super::refusal::ReadError;
use super::report::{Binding, FileState, Report};
use super::supply::{Item, Supply};
use super::tree::{Stage, Staged, Target};
use crate::format::cipher::Cipher;
use crate::format::escape::Escaped;
use crate::format::header::Header;
use crate::format::hmac::Digest;
use crate::format::limits::HEADER_BYTES_MAX;
use crate::format::manifest::{Entry, Manifest, Place};
use crate::fsm::cancel::Gate;
use crate::fsm::restore::{At, Effect, Event, Failure, Plan, Restore};
use codes::digest_of;
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
            Err(error) => {
                // The header is authentic, and promises one.
                if matches!(error, ReadError::Manifest(_)) {
                    report.binding = Binding::Refused;
                }
                return Err(error);
            }
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
        if !matches!(reader.options.goal, Goal::List) {
            supply.start(scope);
        }
        let outcome = reader.run();
        reader.stop();
        if outcome.is_err() {
            reader.add_unread();
            reader.unbind();
        }
        if let Err(ReadError::Manifest(_)) = &outcome {
            reader.report.binding = Binding::Refused;
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
    by_path: ByPath,
    /// Where the files of qubes are that are decoded.
    tops: BTreeSet<Vec<u8>>,
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
            Goal::Restore { target, .. } => {
                //= spec/phases.md#r13-what-a-crash-left-is-swept
                let _ = target.sweep();
                Some(target.stage()?)
            }
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
            by_path: ByPath::default(),
            tops: BTreeSet::from([STORE_NAME.to_vec()]),
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

    fn set(&mut self, file: u16, state: FileState) {
        if let Some(file) = self.report.files.get_mut(usize::from(file)) {
            file.state = state;
        }
    }
}

const STORE_NAME: &[u8] = b"qubes.xml";

/// How far a reader is that has read `read` bytes and decoded `done`.
fn halfway(read: u64, done: u64) -> u64 {
    (read / 2).saturating_add(done / 2)
}

fn verdict(good: bool) -> Event {
    if good { Event::Good } else { Event::Bad }
}

fn shown(untrusted: &[u8]) -> String {
    Escaped(untrusted).to_string()
}
