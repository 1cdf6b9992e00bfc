//! Members in the order of the archive, their codes computed ahead.
//!
//! Lives here: the threads that read and hash, one chunk each, and the memory
//! that goes round. May not live here: when a member may be read
//! (`fsm::members`), what comes out when (`fsm::ahead`), what it is for.
//!
//! One thread at a time reads, so that chunks come in the order of the
//! archive; while it hashes, the next one reads. The reader of the archive
//! decodes meanwhile. [`SLOTS`] counts every chunk in memory.

use std::collections::BTreeMap;
use std::mem;
use std::ops::ControlFlow::Continue;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{Builder, Scope};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::members::{Block, Head, Members};
use super::refusal::ReadError;
use crate::format::chunk;
use crate::format::hmac::{Digest, MacText, MacValue};
use crate::fsm::ahead::{Ahead, Event, Output, SourceEnd, Verdict};
use crate::fsm::members::{self, Member};

/// Chunks in memory: one is decoded while the next is read and hashed.
const SLOTS: usize = 2;
/// How often whoever waits for a chunk says how far it is.
const TICK: Duration = Duration::from_millis(250);

/// A member, and its code if that stands right behind it.
#[derive(Default)]
pub(super) struct Item {
    pub(super) name: Vec<u8>,
    pub(super) data: Block,
    /// Bytes of the data.
    pub(super) size: u64,
    /// Name and text of the member behind it, if that is a code.
    pub(super) code: Option<(Vec<u8>, Vec<u8>)>,
    /// The code computed over the data, once the digest is known.
    pub(super) value: Option<MacValue>,
    /// Whether that is the code in the text.
    pub(super) verdict: Option<Verdict>,
    /// Where in the archive its data begins, and where what follows does.
    pub(super) start: u64,
    pub(super) end: u64,
    /// Its slot.
    slot: Option<u32>,
}

/// What the threads share.
pub(super) struct Supply<'k, R> {
    /// Whoever holds it reads.
    source: Mutex<Source<R>>,
    state: Mutex<State>,
    changed: Condvar,
    passphrase: &'k [u8],
    offset: Arc<AtomicU64>,
}

struct Source<R> {
    members: Members<R>,
    /// What was read behind a member to see whether it is its code.
    after: Option<Result<Option<Head>, ReadError>>,
    /// When a member may be read. Ours are announced when they are whole.
    order: members::Members,
    /// Members that were announced.
    named: u32,
}

struct State {
    ahead: Ahead,
    /// The digest of this archive; without it nothing is hashed.
    digest: Option<Digest>,
    /// There are threads that read ahead, once the digest is known.
    threads: bool,
    hashed: BTreeMap<u32, Item>,
    spare: Vec<Block>,
    failed: Option<ReadError>,
    /// The source is over.
    ended: bool,
    /// Nothing is wanted any more.
    stopped: bool,
}

impl<'k, R: std::io::Read + Send> Supply<'k, R> {
    pub(super) fn new(members: Members<R>, passphrase: &'k [u8]) -> Self {
        let offset = members.offset();
        Self {
            source: Mutex::new(Source {
                members,
                after: None,
                order: members::Members::new(members::Announces::After),
                named: 0,
            }),
            state: Mutex::new(State {
                ahead: Ahead::new(SLOTS),
                digest: None,
                threads: false,
                hashed: BTreeMap::new(),
                spare: Vec::new(),
                failed: None,
                ended: false,
                stopped: false,
            }),
            changed: Condvar::new(),
            passphrase,
            offset,
        }
    }

    /// What was read from, once the threads are gone.
    pub(super) fn into_members(self) -> Members<R> {
        self.source.into_inner().members
    }

