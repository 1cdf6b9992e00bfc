//! Calls of a process, as calls of the machine.
//!
//! Lives here: which file a path or descriptor is, and what a call on it can
//! mean. May not live here: the text of a trace, and what may come next.

use std::collections::{BTreeMap, BTreeSet};

use super::stages::{Seen, Stays};
use super::strace::{Call, Told, descriptor, is_deleted, path_beside, string};
use super::{TraceError, shown};
use crate::fsm::call::{Access, Effect, Errno, Event, Fd, FileId, Name};
use crate::fsm::protocol::{Protocol, Target};

/// The files that the trace is about.
pub(super) struct Paths {
    store: Vec<u8>,
    lock_file: Vec<u8>,
    directory: Vec<u8>,
    /// What was renamed over the store.
    renamed: BTreeSet<Vec<u8>>,
}

impl Paths {
    pub(super) fn of(store: &[u8], told: &[Told]) -> Self {
        let store = normal(store);
        let mut lock_file = store.clone();
        lock_file.extend(b".lock");
        let directory = parent(&store).to_vec();
        let mut paths =
            Self { store, lock_file, directory, renamed: BTreeSet::new() };
        let mut cwds = BTreeMap::new();
        for call in calls(told) {
            let cwd: &mut Option<Vec<u8>> =
                cwds.entry(call.process).or_default();
            learn(cwd, call);
            if let Some((Some(from), Some(to))) = rename(call, cwd.as_deref())
                && to == paths.store
            {
                paths.renamed.insert(from);
            }
        }
        paths
    }

    /// The store is the file that is locked, and no temporary file.
    pub(super) fn guess(
        protocol: Protocol,
        told: &[Told],
    ) -> Result<Self, TraceError> {
        let mut locked = BTreeSet::new();
        let mut others = BTreeSet::new();
        let mut targets = BTreeSet::new();
        let mut cwds = BTreeMap::new();
        for call in calls(told) {
            let cwd: &mut Option<Vec<u8>> =
                cwds.entry(call.process).or_default();
            learn(cwd, call);
            let first = call.arguments.first();
            if let (Some(Lock { .. }), Some(fd)) = (lock(call), first)
                && let Some(rest) = descriptor(fd)
                && let Some(path) = path_beside(rest.1)
            {
                locked.insert(path);
            }
            if let Some((from, to)) = rename(call, cwd.as_deref()) {
                others.extend(from);
                targets.extend(to);
            }
            if let Some(Opened { path: Some(path), creates: true, .. }) =
                opened(call, cwd.as_deref())
            {
                others.insert(path);
            }
            others.extend(unlinked(call, cwd.as_deref()));
        }
        let mut candidates: Vec<_> = match protocol.target {
            Target::Store => locked.difference(&others).cloned().collect(),
            Target::LockFile => locked
                .iter()
                .filter_map(|path| path.strip_suffix(b".lock"))
                .map(<[u8]>::to_vec)
                .collect(),
        };
        if candidates.len() > 1 {
            candidates.retain(|path| targets.contains(path));
        }
        match candidates.as_slice() {
            [store] => Ok(Self::of(store, told)),
            [] if locked.len() < 2 => Err(TraceError::NoLock),
            [] => Err(several(locked.iter())),
            some => Err(several(some.iter())),
        }
    }

    pub(super) fn shown(&self) -> String {
        shown(&self.store)
    }

    /// A temporary file of the store, by its name or by what became of it.
    fn is_temp(&self, path: &[u8]) -> bool {
        if *path == *self.store || *path == *self.lock_file {
            return false;
        }
        let name = |path: &[u8]| {
            let beside = path.strip_prefix(self.directory.as_slice())?;
            beside.strip_prefix(b"/").map(<[u8]>::to_vec)
        };
        let store = name(&self.store).unwrap_or_default();
        self.renamed.contains(path)
            || name(path).is_some_and(|name| {
                let name = name.strip_prefix(b".").unwrap_or(&name);
                !name.contains(&b'/') && name.starts_with(&store)
            })
    }
}

fn several<'a>(paths: impl Iterator<Item = &'a Vec<u8>>) -> TraceError {
    TraceError::SeveralLocks { found: paths.map(|p| shown(p)).collect() }
}

