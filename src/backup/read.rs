//! Reads an archive: the driver of `fsm::restore`.
//!
//! Lives here: one arm per effect of the machine, names behind its numbers,
//! texts behind its causes. May not live here: any decision about what may be
//! decoded, is complete, or is published; the machine makes it.
//!
//! The archive is read once, from its beginning to its end. One chunk is in
//! memory at a time; nothing of it is decrypted before its code was verified.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::ops::ControlFlow::{Break, Continue};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::complete;
use super::decode::{DecodeError, Decoding, Memory, OutputSink, Sink};
pub use super::members::CHUNK_BYTES_MAX;
use super::members::{self, Members};
pub use super::refusal::ReadError;
use super::report::{Binding, File, FileState, HeaderFacts, Qube, Report};
use super::tree::{Stage, Staged, Target, TreeError};
use crate::format::chunk;
use crate::format::cipher::Cipher;
use crate::format::compression::Filter;
use crate::format::document::{Document, Limits};
use crate::format::escape::Escaped;
use crate::format::header::Header;
use crate::format::hmac::{Digest, Mac, MacText, MacValue, guess};
use crate::format::limits::{
    HEADER_BYTES_MAX, MANIFEST_BYTES_MAX, STORE_BYTES_MAX,
};
use crate::format::manifest::{
    Entry, MANIFEST_NAME, Manifest, ManifestError, Place,
};
use crate::format::tar::{self, safe_components};
use crate::fsm::cancel::Gate;
use crate::fsm::restore::{
    At, Cause, Effect, End, Event, Failure, Member, Plan, Restore,
};

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
        /// Where to.
        output: Option<&'o mut dyn Write>,
    },
}

/// Told after every member: bytes read so far, and the member's name.
pub type Progress<'o> = Box<dyn FnMut(u64, &[u8]) + 'o>;

/// How an archive is to be read.
pub struct Options<'o> {
    /// The passphrase.
    pub passphrase: Zeroizing<Vec<u8>>,
    /// What is wanted.
    pub goal: Goal<'o>,
    /// Leave a damaged file out and go on.
    pub keep_going: bool,
    /// Refuse an archive whose header promises no manifest.
    pub require_manifest: bool,
    /// Who cancels sets it.
    pub gate: Arc<parking_lot::Mutex<Gate>>,
    /// Told after every member: bytes read, and the file at hand.
    pub progress: Progress<'o>,
}

/// Reads the whole archive.
///
/// # Errors
/// The first thing that is wrong. What the report would have said is lost
/// then, except for files that are in place already.
pub fn read(
    source: impl Read,
    options: Options<'_>,
) -> Result<Report, ReadError> {
    let mut reader = Reader::new(source, options)?;
    let outcome = reader.run();
    reader.stop();
    outcome.map(|()| reader.report)
}

struct Reader<'o, R> {
    members: Members<R>,
    options: Options<'o>,
    /// A member that was read before it was asked for.
    ahead: Option<members::Member>,
    /// Chunk at hand, and the member after it.
    name: Vec<u8>,
    data: Vec<u8>,
    last: Vec<u8>,
    mac: Vec<u8>,
    numbers: BTreeMap<Vec<u8>, u16>,
    guessed: Option<Option<Digest>>,
    header: Option<Header>,
    place: Option<Place>,
    seen: Vec<Entry>,
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

