//! The matrix: archives in every form that a writer of format 3 gave them,
//! each written by tar, openssl and the compressors, each restored to the
//! same tree: contents, holes, modes, times, links.

#![cfg(feature = "backup")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod archive;
#[path = "archive/facts.rs"]
mod facts;
#[path = "archive/trees.rs"]
mod trees;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use archive::{
    Codes, Form, Member, Outer, PASSPHRASE, encrypt, header, members_of,
    outer_by, push, push_stream, qfile, run,
};
use facts::{Tree, What, tree};
use qubes_fsm::backup::read::{Goal, Options, ReadError, read, read_from_qube};
use qubes_fsm::backup::report::{Binding, File, FileState, Report};
use qubes_fsm::backup::tree::Target;
use qubes_fsm::format::qfile::Limits;
use tempfile::TempDir;
use trees::{Layout, data_at};
use zeroize::Zeroizing;

const DIGESTS: [&str; 5] = ["SHA1", "SHA256", "SHA512", "MD5", "RIPEMD160"];

/// Formats of the inner archive, and of sparse files in it.
const DIALECTS: [(&str, &str); 4] =
    [("gnu", "1.0"), ("posix", "0.0"), ("posix", "0.1"), ("posix", "1.0")];

/// Every filter that a header may name, and none.
const FILTERS: [Option<&str>; 9] = [
    None,
    Some("gzip"),
    Some("bzip2"),
    Some("xz"),
    Some("zstd"),
    Some("lzma"),
    Some("pigz"),
    Some("pbzip2"),
    Some("zstdmt"),
];

const OUTERS: [Outer; 6] = [
    Outer::TarEach,
    Outer::Tar("ustar"),
    Outer::Tar("gnu"),
    Outer::Tar("posix"),
    Outer::Plain,
    Outer::Tight,
];

/// A tree, and the members of an archive of it.
struct Case {
    directory: TempDir,
    layout: Layout,
    form: Form,
    members: Vec<Member>,
}

impl Case {
    fn new(layout: Layout, form: Form) -> Self {
        Self::with(layout, form, |_| {})
    }

    /// After the tree was made, `more` may change it.
    fn with(layout: Layout, form: Form, more: impl FnOnce(&Path)) -> Self {
        Self::on(tempfile::tempdir().unwrap(), layout, form, more)
    }

    /// In memory, if there is room: whatever is published is synced first,
    /// and a disk takes longer for that than for all the rest.
    fn quick(layout: Layout, form: Form) -> Self {
        let memory = tempfile::tempdir_in("/dev/shm");
        let directory = memory.or_else(|_| tempfile::tempdir()).unwrap();
        Self::on(directory, layout, form, |_| {})
    }

    fn on(
        directory: TempDir,
        layout: Layout,
        form: Form,
        more: impl FnOnce(&Path),
    ) -> Self {
        let from = directory.path().join("from");
        fs::create_dir(&from).unwrap();
        layout.write(&from);
        more(&from);
        let members = members_of(&from, layout.files(), form);
        Self { directory, layout, form, members }
    }

    fn from(&self) -> PathBuf {
        self.directory.path().join("from")
    }

    /// Restored into a new place; the bits that are dropped by default too.
    fn restore(&self, archive: &[u8]) -> (Report, PathBuf) {
        let to = self.directory.path().join("to");
        let target = Target::open(&to, false).unwrap();
        let target = target.with_special_bits(true);
        let goal = Goal::Restore { target, wanted: Vec::new() };
        let report = read(archive, options(goal));
        (report.unwrap_or_else(|error| panic!("{self}: {error}")), to)
    }

    /// Verifies, restores, lists and prints: all of it as it was.
    fn check(&self, by: Outer) {
        let archive = outer_by(&self.members, by);
        self.check_archive(&archive, by);
    }

