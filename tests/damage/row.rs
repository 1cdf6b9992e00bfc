//! One kind of damage: how it is done, what must be said, what may be left;
//! and the runs of it in every way of writing and reading.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::io::{Cursor, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use qubes_fsm::backup::read::{Goal, Options, ReadError, read, read_seekable};
use qubes_fsm::backup::report::{Binding, FileState, Report};
use qubes_fsm::backup::tree::{STAGE_PREFIX, Target};
use zeroize::Zeroizing;

use crate::scene::{
    Facts, but, difference, directory, expected, facts, occupy,
};
use crate::writer::{FILES, Made, PASSPHRASE, Recipe};

/// How an archive was written and is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// Encrypted and compressed.
    pub(crate) sealed: bool,
    /// With a manifest.
    pub(crate) bound: bool,
    pub(crate) keep_going: bool,
    /// Other files are in the directory.
    pub(crate) occupied: bool,
}

/// What must come of it.
#[derive(Clone, Copy)]
pub(crate) enum Want {
    /// An error; the first so many files of the backup are in place.
    Refused {
        is: fn(&ReadError) -> bool,
        pattern: &'static str,
        exit: u8,
        left: usize,
        /// But not these.
        without: &'static [&'static str],
        /// `keep_going` has put files in place before it was known: they are
        /// whole, but perhaps not those that were written.
        late: bool,
    },
    /// Done, with omissions: all but these files are in place.
    Lost(&'static [&'static str]),
    /// Done with omissions that cost no file.
    Omits(&'static [&'static str]),
    /// Done: all files but these, which are not in the archive.
    Whole(&'static [&'static str]),
    /// Done, and the content is wrong: nothing in the archive tells.
    CannotKnow,
}

/// An error, its exit code, and how many files are in place.
macro_rules! refused {
    ($pattern:pat, $exit:expr, $left:expr) => {
        refused!($pattern, $exit, $left, &[])
    };
    ($pattern:pat, $exit:expr, $left:expr, $without:expr) => {
        $crate::row::Want::Refused {
            is: |error| matches!(error, $pattern),
            pattern: stringify!($pattern),
            exit: $exit,
            left: $left,
            without: $without,
            late: false,
        }
    };
}

/// An error inside of a file: the cause decides.
macro_rules! inner {
    ($pattern:pat, $exit:expr, $left:expr) => {
        $crate::row::Want::Refused {
            is: |error| match error {
                ReadError::Inner { cause, .. } => matches!(**cause, $pattern),
                _ => false,
            },
            pattern: stringify!($pattern),
            exit: $exit,
            left: $left,
            without: &[],
            late: false,
        }
    };
}

pub(crate) enum Damage {
    /// The writer was told so: codes and manifest fit.
    Written(Box<dyn Fn(&mut Recipe)>),
    /// Done to the archive afterwards.
    Done(Box<dyn Fn(&mut Made)>),
}

/// Which cases something is said about.
type When = fn(Case) -> bool;

pub(crate) struct Row {
    name: String,
    damage: Damage,
    /// Without manifest, and without `keep_going`.
    want: Want,
    /// The last one that applies counts.
    wants: Vec<(When, Want)>,
    only: When,
    early: bool,
}

impl Row {
    fn new(name: impl Into<String>, damage: Damage, want: Want) -> Self {
        let (name, wants) = (name.into(), Vec::new());
        Self { name, damage, want, wants, only: |_| true, early: false }
    }

    pub(crate) fn written(
        name: impl Into<String>,
        damage: impl Fn(&mut Recipe) + 'static,
        want: Want,
    ) -> Self {
        Self::new(name, Damage::Written(Box::new(damage)), want)
    }

    pub(crate) fn done(
        name: impl Into<String>,
        damage: impl Fn(&mut Made) + 'static,
        want: Want,
    ) -> Self {
        Self::new(name, Damage::Done(Box::new(damage)), want)
    }

    /// Something else in some cases.
    pub(crate) fn when(mut self, when: When, want: Want) -> Self {
        self.wants.push((when, want));
        self
    }

    pub(crate) fn sealed(self, want: Want) -> Self {
        self.when(|case| case.sealed, want)
    }

    pub(crate) fn keep(self, want: Want) -> Self {
        self.when(|case| case.keep_going, want)
    }

    /// With a manifest, where nothing else tells.
    pub(crate) fn bound(self, want: Want) -> Self {
        let tells = matches!(self.want, Want::Refused { .. });
        let row = self.when(|case| case.bound && !case.keep_going, want);
        if tells { row } else { row.late(want) }
    }

    /// With a manifest and `keep_going`: found out when files are in place.
    pub(crate) fn late(self, mut want: Want) -> Self {
        if let Want::Refused { late, .. } = &mut want {
            *late = true;
        }
        self.when(|case| case.bound && case.keep_going, want)
    }

