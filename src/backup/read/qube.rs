//! An archive in another qube, whose service `qubes.Restore` sends it as a
//! qfile stream.
//!
//! Lives here: what the service is asked for, and what it is answered. May
//! not live here: pipes, the archive itself.
//!
//! The service reads two lines: where the archive is, and what its members'
//! names may begin with, nothing for all. It sends those members, and waits
//! for a reply. Where all beginnings were seen, and another member comes, it
//! stops reading: a backup has the members of a qube one behind the other.
//! What it has to say goes to stderr, so nothing stands before the stream. (The
//! two lines that `qubes.Backup` says are on stdout; it sends nothing else.)
//! Source: qubes-core-agent-linux, `qubes.Restore`, `tar2qfile.c`.

use std::io::Read;
use std::sync::Arc;

use super::{Bound, Goal, Options, ReadError, STORE_NAME, run};
use crate::backup::decode::DecodeError;
use crate::backup::members::Members;
use crate::backup::report::Report;
use crate::backup::tree::TreeError;
use crate::format::chunk::HEADER_NAME;
use crate::format::manifest::MANIFEST_NAME;
use crate::format::qfile::{Code, Limits, QfileError, Reply};

/// What a service is asked for that has the archive at `path`: its two lines.
/// Whether that is not everything is then said in [`Options::only_wanted`].
///
/// ```
/// use qubes_fsm::backup::read::{Goal, Options, request};
///
/// let mut options = Options::new(Vec::new().into(), Goal::List);
/// let lines = request("/home/user/backup", &mut options);
/// assert_eq!(lines, b"/home/user/backup\nbackup-header qubes.xml.\n");
/// options.goal = Goal::Verify;
/// assert_eq!(request("b", &mut options), b"b\n\n");
/// ```
pub fn request(path: &str, options: &mut Options<'_>) -> Vec<u8> {
    let mut beginnings = Vec::new();
    match &options.goal {
        Goal::List => {
            options.only_wanted = true;
            beginnings.extend([HEADER_NAME.to_vec(), of(STORE_NAME)]);
        }
        Goal::Restore { wanted, .. }
            if !wanted.is_empty() && wanted.iter().all(|w| is_file(w)) =>
        {
            options.only_wanted = true;
            let names = wanted.iter().map(String::as_bytes);
            let names = [STORE_NAME].into_iter().chain(names);
            beginnings.push(HEADER_NAME.to_vec());
            beginnings.extend(names.chain([MANIFEST_NAME]).map(of));
        }
        // Which files a qube has is in `qubes.xml`, which comes too late.
        Goal::Restore { .. } | Goal::Verify | Goal::Cat { .. } => {}
    }
    [path.as_bytes(), b"\n", &beginnings.join(&b' '), b"\n"].concat()
}

/// The beginning of the names of a file's chunks.
fn of(file: &[u8]) -> Vec<u8> {
    [file, b"."].concat()
}

/// Whether it can only be the name of a file, of letters that a shell leaves
/// alone: the service does not quote.
fn is_file(untrusted_name: &str) -> bool {
    let is_plain =
        |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+@:,".contains(&byte);
    untrusted_name.contains('/') && untrusted_name.bytes().all(is_plain)
}

/// [`read`](super::read), from what a service `qubes.Restore` sends.
///
/// # Errors
/// As [`read`](super::read); [`read_from_qube_into`] has the reply then.
pub fn read_from_qube(
    source: impl Read + Send,
    limits: Limits,
    options: Options<'_>,
) -> Result<(Report, Reply), ReadError> {
    let mut report = Report::default();
    let (read, reply) =
        read_from_qube_into(source, limits, options, &mut report);
    read.map(|()| (report, reply))
}

/// The same, with the report of how far it came and what to answer, however
/// it ends. The service waits for that reply once it has sent everything, and
/// looks for it where it cannot send: so the source is to be closed, not read
/// to its end.
pub fn read_from_qube_into(
    source: impl Read + Send,
    limits: Limits,
    options: Options<'_>,
    report: &mut Report,
) -> (Result<(), ReadError>, Reply) {
    let gate = Arc::clone(&options.gate);
    let members = Members::of_qfile(source, limits, gate);
    let (read, members) = run(members, options, Bound::default(), report);
    let received = members.received();
    let (reply, ended) = received.unwrap_or_default();
    let code = match &read {
        Ok(()) if ended => Code::Done,
        // The rest was not looked at.
        Ok(()) => Code::TooMuch,
        Err(error) => code(error),
    };
    (read, Reply { code: code.number(), ..reply })
}

/// What is wrong, in the words of the other side.
fn code(error: &ReadError) -> Code {
    match error {
        ReadError::Canceled => Code::Canceled,
        ReadError::Qfile(error) => stream_code(error),
        ReadError::TooLarge { .. } | ReadError::TooManyFiles { .. } => {
            Code::TooMuch
        }
        ReadError::Tree(error) => tree_code(error),
        ReadError::Inner { cause, .. } => match &**cause {
            DecodeError::TooLarge { .. } | DecodeError::Unannounced { .. } => {
                Code::TooMuch
            }
            DecodeError::Tree(error) => tree_code(error),
            DecodeError::Output(_) | DecodeError::Program(_) => Code::Other,
            DecodeError::Cipher(_)
            | DecodeError::CipherEnd { .. }
            | DecodeError::CipherTruncated { .. }
            | DecodeError::Compression(_)
            | DecodeError::Tar(_)
            | DecodeError::Path(_)
            | DecodeError::Outside { .. }
            | DecodeError::Kind { .. }
            | DecodeError::Entangled { .. }
            | DecodeError::Empty { .. }
            | DecodeError::NotOneFile
            | DecodeError::NotAFile { .. } => Code::Corrupt,
        },
        ReadError::Outer(_)
        | ReadError::Name(_)
        | ReadError::Truncated { .. }
        | ReadError::Sequence { .. }
        | ReadError::Mac { .. }
        | ReadError::MacText { .. }
        | ReadError::Header(_)
        | ReadError::Document(_)
        | ReadError::Manifest(_)
        | ReadError::Missing { .. } => Code::Corrupt,
        ReadError::Io { .. }
        | ReadError::Passphrase { .. }
        | ReadError::Cipher(_)
        | ReadError::Filter(_)
        | ReadError::Program(_)
        | ReadError::NotBound
        | ReadError::NotFound { .. }
        | ReadError::Bug(_) => Code::Other,
    }
}

fn stream_code(error: &QfileError) -> Code {
    match error {
        QfileError::Truncated { .. } => Code::Cut,
        QfileError::Limit { .. } => Code::TooMuch,
        QfileError::TooLong { .. } => Code::TooLong,
        QfileError::Name { .. } => Code::Name,
        QfileError::NoNul { .. }
        | QfileError::Mode { .. }
        | QfileError::Nanoseconds { .. }
        | QfileError::DirectorySize { .. }
        | QfileError::AfterEnd { .. }
        | QfileError::Order { .. } => Code::Corrupt,
    }
}

fn tree_code(error: &TreeError) -> Code {
    if matches!(error, TreeError::NoSpace { .. }) {
        Code::NoSpace
    } else {
        Code::Other
    }
}