    fn check_archive(&self, archive: &[u8], by: Outer) {
        let about = format!("{self} {by:?}");
        let verified = read(archive, options(Goal::Verify))
            .unwrap_or_else(|error| panic!("{about}: {error}"));
        let (restored, to) = self.restore(archive);
        self.check_reports(&verified, &restored, &about);
        let from = self.comparable(tree(&self.from()));
        let to_tree = self.comparable(tree(&to));
        assert_same(&to_tree, &from, &about);
        for path in self.layout.printed() {
            let expected = fs::read(self.from().join(path)).unwrap();
            assert!(cat(archive, path) == expected, "{about}: {path}");
        }
        let listed = read(archive, options(Goal::List)).unwrap();
        let names = listed.qubes.iter().map(|qube| qube.name.as_str());
        assert_eq!(names.collect::<Vec<_>>(), self.layout.qubes(), "{about}");
        self.clear(&to);
        self.check_qfile(&restored, &to_tree, &about);
    }

    /// The same from a qube: the same report, the same tree, and a reply that
    /// the sender is content with.
    fn check_qfile(&self, restored: &Report, tree_of: &Tree, about: &str) {
        let about = format!("{about} from a qube");
        let (stream, encoder) = qfile(&self.members);
        let to = self.directory.path().join("to");
        let target = Target::open(&to, false).unwrap();
        let target = target.with_special_bits(true);
        let goal = Goal::Restore { target, wanted: Vec::new() };
        // As a pipe gives it, and in pieces that fit nothing.
        let source = Pieces(&stream, 61_441);
        let limits = Limits::default();
        let (report, reply) = read_from_qube(source, limits, options(goal))
            .unwrap_or_else(|error| panic!("{about}: {error}"));
        assert_eq!(encoder.judge(&reply), Ok(()), "{about}");
        let last = self.members.last().map(|(name, _)| name.clone().into());
        assert_eq!(reply.last, last, "{about}");
        assert_eq!(report.header, restored.header, "{about}");
        assert_eq!(report.qubes, restored.qubes, "{about}");
        assert_eq!(report.files, restored.files, "{about}");
        assert_eq!(report.omissions, restored.omissions, "{about}");
        assert_eq!(report.binding, restored.binding, "{about}");
        assert_same(&self.comparable(tree(&to)), tree_of, &about);
        self.clear(&to);
    }

    /// For the next one.
    fn clear(&self, to: &Path) {
        run("chmod", "coreutils", &["-R", "u+rwx", to.to_str().unwrap()], b"");
        fs::remove_dir_all(to).unwrap();
    }

    fn check_reports(&self, verified: &Report, restored: &Report, about: &str) {
        let form = self.form;
        for report in [verified, restored] {
            assert_eq!(report.header.digest, form.digest, "{about}");
            assert_eq!(report.header.headerless, !form.header, "{about}");
            let cipher = form.encrypted.then_some("aes-256-cbc");
            assert_eq!(report.header.cipher.as_deref(), cipher, "{about}");
            let filter = form.filter.filter(|_| form.header);
            assert_eq!(report.header.filter.as_deref(), filter, "{about}");
            assert_eq!(report.omissions.is_empty(), form.header, "{about}");
            assert_eq!(report.binding, Binding::NotBound, "{about}");
        }
        let plain =
            |file: &File| File { state: FileState::Begun, ..file.clone() };
        assert_eq!(
            verified.files.iter().map(plain).collect::<Vec<_>>(),
            restored.files.iter().map(plain).collect::<Vec<_>>(),
            "{about}"
        );
        let names = restored.files.iter().map(|file| file.name.as_slice());
        let packed = self.layout.files().iter().map(|file| file.0.as_bytes());
        assert!(names.eq(packed), "{about}");
        let is = |report: &Report, state| {
            report.files.iter().all(|file| file.state == state)
        };
        assert!(is(verified, FileState::Verified), "{about}");
        assert!(is(restored, FileState::Restored), "{about}");
        let stored = self.members.iter().filter(|(name, _)| {
            !name.ends_with(".hmac") && name != "backup-header"
        });
        let stored: usize = stored.map(|(_, data)| data.len()).sum();
        let reported = restored.files.iter().map(|file| file.stored_bytes);
        assert_eq!(reported.sum::<u64>(), stored as u64, "{about}");
    }