    /// Found out before any data is read, where the archive is a file that can
    /// seek; without this it is found out before a wrong chunk is used.
    pub(crate) fn early(self) -> Self {
        Self { early: true, ..self }
    }

    /// In no other case is this damage possible.
    pub(crate) fn only(self, only: When) -> Self {
        Self { only, ..self }
    }

    fn wanted(&self, case: Case) -> Want {
        let mut wants = self.wants.iter().filter(|(when, _)| when(case));
        let mut want = wants.next_back().map_or(self.want, |(_, want)| *want);
        // Nothing is in place before the manifest was compared, unless
        // `keep_going` puts there what is whole.
        if let Want::Refused { left, .. } = &mut want
            && case.bound
            && !case.keep_going
        {
            *left = 0;
        }
        want
    }

    /// What may be left where the manifest is read first.
    fn left_first(&self, want: Want) -> Left {
        match want {
            Want::Refused { .. } if self.early => Left::Nothing,
            Want::Refused { .. } => Left::Whole,
            Want::Lost(_)
            | Want::Omits(_)
            | Want::Whole(_)
            | Want::CannotKnow => Left::As,
        }
    }

    fn archive(&self, case: Case) -> Vec<u8> {
        let mut recipe = Recipe::new(case.sealed, case.bound);
        match &self.damage {
            Damage::Written(damage) => {
                damage(&mut recipe);
                recipe.make().pack()
            }
            Damage::Done(damage) => {
                let mut made = recipe.make();
                damage(&mut made);
                made.pack()
            }
        }
    }
}

