//! Which lock excludes which: the simulated disk answers as the kernel does.
//!
//! Every row of the table of lock kinds is asked of both. The other process
//! is Python's `fcntl`, which is what qubesd uses.

#![cfg(feature = "check")]
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]
#![expect(clippy::panic, reason = "a test may fail loudly")]

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use proptest::prelude::*;
use qubes_fsm::fsm::{Access, Effect, Errno, Event, Fd, FileId, Name};
use qubes_fsm::sim::disk::{Answer, Disk, LockKind, Updates};
use tempfile::TempDir;

use Access::{Read, Write};
use LockKind::{Flock, Ofd, Posix};

/// One open file: process 0 or 1, and the number of its descriptor, 0 or 1.
type Slot = (usize, u8);

/// What both disks can be asked.
trait Locks {
    fn open(&mut self, slot: Slot);
    fn close(&mut self, slot: Slot);
    /// Whether the lock is granted, without waiting.
    fn lock(&mut self, slot: Slot, kind: LockKind, access: Access) -> bool;
    /// Process 1 gets process 0's descriptor 0, as its own 0.
    fn inherit(&mut self);
}

impl Locks for Disk {
    fn open(&mut self, (process, number): Slot) {
        let found = self.apply(process, Effect::Open(Name::Store, Write));
        assert_eq!(found, Answer::Event(Event::Opened(Fd(number))));
    }

    fn close(&mut self, (process, number): Slot) {
        let found = self.apply(process, Effect::Close(Fd(number)));
        assert_eq!(found, Answer::Event(Event::Closed));
    }

    fn lock(&mut self, slot: Slot, kind: LockKind, access: Access) -> bool {
        let (process, number) = slot;
        match Disk::lock(self, process, Fd(number), kind, access) {
            Ok(()) => true,
            Err(errno) => {
                assert_eq!(errno, Errno::AGAIN);
                false
            }
        }
    }

    fn inherit(&mut self) {
        assert_eq!(Disk::inherit(self, 0, Fd(0), 1), Ok(Fd(0)));
    }
}

/// The kernel: this process is process 0, a Python is process 1.
struct Kernel {
    directory: TempDir,
    files: [Option<File>; 2],
    python: Option<Python>,
    /// One at a time: a Python that another test is starting has, between
    /// its fork and its exec, all our descriptors, and with them our locks.
    _alone: MutexGuard<'static, ()>,
}

struct Python {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// Commands are lines: open, close, lock. Descriptor 2, where a file can be
/// handed over, is the inherited one.
const SCRIPT: &str = "
import fcntl, os, struct, sys
fds = {0: 2}
for line in sys.stdin:
    word, number, *rest = line.split()
    number = int(number)
    answer = 'done'
    if word == 'open':
        fds[number] = os.open(sys.argv[1], os.O_RDWR)
    elif word == 'close':
        os.close(fds[number])
    else:
        kind, access = rest
        both = fcntl.LOCK_EX if access == 'Write' else fcntl.LOCK_SH
        both |= fcntl.LOCK_NB
        try:
            if kind == 'Posix':
                fcntl.lockf(fds[number], both)
            elif kind == 'Flock':
                fcntl.flock(fds[number], both)
            else:
                one = fcntl.F_WRLCK if access == 'Write' else fcntl.F_RDLCK
                what = struct.pack('hhqqi4x', one, 0, 0, 0, 0)
                ofd_setlk = 37
                fcntl.fcntl(fds[number], ofd_setlk, what)
            answer = 'granted'
        except BlockingIOError:
            answer = 'refused'
    print(answer, flush=True)
";

impl Python {
    fn start(store: &Path, inherited: Stdio) -> Self {
        let child = Command::new("python3")
            .args(["-I", "-S", "-c", SCRIPT])
            .arg(store)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(inherited)
            .spawn();
        let mut child = child.unwrap_or_else(|error| {
            panic!("python3: {error}; install the package python3")
        });
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output }
    }

    fn ask(&mut self, line: &str) -> String {
        writeln!(self.input, "{line}").unwrap();
        let mut answer = String::new();
        self.output.read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Kernel {
    fn new() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("qubes.xml"), "").unwrap();
        Self { directory, files: [None, None], python: None, _alone }
    }

    fn python(&mut self) -> &mut Python {
        let store = self.directory.path().join("qubes.xml");
        self.python
            .get_or_insert_with(|| Python::start(&store, Stdio::inherit()))
    }
}