    /// A folder above what was packed is made, not restored; GNU headers have
    /// no fractions of seconds.
    fn comparable(&self, mut tree: Tree) -> Tree {
        let is_packed = |path: &[u8]| {
            self.layout.files().iter().any(|(name, ..)| {
                let top = name.strip_suffix("/.").unwrap_or(name).as_bytes();
                path.strip_prefix(top)
                    .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
            })
        };
        for (path, facts) in &mut tree {
            if !is_packed(path) {
                assert_eq!(facts.what, What::Directory);
                (facts.mode, facts.time) = (0, (0, 0));
            }
            if self.form.inner == "gnu" {
                facts.time.1 = 0;
            }
        }
        tree
    }
}

impl Drop for Case {
    /// Whoever is not root cannot remove what is in a directory of mode 500.
    fn drop(&mut self) {
        let path = self.directory.path().to_str().unwrap().to_owned();
        run("chmod", "coreutils", &["-R", "u+rwx", &path], b"");
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{:?} {:?}", self.layout, self.form)
    }
}

/// A source that gives at most so many bytes at a time, and panics where it is
/// read behind its end: a pipe would block there.
struct Pieces<'s>(&'s [u8], usize);

impl io::Read for Pieces<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        assert!(!self.0.is_empty(), "read behind the end");
        let count = room.len().min(self.1).min(self.0.len());
        let (now, rest) = self.0.split_at(count);
        room[..count].copy_from_slice(now);
        self.0 = rest;
        Ok(count)
    }
}

fn options(goal: Goal<'_>) -> Options<'_> {
    let passphrase = Zeroizing::new(PASSPHRASE.as_bytes().to_vec());
    Options::new(passphrase, goal)
}

fn cat_to(
    archive: &[u8],
    path: &str,
    output: &mut dyn Write,
) -> Result<Report, ReadError> {
    let goal = Goal::Cat { path: path.to_owned(), output: Some(output) };
    read(archive, options(goal))
}

fn cat(archive: &[u8], path: &str) -> Vec<u8> {
    let mut content = Vec::new();
    cat_to(archive, path, &mut content)
        .unwrap_or_else(|error| panic!("{path}: {error}"));
    content
}

/// Names first, so that what differs is found in the message.
fn assert_same(found: &Tree, wanted: &Tree, about: &str) {
    for (path, wanted) in wanted {
        let shown = String::from_utf8_lossy(path);
        let found = found.get(path);
        assert_eq!(found, Some(wanted), "{about}: {shown}");
    }
    assert_eq!(found.len(), wanted.len(), "{about}: more than there was");
}

/// Holes are part of what is compared: where a file system has none, every
/// comparison of them would be idle.
#[test]
fn the_file_system_keeps_holes() {
    keeps_holes(tempfile::tempdir().unwrap());
    if let Ok(directory) = tempfile::tempdir_in("/dev/shm") {
        keeps_holes(directory);
    }
}

fn keeps_holes(directory: TempDir) {
    data_at(&directory.path().join("file"), &[(1 << 20, b"x")], 3 << 20);
    let What::File { extents, .. } = &tree(directory.path())[&b"file"[..]].what
    else {
        panic!("no file")
    };
    let [(start, length)] = extents[..] else { panic!("{extents:?}") };
    assert!(start > 0 && start + length < 3 << 20, "{extents:?}");
}

/// Clear, encrypted, compressed, both, by every filter; with each of them
/// another digest, another outer archive, another dialect.
#[test]
fn every_filter_clear_and_encrypted() {
    for (index, filter) in FILTERS.into_iter().enumerate() {
        for encrypted in [false, true] {
            let at = index + 4 * usize::from(encrypted);
            let (inner, sparse) = DIALECTS[at % DIALECTS.len()];
            let form = Form {
                encrypted,
                filter,
                digest: DIGESTS[at % DIGESTS.len()],
                chunk: [100 << 20, 30_000, 10_240][at % 3],
                inner,
                sparse,
                codes: [Codes::Openssl, Codes::Here][index % 2],
                padded: index % 3 > 0,
                ..Form::default()
            };
            let layout = [Layout::Hidden, Layout::Plain][index % 2];
            Case::quick(layout, form).check(OUTERS[at % OUTERS.len()]);
        }
    }
}

/// All codes by openssl itself, each file by itself in more than one chunk.
#[test]
fn every_digest_on_every_outer_archive() {
    for (index, digest) in DIGESTS.into_iter().enumerate() {
        let form = Form { digest, chunk: 40_960, ..Form::default() };
        let case = Case::quick(Layout::Small, form);
        for by in OUTERS {
            case.check(by);
        }
        // Without a header, what it would say is found by trying.
        for (encrypted, filter) in [
            (false, None),
            (true, None),
            (false, Some("gzip")),
            (true, Some("gzip")),
        ] {
            let form = Form {
                header: false,
                encrypted,
                filter,
                codes: Codes::Here,
                ..form
            };
            let layout = [Layout::Small, Layout::Hidden][index % 2];
            let case = Case::quick(layout, form);
            case.check(OUTERS[index]);
            let (report, _) = case.restore(&outer_by(&case.members, OUTERS[0]));
            let [omission] = report.omissions.as_slice() else {
                panic!("{case}: {:?}", report.omissions)
            };
            let start = format!("backup-header: none; the digest {digest} was");
            assert!(omission.starts_with(&start), "{omission}");
        }
    }
}

#[test]
fn every_dialect_of_the_inner_archive_on_disk() {
    for (index, (inner, sparse)) in DIALECTS.into_iter().enumerate() {
        let form = Form { inner, sparse, ..Form::default() };
        let layout = [Layout::Hidden, Layout::Plain][index % 2];
        Case::new(layout, form).check(OUTERS[index]);
    }
}

/// The name of the last chunk of a file, and its size.
fn last_chunk<'c>(case: &'c Case, file: &str) -> (&'c str, usize) {
    let mut last = case
        .members
        .iter()
        .filter(|(name, _)| name.starts_with(file) && !name.ends_with(".hmac"));
    let (name, data) = last.next_back().unwrap();
    (name, data.len())
}

