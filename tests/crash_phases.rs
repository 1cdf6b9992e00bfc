//! Crash states of `backup` and `restore` on a real disk.
//!
//! Every state that the explorer reaches by a crash, and that can be told from
//! others on a disk, is made in a real directory: the files are there, whole,
//! in part or empty, as the model says. Then the real next run goes over it,
//! by the library. What it says and what it leaves must be what the model's
//! says and leaves.
//!
//! The other way round, our own command is killed before each of its calls,
//! under strace: what is there then must be a state of the model.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use qubes_fsm::backup::read::{
    Goal, Options as Reads, ReadError, read, read_seekable,
};
use qubes_fsm::backup::tree::{STAGE_PREFIX, Target, TreeError};
use qubes_fsm::backup::write::source::Contents;
use qubes_fsm::backup::write::{Options, WriteError, to_file};
use qubes_fsm::check::Model;
use qubes_fsm::check::phases::archive::NAMES;
use qubes_fsm::check::phases::backup::Writing;
use qubes_fsm::check::phases::backup_again::{
    self, Content, Place, Run, WritingAgain,
};
use qubes_fsm::check::phases::restore::{Binding, Reading};
use qubes_fsm::check::phases::restore_again::{
    self, Name, ReadingAgain, Stage, What,
};
use qubes_fsm::fsm::backup::Target as To;
use qubes_fsm::fsm::restore::{End, State};
use tempfile::TempDir;

/// What is backed up, and the archive of it.
struct Given {
    directory: TempDir,
    contents: Contents,
    /// Names of the files in the archive, `qubes.xml` first.
    names: Vec<String>,
    bytes: Vec<Vec<u8>>,
    archive: Vec<u8>,
}

const PASSPHRASE: &[u8] = b"correct horse";
/// Ways in which a part of something can be there.
const PARTS: usize = 4;
/// Where the qube's files are, in its backup and below a target.
const FOLDER: &str = "vm5";

fn writes(on_old_kernel: bool) -> Options<'static> {
    Options {
        chunk_bytes: 1 << 20,
        on_old_kernel,
        ..Options::new(PASSPHRASE.to_vec().into())
    }
}

impl Given {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let from = directory.path().join("from");
        let store = "<QubesVmCollection default_template=\"None\">\
            <QubesAppVm qid=\"5\" name=\"work\" template_qid=\"none\" \
            backup_content=\"True\" backup_path=\"vm5\"/>\
            </QubesVmCollection>";
        fs::create_dir_all(from.join(FOLDER)).unwrap();
        fs::write(from.join("qubes.xml"), store).unwrap();
        let image: Vec<u8> = (0..60_000_u32).map(|n| n as u8).collect();
        fs::write(from.join("vm5/private.img"), image).unwrap();
        fs::write(from.join("vm5/firewall.xml"), "<rules/>\n").unwrap();
        let contents = Contents::from_dir(&from, &[], &[]).unwrap();
        let name = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
        let names: Vec<_> =
            contents.files.iter().map(|file| name(&file.name)).collect();
        assert_eq!(names.len(), NAMES, "{names:?}");
        let path = directory.path().join("archive");
        to_file(&contents, &path, writes(false)).unwrap();
        let archive = fs::read(&path).unwrap();
        let mut given =
            Self { directory, contents, names, bytes: Vec::new(), archive };
        // `qubes.xml` in an archive says what is in it.
        let to = given.directory.path().join("once");
        given.restore(&to, false, false).unwrap();
        let bytes = given.names.iter().map(|name| fs::read(to.join(name)));
        given.bytes = bytes.map(Result::unwrap).collect();
        given
    }

    fn archive(&self) -> PathBuf {
        self.directory.path().join("archive")
    }

    /// A run of the library, as the model has it.
    fn restore(
        &self,
        to: &Path,
        overwrite: bool,
        hold: bool,
    ) -> Result<(), ReadError> {
        let target = Target::open(to, overwrite)?;
        let goal = Goal::Restore { target, wanted: Vec::new() };
        let options = Reads {
            require_manifest: true,
            ..Reads::new(PASSPHRASE.to_vec().into(), goal)
        };
        let report = if hold {
            read(self.archive.as_slice(), options)
        } else {
            read_seekable(fs::File::open(self.archive()).unwrap(), options)
        };
        report.map(|report| assert_eq!(report.omissions, [""; 0]))
    }

    fn verify(&self, archive: &Path) {
        let options = Reads {
            require_manifest: true,
            ..Reads::new(PASSPHRASE.to_vec().into(), Goal::Verify)
        };
        let file = fs::File::open(archive).unwrap();
        read_seekable(file, options).unwrap();
    }
}

