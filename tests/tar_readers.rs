//! Four readers and one archive: they agree, or ours refuses and says why.
//!
//! Ours, GNU tar, Python's tarfile and tar-core read thousands of generated
//! archives, whole ones and damaged ones.

#![cfg(feature = "backup")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

#[path = "tar_support/random.rs"]
mod random;
#[path = "tar_support/readers.rs"]
mod readers;
mod tar_support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;

use qubes_fsm::format::tar::{TarError, safe_components};
use random::Random;
use readers::{
    Row, Rows, gnu_paths, gnu_rows, ours, python_rows, tar_core_rows,
};
use tar_support::{POSIX, Raw, archive, file, inner, pax, pax_sparse_1, run};

/// Archives that every reader must read.
const WHOLE: u64 = 1000;
/// Archives that were damaged after that.
const DAMAGED: u64 = 3000;

/// What an archive may be refused for, as the test counts it.
fn reason(error: &TarError) -> &'static str {
    match error {
        TarError::Truncated { .. } => "truncated",
        TarError::Limit { .. } => "limit",
        TarError::Checksum { .. } => "checksum",
        TarError::Magic { .. } => "magic",
        TarError::Type { .. } => "type",
        TarError::Number { .. } => "number",
        TarError::Name { .. } => "name",
        TarError::SizeOfKind { .. } => "size of kind",
        TarError::Twice { .. } => "twice",
        TarError::Structure { .. } => "structure",
        TarError::Record { .. } => "record",
        TarError::RepeatedKey { .. } => "repeated key",
        TarError::Key { .. } => "key",
        TarError::SparseVersion { .. } => "sparse version",
        TarError::SparseOrder { .. } => "sparse order",
        TarError::SparseEnd { .. } => "sparse end",
        TarError::SparseAlignment { .. } => "sparse alignment",
        TarError::SparseShort { .. } => "sparse short",
        TarError::SparseSum { .. } => "sparse sum",
        TarError::AfterEnd { .. } => "after the end",
        _ => panic!("a new reason: {error}"),
    }
}

/// What the readers do not agree about, and how often which reason was given.
struct Outcome {
    wrong: Vec<String>,
    reasons: BTreeMap<&'static str, usize>,
}

impl Outcome {
    fn check(&mut self, reader: &str, found: &Rows, ours: &[Row]) {
        if found.as_deref() != Ok(ours) {
            self.wrong.push(format!("{reader}: {found:#?}, ours: {ours:#?}"));
        }
    }

    fn report(&self) {
        let count = self.wrong.len();
        let some: Vec<_> = self.wrong.iter().take(3).cloned().collect();
        println!("{:?}", self.reasons);
        assert!(
            self.wrong.is_empty(),
            "{count} disagreements, the first:\n{}",
            some.join("\n\n")
        );
    }
}

/// Whether what is read can be extracted: names fit and come once, links
/// find their file.
fn can_be_extracted(rows: &[Row]) -> bool {
    rows.iter().enumerate().all(|(index, row)| {
        let earlier = &rows[..index];
        let exists =
            earlier.iter().any(|r| r.path == row.target && r.kind == 'f');
        let is_new = earlier.iter().all(|r| r.path != row.path);
        let components = safe_components(&row.path).unwrap_or_default();
        let fits = components.iter().all(|name| name.len() < 256);
        is_new && fits && !components.is_empty() && (row.kind != 'h' || exists)
    })
}

/// Reads each archive four times.
fn compare(archives: &[Vec<u8>]) -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let mut outcome = Outcome { wrong: vec![], reasons: BTreeMap::new() };
    let mut accepted = Vec::new();
    for (index, bytes) in archives.iter().enumerate() {
        let reason = match ours(bytes) {
            Err(error) => reason(&error),
            Ok(rows) => {
                let name = format!("{index:05}.tar");
                fs::write(directory.path().join(&name), bytes).unwrap();
                accepted.push((name, bytes, rows));
                "accepted"
            }
        };
        *outcome.reasons.entry(reason).or_default() += 1;
    }
    let python = python_rows(directory.path());
    for (name, bytes, ours) in &accepted {
        let path = directory.path().join(name);
        outcome.check("Python", &python[name], ours);
        outcome.check("tar-core", &tar_core_rows(bytes), ours);
        let paths: Vec<_> = ours.iter().map(|row| row.path.clone()).collect();
        let found = gnu_paths(&path);
        if found.as_ref() != Ok(&paths) {
            let text = format!("GNU tar -t: {found:?}, ours: {ours:#?}");
            outcome.wrong.push(text);
        }
        if can_be_extracted(ours) {
            outcome.check("GNU tar -x", &gnu_rows(&path, ours), ours);
        }
    }
    outcome
}

#[test]
fn whole_archives_are_read_the_same_by_all_four() {
    let archives: Vec<_> =
        (0..WHOLE).map(|seed| Random(seed).whole()).collect();
    let outcome = compare(&archives);
    outcome.report();
    assert_eq!(outcome.reasons["accepted"], archives.len());
}