impl<'o, R: Read> Reader<'o, R> {
    fn new(source: R, mut options: Options<'o>) -> Result<Self, ReadError> {
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
            members: Members::new(source, Arc::clone(&options.gate)),
            options,
            ahead: None,
            name: Vec::new(),
            data: Vec::new(),
            last: Vec::new(),
            mac: Vec::new(),
            numbers: BTreeMap::new(),
            guessed: None,
            header: None,
            place: None,
            seen: Vec::new(),
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
        self.ahead = self.members.next()?;
        // A hint before the header is authentic: if it lies, the header's
        // code does not fit, and nothing is published anyway.
        let first = self.ahead.as_ref().map(|(_, data)| data.as_slice());
        let promise = b"backup-manifest=";
        let promised = first.is_some_and(|data| {
            data.len() <= HEADER_BYTES_MAX
                && data.windows(promise.len()).any(|text| text == promise)
        });
        let restores = matches!(self.options.goal, Goal::Restore { .. });
        self.hold = restores && promised;
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
            let canceled = || self.options.gate.lock().is_canceled();
            let event = if !effect.is_cleanup() && canceled() {
                Event::Canceled
            } else {
                match self.perform(effect) {
                    Ok(event) => event,
                    Err(error) => self.failed(error),
                }
            };
            machine = machine.step(event)?;
            let listed = matches!(self.options.goal, Goal::List)
                && self.document
                && matches!(event, Event::Finished);
            if listed {
                return Ok(());
            }
        }
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
                    .get_or_insert_with(|| guess(key, &self.data, &text));
                self.verdict(found.is_some() && found == digest_of(digest))
            }
            Effect::Parse => self.parse()?,
            Effect::Verify(_, digest) => {
                let text = self.mac_text()?;
                let mac = digest_of(digest).map(|digest| self.mac_of(digest));
                let mac = mac.filter(|mac| mac.matches(text.value()));
                let good = mac.is_some();
                if let Some(mac) = mac {
                    self.saw(&mac);
                }
                self.verdict(good)
            }
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

    fn verdict(&self, good: bool) -> Event {
        if good { Event::Good } else { Event::Bad }
    }

    fn failed(&mut self, error: ReadError) -> Event {
        let number = self.failures.len() as u16;
        self.failures.push(Some(error));
        Event::Failed(Failure(number))
    }

    fn next(&mut self) -> Result<Event, ReadError> {
        let member = match self.ahead.take() {
            Some(member) => Some(member),
            None => self.members.next()?,
        };
        let Some((name, data)) = member else {
            if let Some(place) = self.place.take() {
                place.finish()?;
            }
            return Ok(Event::Ended);
        };
        self.report.archive_bytes = self.members.offset();
        (self.options.progress)(self.members.offset(), &name);
        let parsed = chunk::Member::parse(&name)?;
        if let Some(place) = &mut self.place {
            place.accept(parsed)?;
        }
        self.last = name.clone();
        Ok(Event::Named(match parsed {
            chunk::Member::Header => {
                self.take(name, data);
                Member::Header
            }
            chunk::Member::Chunk(chunk) => {
                let at = self.number(chunk);
                self.take(name.clone(), data);
                at.map_or(Member::Other, Member::Chunk)
            }
            chunk::Member::HeaderMac => {
                self.mac = data;
                Member::HeaderMac
            }
            chunk::Member::ChunkMac(chunk) => {
                self.mac = data;
                let file = self.numbers.get(chunk.file()).copied();
                let chunk = chunk.number();
                file.map_or(Member::Other, |file| {
                    Member::Mac(At { file, chunk })
                })
            }
        }))
    }

    fn take(&mut self, name: Vec<u8>, data: Vec<u8>) {
        self.name = name;
        self.data = data;
    }

    /// Files are numbered as their chunks appear; `qubes.xml` is 0.
    fn number(&mut self, chunk: chunk::Chunk<'_>) -> Option<At> {
        let next = u16::try_from(self.numbers.len()).ok()?;
        let file = match self.numbers.get(chunk.file()) {
            Some(file) => *file,
            None => {
                // Whatever comes first is `qubes.xml`, or nothing is.
                let first = next == 0;
                if first != (chunk.file() == STORE_NAME) {
                    return None;
                }
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
        Some(At { file, chunk: chunk.number() })
    }

    fn mac_text(&self) -> Result<MacText, ReadError> {
        MacText::parse(&self.mac).map_err(|cause| {
            let name = shown(&[&self.name, &b".hmac"[..]].concat());
            ReadError::MacText { name, cause }
        })
    }

    /// The code of the member at hand, computed over what was read.
    fn mac_of(&self, digest: Digest) -> MacValue {
        let mut mac = Mac::new(digest, &self.options.passphrase);
        mac.update(&self.data);
        mac.finish()
    }

    /// Remembers an authentic member, for the manifest: all but its own.
    fn saw(&mut self, mac: &MacValue) {
        let is_own = matches!(
            chunk::Member::parse(&self.name),
            Ok(chunk::Member::Chunk(chunk)) if chunk.file() == MANIFEST_NAME
        );
        let header = self.header.as_ref();
        if is_own || header.is_none_or(|header| header.promise().is_none()) {
            return;
        }
        self.seen.push(Entry {
            mac: mac.bytes().to_vec(),
            size: self.data.len() as u64,
            name: self.name.clone(),
        });
    }

    fn parse(&mut self) -> Result<Event, ReadError> {
        let header = Header::parse(&self.data)?;
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
                self.saw(&mac);
            }
        }
        Ok(Event::Parsed(named))
    }

    /// The header is there: what it names must be known.
    fn begin(&mut self, header: Header) -> Result<(), ReadError> {
        let cipher = header.cipher()?;
        if let Some(name) = header.filter() {
            Filter::by_name(name.as_bytes())?;
        }
        if header.promise().is_none() && self.options.require_manifest {
            return Err(ReadError::NotBound);
        }
        self.report.header = HeaderFacts {
            digest: header.digest().name().to_owned(),
            cipher: cipher.map(|cipher| cipher.name().to_owned()),
            filter: header.filter().map(str::to_owned),
            headerless: header.is_headerless(),
        };
        self.place = Some(Place::new(&header));
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
            let salted = self.data.starts_with(b"Salted__");
            let cipher = salted.then_some(Cipher::Aes256);
            self.begin(Header::artificial(digest, cipher, None)?)?;
        }
        if at.chunk == 0 {
            self.decoding = self.start(at.file)?;
        }
        if let Some(file) = self.report.files.get_mut(usize::from(at.file)) {
            file.chunks += 1;
            file.stored_bytes += self.data.len() as u64;
        }
        if let Some(decoding) = &mut self.decoding {
            let pushed = decoding.push(&self.data);
            pushed.map_err(|error| self.inner(error))?;
        }
        Ok(Event::Released)
    }

    fn inner(&self, error: DecodeError) -> ReadError {
        ReadError::Inner {
            name: shown(&self.name),
            offset: self.members.offset(),
            cause: Box::new(error),
        }
    }

    /// The decoder of a file, or none if it is only authenticated.
    fn start(&mut self, file: u16) -> Result<Option<Decoding<'o>>, ReadError> {
        let Some(header) = &self.header else { return Ok(None) };
        let name = match self.report.files.get(usize::from(file)) {
            Some(file) => file.name.clone(),
            None => return Ok(None),
        };
        let top = match safe_components(&name) {
            Ok(top) => top.into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>(),
            Err(error) => return Err(self.inner(error.into())),
        };
        let cipher = header.cipher()?;
        let filter = match (header.filter(), header.is_headerless()) {
            (Some(name), _) => Some(Filter::by_name(name.as_bytes())?),
            (None, false) => Some(Filter::None),
            (None, true) => None,
        };
        let memory = |limit: usize| {
            let sink = Sink::Memory(Memory::new(limit as u64));
            let decoded = (limit as u64).saturating_mul(2);
            let limits = tar::Limits {
                decoded_bytes_max: decoded,
                ..tar::Limits::INNER
            };
            (sink, limits)
        };
        let (sink, limits) = if file == 0 {
            memory(STORE_BYTES_MAX)
        } else if name == MANIFEST_NAME {
            memory(MANIFEST_BYTES_MAX)
        } else {
            let state = self.state_of(&name);
            if let Some(state) = state {
                self.set(file, state);
                return Ok(None);
            }
            (self.sink(file)?, tar::Limits::INNER)
        };
        let passphrase = &self.options.passphrase;
        let decoding =
            Decoding::new(cipher, filter, passphrase, limits, top, sink);
        decoding.map(Some).map_err(|error| self.inner(error))
    }

    /// Why a file is not decoded at all, if it is not.
    fn state_of(&self, name: &[u8]) -> Option<FileState> {
        let qube = self.qube_of(name);
        match &self.options.goal {
            Goal::List => Some(FileState::LeftOut),
            Goal::Verify | Goal::Cat { .. } => None,
            Goal::Restore { .. } if qube.is_none() => Some(FileState::Unknown),
            Goal::Restore { wanted, .. } => {
                let is_wanted = wanted.is_empty()
                    || wanted.iter().any(|wanted| {
                        wanted.as_bytes() == name
                            || qube.is_some_and(|qube| qube.name == *wanted)
                    });
                (!is_wanted).then_some(FileState::LeftOut)
            }
        }
    }

    fn qube_of(&self, name: &[u8]) -> Option<&Qube> {
        let mut qubes = self.report.qubes.iter();
        qubes.find(|qube| complete::belongs(name, qube))
    }

    fn sink(&mut self, file: u16) -> Result<Sink<'o>, ReadError> {
        if let Some(stage) = &self.stage {
            return Ok(Sink::Tree(stage.begin(u64::from(file))?, None));
        }
        let Goal::Cat { path, .. } = &self.options.goal else {
            return Ok(Sink::Nothing);
        };
        let wanted = safe_components(path.as_bytes())
            .map_err(|error| self.inner(error.into()))?;
        let wanted = wanted.into_iter().map(<[u8]>::to_vec).collect();
        // Given from file to file: one is decoded at a time.
        Ok(match self.output.take() {
            Some(output) => Sink::Output(OutputSink::new(wanted, output)),
            None => Sink::Nothing,
        })
    }

    fn finish(&mut self, file: u16) -> Result<Event, ReadError> {
        let Some(decoding) = self.decoding.take() else {
            self.ready.push((file, None));
            return Ok(Event::Finished);
        };
        let (sink, decoded) =
            decoding.finish().map_err(|error| self.inner(error))?;
        if let Some(file) = self.report.files.get_mut(usize::from(file)) {
            file.decoded_bytes = decoded;
        }
        self.set(file, FileState::Verified);
        let mut staged = None;
        match sink {
            Sink::Memory(memory) if file == 0 => {
                staged = self.stage_document(&memory)?;
                self.announce(memory.content)?;
                self.look_ahead()?;
                self.document = true;
            }
            Sink::Memory(Memory { content, .. }) => {
                if let Some(header) = &self.header {
                    let passphrase = &self.options.passphrase;
                    let manifest =
                        Manifest::parse(&content, header, passphrase)?;
                    self.manifest = Some(manifest);
                }
            }
            Sink::Tree(tree, _) => staged = Some(tree),
            Sink::Output(sink) => {
                self.found |= sink.found;
                self.output = Some(sink.output);
            }
            Sink::Nothing => {}
        }
        self.ready.push((file, staged));
        Ok(Event::Finished)
    }

    /// Refuses, before anything is in place, what is there already of what
    /// every qube has. Publishing looks again.
    fn look_ahead(&self) -> Result<(), ReadError> {
        let Goal::Restore { target, wanted } = &self.options.goal else {
            return Ok(());
        };
        if target.overwrites() {
            return Ok(());
        }
        let is_wanted =
            |qube: &&Qube| wanted.is_empty() || wanted.contains(&qube.name);
        let qubes = self.report.qubes.iter().filter(is_wanted);
        let mut paths: Vec<String> = qubes
            .flat_map(|qube| {
                let files = complete::wanted(qube).iter();
                files.map(|file| format!("{}{file}", qube.path))
            })
            .collect();
        if wanted.is_empty() {
            paths.push(String::from_utf8_lossy(STORE_NAME).into_owned());
        }
        for path in &paths {
            let path = safe_components(path.as_bytes())
                .map_err(|error| self.inner(error.into()))?;
            if let Some(path) = target.preflight(&[path])?.pop() {
                return Err(TreeError::Exists { path }.into());
            }
        }
        Ok(())
    }

    /// The archive's `qubes.xml` as a file, where all is restored.
    fn stage_document(
        &self,
        memory: &Memory,
    ) -> Result<Option<Staged>, ReadError> {
        let (Goal::Restore { wanted, .. }, Some(stage)) =
            (&self.options.goal, &self.stage)
        else {
            return Ok(None);
        };
        let is_named = wanted.iter().any(|name| name.as_bytes() == STORE_NAME);
        if !wanted.is_empty() && !is_named {
            return Ok(None);
        }
        let size = memory.content.len() as u64;
        let mut staged = stage.begin(0)?;
        let mut file =
            staged.file(&[STORE_NAME], size, memory.mode, memory.time)?;
        file.write_at(0, &memory.content)?;
        file.close()?;
        staged.complete()?;
        Ok(Some(staged))
    }

    /// What `qubes.xml` announces.
    fn announce(&mut self, content: Vec<u8>) -> Result<(), ReadError> {
        let limits = Limits { bytes_max: STORE_BYTES_MAX, ..Limits::default() };
        let document = Document::parse(content, &limits)?;
        self.report.qubes = complete::announced(&document);
        Ok(())
    }

    fn publish(
        &mut self,
        file: u16,
        staged: Option<Staged>,
    ) -> Result<(), ReadError> {
        let Some(staged) = staged else { return Ok(()) };
        let name = self.report.files.get(usize::from(file));
        let name = name.map(|file| file.name.clone()).unwrap_or_default();
        let top =
            safe_components(&name).map_err(|error| self.inner(error.into()))?;
        staged.publish(&top, true)?;
        self.set(file, FileState::Restored);
        Ok(())
    }

    fn drop_file(&mut self, file: u16) -> Result<(), ReadError> {
        self.set(file, FileState::Lost);
        let name = self.report.files.get(usize::from(file));
        let name = name.map_or_else(String::new, |file| shown(&file.name));
        // Its own failure, if it has one: taken, so that no later end is
        // explained by it.
        let why = self.failures.iter_mut().find_map(Option::take);
        let why = why.map_or_else(
            || "its authentication code does not fit".to_owned(),
            |error| error.to_string(),
        );
        self.report.omissions.push(format!("{name}: left out: {why}"));
        self.ready.retain(|(ready, _)| *ready != file);
        if let Some(decoding) = self.decoding.take()
            && let Sink::Tree(staged, open) = decoding.into_sink()
        {
            drop(open);
            staged.drop_it()?;
        }
        Ok(())
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
        let (nothing, omissions) =
            complete::missing(&self.report.qubes, &self.report.files);
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
        let promised = self.header.as_ref().and_then(|header| header.promise());
        match (promised, &self.manifest) {
            (Some(id), Some(manifest)) => {
                manifest.compare(&self.seen)?;
                self.report.binding = Binding::Bound(id);
                Ok(Event::Good)
            }
            (Some(_), None) => Err(ManifestError::Missing.into()),
            (None, _) => Ok(Event::Good),
        }
    }

    fn set(&mut self, file: u16, state: FileState) {
        if let Some(file) = self.report.files.get_mut(usize::from(file)) {
            file.state = state;
        }
    }

    fn stop(&mut self) {
        self.ready.clear();
        self.decoding = None;
        if let Some(stage) = self.stage.take()
            && let Err(error) = stage.remove()
        {
            self.report.omissions.push(error.to_string());
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
        let first = self.failures.iter_mut().find_map(Option::take);
        match (cause, first) {
            (Cause::Failed(_) | Cause::Missing, Some(error)) => error,
            (Cause::Truncated, _) => ReadError::Truncated {
                after: if last.is_empty() { "nothing".into() } else { last },
                wanted: "more members: chunks, each with its code",
            },
            (Cause::Sequence, _) => ReadError::Sequence {
                found: last,
                after: shown(&self.name),
                wanted: "a chunk's code, its next chunk, or a new file from \
                         000",
            },
            (Cause::Passphrase, _) => {
                ReadError::Passphrase { name: shown(&self.name) }
            }
            // The driver gives its own error for it: see `parse`.
            (Cause::Header, error) => error.unwrap_or_else(|| {
                ReadError::Passphrase { name: shown(&self.name) }
            }),
            (Cause::Mac(_), _) => ReadError::Mac {
                name: shown(&self.name),
                offset: self.members.offset(),
            },
            (Cause::Binding, _) => ManifestError::Mac.into(),
            (Cause::Failed(_) | Cause::Missing, None) => {
                ReadError::Missing { qubes: Vec::new() }
            }
        }
    }
}

const STORE_NAME: &[u8] = b"qubes.xml";

fn digest_of(number: u8) -> Option<Digest> {
    Digest::ALL.get(usize::from(number)).copied()
}

fn shown(untrusted: &[u8]) -> String {
    Escaped(untrusted).to_string()
}