/// So much of `whole`; of a part there are several kinds.
fn bytes(whole: &[u8], content: Content, turn: usize) -> Vec<u8> {
    let part = |end: usize| whole.get(..end).unwrap().to_vec();
    match (content, turn % PARTS) {
        (Content::Empty, _) => Vec::new(),
        (Content::Whole, _) => whole.to_vec(),
        (Content::Part, 0) => part(1),
        (Content::Part, 1) => part(whole.len() / 2),
        (Content::Part, 2) => part(whole.len() - 1),
        // Its length is there, and not its bytes.
        (Content::Part, _) => vec![0; whole.len()],
    }
}

/// Every distinct state right after a crash; of each whether a kill leads
/// there too.
fn crashes<M: Model>(
    model: &M,
    is_kill: fn(&M::Step) -> Option<bool>,
) -> Vec<(M::State, bool)> {
    let mut left = VecDeque::from(model.initial());
    let mut known: HashSet<M::State> = left.iter().cloned().collect();
    let mut found = Vec::new();
    while let Some(from) = left.pop_front() {
        let mut steps = Vec::new();
        model.steps(&from, &mut steps);
        for (step, to) in steps {
            match is_kill(&step) {
                Some(killed) => found.push((to, killed)),
                None if known.insert(to.clone()) => left.push_back(to),
                None => {}
            }
        }
    }
    found
}