    /// Starts the threads; they wait for [`begin`](Self::begin). Where the
    /// system gives none, members are read when they are asked for.
    pub(super) fn start<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
    ) {
        let start = |_| Builder::new().spawn_scoped(scope, || self.work());
        let started = (0..SLOTS).map(start).filter(Result::is_ok).count();
        self.state.lock().threads = started > 0;
    }

    /// The digest is known: from here on chunks are read and hashed ahead.
    pub(super) fn begin(&self, digest: Digest) {
        self.state.lock().digest = Some(digest);
        self.changed.notify_all();
    }

    /// Bytes of the archive that were read so far.
    pub(super) fn offset(&self) -> u64 {
        self.offset.load(Ordering::Relaxed)
    }

    /// The next member. Before [`begin`](Self::begin), or without threads, it
    /// is read here, and nothing but its code behind it. `tick` is called
    /// while there is nothing yet.
    pub(super) fn next(
        &self,
        tick: &mut dyn FnMut(),
    ) -> Result<Option<Item>, ReadError> {
        let mut state = self.state.lock();
        let digest = state.digest;
        if digest.is_none() || !state.threads {
            let block = state.spare.pop().unwrap_or_default();
            drop(state);
            let mut item = self.source.lock().item(block)?;
            if let (Some(item), Some(digest)) = (&mut item, digest) {
                item.verdict = Some(item.hash(digest, self.passphrase));
            }
            return Ok(item);
        }
        loop {
            match state.ahead.output() {
                Output::Verdict(number, verdict) => {
                    state.step(Event::Take)?;
                    let item = state.hashed.remove(&number);
                    return Ok(item.map(|item| Item {
                        verdict: Some(verdict),
                        slot: Some(number),
                        ..item
                    }));
                }
                Output::End(SourceEnd::Clean) => return Ok(None),
                Output::End(SourceEnd::Failed) => {
                    let failed = state.failed.take();
                    return Err(failed.unwrap_or(ReadError::Canceled));
                }
                // A bug: a thread gave up, and nothing would ever come.
                Output::Waiting if !state.ended && state.failed.is_some() => {
                    let failed = state.failed.take();
                    return Err(failed.unwrap_or(ReadError::Canceled));
                }
                Output::Waiting => {
                    self.changed.wait_for(&mut state, TICK);
                    MutexGuard::unlocked(&mut state, &mut *tick);
                }
            }
        }
    }

    /// The member's data is not needed any more.
    pub(super) fn free(&self, item: &mut Item) -> Result<(), ReadError> {
        let Some(slot) = item.slot.take() else { return Ok(()) };
        let mut state = self.state.lock();
        state.spare.push(mem::take(&mut item.data));
        if !state.stopped {
            state.step(Event::Freed(slot))?;
        }
        self.changed.notify_all();
        Ok(())
    }

    /// Nothing is wanted any more; what a thread reads now is its last.
    pub(super) fn stop(&self) -> Result<(), ReadError> {
        let mut state = self.state.lock();
        let again = mem::replace(&mut state.stopped, true);
        self.changed.notify_all();
        if again { Ok(()) } else { state.step(Event::Stop) }
    }

    /// A thread: reads one chunk, hashes it, and so on.
    fn work(&self) {
        loop {
            if !self.wait() {
                return;
            }
            let mut source = self.source.lock();
            // Another thread may have been faster.
            let Some((number, digest, block)) = self.room() else { continue };
            let mut item = match source.item(block) {
                Ok(Some(item)) => item,
                Ok(None) => return self.ended(SourceEnd::Clean, None),
                Err(error) => {
                    return self.ended(SourceEnd::Failed, Some(error));
                }
            };
            if !self.tell(Event::Read(number)) {
                return;
            }
            drop(source);
            let verdict = item.hash(digest, self.passphrase);
            let mut state = self.state.lock();
            if !state.stopped {
                state.hashed.insert(number, item);
            }
            drop(state);
            // After the end it only gives back the slot.
            self.tell(Event::Finished(number, verdict));
        }
    }

    /// Waits until there may be room; nothing is wanted any more: `false`.
    fn wait(&self) -> bool {
        let mut state = self.state.lock();
        loop {
            if state.stopped || state.ended {
                return false;
            }
            if state.digest.is_some() && state.ahead.wants().is_some() {
                return true;
            }
            self.changed.wait(&mut state);
        }
    }

    fn room(&self) -> Option<(u32, Digest, Block)> {
        let mut state = self.state.lock();
        if state.stopped || state.ended {
            return None;
        }
        let (number, digest) = (state.ahead.wants()?, state.digest?);
        Some((number, digest, state.spare.pop().unwrap_or_default()))
    }

    fn ended(&self, end: SourceEnd, error: Option<ReadError>) {
        let mut state = self.state.lock();
        if !state.stopped {
            (state.ended, state.failed) = (true, error);
            drop(state);
            self.tell(Event::Ended(end));
        }
    }

    /// Whether the event was taken.
    fn tell(&self, event: Event) -> bool {
        let mut state = self.state.lock();
        let is_late = state.stopped && !matches!(event, Event::Finished(..));
        let told = if is_late { Ok(()) } else { state.step(event) };
        let is_told = told.is_ok() && !is_late;
        if let Err(error) = told {
            state.failed = Some(error);
        }
        self.changed.notify_all();
        is_told
    }
}