impl Locks for Kernel {
    fn open(&mut self, (process, number): Slot) {
        if process == 1 {
            let answer = self.python().ask(&format!("open {number}"));
            assert_eq!(answer, "done");
            return;
        }
        let store = self.directory.path().join("qubes.xml");
        let file = OpenOptions::new().read(true).write(true).open(store);
        self.files[usize::from(number)] = Some(file.unwrap());
    }

    fn close(&mut self, (process, number): Slot) {
        if process == 1 {
            let answer = self.python().ask(&format!("close {number}"));
            assert_eq!(answer, "done");
            return;
        }
        assert!(self.files[usize::from(number)].take().is_some());
    }

    fn lock(&mut self, slot: Slot, kind: LockKind, access: Access) -> bool {
        let (process, number) = slot;
        if process == 1 {
            let line = format!("lock {number} {kind:?} {access:?}");
            let answer = self.python().ask(&line);
            assert!(["granted", "refused"].contains(&answer.as_str()));
            return answer == "granted";
        }
        let file = self.files[usize::from(number)].as_ref().unwrap();
        if kind == Flock {
            let answer = match access {
                Read => file.try_lock_shared(),
                Write => file.try_lock(),
            };
            return match answer {
                Ok(()) => true,
                Err(std::fs::TryLockError::WouldBlock) => false,
                Err(error) => panic!("{error}"),
            };
        }
        let kinds = [(Read, libc::F_RDLCK), (Write, libc::F_WRLCK)];
        let (_, l_type) = kinds.into_iter().find(|k| k.0 == access).unwrap();
        let lock = libc::flock {
            l_type: l_type as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        let argument = match kind {
            Posix => FcntlArg::F_SETLK(&lock),
            Ofd | Flock => FcntlArg::F_OFD_SETLK(&lock),
        };
        match fcntl(file.as_fd(), argument) {
            Ok(_) => true,
            Err(nix::Error::EAGAIN | nix::Error::EACCES) => false,
            Err(error) => panic!("{kind:?}: {error}"),
        }
    }

    fn inherit(&mut self) {
        assert!(self.python.is_none(), "only a new process inherits");
        let file = self.files[0].as_ref().unwrap().try_clone().unwrap();
        let store = self.directory.path().join("qubes.xml");
        self.python = Some(Python::start(&store, Stdio::from(file)));
    }
}

/// The descriptors that the rows speak of.
const A: Slot = (0, 0);
const B: Slot = (0, 1);
const OTHER: Slot = (1, 0);

/// Asks both disks for the same row.
fn row(name: &str, granted: bool, ask: impl Fn(&mut dyn Locks) -> bool) {
    assert_eq!(ask(&mut Disk::new()), granted, "simulated: {name}");
    assert_eq!(ask(&mut Kernel::new()), granted, "kernel: {name}");
}

/// Holds `held` on A, then asks by `asker` for the same file.
fn pair(held: LockKind, asker: Slot, kind: LockKind, granted: bool) {
    for (first, second) in
        [(Write, Write), (Read, Write), (Write, Read), (Read, Read)]
    {
        let shared = (first, second) == (Read, Read);
        let name = format!("{held:?} {first:?}, {asker:?} {kind:?} {second:?}");
        row(&name, granted || shared, |locks| {
            locks.open(A);
            if asker != A {
                locks.open(asker);
            }
            assert!(locks.lock(A, held, first), "{name}");
            locks.lock(asker, kind, second)
        });
    }
}

#[test]
fn ofd_excludes_posix_of_the_same_and_of_another_process() {
    pair(Ofd, B, Posix, false);
    pair(Ofd, OTHER, Posix, false);
    // On the very same descriptor too: the owner is another one.
    pair(Ofd, A, Posix, false);
    pair(Posix, A, Ofd, false);
}

#[test]
fn ofd_excludes_ofd_on_another_descriptor() {
    pair(Ofd, B, Ofd, false);
    pair(Ofd, OTHER, Ofd, false);
    pair(Ofd, A, Ofd, true);
}

#[test]
fn flock_is_useless_against_record_locks() {
    for record in [Ofd, Posix] {
        for asker in [A, B, OTHER] {
            pair(record, asker, Flock, true);
            pair(Flock, asker, record, true);
        }
    }
    // It does exclude its own kind.
    pair(Flock, B, Flock, false);
    pair(Flock, OTHER, Flock, false);
}

#[test]
fn posix_excludes_nothing_of_its_own_process() {
    pair(Posix, B, Posix, true);
    pair(Posix, OTHER, Posix, false);
    pair(Posix, B, Ofd, false);
    pair(Posix, OTHER, Ofd, false);
}

#[test]
fn an_inherited_descriptor_is_the_same_owner() {
    for kind in [Ofd, Flock] {
        row(&format!("{kind:?} inherited"), true, |locks| {
            locks.open(A);
            assert!(locks.lock(A, kind, Write));
            locks.inherit();
            locks.lock(OTHER, kind, Write)
        });
        // The reason for close-on-exec: the child keeps the parent's lock.
        row(&format!("{kind:?} kept by the child"), false, |locks| {
            locks.open(A);
            assert!(locks.lock(A, kind, Write));
            locks.inherit();
            locks.close(A);
            locks.open(A);
            locks.lock(A, kind, Write)
        });
        row(&format!("{kind:?} closed by both"), true, |locks| {
            locks.open(A);
            assert!(locks.lock(A, kind, Write));
            locks.inherit();
            locks.close(A);
            locks.close(OTHER);
            locks.open(A);
            locks.lock(A, kind, Write)
        });
    }
    row("POSIX is not inherited", false, |locks| {
        locks.open(A);
        locks.inherit();
        assert!(locks.lock(A, Posix, Write));
        locks.lock(OTHER, Posix, Write)
    });
}

#[test]
fn any_close_drops_the_posix_locks_of_the_process() {
    row("POSIX on a, b closed, OFD by another", true, |locks| {
        locks.open(A);
        locks.open(B);
        locks.open(OTHER);
        assert!(locks.lock(A, Posix, Write));
        locks.close(B);
        locks.lock(OTHER, Ofd, Write)
    });
    row("POSIX on a, b closed, OFD on b", true, |locks| {
        locks.open(A);
        locks.open(B);
        assert!(locks.lock(A, Posix, Write));
        locks.close(B);
        locks.open(B);
        locks.lock(B, Ofd, Write)
    });
    row("OFD on a, b closed", false, |locks| {
        locks.open(A);
        locks.open(B);
        locks.open(OTHER);
        assert!(locks.lock(A, Ofd, Write));
        locks.close(B);
        locks.lock(OTHER, Ofd, Write)
    });
    row("POSIX on a, another process closes", false, |locks| {
        locks.open(A);
        locks.open(OTHER);
        assert!(locks.lock(A, Posix, Write));
        locks.close(OTHER);
        locks.open(OTHER);
        locks.lock(OTHER, Ofd, Write)
    });
}

#[test]
fn a_close_gives_the_lock_to_whoever_asks() {
    for kind in [Ofd, Posix, Flock] {
        row(&format!("{kind:?} closed"), true, |locks| {
            locks.open(A);
            locks.open(OTHER);
            assert!(locks.lock(A, kind, Write));
            assert!(!locks.lock(OTHER, kind, Write));
            locks.close(A);
            locks.lock(OTHER, kind, Write)
        });
        row(&format!("{kind:?} made shared"), true, |locks| {
            locks.open(A);
            locks.open(OTHER);
            assert!(locks.lock(A, kind, Write));
            assert!(locks.lock(A, kind, Read));
            locks.lock(OTHER, kind, Read)
        });
    }
}

/// From shared to alone while another shares: refused. A `flock` has given up
/// its own lock by then, a record lock has not.
#[test]
fn a_refused_conversion_costs_only_the_flock() {
    for (kind, granted) in [(Ofd, false), (Posix, false), (Flock, true)] {
        row(&format!("{kind:?} after a conversion"), granted, |locks| {
            locks.open(A);
            locks.open(OTHER);
            assert!(locks.lock(A, kind, Read));
            assert!(locks.lock(OTHER, kind, Read));
            assert!(!locks.lock(A, kind, Write));
            locks.lock(OTHER, kind, Write)
        });
    }
}

/// A step of a random run.
#[derive(Clone, Copy, Debug)]
enum Act {
    Open(usize),
    Close(Slot),
    Lock(Slot, LockKind, Access),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let slot = || (0..2usize, 0..2u8);
    let kind = prop::sample::select(vec![Ofd, Posix, Flock]);
    let access = prop::sample::select(vec![Read, Write]);
    let act = prop_oneof![
        2 => (0..2usize).prop_map(Act::Open),
        1 => slot().prop_map(Act::Close),
        6 => (slot(), kind, access).prop_map(|(s, k, a)| Act::Lock(s, k, a)),
    ];
    prop::collection::vec(act, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48, failure_persistence: None, ..ProptestConfig::default()
    })]

    /// Whatever two processes do, both disks grant the same locks.
    #[test]
    fn random_runs_are_answered_alike(acts in acts()) {
        let (mut disk, mut kernel) = (Disk::new(), Kernel::new());
        let mut open = [[false; 2]; 2];
        for (number, act) in acts.iter().enumerate() {
            match *act {
                Act::Open(process) => {
                    let free = open[process].iter().position(|open| !open);
                    let Some(free) = free else { continue };
                    open[process][free] = true;
                    Locks::open(&mut disk, (process, free as u8));
                    kernel.open((process, free as u8));
                }
                Act::Close(slot) => {
                    let is_open = &mut open[slot.0][usize::from(slot.1)];
                    if !std::mem::take(is_open) {
                        continue;
                    }
                    Locks::close(&mut disk, slot);
                    kernel.close(slot);
                }
                Act::Lock(slot, kind, access) => {
                    if !open[slot.0][usize::from(slot.1)] {
                        continue;
                    }
                    let simulated = Locks::lock(&mut disk, slot, kind, access);
                    let real = kernel.lock(slot, kind, access);
                    prop_assert_eq!(simulated, real, "step {}", number);
                }
            }
        }
    }
}

