//! Four readers of tar, and what they are compared by.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use qubes_fsm::format::escape::Escaped;
use qubes_fsm::format::tar::{Decoder, Entry, Kind, Limits, TarError};
use sha2::{Digest as _, Sha256};
use tar_core::parse::{ParseEvent, ParsedEntry, Parser};

use crate::tar_support::{Member, drive, members, run, target};

/// One member, as a reader sees it.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct Row {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: char,
    pub(crate) target: Vec<u8>,
    size: u64,
    mode: u32,
    seconds: i64,
    /// Of the content; empty for all but files.
    digest: String,
}

/// The rows, or the reader's complaint.
pub(crate) type Rows = Result<Vec<Row>, String>;

impl fmt::Debug for Row {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, size, mode, seconds, digest, .. } = self;
        let (path, target) = (Escaped(&self.path), Escaped(&self.target));
        let digest = digest.get(..8).unwrap_or_default();
        write!(out, "{kind} \"{path}\" to \"{target}\" size {size} ")?;
        write!(out, "mode {mode:o} time {seconds} {digest}")
    }
}

fn digest(content: &[u8]) -> String {
    let bytes = Sha256::digest(content);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Some readers show the slash of a directory, some do not.
fn without_slash(path: &[u8]) -> Vec<u8> {
    let end = path.iter().rposition(|byte| *byte != b'/');
    path[..end.map_or(0, |end| end + 1)].to_vec()
}

/// Reads with ours; small sizes only, since the others hold all of it.
pub(crate) fn ours(bytes: &[u8]) -> Result<Vec<Row>, TarError> {
    let limits = Limits { decoded_bytes_max: 1 << 24, ..Limits::INNER };
    let (seen, result) = drive(Decoder::inner(limits), bytes, 1000);
    result.map(|()| members(&seen).iter().map(our_row).collect())
}

fn our_row(member: &Member) -> Row {
    let entry = &member.entry;
    let is_file = entry.kind == Kind::File;
    Row {
        path: without_slash(&entry.path),
        kind: kind(entry),
        target: target(entry).unwrap_or_default().to_vec(),
        size: entry.size,
        mode: entry.mode.into(),
        seconds: entry.mtime.seconds,
        digest: if is_file { digest(&member.content()) } else { String::new() },
    }
}

fn kind(entry: &Entry) -> char {
    match entry.kind {
        Kind::File => 'f',
        Kind::Directory => 'd',
        Kind::Symlink { .. } => 's',
        Kind::HardLink { .. } => 'h',
    }
}

/// One process reads them all: name, then a line for each member.
const PYTHON: &str = r#"
import hashlib, math, os, sys, tarfile
def hexed(text):
    return text.encode("utf-8", "surrogateescape").hex() or "-"
for name in sorted(os.listdir(sys.argv[1])):
    print("archive", name)
    path = os.path.join(sys.argv[1], name)
    try:
        with tarfile.open(path, "r:", encoding="utf-8",
                          errors="surrogateescape") as tar:
            for m in tar:
                kind = ("f" if m.isreg() else "d" if m.isdir() else
                        "s" if m.issym() else "h" if m.islnk() else "?")
                size, digest = 0, "-"
                if kind == "f":
                    content = tar.extractfile(m).read()
                    size = m.size
                    digest = hashlib.sha256(content).hexdigest()
                link = m.linkname if kind in "sh" else ""
                print("member", hexed(m.name), kind, hexed(link), size,
                      m.mode & 0o7777, math.floor(m.mtime), digest)
    except Exception as error:
        print("error", repr(error).encode().hex())
"#;

fn unhex(text: &str) -> Vec<u8> {
    let digits = if text == "-" { "" } else { text };
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// Every archive in a directory, by its file name.
pub(crate) fn python_rows(directory: &Path) -> BTreeMap<String, Rows> {
    let directory = directory.to_str().unwrap();
    let output = run("python3", &["-c", PYTHON, directory]);
    let mut all = BTreeMap::new();
    let mut name = String::new();
    for line in String::from_utf8(output).unwrap().lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["archive", found] => {
                name = found.to_owned();
                all.insert(name.clone(), Ok(vec![]));
            }
            ["error", text] => {
                let text = String::from_utf8(unhex(text)).unwrap();
                all.insert(name.clone(), Err(text));
            }
            ["member", path, kind, link, size, mode, seconds, digest] => {
                let rows: &mut Rows = all.get_mut(&name).unwrap();
                rows.as_mut().unwrap().push(Row {
                    path: without_slash(&unhex(path)),
                    kind: kind.chars().next().unwrap(),
                    target: unhex(link),
                    size: size.parse().unwrap(),
                    mode: mode.parse().unwrap(),
                    seconds: seconds.parse().unwrap(),
                    digest: digest.trim_matches('-').to_owned(),
                });
            }
            _ => panic!("{line}"),
        }
    }
    all
}

/// Where tar-core finds the content, with the map and the real size.
type Sparse = (Vec<tar_core::SparseEntry>, u64);

pub(crate) fn tar_core_rows(bytes: &[u8]) -> Rows {
    let mut parser = Parser::new(tar_core::parse::Limits::permissive());
    // It knows no signed checksums; that they are right, ours has checked.
    parser.set_verify_checksums(false);
    let (mut rows, mut rest) = (vec![], bytes);
    loop {
        let event = parser.parse(rest).map_err(|error| error.to_string())?;
        let (consumed, entry, sparse) = match event {
            ParseEvent::End { .. } => return Ok(rows),
            ParseEvent::NeedData { .. } => return Err("cut".to_owned()),
            ParseEvent::GlobalExtensions { .. } => return Err("g".to_owned()),
            ParseEvent::Entry { consumed, entry } => (consumed, entry, None),
            ParseEvent::SparseEntry {
                consumed,
                entry,
                sparse_map,
                real_size,
            } => (consumed, entry, Some((sparse_map, real_size))),
        };
        let size = usize::try_from(entry.size).unwrap();
        let after = rest.get(consumed..).ok_or("cut")?;
        let content = after.get(..size).ok_or("cut")?;
        rows.push(tar_core_row(&entry, content, sparse));
        rest = after.get(size.next_multiple_of(512)..).ok_or("cut")?;
    }
}