/// Ways to read an archive. Reading from a file that can seek is one more.
type Way = fn(&[u8], Options<'_>) -> Result<Report, ReadError>;
const WAYS: [(&str, Way); 2] = [
    ("pipe", |archive, options| read(archive, options)),
    ("file", |archive, options| read_seekable(Cursor::new(archive), options)),
];

pub(crate) fn options(goal: Goal<'_>) -> Options<'_> {
    Options::new(Zeroizing::new(PASSPHRASE.to_vec()), goal)
}

/// Runs every row in every case that it has; says all that is wrong.
pub(crate) fn check(rows: &[Row]) {
    let mut wrong = Vec::new();
    let mut runs = 0;
    for row in rows {
        for bits in 0..16 {
            let case = Case {
                sealed: bits & 1 > 0,
                bound: bits & 2 > 0,
                keep_going: bits & 4 > 0,
                occupied: bits & 8 > 0,
            };
            if !(row.only)(case) {
                continue;
            }
            runs += 1;
            let archive = row.archive(case);
            let want = row.wanted(case);
            for (way, read) in WAYS {
                let looks_first = way == "file" && case.bound;
                let left =
                    if looks_first { row.left_first(want) } else { Left::As };
                let complaints = library(&archive, read, case, want, left);
                let name = &row.name;
                wrong.extend(complaints.into_iter().map(|complaint| {
                    format!("{name} ({way}, {case:?}): {complaint}")
                }));
            }
            if !case.sealed && !case.occupied {
                let complaints = program(&archive, case, want);
                wrong.extend(complaints.into_iter().map(|complaint| {
                    format!("{}, program ({case:?}): {complaint}", row.name)
                }));
            }
        }
    }
    assert!(runs >= rows.len(), "rows that apply to nothing");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What may be in the directory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Left {
    /// Exactly what the row wants.
    As,
    /// Nothing: the manifest was read first.
    Nothing,
    /// Any whole files: each of their chunks was compared.
    Whole,
}

fn library(
    archive: &[u8],
    read: Way,
    case: Case,
    want: Want,
    left: Left,
) -> Vec<String> {
    let to = directory();
    if case.occupied {
        occupy(to.path());
    }
    let before = facts(to.path());
    let target = Target::open(to.path(), false).unwrap();
    let goal = Goal::Restore { target, wanted: Vec::new() };
    let options = Options { keep_going: case.keep_going, ..options(goal) };
    let outcome = read(archive, options);
    if left == Left::As {
        let mut wrong = outcome_is(&outcome, case, want);
        wrong.extend(left_is(to.path(), &before, want));
        return wrong;
    }
    let mut wrong = refused_first(&outcome, case, want);
    let found = facts(to.path());
    let all = expected(&FILES, &before);
    let is_late = matches!(want, Want::Refused { late: true, .. });
    if left == Left::Nothing && !case.keep_going {
        wrong.extend(difference(&found, &before));
    } else if case.keep_going && is_late {
        wrong.extend(left_is(to.path(), &before, want));
    } else {
        let other =
            found.iter().filter(|(name, it)| all.get(*name) != Some(it));
        wrong.extend(other.map(|(name, _)| format!("not whole: {name}")));
    }
    wrong
}

/// Reading the manifest first may name another error first, and with
/// `keep_going` lose a file that is refused as a whole otherwise.
fn refused_first(
    outcome: &Result<Report, ReadError>,
    case: Case,
    want: Want,
) -> Vec<String> {
    let Want::Refused { is, pattern, .. } = want else {
        return match outcome {
            Err(ReadError::Manifest(_)) => Vec::new(),
            outcome => outcome_is(outcome, case, want),
        };
    };
    match outcome {
        Err(error) if is(error) => Vec::new(),
        Err(ReadError::Manifest(_)) => Vec::new(),
        Err(ReadError::Inner { name, .. }) if name == "backup-manifest.000" => {
            Vec::new()
        }
        Err(error) => vec![format!("{error}\n  {error:?}\n  not {pattern}")],
        Ok(report)
            if case.keep_going
                && !report.omissions.is_empty()
                && !matches!(report.binding, Binding::Bound(_)) =>
        {
            Vec::new()
        }
        Ok(report) => vec![format!("accepted: {report:?}, not {pattern}")],
    }
}

fn outcome_is(
    outcome: &Result<Report, ReadError>,
    case: Case,
    want: Want,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let report = match (outcome, want) {
        (Err(error), Want::Refused { is, pattern, .. }) => {
            if !is(error) {
                wrong.push(format!("{error}\n  {error:?}\n  not {pattern}"));
            }
            return wrong;
        }
        (Err(error), _) => return vec![format!("{error}\n  {error:?}")],
        (Ok(report), Want::Refused { pattern, .. }) => {
            let omissions = &report.omissions;
            return vec![format!("accepted, not {pattern}: {omissions:?}")];
        }
        (Ok(report), _) => report,
    };
    let is_right = match report.binding {
        Binding::NotBound => !case.bound,
        Binding::Unknown | Binding::NotCompared | Binding::Refused => false,
        Binding::Bound(_) => case.bound && !matches!(want, Want::Lost(_)),
        Binding::Partly { read, of, .. } => {
            case.bound && read < of && matches!(want, Want::Lost(_))
        }
    };
    if !is_right {
        wrong.push(format!("{:?}", report.binding));
    }
    let lost: Vec<&[u8]> = report
        .files
        .iter()
        .filter(|file| file.state == FileState::Lost)
        .map(|file| file.name.as_slice())
        .collect();
    let wanted = if let Want::Lost(files) = want { files } else { &[] };
    let wanted: Vec<&[u8]> = wanted.iter().map(|f| f.as_bytes()).collect();
    if lost != wanted {
        wrong.push(format!("lost: {:?}", report.files));
    }
    let omits = matches!(want, Want::Lost(_) | Want::Omits(_));
    if omits == report.omissions.is_empty() {
        wrong.push(format!("omissions: {:?}", report.omissions));
    }
    wrong
}

fn left_is(to: &Path, before: &Facts, want: Want) -> Vec<String> {
    let found = facts(to);
    let files = match want {
        Want::CannotKnow | Want::Refused { late: true, .. } => {
            let temporary =
                found.keys().filter(|name| name.contains(STAGE_PREFIX));
            return temporary.cloned().collect();
        }
        Want::Refused { left, without, .. } => {
            let first = FILES[..left].iter().copied();
            first.filter(|file| !without.contains(file)).collect()
        }
        Want::Lost(lost) | Want::Omits(lost) | Want::Whole(lost) => but(lost),
    };
    let wrong = difference(&found, &expected(&files, before));
    if wrong.is_empty() { wrong } else { vec![wrong.join(", ")] }
}

/// The same as a user types it, through a pipe.
fn program(archive: &[u8], case: Case, want: Want) -> Vec<String> {
    let to = directory();
    let restored = to.path().join("restored");
    let passphrase = to.path().join("passphrase");
    std::fs::write(&passphrase, PASSPHRASE).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_qubes-fsm"));
    command
        .args(["restore", "-", "--to"])
        .arg(&restored)
        .arg("--passphrase-file")
        .arg(passphrase)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if case.keep_going {
        command.arg("--keep-going");
    }
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It may have seen enough before the end.
    let _ = stdin.write_all(archive);
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let exit = match want {
        Want::Refused { exit, .. } => exit,
        Want::Lost(_) | Want::Omits(_) => 3,
        Want::Whole(_) | Want::CannotKnow => 0,
    };
    // Where nothing is in place, it is not there.
    std::fs::create_dir_all(&restored).unwrap();
    let mut wrong = left_is(&restored, &Facts::new(), want);
    if output.status.code() != Some(i32::from(exit)) {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let status = output.status;
        wrong.push(format!("{status} instead of {exit}: {text}"));
    }
    wrong
}