fn calls(told: &[Told]) -> impl Iterator<Item = &Call> {
    told.iter().filter_map(|told| match told {
        Told::Call(call) => Some(call),
        Told::Ended(_) => None,
    })
}

/// What a process has open of these files.
#[derive(Default)]
pub(super) struct Process {
    files: BTreeMap<i64, Kind>,
    temp: Option<Vec<u8>>,
    cwd: Option<Vec<u8>>,
    /// What `fstat` said last.
    last: Option<FileId>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Store,
    LockFile,
    Temp,
    Directory,
}

/// A file of which nothing more is known than that a name leads to it.
const NAMED: FileId = FileId { device: 0, inode: 1 };
/// The file of a descriptor, where no name leads to it.
const DELETED: FileId = FileId { device: 0, inode: 2 };
/// What the name leads to, where it is not the file of the descriptor.
const OTHER: FileId = FileId { device: 0, inode: 3 };

impl Process {
    /// What the call means; `None` if it is about something else.
    pub(super) fn sees(
        &mut self,
        paths: &Paths,
        call: &Call,
    ) -> Result<Option<Seen>, TraceError> {
        learn(&mut self.cwd, call);
        let cwd = self.cwd.as_deref();
        if let Some(opened) = opened(call, cwd) {
            return self.opens(paths, call, opened);
        }
        if let Some(renamed) = rename(call, cwd) {
            return self.renames(paths, call, renamed);
        }
        let first = call.arguments.first().map(Vec::as_slice);
        let of = first.and_then(descriptor);
        let kind = of.and_then(|(fd, _)| self.files.get(&fd).copied());
        let answer = |event: Event| match call.result {
            Ok(_) => event,
            Err(errno) => Event::Failed(errno),
        };
        let fd = match (of, kind) {
            (Some((number, _)), Some(_)) => Some(own(call, number)?),
            (_, _) => None,
        };
        Ok(match (call.name.as_str(), kind, fd) {
            ("fcntl" | "fcntl64", Some(kind), Some(fd)) => {
                lock(call).map(|lock| locks(kind, fd, &lock, call))
            }
            ("fsync" | "fdatasync", Some(kind), Some(fd)) => {
                let effect = match kind {
                    Kind::Directory => Effect::SyncDirectory,
                    Kind::Store | Kind::LockFile | Kind::Temp => {
                        Effect::Sync(fd)
                    }
                };
                let stays = match call.result {
                    Ok(_) => Stays::WithoutMeaning,
                    Err(_) => Stays::Never,
                };
                Some(one(effect, answer(Event::Synced), stays))
            }
            ("close", Some(kind), Some(fd)) => {
                if let Some((number, _)) = of {
                    self.files.remove(&number);
                }
                let seen =
                    one(Effect::Close(fd), answer(Event::Closed), Stays::Never);
                (kind != Kind::Directory).then_some(seen)
            }
            ("unlink" | "unlinkat", ..) => {
                let path = unlinked(call, self.cwd.as_deref());
                let is_own = path.is_some() && path == self.temp;
                if is_own {
                    self.temp = None;
                    Some(one(
                        Effect::Unlink,
                        answer(Event::Unlinked),
                        Stays::Never,
                    ))
                } else {
                    // Nobody may remove the store.
                    let store = path.as_ref() == Some(&paths.store);
                    store.then(Seen::default)
                }
            }
            ("fstat" | "fstat64", ..) => self.stats_fd(kind, fd, call),
            ("stat" | "lstat" | "newfstatat" | "fstatat64", ..) => {
                match self.stated(call)? {
                    Some(path) => self.stats_name(paths, &path, call),
                    None => self.stats_fd(kind, fd, call),
                }
            }
            (_, _, _) => None,
        })
    }

    /// Whether it is a lock that threads of one process share.
    pub(super) fn locks_by_posix(&self, call: &Call) -> bool {
        let first = call.arguments.first().map(Vec::as_slice);
        let of = first.and_then(descriptor);
        let kind = of.and_then(|(fd, _)| self.files.get(&fd));
        kind.is_some() && lock(call).is_some_and(|lock| lock.posix)
    }