#[test]
fn chunks_of_one_byte() {
    let form = Form {
        chunk: 1,
        store_chunk: 1,
        codes: Codes::Here,
        ..Form::default()
    };
    let stream = 71_680;
    let case = Case::quick(Layout::Small, form);
    assert_eq!(last_chunk(&case, "qubes.xml"), ("qubes.xml.10240", 0));
    let name = format!("vm5/private.img.{stream}");
    assert_eq!(last_chunk(&case, "vm5/private.img"), (name.as_str(), 0));
    case.check(Outer::Tight);
    for filter in [None, Some("xz")] {
        let form = Form { encrypted: true, filter, padded: false, ..form };
        let case = Case::quick(Layout::Small, form);
        assert!(case.members.len() > 100_000);
        case.check(Outer::Tight);
    }
}

#[test]
fn one_chunk_1025_chunks_and_an_empty_last_one() {
    let codes = Codes::Here;
    let check = |form, name: &str, size| {
        let case = Case::quick(Layout::Small, Form { codes, ..form });
        let last = last_chunk(&case, "vm5/private.img");
        assert_eq!(last, (format!("vm5/private.img.{name}").as_str(), size));
        case.check(Outer::Tight);
    };
    let clear = Form::default();
    let encrypted = Form { encrypted: true, ..clear };
    check(clear, "000", 71_680);
    check(Form { chunk: 71_680, ..clear }, "001", 0);
    check(Form { chunk: 71_681, ..clear }, "000", 71_680);
    check(Form { chunk: 71_679, ..clear }, "001", 1);
    // 1,025 with and without the empty one: 70 bytes are 1,024th parts.
    check(Form { chunk: 70, ..clear }, "1024", 0);
    check(Form { chunk: 71_680 / 1024, ..encrypted }, "1024", 32);
    // Salt and padding are 32 bytes more.
    check(encrypted, "000", 71_712);
    check(Form { chunk: 71_712, ..encrypted }, "001", 0);
    check(Form { chunk: 8, ..encrypted }, "8964", 0);
}