fn made(disk: &mut Disk, process: usize, effect: Effect) -> Event {
    match disk.apply(process, effect) {
        Answer::Event(event) => event,
        Answer::Blocked => panic!("{effect:?} waits"),
    }
}

fn inode(disk: &mut Disk, process: usize, fd: Fd) -> u64 {
    let event = made(disk, process, Effect::StatFd(fd));
    let Event::File(FileId { inode, .. }) = event else { panic!("{event:?}") };
    inode
}

/// Opens and loads the store; the descriptor.
fn load(disk: &mut Disk, process: usize) -> Fd {
    let event = made(disk, process, Effect::Open(Name::Store, Write));
    let Event::Opened(fd) = event else { panic!("{event:?}") };
    assert_eq!(made(disk, process, Effect::Read(fd)), Event::Read);
    fd
}

/// Creates and writes a temporary file; its descriptor.
fn create(disk: &mut Disk, process: usize) -> Fd {
    let event = made(disk, process, Effect::Create);
    let Event::Opened(fd) = event else { panic!("{event:?}") };
    assert_eq!(made(disk, process, Effect::Write(fd)), Event::Written);
    fd
}

/// A whole save with nothing left open.
fn save(disk: &mut Disk, process: usize) {
    let old = load(disk, process);
    let new = create(disk, process);
    assert_eq!(made(disk, process, Effect::Rename), Event::Renamed);
    for fd in [old, new] {
        assert_eq!(made(disk, process, Effect::Close(fd)), Event::Closed);
    }
}