impl State {
    fn step(&mut self, event: Event) -> Result<(), ReadError> {
        let ahead = mem::replace(&mut self.ahead, Ahead::new(SLOTS));
        self.ahead = ahead.step(event)?;
        Ok(())
    }
}

impl<R: std::io::Read> Source<R> {
    /// The next member, and its code if that is the member behind it.
    fn item(&mut self, data: Block) -> Result<Option<Item>, ReadError> {
        let item = self.whole(data);
        match &item {
            Ok(Some(_)) => {}
            // Whoever asks again is told again.
            Ok(None) => {
                self.after = Some(Ok(None));
                self.over(true)?;
            }
            Err(_) => self.over(false)?,
        }
        item
    }

    /// The last byte of a member was read: it may be handed on.
    //= spec/phases.md#m1-only-whole-members-are-given
    fn give(&mut self) -> Result<(), ReadError> {
        let named = self.order.step(members::Event::Named(Member(self.named)));
        self.order = named?.step(members::Event::Given)?;
        self.named = self.named.wrapping_add(1);
        Ok(())
    }

    /// The source has ended.
    //= spec/phases.md#m3-a-clean-end-means-everything
    fn over(&mut self, clean: bool) -> Result<(), ReadError> {
        if self.order.effect() == Continue(members::Effect::Ask) {
            self.order = self.order.step(members::Event::End { clean })?;
        }
        Ok(())
    }

    fn whole(&mut self, mut data: Block) -> Result<Option<Item>, ReadError> {
        let head = match self.after.take() {
            Some(head) => head,
            None => self.members.head(),
        };
        let Some(Head { name, .. }) = head? else { return Ok(None) };
        let start = self.members.taken();
        self.members.data(&mut data)?;
        self.give()?;
        let mut code = None;
        if !name.ends_with(chunk::MAC_SUFFIX) {
            match self.members.head() {
                Ok(Some(head)) if head.name.ends_with(chunk::MAC_SUFFIX) => {
                    match self.members.text() {
                        Ok(text) => {
                            self.give()?;
                            code = Some((head.name, text));
                        }
                        Err(error) => self.after = Some(Err(error)),
                    }
                }
                // What is wrong behind a member comes after it.
                after => self.after = Some(after),
            }
        }
        let (size, end) = (data.len() as u64, self.members.taken());
        Ok(Some(Item { name, data, size, code, start, end, ..Item::default() }))
    }
}

impl Item {
    /// Computes the code, and whether it is the one behind the member.
    fn hash(&mut self, digest: Digest, passphrase: &[u8]) -> Verdict {
        if self.name.ends_with(chunk::MAC_SUFFIX) {
            return Verdict::Bad;
        }
        let value = self.data.mac(digest, passphrase);
        let text = self.code.as_ref().map(|(_, text)| MacText::parse(text));
        let good =
            matches!(text, Some(Ok(text)) if value.matches(text.value()));
        self.value = Some(value);
        if good { Verdict::Good } else { Verdict::Bad }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]
mod tests {
    use std::ops::ControlFlow::Break;

    use crate::format::qfile::{Encoder, Entry, Kind, Limits, Time};
    use crate::format::tar::{outer_header, padding};
    use crate::fsm::members::Announces;