#[test]
fn the_document_in_two_chunks_and_more() {
    for (store_chunk, name, size) in [
        (5_120, "qubes.xml.002", 0),
        (10_239, "qubes.xml.001", 1),
        (6_000, "qubes.xml.001", 4_240),
        (100, "qubes.xml.102", 40),
    ] {
        let form = Form { store_chunk, ..Form::default() };
        let form = Form { codes: Codes::Here, ..form };
        let case = Case::quick(Layout::Small, form);
        assert_eq!(last_chunk(&case, "qubes.xml"), (name, size));
        case.check(Outer::TarEach);
    }
}

/// What the small layout's one image is when it is more than 8 GiB.
const HUGE: u64 = (9 << 30) + 1000;
const HUGE_PIECES: [(u64, &[u8]); 2] =
    [((9 << 29) + 4096, b"in the middle"), (9 << 30, &[7; 1000])];

/// Compares what it is given with the above.
struct Huge(u64);

impl Write for Huge {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let end = self.0 + bytes.len() as u64;
        let is_hole = HUGE_PIECES.iter().all(|(offset, piece)| {
            end <= *offset || offset + piece.len() as u64 <= self.0
        });
        if is_hole {
            let zeros = [0; 4096];
            let mut pieces = bytes.chunks(zeros.len());
            assert!(pieces.all(|piece| piece == &zeros[..piece.len()]));
        } else {
            for (at, byte) in (self.0..).zip(bytes) {
                let mut expected = 0;
                for (offset, piece) in HUGE_PIECES {
                    let index = at.checked_sub(offset);
                    let index = index.and_then(|at| usize::try_from(at).ok());
                    let found = index.and_then(|index| piece.get(index));
                    expected = found.copied().unwrap_or(expected);
                }
                assert_eq!(*byte, expected, "at {at}");
            }
        }
        self.0 = end;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn more_than_8_gib_as_holes_in_every_dialect() {
    for (index, (inner, sparse)) in DIALECTS.into_iter().enumerate() {
        let encrypted = index % 2 > 0;
        let filter = FILTERS[index];
        let form = Form { inner, sparse, encrypted, filter, ..Form::default() };
        let case = Case::with(Layout::Small, form, |from| {
            data_at(&from.join("vm5/private.img"), &HUGE_PIECES, HUGE);
        });
        let archive = outer_by(&case.members, Outer::Plain);
        assert!(archive.len() < 200_000, "{case}");
        let verified = read(archive.as_slice(), options(Goal::Verify)).unwrap();
        let (restored, to) = case.restore(&archive);
        case.check_reports(&verified, &restored, "huge");
        let found = case.comparable(tree(&to));
        assert_same(&found, &case.comparable(tree(&case.from())), inner);
        let What::File { size, extents, .. } =
            &found[&b"vm5/private.img"[..]].what
        else {
            panic!("no file")
        };
        assert_eq!((*size, extents.len()), (HUGE, 2), "{case}");
        let mut huge = Huge(0);
        cat_to(&archive, "vm5/private.img", &mut huge).unwrap();
        assert_eq!(huge.0, HUGE, "{case}");
        case.clear(&to);
        case.check_qfile(&restored, &found, "huge");
    }
}

/// Paths up to 4,096 bytes, which no single call of the kernel takes.
#[test]
fn paths_as_long_as_they_may_be() {
    for (inner, sizes) in [
        ("gnu", vec![4_000, 4_094, 4_095, 4_096]),
        ("posix", vec![4_095, 4_096]),
    ] {
        let form = Form { inner, ..Form::default() };
        let case = Case::with(Layout::Hidden, form, |from| {
            for size in sizes {
                deep(&from.join("dom0-home/user"), size - 15);
            }
        });
        case.check(Outer::TarEach);
        let longest = tree(&case.from()).keys().map(Vec::len).max();
        assert_eq!(longest, Some(4_096));
    }
    let case = Case::with(Layout::Hidden, Form::default(), |from| {
        deep(&from.join("dom0-home/user"), 4_097 - 15);
    });
    let archive = outer_by(&case.members, Outer::Plain);
    let error = read(archive.as_slice(), options(Goal::Verify)).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("4097"), "{text}");
}