/// The run after the last crash, to its end: nothing else happens.
fn alone<M: Model>(model: &M, mut state: M::State) -> M::State {
    loop {
        let mut steps = Vec::new();
        model.steps(&state, &mut steps);
        assert!(steps.len() < 2, "{state:?}: more than one way to go on");
        match steps.pop() {
            Some((_, next)) => state = next,
            None => return state,
        }
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> =
        names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

// --- backup

type Seen = (Option<Content>, Option<Content>);

fn seen(world: &backup_again::World) -> Seen {
    let archive = world.archive.map(|archive| archive.content);
    (archive, world.left.map(|left| left.content))
}

fn kill_of_backup(step: &backup_again::Step) -> Option<bool> {
    match step {
        backup_again::Step::Killed => Some(true),
        backup_again::Step::PowerCut => Some(false),
        backup_again::Step::Own(_)
        | backup_again::Step::Looked
        | backup_again::Step::Swept
        | backup_again::Step::Made
        | backup_again::Step::Locked
        | backup_again::Step::Linked
        | backup_again::Step::Again
        | backup_again::Step::Other => None,
    }
}

const LEFT_PREFIX: &str = ".qubes-fsm-backup-";
const LEFT: &str = ".qubes-fsm-backup-0123456789abcdef";

/// The next backup on what a crash left.
fn back_up_again(given: &Given, model: &WritingAgain, seen: Seen, turn: usize) {
    let (archive, left) = seen;
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("archive");
    let left_path = place.path().join(LEFT);
    if let Some(content) = archive {
        fs::write(&path, bytes(&given.archive, content, turn)).unwrap();
    }
    match left {
        // Two names of one file.
        Some(Content::Whole) if archive == left => {
            fs::hard_link(&path, &left_path).unwrap();
        }
        Some(content) => {
            fs::write(&left_path, bytes(&given.archive, content, turn))
                .unwrap();
        }
        None => {}
    }
    let state = crashes(model, kill_of_backup)
        .into_iter()
        .find(|(world, _)| self::seen(world) == seen)
        .unwrap();
    go_on(given, model, state.0, &path);
}

/// The next backup, really and in the model.
fn go_on(
    given: &Given,
    model: &WritingAgain,
    state: backup_again::World,
    path: &Path,
) {
    let seen = seen(&state);
    let end = alone(model, state);
    let old = model.place != Place::Unnamed;
    let before = fs::read(path).ok();
    let ended = to_file(&given.contents, path, writes(old));
    match (end.run, ended) {
        (Run::Refused, Err(WriteError::Exists { .. })) => {
            assert_eq!(fs::read(path).ok(), before, "{seen:?}");
        }
        (Run::Going, Ok(_)) => assert_eq!(before, None, "{seen:?}"),
        (run, ended) => panic!("{seen:?}: {run:?}, and really {ended:?}"),
    }
    given.verify(path);
    let names = names(path.parent().unwrap());
    let (archives, lefts): (Vec<&str>, Vec<&str>) =
        names.iter().map(String::as_str).partition(|n| *n == "archive");
    assert_eq!(archives, ["archive"], "{seen:?}");
    assert_eq!(lefts.len(), usize::from(end.left.is_some()), "{seen:?}");
    assert!(lefts.iter().all(|name| name.starts_with(LEFT_PREFIX)));
}

//= spec/phases.md#b1c-the-same-after-a-power-cut
//= spec/phases.md#b9-a-crash-blocks-no-later-run
//= spec/phases.md#b10-what-a-crash-left-is-swept
#[test]
fn every_crash_state_of_a_backup_is_gone_on_from() {
    let given = Given::new();
    let mut all = BTreeMap::new();
    for place in [Place::Unnamed, Place::Renamed, Place::Linked] {
        let writing = Writing::honest(To::File, &[1]);
        let model = WritingAgain { writing, ..WritingAgain::new(place, 1) };
        let mut known = HashSet::new();
        let states: Vec<_> = crashes(&model, kill_of_backup)
            .iter()
            .map(|(world, _)| seen(world))
            .filter(|seen| known.insert(*seen))
            .collect();
        for state in &states {
            (0..PARTS).for_each(|turn| {
                back_up_again(&given, &model, *state, turn);
            });
        }
        let of = |test: fn(&Seen) -> bool| {
            states.iter().filter(|seen| test(seen)).count()
        };
        let refused = of(|(archive, _)| archive.is_some());
        let part = of(|(_, left)| *left == Some(Content::Part));
        let empty = of(|(_, left)| *left == Some(Content::Empty));
        let both = of(|(archive, left)| archive.is_some() && left.is_some());
        let counts = [states.len(), refused, part, empty, both];
        all.insert(format!("{place:?}"), counts);
    }
    let wanted = [
        ("Linked", [6, 2, 1, 1, 1]),
        ("Renamed", [5, 1, 1, 1, 0]),
        ("Unnamed", [2, 1, 0, 0, 0]),
    ];
    let wanted = wanted.map(|(place, counts)| (place.to_owned(), counts));
    assert_eq!(all, wanted.into());
}

// --- restore

/// What of a state can be told apart on a disk.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct OnDisk {
    target: bool,
    folder: bool,
    files: [Option<Content>; NAMES],
    left: Option<Stage>,
}

fn on_disk(world: &restore_again::World) -> OnDisk {
    let what = |file: restore_again::File| match file.now {
        What::Nothing => None,
        What::Theirs => panic!("nobody else is there"),
        What::Ours { content, .. } => Some(content),
    };
    OnDisk {
        target: world.target != Name::Absent,
        folder: world.folder != Name::Absent,
        files: world.files.map(what),
        left: world.left,
    }
}

fn kill_of_restore(step: &restore_again::Step) -> Option<bool> {
    match step {
        restore_again::Step::Killed => Some(true),
        restore_again::Step::PowerCut => Some(false),
        restore_again::Step::Own(_)
        | restore_again::Step::Opened
        | restore_again::Step::Named
        | restore_again::Step::Swept
        | restore_again::Step::Staged
        | restore_again::Step::Locked
        | restore_again::Step::InTheWay(..)
        | restore_again::Step::Synced
        | restore_again::Step::Folder
        | restore_again::Step::Placed
        | restore_again::Step::Again
        | restore_again::Step::Theirs
        | restore_again::Step::Other => None,
    }
}

fn restores(hold: bool, overwrite: bool) -> ReadingAgain {
    let mut reading = Reading::honest(2, 1);
    if hold {
        reading.binding = Binding::ManifestAtEnd;
        reading.plan.hold = true;
    }
    ReadingAgain::new(reading, 1, overwrite)
}

impl OnDisk {
    /// Makes it.
    fn lay_out(&self, given: &Given, to: &Path, turn: usize) {
        if !self.target {
            return;
        }
        fs::create_dir(to).unwrap();
        if self.folder {
            fs::create_dir(to.join(FOLDER)).unwrap();
        }
        let put = |path: PathBuf, number: usize, content| {
            let whole = given.bytes.get(number).unwrap();
            fs::write(path, bytes(whole, content, turn)).unwrap();
        };
        for (number, file) in self.files.iter().enumerate() {
            let name = given.names.get(number).unwrap();
            if let Some(content) = file {
                put(to.join(name), number, *content);
            }
        }
        let Some(left) = &self.left else { return };
        let stage = to.join(format!("{STAGE_PREFIX}1-0-5"));
        fs::create_dir(&stage).unwrap();
        for (number, file) in left.iter().enumerate() {
            let name = given.names.get(number).unwrap();
            if let Some(content) = file {
                let path = stage.join(number.to_string()).join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                put(path, number, *content);
            }
        }
    }

    /// What is there.
    fn look(given: &Given, to: &Path) -> Self {
        let of = |path: PathBuf, number: usize| {
            let found = fs::read(path).ok()?;
            let whole = given.bytes.get(number).unwrap();
            Some(match found {
                found if found == *whole => Content::Whole,
                found if found.is_empty() => Content::Empty,
                _ => Content::Part,
            })
        };
        let mut files = [None; NAMES];
        let mut left = None;
        for (number, name) in given.names.iter().enumerate() {
            *files.get_mut(number).unwrap() = of(to.join(name), number);
        }
        let there = if to.exists() { names(to) } else { Vec::new() };
        for stage in there.iter().filter(|n| n.starts_with(STAGE_PREFIX)) {
            let mut found = [None; NAMES];
            for (number, name) in given.names.iter().enumerate() {
                let path = to.join(stage).join(number.to_string()).join(name);
                *found.get_mut(number).unwrap() = of(path, number);
            }
            assert_eq!(left.replace(found), None, "two stages");
        }
        let known = |name: &&String| {
            name.as_str() != FOLDER
                && !given.names.contains(name)
                && !name.starts_with(STAGE_PREFIX)
        };
        assert_eq!(there.iter().find(known), None);
        let folder = to.join(FOLDER).exists();
        Self { target: to.exists(), folder, files, left }
    }
}

/// The next restore on what a crash left, and the model's.
fn restore_again(
    given: &Given,
    model: &ReadingAgain,
    state: &restore_again::World,
    to: &Path,
) {
    let hold = model.reading.plan.hold;
    let found = on_disk(state);
    let end = alone(model, state.clone());
    let ended = given.restore(to, model.overwrite, hold);
    match (end.one.state, ended) {
        (State::Over(End::Done), Ok(())) => {}
        (
            State::Over(End::Failed(_)),
            Err(ReadError::Tree(TreeError::Exists { path })),
        ) => {
            assert!(end.refused, "{found:?}");
            // It says which, and that one is there, whole.
            let name = path.strip_prefix(to).unwrap().to_str().unwrap();
            let number = given.names.iter().position(|n| n == name).unwrap();
            let file = found.files.get(number).unwrap();
            assert_eq!(*file, Some(Content::Whole), "{found:?}: {name}");
        }
        (state, ended) => panic!("{found:?}: {state:?}, really {ended:?}"),
    }
    assert_eq!(OnDisk::look(given, to), on_disk(&end), "{found:?}");
}

//= spec/phases.md#r2-what-is-published-is-whole
//= spec/phases.md#r12-a-crash-blocks-no-later-run
//= spec/phases.md#r13-what-a-crash-left-is-swept
#[test]
fn every_crash_state_of_a_restore_is_gone_on_from() {
    let given = Given::new();
    let mut all = Vec::new();
    for (hold, overwrite) in
        [(false, false), (false, true), (true, false), (true, true)]
    {
        let model = restores(hold, overwrite);
        let mut known = HashSet::new();
        let mut counts = [0; 6];
        for (state, _) in crashes(&model, kill_of_restore) {
            let found = on_disk(&state);
            if !known.insert(found.clone()) {
                continue;
            }
            let left = found.left.iter().flatten();
            let has = |content| left.clone().any(|f| *f == Some(content));
            let files = found.files.iter().flatten().count();
            let interesting = [
                true,
                files > 0 && files < NAMES,
                has(Content::Part),
                has(Content::Empty),
                found.folder && found.files.iter().skip(1).all(Option::is_none),
                !found.target,
            ];
            for (count, is_so) in counts.iter_mut().zip(interesting) {
                *count += usize::from(is_so);
            }
            // Each kind of part; where there are many states, one of them.
            let turns = match (has(Content::Part), hold) {
                (false, _) => 0..1,
                (true, false) => 0..PARTS,
                (true, true) => known.len()..known.len() + 1,
            };
            for turn in turns {
                let place = tempfile::tempdir().unwrap();
                let to = place.path().join("to");
                found.lay_out(&given, &to, turn);
                restore_again(&given, &model, &state, &to);
            }
        }
        all.push(counts);
    }
    let (published, held) = ([21, 13, 3, 3, 3, 1], [99, 31, 47, 47, 9, 1]);
    assert_eq!(all, [published, published, held, held]);
}

// --- real kills

/// Calls that change something, and one that comes before all of them.
const CALLS: [&str; 12] = [
    "getrandom",
    "mkdir",
    "mkdirat",
    "flock",
    "pwrite64",
    "ftruncate",
    "fchmod",
    "utimensat",
    "fsync",
    "renameat2",
    "linkat",
    "unlinkat",
];
const CHILD: &str = "QUBES_FSM_TEST_CRASH_PHASES";

fn strace(arguments: &[&str], program: &mut Command) -> Output {
    let output = Command::new("strace")
        .args(["-f", "-qq"])
        .args(arguments)
        .arg(program.get_program())
        .args(program.get_args())
        .envs(program.get_envs().filter_map(|(k, v)| Some((k, v?))))
        .output();
    output.unwrap_or_else(|error| {
        panic!("strace: {error}; wanted Debian's package strace")
    })
}

/// Kills `program` before its `when`-th `call`; whether it came to it.
fn killed(program: &mut Command, call: &str, when: usize) -> bool {
    let trace = format!("trace={call}");
    let inject = format!("inject={call}:signal=KILL:when={when}");
    let arguments = ["-o", "/dev/null", "-e", &trace, "-e", &inject];
    let output = strace(&arguments, program);
    let killed = output.status.signal() == Some(9);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(killed || output.status.success(), "is ptrace permitted? {err}");
    killed
}

/// What [`a_backup_killed_anywhere_is_a_state_of_the_model`] kills: the
/// library, on a file system where files need names.
#[test]
fn child_that_is_killed() {
    let Some(to) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let from = to.parent().unwrap().join("from");
    let contents = Contents::from_dir(&from, &[], &[]).unwrap();
    to_file(&contents, &to.join("archive"), writes(true)).unwrap();
}

//= spec/phases.md#b1-under-the-name-stands-a-whole-archive
#[test]
#[ignore = "needs Debian's package strace"]
fn a_backup_killed_anywhere_is_a_state_of_the_model() {
    let given = Given::new();
    let writing = Writing::honest(To::File, &[1]);
    let model = WritingAgain { writing, ..WritingAgain::new(Place::Linked, 1) };
    let states = crashes(&model, kill_of_backup);
    // How much of it is there is the kernel's and the threads' matter.
    let key = |(archive, left): Seen| (archive, left.is_some());
    let mut found = HashSet::new();
    for call in CALLS {
        for when in 1.. {
            let to = given.directory.path().join("to");
            fs::create_dir(&to).unwrap();
            let mut program = Command::new(std::env::current_exe().unwrap());
            program.args(["--exact", "child_that_is_killed"]);
            program.env(CHILD, &to);
            let was_killed = killed(&mut program, call, when);
            let path = to.join("archive");
            if path.exists() {
                given.verify(&path);
            }
            let there = path.exists().then_some(Content::Whole);
            let left = names(&to).len() > usize::from(path.exists());
            let mut states = states.iter().filter(|(_, killed)| *killed);
            let same = |(state, _): &&(backup_again::World, bool)| {
                key(seen(state)) == (there, left)
            };
            let Some((state, _)) = states.find(same) else {
                panic!("{call} {when}: no state: {there:?} {left}")
            };
            if was_killed {
                found.insert((there, left));
                go_on(&given, &model, state.clone(), &path);
            }
            fs::remove_dir_all(&to).unwrap();
            if !was_killed {
                break;
            }
        }
    }
    let killed = states.iter().filter(|(_, killed)| *killed);
    let all: HashSet<_> = killed.map(|(world, _)| key(seen(world))).collect();
    assert_eq!(all.len(), 4);
    assert_eq!(found, all);
}

fn our_restore(given: &Given, to: &Path) -> Command {
    let passphrase = given.directory.path().join("passphrase");
    fs::write(&passphrase, PASSPHRASE).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_qubes-fsm"));
    program.arg("restore").arg(given.archive()).arg("--overwrite");
    program.arg("--to").arg(to).arg("--passphrase-file").arg(passphrase);
    program
}

//= spec/phases.md#r2-what-is-published-is-whole
#[test]
#[ignore = "needs Debian's package strace"]
fn a_restore_killed_anywhere_is_a_state_of_the_model() {
    let given = Given::new();
    let model = restores(false, true);
    // A file of the stage may have all its bytes before that is known.
    let key = |mut found: OnDisk| {
        for file in found.left.iter_mut().flatten().flatten() {
            *file = Content::Part;
        }
        found
    };
    let states: Vec<_> = crashes(&model, kill_of_restore)
        .into_iter()
        .filter(|(_, killed)| *killed)
        .map(|(state, _)| state)
        .collect();
    let mut seen = HashSet::new();
    for call in CALLS {
        for when in 1.. {
            let place = tempfile::tempdir().unwrap();
            let to = place.path().join("to");
            if !killed(&mut our_restore(&given, &to), call, when) {
                break;
            }
            let found = key(OnDisk::look(&given, &to));
            let same =
                |state: &&restore_again::World| key(on_disk(state)) == found;
            let Some(state) = states.iter().find(same) else {
                panic!("{call} {when}: no state of the model: {found:?}")
            };
            seen.insert(found);
            restore_again(&given, &model, state, &to);
        }
    }
    let all: HashSet<_> = states.iter().map(|s| key(on_disk(s))).collect();
    assert_eq!(all.len(), 10);
    assert_eq!(seen, all);
}

/// The calls of a restore that a power cut cares for, in their order: the
/// model's, in `restore_again`.
//= spec/phases.md#r11-done-means-durable
#[test]
#[ignore = "needs Debian's package strace"]
fn a_restore_syncs_before_and_after_each_rename() {
    let given = Given::new();
    let place = tempfile::tempdir().unwrap();
    let place = place.path().canonicalize().unwrap();
    let (to, trace) = (place.join("to"), place.join("trace"));
    let trace_text = trace.to_str().unwrap();
    let arguments =
        ["-y", "-o", trace_text, "-e", "trace=fsync,syncfs,renameat2"];
    let output = strace(&arguments, &mut our_restore(&given, &to));
    assert!(output.status.success(), "is ptrace permitted? {output:?}");
    let text = fs::read_to_string(&trace).unwrap();
    // The last path of each call, below the place; of a stage the file.
    let calls = text.lines().map(|line| {
        let (call, rest) = line.split_once('(').unwrap();
        let call = call.rsplit(' ').next().unwrap();
        let folder = rest.rsplit_once('>').unwrap().0;
        let folder = Path::new(folder.rsplit_once('<').unwrap().1);
        let name = rest.split('"').nth(3).unwrap_or("");
        let path = folder.strip_prefix(&place).unwrap().join(name);
        let parts: Vec<_> = path
            .iter()
            .map(|part| part.to_str().unwrap())
            .map(|part| match part.starts_with(STAGE_PREFIX) {
                true => "STAGE",
                false => part,
            })
            .collect();
        format!("{call} {}", parts.join("/"))
    });
    let found: Vec<_> = calls.collect();
    let mut wanted = vec!["fsync ".to_owned()];
    for (number, name) in given.names.iter().enumerate() {
        wanted.push(format!("fsync to/STAGE/{number}/{name}"));
        wanted.push(format!("renameat2 to/{name}"));
        if number > 0 {
            wanted.push(format!("fsync to/{FOLDER}"));
        }
        wanted.push("fsync to".to_owned());
    }
    assert_eq!(found, wanted, "{text}");
}

/// The same of a backup: its contents, its name, the directory.
//= spec/phases.md#b2-done-means-whole-and-durable
#[test]
#[ignore = "needs Debian's package strace"]
fn a_backup_syncs_before_and_after_its_name() {
    let given = Given::new();
    let place = tempfile::tempdir().unwrap();
    let place = place.path().canonicalize().unwrap();
    let trace = place.join("trace");
    let passphrase = place.join("passphrase");
    fs::write(&passphrase, PASSPHRASE).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_qubes-fsm"));
    program
        .arg("backup")
        .arg("--from")
        .arg(given.directory.path().join("from"));
    program.arg("--to").arg(place.join("archive"));
    program.arg("--passphrase-file").arg(passphrase);
    let calls = "trace=fsync,fdatasync,syncfs,linkat,renameat2";
    let arguments = ["-y", "-o", trace.to_str().unwrap(), "-e", calls];
    let output = strace(&arguments, &mut program);
    assert!(output.status.success(), "is ptrace permitted? {output:?}");
    let text = fs::read_to_string(&trace).unwrap();
    let [sync, link, directory] = *text.lines().collect::<Vec<_>>() else {
        panic!("wanted three calls: {text}")
    };
    assert!(sync.contains("fsync(") && !sync.contains("archive"), "{text}");
    assert!(link.contains("linkat(") && link.contains("archive"), "{text}");
    let synced = format!("<{}>)", place.display());
    assert!(directory.contains(&synced), "{text}");
    given.verify(&place.join("archive"));
}