    fn opens(
        &mut self,
        paths: &Paths,
        call: &Call,
        opened: Opened,
    ) -> Result<Option<Seen>, TraceError> {
        let Some(path) = opened.path else {
            return self.unknown(paths, call, &opened.given);
        };
        let kind = if path == paths.store {
            Kind::Store
        } else if path == paths.lock_file {
            Kind::LockFile
        } else if path == paths.directory {
            Kind::Directory
        } else if opened.creates && paths.is_temp(&path) {
            Kind::Temp
        } else {
            return Ok(None);
        };
        let event = match &call.result {
            Ok(value) => {
                self.files.insert(value.number, kind);
                Event::Opened(own(call, value.number)?)
            }
            Err(errno) => Event::Failed(*errno),
        };
        let name = match kind {
            Kind::Directory => return Ok(None),
            Kind::Temp => {
                if call.result.is_ok() {
                    self.temp = Some(path);
                }
                // Somebody has that name: another is tried.
                let stays = match call.result {
                    Err(Errno(17)) => Stays::Always,
                    Ok(_) | Err(_) => Stays::Never,
                };
                return Ok(Some(one(Effect::Create, event, stays)));
            }
            Kind::Store => Name::Store,
            Kind::LockFile => Name::LockFile,
        };
        Ok(Some(match opened.access {
            Some(access) if !opened.truncates => {
                one(Effect::Open(name, access), event, Stays::Never)
            }
            // No protocol empties the store, or writes without reading.
            Some(_) | None => Seen::default(),
        }))
    }

    fn renames(
        &mut self,
        paths: &Paths,
        call: &Call,
        (from, to): (Option<Vec<u8>>, Option<Vec<u8>>),
    ) -> Result<Option<Seen>, TraceError> {
        let (Some(from), Some(to)) = (from, to) else {
            let given = call.arguments.iter().filter_map(|text| string(text));
            for given in given {
                self.unknown(paths, call, &given)?;
            }
            return Ok(None);
        };
        if to != paths.store {
            // Nobody may take the store's name away.
            return Ok((from == paths.store).then(Seen::default));
        }
        if Some(&from) != self.temp.as_ref() {
            return Ok(Some(Seen::default()));
        }
        let event = match call.result {
            Ok(_) => {
                self.temp = None;
                Event::Renamed
            }
            Err(errno) => Event::Failed(errno),
        };
        Ok(Some(one(Effect::Rename, event, Stays::Never)))
    }

    /// A path in a directory that is not known: an error if it could be the
    /// store.
    fn unknown(
        &self,
        paths: &Paths,
        call: &Call,
        given: &[u8],
    ) -> Result<Option<Seen>, TraceError> {
        let last = |path: &[u8]| {
            path.rsplit(|byte| *byte == b'/').next().map(<[u8]>::to_vec)
        };
        if last(given) != last(&paths.store) {
            return Ok(None);
        }
        let (line, found) = (call.line, shown(given));
        Err(TraceError::NoDirectory { line, found })
    }

    /// The path that is looked at; `None` if it is a descriptor.
    fn stated(&self, call: &Call) -> Result<Option<Vec<u8>>, TraceError> {
        let at = call.name.ends_with("at") || call.name.ends_with("at64");
        let number = usize::from(at);
        let given = call.arguments.get(number).and_then(|text| string(text));
        let base = call.arguments.first().filter(|_| at);
        Ok(given.filter(|given| !given.is_empty()).and_then(|given| {
            resolved(base.map(Vec::as_slice), &given, self.cwd.as_deref())
        }))
    }

    fn stats_fd(
        &mut self,
        kind: Option<Kind>,
        fd: Option<Fd>,
        call: &Call,
    ) -> Option<Seen> {
        let (Some(Kind::Store | Kind::LockFile), Some(fd)) = (kind, fd) else {
            return None;
        };
        let event = match call.result {
            Ok(_) => {
                let deleted = call
                    .arguments
                    .first()
                    .is_some_and(|first| is_deleted(first));
                let unknown = if deleted { DELETED } else { NAMED };
                let file = inode(call).unwrap_or(unknown);
                self.last = inode(call);
                Event::File(file)
            }
            Err(errno) => Event::Failed(errno),
        };
        Some(one(Effect::StatFd(fd), event, Stays::WithoutMeaning))
    }