fn tar_core_row(
    entry: &ParsedEntry<'_>,
    content: &[u8],
    sparse: Option<Sparse>,
) -> Row {
    use tar_core::EntryType as T;
    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest differs")]
    let kind = match entry.entry_type {
        T::Regular | T::GnuSparse => 'f',
        T::Directory => 'd',
        T::Symlink => 's',
        T::Link => 'h',
        _ => '?',
    };
    let mut real = content.to_vec();
    if let Some((map, size)) = sparse {
        real = vec![0; usize::try_from(size).unwrap()];
        let mut rest = content;
        for segment in map {
            let length = usize::try_from(segment.length).unwrap();
            let offset = usize::try_from(segment.offset).unwrap();
            let (now, after) = rest.split_at(length);
            real[offset..][..length].copy_from_slice(now);
            rest = after;
        }
    }
    let is_link = matches!(kind, 's' | 'h');
    let target = entry.link_target.as_deref().filter(|_| is_link);
    Row {
        path: without_slash(&entry.path),
        kind,
        target: target.unwrap_or_default().to_vec(),
        size: real.len() as u64,
        mode: entry.mode & 0o7777,
        seconds: entry.mtime.cast_signed(),
        digest: if kind == 'f' { digest(&real) } else { String::new() },
    }
}

/// GNU tar; anything that it complains about is an error, but for files from
/// the future and keys of others.
fn gnu_tar(arguments: &[&str], archive: &Path) -> Result<Vec<u8>, String> {
    let output = Command::new("tar")
        .args(["--warning=no-timestamp", "--warning=no-unknown-keyword"])
        .args(arguments)
        .arg("-f")
        .arg(archive)
        .env("LC_ALL", "C.UTF-8")
        .output();
    let output = output.unwrap_or_else(|error| {
        panic!("tar: {error}; install the package tar (GNU tar)")
    });
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() && errors.is_empty() {
        Ok(output.stdout)
    } else {
        Err(errors)
    }
}

/// What GNU tar lists.
pub(crate) fn gnu_paths(archive: &Path) -> Result<Vec<Vec<u8>>, String> {
    let output = gnu_tar(&["-t", "-P", "--quoting-style=escape"], archive)?;
    Ok(listed(&output))
}

/// The paths in such a list.
pub(crate) fn listed(output: &[u8]) -> Vec<Vec<u8>> {
    let mut lines: Vec<_> = output.split(|byte| *byte == b'\n').collect();
    lines.pop();
    lines.into_iter().map(unescape).collect()
}

fn unescape(line: &[u8]) -> Vec<u8> {
    let mut path = Vec::new();
    let mut rest = line;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'\\' {
            path.push(*byte);
            continue;
        }
        let (length, value) = match rest {
            [b'n', ..] => (1, b'\n'),
            [b't', ..] => (1, b'\t'),
            [b'a', ..] => (1, 7),
            [b'b', ..] => (1, 8),
            [b'f', ..] => (1, 12),
            [b'r', ..] => (1, b'\r'),
            [b'v', ..] => (1, 11),
            [b'0'..=b'3', ..] => {
                let digits = str::from_utf8(&rest[..3]).unwrap();
                (3, u8::from_str_radix(digits, 8).unwrap())
            }
            _ => (1, rest[0]),
        };
        path.push(value);
        rest = &rest[length..];
    }
    without_slash(&path)
}

/// What GNU tar extracts, looked up by the paths that ours found.
pub(crate) fn gnu_rows(archive: &Path, ours: &[Row]) -> Rows {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().to_str().unwrap();
    gnu_tar(&["-x", "-p", "--no-same-owner", "-C", place], archive)?;
    ours.iter().map(|our| gnu_row(directory.path(), our)).collect()
}

fn gnu_row(directory: &Path, our: &Row) -> Result<Row, String> {
    let find = |path: &[u8]| {
        let path = directory.join(std::ffi::OsStr::from_bytes(path));
        let found = fs::symlink_metadata(&path);
        found.map(|metadata| (path, metadata)).map_err(|e| e.to_string())
    };
    let (path, metadata) = find(&our.path)?;
    let mut row = Row {
        path: our.path.clone(),
        kind: 'f',
        target: vec![],
        size: 0,
        mode: metadata.mode() & 0o7777,
        // A file system may end in 2446.
        seconds: match our.seconds {
            0..0x3_0000_0000 => metadata.mtime(),
            far => far,
        },
        digest: String::new(),
    };
    if metadata.is_symlink() {
        row.kind = 's';
        row.target = fs::read_link(&path).unwrap().into_os_string().into_vec();
        // Linux knows none.
        row.mode = our.mode;
    } else if metadata.is_dir() {
        row.kind = 'd';
    } else if our.kind == 'h' {
        let (_, other) = find(&our.target)?;
        let is_same = other.ino() == metadata.ino();
        return is_same.then(|| our.clone()).ok_or("no link".to_owned());
    } else {
        row.size = metadata.len();
        row.digest = digest(&fs::read(&path).map_err(|e| e.to_string())?);
    }
    Ok(row)
}