#[test]
fn damaged_archives_are_refused_or_read_the_same_by_all_four() {
    let damaged = |seed| {
        let mut random = Random(seed);
        let mut bytes = random.whole();
        for _ in 0..=random.below(2) {
            random.damage(&mut bytes);
        }
        bytes
    };
    let archives: Vec<_> = (WHOLE..WHOLE + DAMAGED).map(damaged).collect();
    let outcome = compare(&archives);
    outcome.report();
    assert!(outcome.reasons["accepted"] > 100, "{:?}", outcome.reasons);
    assert!(outcome.reasons.len() > 15, "{:?}", outcome.reasons);
}

#[test]
fn where_python_loses_its_way_we_agree_with_gnu_tar() {
    let mut data = b"3\n0\n512\n1024\n9\n4096\n0\n".to_vec();
    data.resize(512, 0);
    data.resize(512 + 521, 1);
    let size = data.len().to_string();
    let sparse: [(&[u8], &[u8]); 4] = [
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.name", b"name"),
        (b"GNU.sparse.realsize", b"4096"),
    ];
    let with = |record: (&[u8], &[u8]), header_size| {
        let header = pax(&[&sparse[..], &[record]].concat());
        let raw = Raw::new(POSIX, b'0', b"GNUSparseFile.1/x", header_size);
        archive(&[header, raw.with(&data), file(b"next", b"")])
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("0.tar");
    for bytes in [
        with((b"size", size.as_bytes()), 0),
        with((b"path", b"other"), data.len() as u64),
    ] {
        fs::write(&path, &bytes).unwrap();
        let rows = ours(&bytes).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(gnu_rows(&path, &rows).unwrap(), rows);
        let paths = [b"name".to_vec(), b"next".to_vec()];
        assert_eq!(gnu_paths(&path).unwrap(), paths);
        let python = python_rows(directory.path()).remove("0.tar").unwrap();
        assert_ne!(python.as_ref(), Ok(&rows));
    }
}

/// Each format that Python writes, with names that are not UTF-8 as well.
const PYTHON_WRITES: &str = r#"
import io, os, sys, tarfile
for name in ("USTAR", "GNU", "PAX"):
    path = os.path.join(sys.argv[1], name)
    with tarfile.open(path, "w", format=getattr(tarfile, name + "_FORMAT"),
                      encoding="utf-8", errors="surrogateescape") as tar:
        def add(name, **fields):
            m = tarfile.TarInfo(name)
            for key, value in fields.items():
                setattr(m, key, value)
            m.uid, m.gid, m.uname = 70000, 1, "us\u00e9r"
            tar.addfile(m, io.BytesIO(b"x" * m.size))
        add("d", type=tarfile.DIRTYPE, mode=0o755)
        add("d/plain", size=1000, mtime=1, mode=0o4711)
        add("d/\udcff\u00e9", size=512)
        add("d/" + "n" * 90 + "/" + "m" * 90, size=1)
        add("d/soft", type=tarfile.SYMTYPE, linkname="to")
        add("d/hard", type=tarfile.LNKTYPE, linkname="d/plain", mode=0o4711,
            mtime=1)
        if name != "USTAR":
            add("d/" + "/".join(["k" * 100] * 3), size=1, mtime=2**33)
            add("d/long", type=tarfile.SYMTYPE, linkname="t" * 300)
"#;

#[test]
fn what_python_writes_is_read_the_same_by_all_four() {
    let directory = tempfile::tempdir().unwrap();
    run("python3", &["-c", PYTHON_WRITES, directory.path().to_str().unwrap()]);
    let read = |name| fs::read(directory.path().join(name)).unwrap();
    let archives = ["USTAR", "GNU", "PAX"].map(read);
    let counts = archives.each_ref().map(|bytes| ours(bytes).unwrap().len());
    assert_eq!(counts, [6, 8, 8]);
    compare(&archives).report();
}

#[test]
fn the_tar_crate_takes_pax_sparse_1_for_plain_files() {
    let map = [(9, 3), (4096, 0)];
    let bytes =
        archive(&[pax_sparse_1(b"vm1/private.img", 4096, &map, b"abc")]);
    let ours = inner(&bytes).unwrap();
    assert_eq!(ours[0].path(), "vm1/private.img");
    assert_eq!(ours[0].entry.size, 4096);
    let mut theirs = tar::Archive::new(bytes.as_slice());
    let mut entry = theirs.entries().unwrap().next().unwrap().unwrap();
    let path = entry.path().unwrap().display().to_string();
    assert_eq!(path, "vm1/GNUSparseFile.1/x");
    assert_eq!(entry.size(), 515);
    let mut content = Vec::new();
    entry.read_to_end(&mut content).unwrap();
    assert!(content.starts_with(b"2\n9\n3\n"), "the map is in the content");
}