    fn stats_name(
        &self,
        paths: &Paths,
        path: &[u8],
        call: &Call,
    ) -> Option<Seen> {
        let name = if path == paths.store {
            Name::Store
        } else if path == paths.lock_file {
            Name::LockFile
        } else {
            return None;
        };
        let stat = Effect::StatName(name);
        let mut meanings = Vec::new();
        match call.result {
            Ok(_) => match inode(call).filter(|_| self.last.is_some()) {
                Some(file) => meanings.push((stat, Event::File(file))),
                // Which of both it is can only be told by what follows.
                None => {
                    meanings.push((stat, Event::File(NAMED)));
                    meanings.push((stat, Event::File(OTHER)));
                }
            },
            Err(errno) => meanings.push((stat, Event::Failed(errno))),
        }
        if name == Name::Store {
            let compare = Effect::CompareStat;
            match call.result {
                Ok(_) => {
                    meanings.push((compare, Event::Same));
                    meanings.push((compare, Event::Changed));
                }
                Err(Errno::NO_ENTRY) => {
                    meanings.push((compare, Event::Changed));
                }
                Err(errno) => meanings.push((compare, Event::Failed(errno))),
            }
        }
        Some(Seen { meanings, stays: Stays::WithoutMeaning })
    }
}

fn one(effect: Effect, event: Event, stays: Stays) -> Seen {
    Seen { meanings: vec![(effect, event)], stays }
}

/// A descriptor by our count, which begins behind the three of every process.
fn own(call: &Call, number: i64) -> Result<Fd, TraceError> {
    let fd = u8::try_from(number - 3).map(Fd);
    fd.map_err(|_| {
        let wanted = "a descriptor from 3 to 258 for the store";
        TraceError::line(call.line, &call.text, wanted)
    })
}

fn locks(kind: Kind, fd: Fd, lock: &Lock, call: &Call) -> Seen {
    let Some(access) = lock.access.filter(|_| lock.whole) else {
        // No protocol unlocks, or locks a part.
        return Seen::default();
    };
    let event = match call.result {
        Ok(_) => Event::Locked,
        Err(Errno::NO_ACCESS) => Event::Failed(Errno::AGAIN),
        Err(errno) => Event::Failed(errno),
    };
    // Whoever was refused or interrupted may ask again.
    let again =
        [Event::Failed(Errno::AGAIN), Event::Failed(Errno::INTERRUPTED)]
            .contains(&event);
    let stays = if again { Stays::Always } else { Stays::Never };
    match (kind, access) {
        (Kind::Temp, Access::Write) => one(Effect::TryLock(fd), event, stays),
        (Kind::Store | Kind::LockFile, access) => {
            one(Effect::Lock(fd, access), event, stays)
        }
        (Kind::Temp | Kind::Directory, _) => Seen::default(),
    }
}

/// A call that asks for a lock, or gives one back.
struct Lock {
    access: Option<Access>,
    whole: bool,
    posix: bool,
}

fn lock(call: &Call) -> Option<Lock> {
    if !call.name.starts_with("fcntl") {
        return None;
    }
    let posix = match call.arguments.get(1)?.as_slice() {
        b"F_SETLK" | b"F_SETLKW" | b"F_SETLK64" | b"F_SETLKW64" => true,
        b"F_OFD_SETLK" | b"F_OFD_SETLKW" => false,
        _ => return None,
    };
    let given = call.arguments.get(2)?;
    let has = |field: &[u8]| {
        given.split(|byte| b"{}, ".contains(byte)).any(|word| word == field)
    };
    let access = if has(b"l_type=F_WRLCK") {
        Some(Access::Write)
    } else if has(b"l_type=F_RDLCK") {
        Some(Access::Read)
    } else {
        None
    };
    let whole =
        has(b"l_whence=SEEK_SET") && has(b"l_start=0") && has(b"l_len=0");
    Some(Lock { access, whole, posix })
}

/// A call that opens something.
struct Opened {
    given: Vec<u8>,
    /// In full, where that can be known.
    path: Option<Vec<u8>>,
    /// `None`: only writing.
    access: Option<Access>,
    creates: bool,
    truncates: bool,
}