    use super::*;

    const MEMBERS: [(&[u8], &[u8]); 4] = [
        (b"backup-header", b"version=3"),
        (b"backup-header.hmac", b"(stdin)= 0"),
        (b"qubes.xml.000", b"<xml/>"),
        (b"qubes.xml.000.hmac", b"(stdin)= 1"),
    ];

    fn tar() -> Vec<u8> {
        let mut archive = Vec::new();
        for (name, data) in MEMBERS {
            let header = outer_header(name, data.len() as u64, 0).unwrap();
            archive.extend(header);
            archive.extend(data);
            archive.resize(archive.len() + padding(data.len() as u64), 0);
        }
        archive.resize(archive.len() + 1024, 0);
        archive
    }

    fn qfile() -> Vec<u8> {
        let (mut encoder, mut stream) = (Encoder::default(), Vec::new());
        for (name, data) in MEMBERS {
            let entry = Entry {
                name: name.to_vec(),
                kind: Kind::File,
                mode: 0o600,
                size: data.len() as u64,
                accessed: Time::default(),
                modified: Time::default(),
            };
            encoder.entry(&entry, &mut stream).unwrap();
            stream.extend(data);
            encoder.data(data).unwrap();
        }
        encoder.end(&mut stream).unwrap();
        stream
    }

    fn source(
        stream: &[u8],
        is_qfile: bool,
        announces: Announces,
    ) -> Source<&[u8]> {
        let gate = Arc::default();
        let members = match is_qfile {
            true => Members::of_qfile(stream, Limits::default(), gate),
            false => Members::new(stream, gate),
        };
        let order = members::Members::new(announces);
        Source { members, after: None, order, named: 0 }
    }

    /// A local archive and what a qube sends: members, and a clean end.
    #[test]
    fn members_are_given_when_they_are_whole() {
        for (stream, is_qfile) in [(tar(), false), (qfile(), true)] {
            let mut source = source(&stream, is_qfile, Announces::After);
            for chunk in MEMBERS.chunks(2) {
                let item = source.item(Block::default()).unwrap().unwrap();
                let [(name, data), (mac, text)] = chunk else { panic!() };
                assert_eq!((&item.name[..], item.data.start()), (*name, *data));
                assert_eq!(item.code, Some((mac.to_vec(), text.to_vec())));
            }
            assert_eq!(source.named, 4);
            assert!(source.item(Block::default()).unwrap().is_none());
            assert_eq!(source.order.effect(), Break(true));
            // Whoever asks again is told again.
            assert!(source.item(Block::default()).unwrap().is_none());
        }
    }

    /// What was whole before the source died is given.
    //= spec/phases.md#m3-a-clean-end-means-everything
    #[test]
    fn a_source_that_dies_ends_unclean() {
        for (stream, is_qfile) in [(tar(), false), (qfile(), true)] {
            let name = MEMBERS[3].0;
            let at = stream.windows(name.len()).position(|w| w == name);
            let cut = &stream[..at.unwrap()];
            let mut source = source(cut, is_qfile, Announces::After);
            source.item(Block::default()).unwrap().unwrap();
            let item = source.item(Block::default()).unwrap().unwrap();
            assert_eq!((item.name.as_slice(), item.code), (MEMBERS[2].0, None));
            assert!(source.item(Block::default()).is_err());
            assert_eq!(source.order.effect(), Break(false));
            assert_eq!(source.named, 3);
        }
    }

    /// The machine for the other kind of source refuses to hand on what is
    /// only announced: taking one for the other cannot go unnoticed.
    //= spec/phases.md#m1-only-whole-members-are-given
    #[test]
    fn the_machine_of_the_other_kind_gives_nothing() {
        for (stream, is_qfile) in [(tar(), false), (qfile(), true)] {
            let mut source = source(&stream, is_qfile, Announces::Before);
            let error = source.item(Block::default()).err().unwrap();
            assert_eq!(
                error.to_string(),
                "state Asking(Some(Member(0))): event Given is no answer to \
                 what was asked there"
            );
        }
    }
}