#[test]
fn the_lowest_free_inode_is_given_out_again() {
    let mut disk = Disk::new();
    assert_eq!(disk.store().0, 0);
    save(&mut disk, 0);
    assert_eq!(disk.store().0, 1);
    // Nothing leads to inode 0 any more: the next save gets it.
    save(&mut disk, 1);
    assert_eq!(disk.store().0, 0);
    let both = Updates::one(0, 0).with(Updates::one(1, 0));
    assert_eq!(disk.store().1.content, both);
    assert!(disk.store().1.whole);
}

/// Also where the number had another file before.
#[test]
fn a_new_file_is_empty_until_it_is_written() {
    let mut disk = Disk::new();
    // Replaced while nobody has it open: the rename frees inode 0.
    let temp = create(&mut disk, 0);
    assert_eq!(made(&mut disk, 0, Effect::Rename), Event::Renamed);
    made(&mut disk, 0, Effect::Close(temp));
    let event = made(&mut disk, 1, Effect::Create);
    let Event::Opened(temp) = event else { panic!("{event:?}") };
    assert_eq!(inode(&mut disk, 1, temp), 0);
    assert_eq!(made(&mut disk, 1, Effect::Rename), Event::Renamed);
    let (number, file) = disk.store();
    assert_eq!((number, file.whole), (0, false));
    assert_eq!(file.content, Updates::default());
}