fn opened(call: &Call, cwd: Option<&[u8]>) -> Option<Opened> {
    let (at, flags): (usize, &[u8]) = match call.name.as_str() {
        "openat" => (1, call.arguments.get(2)?),
        "open" => (0, call.arguments.get(1)?),
        "creat" => (0, b"O_WRONLY|O_CREAT|O_TRUNC"),
        _ => return None,
    };
    let given = string(call.arguments.get(at)?)?;
    let base = call.arguments.first().filter(|_| at == 1);
    let says = call.result.as_ref().ok().and_then(|v| v.path.clone());
    let path = says.or_else(|| resolved(base.map(Vec::as_slice), &given, cwd));
    let has =
        |flag: &[u8]| flags.split(|byte| *byte == b'|').any(|f| f == flag);
    let access = if has(b"O_RDWR") {
        Some(Access::Write)
    } else if has(b"O_WRONLY") {
        None
    } else {
        Some(Access::Read)
    };
    let (creates, truncates) = (has(b"O_CREAT"), has(b"O_TRUNC"));
    Some(Opened { given, path, access, creates, truncates })
}

type Ends = (Option<Vec<u8>>, Option<Vec<u8>>);

/// Both paths of a rename.
fn rename(call: &Call, cwd: Option<&[u8]>) -> Option<Ends> {
    let path = |base: Option<usize>, at: usize| {
        let base = base.and_then(|base| call.arguments.get(base));
        let given = string(call.arguments.get(at)?)?;
        resolved(base.map(Vec::as_slice), &given, cwd)
    };
    match call.name.as_str() {
        "rename" => Some((path(None, 0), path(None, 1))),
        "renameat" | "renameat2" => Some((path(Some(0), 1), path(Some(2), 3))),
        _ => None,
    }
}

fn unlinked(call: &Call, cwd: Option<&[u8]>) -> Option<Vec<u8>> {
    let (base, at) = match call.name.as_str() {
        "unlink" => (None, 0),
        "unlinkat" => (call.arguments.first().map(Vec::as_slice), 1),
        _ => return None,
    };
    resolved(base, &string(call.arguments.get(at)?)?, cwd)
}

/// `AT_FDCWD</directory>` says where a process is.
fn learn(cwd: &mut Option<Vec<u8>>, call: &Call) {
    for argument in &call.arguments {
        if let Some(rest) = argument.strip_prefix(b"AT_FDCWD")
            && let Some(path) = path_beside(rest)
        {
            *cwd = Some(path);
        }
    }
}

/// A path in full; `base` is the descriptor that it begins at.
fn resolved(
    base: Option<&[u8]>,
    given: &[u8],
    cwd: Option<&[u8]>,
) -> Option<Vec<u8>> {
    if given.first() == Some(&b'/') {
        return Some(normal(given));
    }
    let base = match base {
        Some(base) if !base.starts_with(b"AT_FDCWD") => {
            path_beside(descriptor(base)?.1)?
        }
        Some(_) | None => cwd?.to_vec(),
    };
    Some(normal(&[base.as_slice(), given].join(&b'/')))
}

/// Without `.`, `..` and double slashes.
fn normal(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let mut out = Vec::with_capacity(path.len());
    for part in parts {
        out.push(b'/');
        out.extend(part);
    }
    out
}

fn parent(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    path.get(..end).unwrap_or_default()
}

/// `st_dev` and `st_ino`, which `strace -v` shows.
fn inode(call: &Call) -> Option<FileId> {
    call.arguments.iter().find_map(|argument| {
        let field = |name: &[u8]| {
            let at = argument.windows(name.len()).position(|w| w == name)?;
            argument.get(at + name.len()..)
        };
        let (inode, _) = number(field(b"st_ino=")?, 10)?;
        let device = field(b"st_dev=makedev(0x")?;
        let (major, rest) = number(device, 16)?;
        let rest = rest.strip_prefix(b", ")?;
        let rest = rest.strip_prefix(b"0x").unwrap_or(rest);
        let (minor, _) = number(rest, 16)?;
        let device = major.checked_mul(1 << 32)?.checked_add(minor)?;
        // The numbers below are ours.
        (inode > 3).then_some(FileId { device, inode })
    })
}

fn number(text: &[u8], radix: u32) -> Option<(u64, &[u8])> {
    let is_digit = |byte: &&u8| char::from(**byte).is_digit(radix);
    let (digits, rest) =
        text.split_at(text.iter().take_while(is_digit).count());
    let digits = core::str::from_utf8(digits).ok()?;
    Some((u64::from_str_radix(digits, radix).ok()?, rest))
}