/// A file whose path below `home` and a slash has so many bytes.
fn deep(home: &Path, size: usize) {
    let mut directory = fs::File::open(home).unwrap();
    let mut left = size;
    let name = format!("{size:0255}");
    while left > 300 {
        let path = facts::inside(&directory, name.as_bytes());
        let made = fs::create_dir(&path);
        assert!(made.is_ok() || path.is_dir(), "{made:?}");
        directory = fs::File::open(path).unwrap();
        left -= 256;
    }
    let (folder, file) =
        ("d".repeat(left / 2), "f".repeat(left - left / 2 - 1));
    let path = facts::inside(&directory, folder.as_bytes());
    fs::create_dir(&path).unwrap();
    fs::write(path.join(file), format!("{size}")).unwrap();
}

/// The old writer's own pipeline: a named pipe, the compressor started by
/// tar, names rewritten in it. What that did to links is told by the caller.
fn old_stream(from: &Path, name: &str, xform: &str, filter: &str) -> Vec<u8> {
    let place = tempfile::tempdir().unwrap();
    let fifo = place.path().join("fifo");
    let (folder, packed) = name.rsplit_once('/').unwrap_or((".", name));
    let folder = from.join(folder);
    let script = "mkfifo \"$1\" && { tar -Pc --sparse -f \"$1\" -C \"$2\" \
        --xform \"$3\" --use-compress-program=\"$4\" \"$5\" & } &&
        cat \"$1\" && wait $!";
    let words = [
        "-c",
        script,
        "sh",
        fifo.to_str().unwrap(),
        folder.to_str().unwrap(),
        xform,
        filter,
        packed,
    ];
    run("sh", "dash", &words, b"")
}

fn old_case(filter: &'static str, flags: &str) -> Case {
    let form = Form { filter: Some(filter), ..Form::default() };
    let form = Form { encrypted: filter != "gzip", ..form };
    let mut case = Case::new(Layout::Hidden, form);
    case.members.clear();
    let text = header(form).into_bytes();
    push(&mut case.members, "backup-header", text, form);
    for (name, folder, packed) in case.layout.files() {
        let folder = if *folder == "." { "" } else { folder };
        let slash = if folder.is_empty() { "" } else { "/" };
        let xform = format!("s:^{packed}:{folder}{slash}\\0:{flags}");
        let mut stream = old_stream(&case.from(), name, &xform, filter);
        assert!(stream.len().is_multiple_of(10_240), "{name}: padded");
        if form.encrypted {
            stream = encrypt(&stream);
        }
        push_stream(&mut case.members, name, &stream, form);
    }
    case
}

#[test]
fn the_pipeline_of_the_old_writer() {
    for filter in ["gzip", "bzip2", "xz"] {
        old_case(filter, "S").check(Outer::TarEach);
    }
}