#[test]
fn an_inode_is_free_only_after_the_last_close() {
    let mut disk = Disk::new();
    let old = load(&mut disk, 0);
    save(&mut disk, 1);
    // Inode 0 has no name, but process 0 has it open still.
    assert!(!disk.is_linked(0));
    assert_eq!(inode(&mut disk, 0, old), 0);
    let temp = create(&mut disk, 1);
    assert_eq!(inode(&mut disk, 1, temp), 2);
    assert_eq!(made(&mut disk, 1, Effect::Unlink), Event::Unlinked);
    made(&mut disk, 1, Effect::Close(temp));
    made(&mut disk, 0, Effect::Close(old));
    let temp = create(&mut disk, 1);
    assert_eq!(inode(&mut disk, 1, temp), 0);
}

#[test]
fn an_unlinked_file_lives_while_it_is_open() {
    let mut disk = Disk::new();
    let held = load(&mut disk, 0);
    let temp = create(&mut disk, 0);
    assert!(!disk.is_clean(0));
    assert_eq!(made(&mut disk, 0, Effect::Unlink), Event::Unlinked);
    let gone = Event::Failed(Errno::NO_ENTRY);
    assert_eq!(made(&mut disk, 0, Effect::StatName(Name::Temp)), gone);
    assert_eq!(made(&mut disk, 0, Effect::Rename), gone);
    assert_eq!(made(&mut disk, 0, Effect::Unlink), gone);
    assert_eq!(inode(&mut disk, 0, temp), 1);
    assert_eq!(made(&mut disk, 0, Effect::Write(temp)), Event::Written);
    let other = create(&mut disk, 1);
    assert_eq!(inode(&mut disk, 1, other), 2);
    made(&mut disk, 0, Effect::Close(temp));
    let held_by = disk.opened(0, held).unwrap();
    assert_eq!(held_by.inode, 0);
    made(&mut disk, 0, Effect::Close(held));
    assert!(disk.is_clean(0));
    assert_eq!(disk.opened(0, held), None);
}

#[test]
fn the_clock_stamps_what_is_written() {
    let mut disk = Disk::new();
    save(&mut disk, 0);
    assert_eq!(disk.store().1.mtime, 0);
    disk.tick();
    assert_eq!(disk.store().1.mtime, 0, "a tick writes nothing");
    save(&mut disk, 0);
    assert_eq!(disk.store().1.mtime, 1);
}

/// Inode and time are equal, the content is not: why a save compares the
/// content too.
#[test]
fn within_a_tick_the_same_inode_hides_a_change() {
    for (ticks, wanted) in [(0, Event::Same), (1, Event::Changed)] {
        let mut disk = Disk::with_lock_file();
        let lock = Effect::Open(Name::LockFile, Write);
        assert_eq!(made(&mut disk, 0, lock), Event::Opened(Fd(0)));
        let loaded = load(&mut disk, 0);
        assert_eq!(made(&mut disk, 0, Effect::CompareStat), Event::Same);
        made(&mut disk, 0, Effect::Close(loaded));
        save(&mut disk, 1);
        assert_eq!(made(&mut disk, 0, Effect::CompareStat), Event::Changed);
        (0..ticks).for_each(|_| disk.tick());
        save(&mut disk, 1);
        assert_eq!(disk.store().0, 0);
        assert_eq!(made(&mut disk, 0, Effect::CompareStat), wanted);
        let event = made(&mut disk, 0, Effect::Open(Name::Store, Read));
        assert_eq!(event, Event::Opened(loaded));
        let content = Effect::CompareContent(loaded);
        assert_eq!(made(&mut disk, 0, content), Event::Changed);
    }
}

/// Only `Lock` waits, and only while somebody else excludes it.
#[test]
fn a_wait_changes_nothing_and_ends_with_the_close() {
    let mut disk = Disk::new();
    let (first, second) = (load(&mut disk, 0), load(&mut disk, 1));
    let wants = Effect::Lock(second, Write);
    assert_eq!(made(&mut disk, 0, Effect::Lock(first, Read)), Event::Locked);
    let before = disk;
    assert!(disk.blocks(1, wants));
    assert_eq!(disk.apply(1, wants), Answer::Blocked);
    assert_eq!(disk, before);
    let tried = made(&mut disk, 1, Effect::TryLock(second));
    assert_eq!(tried, Event::Failed(Errno::AGAIN));
    assert_eq!(disk, before);
    made(&mut disk, 0, Effect::Close(first));
    assert!(!disk.blocks(1, wants));
    assert_eq!(made(&mut disk, 1, wants), Event::Locked);
}