/// The old writer rewrote targets of symbolic links like names; what it
/// stored is what is restored.
#[test]
fn links_that_the_old_writer_damaged_are_as_stored() {
    let case = old_case("gzip", "");
    let archive = outer_by(&case.members, Outer::TarEach);
    let (restored, to) = case.restore(&archive);
    let mut wanted = case.comparable(tree(&case.from()));
    let mut count = 0;
    for (path, facts) in &mut wanted {
        let What::Symlink(target) = &mut facts.what else { continue };
        let prefix: &[u8] = match path.starts_with(b"vm7/") {
            true => b"vm7/",
            false if target.starts_with(b"user") => b"dom0-home/",
            false => continue,
        };
        *target = [prefix, target].concat();
        count += 1;
    }
    // `dangling` and its other name, `prefix`; two in the template.
    assert_eq!(count, 5);
    assert_same(&case.comparable(tree(&to)), &wanted, "damaged");
    case.clear(&to);
    case.check_qfile(&restored, &wanted, "damaged");
    // One of the three is another name of a link, no link of its own.
    let names = [
        ("vm7/.", "vm7/", 2, "vm7/"),
        ("dom0-home/user", "dom0-home/", 2, "dom0-home/user/"),
    ];
    let verified = read(archive.as_slice(), options(Goal::Verify)).unwrap();
    for report in [&verified, &restored] {
        let [template, home] = report.omissions.as_slice() else {
            panic!("{:?}", report.omissions)
        };
        for (omission, (name, prefix, count, first)) in
            [template, home].into_iter().zip(names)
        {
            let start = format!(
                "{name}: symbolic links to {prefix}...: {count}, as old \
                 writers damaged them; they are as stored, the first is \
                 {first}"
            );
            assert!(omission.starts_with(&start), "{omission}");
            let arrow = format!(" -> {prefix}");
            assert!(omission.contains(&arrow), "{omission}");
        }
    }
}

/// The same archive from a writer that spares links says nothing of them,
/// though there are links of such names.
#[test]
fn links_that_nobody_damaged_are_not_reported() {
    let case = old_case("gzip", "S");
    let archive = outer_by(&case.members, Outer::TarEach);
    let (restored, to) = case.restore(&archive);
    assert_eq!(restored.omissions, [""; 0]);
    let is_link = |facts: &facts::Facts| {
        let what = &facts.what;
        matches!(what, What::Symlink(target) if target.starts_with(b"user"))
    };
    let found = tree(&to);
    assert!(found.values().any(is_link));
    case.clear(&to);
    case.check_qfile(&restored, &case.comparable(found), "not damaged");
}

/// GNU tar writes a link behind its file. Where it stands before it, both are
/// made all the same: links are made last.
#[test]
fn a_hard_link_before_its_file() {
    let mut case = Case::new(Layout::Hidden, Form::default());
    let mut inner = tar::Builder::new(Vec::new());
    let mut add = |kind, path: &str, target: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_400_000_000);
        header.set_uid(0);
        header.set_gid(0);
        match target {
            "" => inner.append_data(&mut header, path, content).unwrap(),
            _ => inner.append_link(&mut header, path, target).unwrap(),
        }
    };
    let file = "dom0-home/user/file";
    add(tar::EntryType::Link, "dom0-home/user/early", file, b"");
    add(tar::EntryType::Symlink, "dom0-home/user/soft", "file", b"");
    add(tar::EntryType::Regular, file, "", b"content");
    add(tar::EntryType::Link, "dom0-home/user/late", file, b"");
    let stream = inner.into_inner().unwrap();
    let is_home = |member: &Member| member.0.starts_with("dom0-home");
    case.members.retain(|member| !is_home(member));
    push_stream(&mut case.members, "dom0-home/user", &stream, case.form);
    let archive = outer_by(&case.members, Outer::TarEach);
    let (restored, to) = case.restore(&archive);
    let found = tree(&to.join("dom0-home/user"));
    let names: Vec<_> = found[&b"early"[..]].names.iter().collect();
    assert_eq!(names, [&b"early"[..], b"file", b"late"]);
    assert_eq!(found.len(), 4);
    assert_eq!(fs::read(to.join("dom0-home/user/early")).unwrap(), b"content");
    let found = case.comparable(tree(&to));
    case.clear(&to);
    case.check_qfile(&restored, &found, "early link");
}

/// By default nobody gets a door with the restoring user's name on it.
#[test]
fn special_bits_are_dropped_unless_asked_for() {
    let case = Case::quick(Layout::Hidden, Form::default());
    let archive = outer_by(&case.members, Outer::Plain);
    let to = case.directory.path().join("to");
    let target = Target::open(&to, false).unwrap();
    let goal = Goal::Restore { target, wanted: Vec::new() };
    read(archive.as_slice(), options(goal)).unwrap();
    let mut wanted = case.comparable(tree(&case.from()));
    let mut count = 0;
    for facts in wanted.values_mut() {
        let is_link = matches!(facts.what, What::Symlink(_));
        if !is_link && facts.mode & 0o7000 != 0 {
            facts.mode &= 0o777;
            count += 1;
        }
    }
    assert_eq!(count, 7);
    assert_same(&case.comparable(tree(&to)), &wanted, "special bits");
}

/// The document of a later release has other words for the same: what
/// core-admin 4.0 and later write into it, features and all.
fn core3(qubes: &[(&str, &str, &str, &str)]) -> String {
    let feature = |name: &str, value: &str| {
        format!("<feature name=\"backup-{name}\">{value}</feature>")
    };
    let domain = |(class, name, content, path): &(&str, &str, &str, &str)| {
        let named = match *name {
            "dom0" => String::new(),
            name => format!("<property name=\"name\">{name}</property>"),
        };
        let features = [
            feature("content", content),
            feature("path", path),
            feature("size", "70000"),
        ];
        format!(
            "<domain class=\"{class}\"><properties>{named}</properties>\
             <features>{}</features></domain>",
            features.concat()
        )
    };
    let domains: String = qubes.iter().map(domain).collect();
    format!(
        "<qubes version=\"3.0\"><labels/><properties/>\
         <domains>{domains}</domains></qubes>"
    )
}

#[test]
fn a_document_of_release_4_announces_its_qubes() {
    let case = Case::with(Layout::Hidden, Form::default(), |from| {
        let text = core3(&[
            ("AdminVM", "dom0", "1", "dom0-home/user"),
            ("TemplateVM", "fedora", "1", "vm7/"),
            ("AppVM", "net", "True", "vm3/"),
            ("AppVM", "work", "1", "vm5/"),
            // A qube that is not in the backup keeps an empty feature.
            ("AppVM", "out", "", "vm9/"),
        ]);
        fs::write(from.join("qubes.xml"), text).unwrap();
    });
    case.check(Outer::TarEach);
    let archive = outer_by(&case.members, Outer::TarEach);
    let listed = read(archive.as_slice(), options(Goal::List)).unwrap();
    let facts = listed
        .qubes
        .iter()
        .map(|qube| (qube.class.as_str(), qube.path.as_str(), qube.bytes));
    let bytes = Some(70_000);
    assert_eq!(
        facts.collect::<Vec<_>>(),
        [
            ("AdminVM", "dom0-home/user", bytes),
            ("TemplateVM", "vm7", bytes),
            ("AppVM", "vm3", bytes),
            ("AppVM", "vm5", bytes),
        ]
    );
}

/// What is missing is missed, by both documents.
#[test]
fn a_document_of_release_4_knows_what_is_missing() {
    let verified = |qubes: &[(&str, &str, &str, &str)]| {
        let case = Case::with(Layout::Small, Form::default(), |from| {
            fs::write(from.join("qubes.xml"), core3(qubes)).unwrap();
        });
        let archive = outer_by(&case.members, Outer::TarEach);
        read(archive.as_slice(), options(Goal::Verify))
    };
    let work = ("AppVM", "work", "1", "vm5/");
    assert_eq!(verified(&[work]).unwrap().omissions, [""; 0]);
    let error = verified(&[work, ("AppVM", "mail", "1", "vm6/")]);
    assert_eq!(
        error.unwrap_err().to_string(),
        "mail: nothing in the archive; wanted the files of it"
    );
    for class in ["TemplateVM", "StandaloneVM"] {
        let report = verified(&[(class, "work", "1", "vm5/")]).unwrap();
        assert_eq!(
            report.omissions,
            ["vm5/root.img: not in the archive, although qubes.xml announces \
              the qube work"]
        );
    }
}
