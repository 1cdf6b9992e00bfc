//! Reading archives that tar and openssl wrote: whole ones come back as they
//! were, damaged ones are refused by name and leave nothing wrong in place.

#![cfg(feature = "backup")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod archive;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Cursor, Read};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::Arc;

use archive::{Form, Member, PASSPHRASE, header, members, outer, source};
use parking_lot::Mutex;
use qubes_fsm::backup::decode::DecodeError;
use qubes_fsm::backup::filter::{External, Programs, Running};
use qubes_fsm::backup::read::{
    Goal, Options, ReadError, read, read_into, read_seekable,
    read_seekable_into,
};
use qubes_fsm::backup::report::{Binding, FileState, Report};
use qubes_fsm::backup::tree::Target;
use qubes_fsm::format::header::Header;
use qubes_fsm::format::hmac::{Digest, Mac};
use qubes_fsm::format::manifest::{Entry, Manifest, ManifestError};
use qubes_fsm::fsm::cancel::Gate;
use tempfile::TempDir;
use zeroize::Zeroizing;

fn options(goal: Goal<'_>) -> Options<'_> {
    Options::new(Zeroizing::new(PASSPHRASE.as_bytes().to_vec()), goal)
}

fn verify(archive: &[u8]) -> Result<Report, ReadError> {
    read(archive, options(Goal::Verify))
}

fn restore(archive: &[u8], to: &Path) -> Result<Report, ReadError> {
    let target = Target::open(to, false).unwrap();
    read(archive, options(Goal::Restore { target, wanted: Vec::new() }))
}

/// Everything below a directory that a restore must give back.
fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(root).unwrap();
            let mode = meta.permissions().mode() & 0o7777;
            let facts = if meta.is_dir() {
                left.push(path.clone());
                // Folders above a qube's are made, not restored.
                format!("directory of mode {mode:o}")
            } else if meta.is_symlink() {
                format!("link to {}", fs::read_link(&path).unwrap().display())
            } else {
                let content = fs::read(&path).unwrap();
                let (size, links) = (meta.len(), meta.nlink());
                let sum: u64 = content
                    .iter()
                    .fold(7, |sum, b| sum * 31 % 1_000_003 + u64::from(*b));
                let time = meta.mtime();
                format!("{size} {sum} {mode:o} {links} {time}")
            };
            found.insert(name.display().to_string(), facts);
        }
    }
    found
}

struct Made {
    directory: TempDir,
    form: Form,
    members: Vec<Member>,
}

fn made(form: Form) -> Made {
    let directory = tempfile::tempdir().unwrap();
    let from = directory.path().join("from");
    fs::create_dir(&from).unwrap();
    source(&from);
    let members = members(&from, form);
    Made { directory, form, members }
}

impl Made {
    fn check(&self) {
        let form = self.form;
        let archive = outer(&self.members);
        let report = verify(&archive)
            .unwrap_or_else(|error| panic!("{form:?}: {error}"));
        assert_eq!(report.omissions, [""; 0], "{form:?}");
        let to = self.directory.path().join("to");
        restore(&archive, &to).unwrap_or_else(|e| panic!("{form:?}: {e}"));
        let from = tree(&self.directory.path().join("from"));
        assert!(from.len() > 15);
        assert_eq!(tree(&to), from, "{form:?}");
        let blocks = fs::metadata(to.join("vm7/root.img")).unwrap().blocks();
        assert!(blocks < 64, "{form:?}: the hole has {blocks} blocks");
        let mut content = Vec::new();
        let path = "vm5/private.img".to_owned();
        let goal = Goal::Cat { path, output: Some(&mut content) };
        read(archive.as_slice(), options(goal)).unwrap();
        let image = fs::read(to.join("vm5/private.img")).unwrap();
        assert!(content == image, "{form:?}");
    }
}

#[test]
fn clear_and_encrypted_with_every_filter() {
    let filters = [None, Some("gzip"), Some("bzip2"), Some("xz"), Some("zstd")];
    for encrypted in [false, true] {
        for filter in filters {
            made(Form { encrypted, filter, ..Form::default() }).check();
        }
    }
}

#[test]
fn every_dialect_of_sparse_files_and_long_names() {
    for (inner, sparse) in
        [("gnu", "1.0"), ("posix", "0.0"), ("posix", "0.1"), ("posix", "1.0")]
    {
        made(Form { inner, sparse, ..Form::default() }).check();
    }
}

//= spec/format3.md#where-a-chunk-ends
#[test]
fn chunks_of_any_size_and_empty_ones() {
    for chunk in [512, 1000, 10_240, 1 << 20] {
        let encrypted = chunk == 1000;
        made(Form { chunk, encrypted, ..Form::default() }).check();
    }
}

#[test]
fn digests_that_old_writers_took() {
    for digest in ["SHA1", "SHA256", "SHA512", "MD5", "RIPEMD160"] {
        made(Form { digest, ..Form::default() }).check();
    }
}

//= spec/format3.md#without-a-header
#[test]
fn without_a_header_the_digest_is_found_and_said() {
    for (digest, encrypted, filter) in [
        ("SHA1", false, None),
        ("SHA512", true, Some("gzip")),
        ("SHA256", false, Some("gzip")),
    ] {
        let form = Form {
            digest,
            encrypted,
            filter,
            header: false,
            ..Form::default()
        };
        let made = made(form);
        let to = made.directory.path().join("to");
        let report = restore(&outer(&made.members), &to).unwrap();
        assert!(report.header.headerless);
        assert_eq!(report.header.digest, digest);
        assert_eq!(
            report.omissions,
            [format!(
                "backup-header: none; the digest {digest} was found by \
                 trying, and a header that was taken away would look the same"
            )]
        );
        assert_eq!(tree(&to), tree(&made.directory.path().join("from")));
    }
}

/// Restores a damaged archive: it must fail, and what it left must be whole.
fn refused(made: &Made, archive: &[u8]) -> ReadError {
    let to = tempfile::tempdir().unwrap();
    let error = restore(archive, to.path()).map(|_| ()).unwrap_err();
    let from = tree(&made.directory.path().join("from"));
    for (name, facts) in tree(to.path()) {
        let is_folder = facts.starts_with("directory");
        assert!(
            is_folder || from.get(&name) == Some(&facts),
            "{error}: left {name}: {facts}"
        );
    }
    error
}

//= spec/format3.md#order-of-members
#[test]
fn members_that_are_missing_doubled_exchanged_or_renumbered() {
    let made = made(Form { chunk: 10_240, ..Form::default() });
    let count = made.members.len();
    assert!(count > 20);
    for at in 0..count {
        let name = &made.members[at].0;
        let mut members = made.members.clone();
        members.remove(at);
        let error = refused(&made, &outer(&members));
        assert!(!error.to_string().is_empty(), "{name}");
        let mut members = made.members.clone();
        members.insert(at, members[at].clone());
        refused(&made, &outer(&members));
    }
    for at in 1..count {
        let mut members = made.members.clone();
        members.swap(at - 1, at);
        refused(&made, &outer(&members));
    }
    // A chunk under the next number, its code with it.
    let at = made.members.iter().position(|m| m.0 == "vm5/private.img.001");
    let at = at.unwrap();
    let mut members = made.members.clone();
    members[at].0 = "vm5/private.img.002".to_owned();
    members[at + 1].0 = "vm5/private.img.002.hmac".to_owned();
    let error = refused(&made, &outer(&members));
    assert_eq!(
        error.to_string(),
        "vm5/private.img.002: comes after vm5/private.img.000.hmac; wanted \
         vm5/private.img.001, or number 000 of a file that was not there \
         before"
    );
}

/// What came before is named, and what should follow that.
#[test]
fn what_is_out_of_sequence_says_what_was_wanted() {
    let made = made(Form { chunk: 10_240, ..Form::default() });
    let text = |members: &[Member]| {
        verify(&outer(members)).map(|_| ()).unwrap_err().to_string()
    };
    let without = |names: &[&str]| {
        let mut members = made.members.clone();
        members.retain(|(name, _)| !names.contains(&name.as_str()));
        assert_eq!(members.len() + names.len(), made.members.len());
        text(&members)
    };
    let header = ["backup-header", "backup-header.hmac"];
    let store = ["qubes.xml.000", "qubes.xml.000.hmac"];
    let next = "vm5/private.img.001, or number 000 of a file that was not \
                there before";
    for (names, wanted) in [
        (
            &header[..1],
            "backup-header.hmac: comes after nothing; wanted backup-header, \
             or qubes.xml.000 of an archive without it"
                .to_owned(),
        ),
        (
            &header[1..],
            "qubes.xml.000: comes after backup-header; wanted \
             backup-header.hmac"
                .to_owned(),
        ),
        (
            &[header[0], header[1], store[1]],
            "vm5/private.img.000: comes after qubes.xml.000; wanted \
             qubes.xml.000.hmac"
                .to_owned(),
        ),
        (
            &store,
            "vm5/private.img.000: comes after backup-header.hmac; wanted \
             qubes.xml.000"
                .to_owned(),
        ),
        (
            &["vm5/private.img.001"],
            format!(
                "vm5/private.img.001.hmac: comes after \
                 vm5/private.img.000.hmac; wanted {next}"
            ),
        ),
        (
            &["vm5/private.img.001.hmac"],
            "vm5/private.img.002: comes after vm5/private.img.001; wanted \
             vm5/private.img.001.hmac"
                .to_owned(),
        ),
    ] {
        assert_eq!(without(names), wanted);
    }
    // A file again, when another came between.
    let of_file = |(name, _): &&Member| name.starts_with("vm5/firewall.xml");
    let mut members = made.members.clone();
    members.extend(made.members.iter().filter(of_file).cloned());
    let last = &made.members[made.members.len() - 1].0;
    let error = text(&members);
    let start = format!("vm5/firewall.xml.000: comes after {last}; wanted ");
    assert!(error.starts_with(&start), "{error}");
    // So with the end.
    assert_eq!(
        text(&made.members[..1]),
        "archive: ends after backup-header; wanted backup-header.hmac"
    );
    assert_eq!(
        text(&made.members[..2]),
        "archive: ends after backup-header.hmac; wanted qubes.xml.000"
    );
    assert_eq!(
        text(&made.members[..5]),
        "archive: ends after vm5/private.img.000; wanted \
         vm5/private.img.000.hmac"
    );
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let made =
        made(Form { chunk: 20_000, filter: Some("gzip"), ..Form::default() });
    for at in 0..made.members.len() {
        let (name, data) = &made.members[at];
        for place in [0, data.len() / 2, data.len().saturating_sub(2)] {
            let mut members = made.members.clone();
            // What the label of a code says is not looked at.
            let is_label = name.ends_with(".hmac") && place == 0;
            let byte = members[at].1.get_mut(place);
            let Some(byte) = byte.filter(|_| !is_label) else { continue };
            *byte ^= 0x04;
            let error = refused(&made, &outer(&members));
            assert!(!error.to_string().is_empty(), "{name}: {place}");
        }
    }
}

#[test]
fn a_cut_anywhere_is_found() {
    let made =
        made(Form { filter: Some("xz"), encrypted: true, ..Form::default() });
    let archive = outer(&made.members);
    // The last piece ends in zeros that mean nothing.
    let zeros = archive.iter().rev().take_while(|byte| **byte == 0).count();
    let data_end = archive.len() - zeros;
    assert!(verify(&archive).is_ok());
    let near_blocks =
        (0..data_end).filter(|at| at % 512 <= 1 || at % 512 == 511);
    for end in near_blocks.chain((0..data_end).step_by(97)) {
        let error = verify(&archive[..end]).map(|_| ()).unwrap_err();
        let text = error.to_string();
        assert!(!text.is_empty(), "{end}");
    }
}

#[test]
fn a_wrong_passphrase_is_named() {
    let made = made(Form::default());
    let mut options = options(Goal::Verify);
    options.passphrase = Zeroizing::new(b"wrong".to_vec());
    let error = read(outer(&made.members).as_slice(), options).unwrap_err();
    assert_eq!(
        error.to_string(),
        "backup-header: no digest makes its authentication code; wanted the \
         passphrase of this backup"
    );
}

//= spec/format3.md#what-was-announced-is-there
#[test]
fn a_qube_of_which_nothing_is_there_is_an_error() {
    let made = made(Form::default());
    let members: Vec<Member> = made
        .members
        .iter()
        .filter(|(name, _)| !name.starts_with("vm5/"))
        .cloned()
        .collect();
    let error = refused(&made, &outer(&members));
    assert_eq!(
        error.to_string(),
        "work: nothing in the archive; wanted the files of it"
    );
    let members: Vec<Member> = made
        .members
        .iter()
        .filter(|(name, _)| !name.starts_with("vm5/private"))
        .cloned()
        .collect();
    let report = verify(&outer(&members)).unwrap();
    assert_eq!(
        report.omissions,
        ["vm5/private.img: not in the archive, although qubes.xml announces \
          the qube work"]
    );
}

#[test]
fn keep_going_leaves_only_the_damaged_file_out() {
    let made = made(Form { chunk: 20_000, ..Form::default() });
    let at = made.members.iter().position(|m| m.0 == "vm5/private.img.001");
    let mut members = made.members.clone();
    members[at.unwrap()].1[5] ^= 1;
    let to = made.directory.path().join("to");
    let target = Target::open(&to, false).unwrap();
    let goal = Goal::Restore { target, wanted: Vec::new() };
    let options = Options { keep_going: true, ..options(goal) };
    let report = read(outer(&members).as_slice(), options).unwrap();
    assert_eq!(
        report.omissions,
        ["vm5/private.img: left out: its authentication code does not fit"]
    );
    let lost: Vec<_> = report
        .files
        .iter()
        .filter(|file| file.state == FileState::Lost)
        .map(|file| file.name.as_slice())
        .collect();
    assert_eq!(lost, [b"vm5/private.img"]);
    let mut from = tree(&made.directory.path().join("from"));
    from.remove("vm5/private.img");
    assert_eq!(tree(&to), from);
}

/// Each lost file is explained by its own fault, not by an earlier one's.
#[test]
fn every_lost_file_has_its_own_reason() {
    let made = made(Form { filter: Some("gzip"), ..Form::default() });
    let mut members = made.members.clone();
    let at = |name: &str| {
        made.members.iter().position(|member| member.0 == name).unwrap()
    };
    // Authentic, and no gzip; then one that is not authentic.
    let first = at("vm5/private.img.000");
    members[first].1 = b"no gzip".to_vec();
    members[first + 1].1 = archive::mac_text(b"no gzip", made.form.digest);
    members[at("vm5/firewall.xml.000")].1[30] ^= 1;
    let options = Options { keep_going: true, ..options(Goal::Verify) };
    let report = read(outer(&members).as_slice(), options).unwrap();
    let [one, two] = report.omissions.as_slice() else {
        panic!("{:?}", report.omissions)
    };
    assert!(one.starts_with("vm5/private.img: left out: "), "{one}");
    assert!(one.contains("gzip stream: byte 0: "), "{one}");
    assert_eq!(
        two,
        "vm5/firewall.xml: left out: its authentication code does not fit"
    );
}

#[test]
fn names_choose_qubes_and_files() {
    let made = made(Form::default());
    let archive = outer(&made.members);
    let chosen = |names: &[&str]| {
        let to = tempfile::tempdir().unwrap();
        let target = Target::open(to.path(), false).unwrap();
        let wanted = names.iter().map(|&name| name.to_owned()).collect();
        let goal = Goal::Restore { target, wanted };
        let report = read(archive.as_slice(), options(goal));
        report.map(|_| tree(to.path()).into_keys().collect::<Vec<_>>())
    };
    assert_eq!(
        chosen(&["work"]).unwrap(),
        ["vm5", "vm5/firewall.xml", "vm5/private.img"]
    );
    assert_eq!(
        chosen(&["vm5/firewall.xml", "qubes.xml"]).unwrap(),
        ["qubes.xml", "vm5", "vm5/firewall.xml"]
    );
    assert_eq!(
        chosen(&["nobody"]).unwrap_err().to_string(),
        "nobody: not in the archive; wanted a qube or file that is"
    );
}

#[test]
fn what_exists_is_not_replaced() {
    let made = made(Form::default());
    let archive = outer(&made.members);
    let to = tempfile::tempdir().unwrap();
    fs::create_dir(to.path().join("vm5")).unwrap();
    fs::write(to.path().join("vm5/private.img"), "mine").unwrap();
    let error = restore(&archive, to.path()).unwrap_err();
    assert!(error.to_string().contains("vm5/private.img"), "{error}");
    assert_eq!(tree(to.path()).len(), 2, "nothing else is there");
    let content = fs::read(to.path().join("vm5/private.img")).unwrap();
    assert_eq!(content, b"mine");
    let target = Target::open(to.path(), true).unwrap();
    let goal = Goal::Restore { target, wanted: Vec::new() };
    read(archive.as_slice(), options(goal)).unwrap();
    assert_eq!(tree(to.path()), tree(&made.directory.path().join("from")));
}

/// An archive whose one image decodes to 1.1 GiB of data that is no hole.
fn bomb(announced: &str) -> Vec<u8> {
    let form = Form { filter: Some("zstd"), ..Form::default() };
    let directory = tempfile::tempdir().unwrap();
    source(directory.path());
    let document = directory.path().join("qubes.xml");
    let text = fs::read_to_string(&document).unwrap();
    let path = "backup_path=\"vm5\"";
    let text = text.replace(path, &format!("{path} {announced}"));
    fs::write(&document, text).unwrap();
    let size = 1_181_116_416;
    let mut header = tar::Header::new_ustar();
    header.set_path("vm5/private.img").unwrap();
    header.set_mode(0o600);
    header.set_size(size);
    header.set_mtime(1_400_000_000);
    header.set_cksum();
    let zeros = io::repeat(0).take(size + 1024);
    let inner = header.as_bytes().chain(zeros);
    let stream = zstd::stream::encode_all(inner, 1).unwrap();
    let mut members = members(directory.path(), form);
    let name = "vm5/private.img.000";
    let at = members.iter().position(|(n, _)| n == name).unwrap();
    members[at + 1].1 = archive::mac_text(&stream, form.digest);
    members[at].1 = stream;
    outer(&members)
}

//= spec/format3.md#decoding-has-a-limit
#[test]
fn a_file_far_larger_than_announced_is_refused() {
    // 4 times as much and 1 GiB are just what is decoded, or a bit less.
    let decoded = 1_181_116_416 + 512 + 1024;
    let announced = (decoded - (1_u64 << 30)).div_ceil(4);
    let of = |bytes| bomb(&format!("backup_size=\"{bytes}\""));
    let few = of(announced - 3);
    let error = verify(&few).unwrap_err();
    let ReadError::Inner { cause, .. } = error else { panic!("{error}") };
    assert!(matches!(*cause, DecodeError::Unannounced { .. }), "{cause}");
    let lifted = Options { limit_decoded: false, ..options(Goal::Verify) };
    assert_eq!(read(few.as_slice(), lifted).unwrap().omissions, [""; 0]);
    verify(&of(announced)).unwrap();
    verify(&bomb("")).unwrap();
}

#[test]
fn a_cancel_before_the_end_leaves_nothing() {
    let made = made(Form::default());
    let to = tempfile::tempdir().unwrap();
    let target = Target::open(to.path(), false).unwrap();
    let goal = Goal::Restore { target, wanted: Vec::new() };
    let mut options = options(goal);
    let gate = Arc::clone(&options.gate);
    options.progress = Box::new(move |_, name| {
        if name == b"vm5/firewall.xml.000" {
            gate.lock().cancel();
        }
    });
    let error = read(outer(&made.members).as_slice(), options).unwrap_err();
    assert!(matches!(error, ReadError::Canceled), "{error}");
    let left: Vec<_> = tree(to.path()).into_keys().collect();
    assert_eq!(left, ["qubes.xml"], "only what was complete");
}

/// A document may announce more than anybody reads in one line.
#[test]
fn an_error_names_some_qubes_and_counts_the_rest() {
    let of = |count: usize| {
        let qubes = (1..=count).map(|number| format!("q{number}")).collect();
        ReadError::Missing { qubes }.to_string()
    };
    let tail = "nothing in the archive; wanted the files of";
    assert_eq!(of(1), format!("q1: {tail} it"));
    assert!(of(20).ends_with(&format!(", q20: {tail} them")));
    assert!(of(23).ends_with(&format!(", q20 and 3 more: {tail} them")));
}

/// Zeros behind an archive, or before one, as long as anybody reads them; a
/// cancel comes after some.
struct Zeros {
    gate: Arc<Mutex<Gate>>,
    reads: usize,
}

impl Read for Zeros {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reads += 1;
        match self.reads {
            10 => drop(self.gate.lock().cancel()),
            // Not for ever, if it is not noticed.
            1_000 => return Ok(0),
            _ => {}
        }
        buffer.fill(0);
        Ok(buffer.len())
    }
}

#[test]
fn a_cancel_ends_zeros_without_an_end() {
    let made = made(Form::default());
    for archive in [outer(&made.members), Vec::new()] {
        let options = options(Goal::Verify);
        let gate = Arc::clone(&options.gate);
        let mut zeros = Zeros { gate, reads: 0 };
        let source = archive.as_slice().chain(&mut zeros);
        let error = read(source, options).unwrap_err();
        assert!(matches!(error, ReadError::Canceled), "{error}");
        assert!(zeros.reads < 100, "{}", zeros.reads);
    }
}

const ID: &str = "00112233445566778899aabbccddeeff";

/// The same archive with a promise, and the manifest that it promises.
fn bound(made: &Made) -> Vec<Member> {
    bound_by(made, &header(made.form))
}

fn bound_by(made: &Made, header: &str) -> Vec<Member> {
    let form = made.form;
    let header = format!("{header}backup-manifest=1-{ID}\n");
    let mut members = Vec::new();
    archive::push(
        &mut members,
        "backup-header",
        header.clone().into_bytes(),
        form,
    );
    members.extend_from_slice(&made.members[2..]);
    let header = Header::parse(header.as_bytes()).unwrap();
    let mut manifest = Manifest::new(&header).unwrap();
    for (name, data) in members.iter().filter(|m| !m.0.ends_with(".hmac")) {
        let mut mac = Mac::new(Digest::Sha512, PASSPHRASE.as_bytes());
        mac.update(data);
        let entry = Entry {
            mac: mac.finish().bytes().to_vec(),
            size: data.len() as u64,
            name: name.clone().into_bytes(),
        };
        manifest.push(entry).unwrap();
    }
    let text = manifest.to_text(PASSPHRASE.as_bytes()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("backup-manifest"), text).unwrap();
    let folder = folder.path().to_str().unwrap().to_owned();
    let mut inner = archive::run(
        "tar",
        "tar",
        &["-c", "-C", &folder, "backup-manifest"],
        b"",
    );
    if form.filter == Some("gzip") {
        inner = archive::run("gzip", "gzip", &["-c"], &inner);
    }
    archive::push(&mut members, "backup-manifest.000", inner, form);
    members
}

fn manifest_error(archive: &[u8]) -> ManifestError {
    let error = refused_whole(archive);
    let ReadError::Manifest(error) = error else { panic!("{error}") };
    error
}

/// With a manifest nothing at all is in place until it is compared.
fn refused_whole(archive: &[u8]) -> ReadError {
    let to = tempfile::tempdir().unwrap();
    let error = restore(archive, to.path()).map(|_| ()).unwrap_err();
    assert_eq!(tree(to.path()), BTreeMap::new(), "{error}");
    error
}

#[test]
fn a_manifest_binds_every_member() {
    let made = made(Form { chunk: 10_240, ..Form::default() });
    let members = bound(&made);
    let archive = outer(&members);
    let Binding::Bound(id) = verify(&archive).unwrap().binding else {
        panic!("not bound")
    };
    assert_eq!(id.to_string(), ID);
    let to = made.directory.path().join("to");
    restore(&archive, &to).unwrap();
    assert_eq!(tree(&to), tree(&made.directory.path().join("from")));

    // Two chunks exchanged, each with its valid code.
    let at = |name: &str| members.iter().position(|m| m.0 == name).unwrap();
    let (one, two) = (at("vm5/private.img.001"), at("vm5/private.img.002"));
    let mut swapped = members.clone();
    for offset in 0..2 {
        let data = swapped[one + offset].1.clone();
        swapped[one + offset].1 = swapped[two + offset].1.clone();
        swapped[two + offset].1 = data;
    }
    let error = manifest_error(&outer(&swapped));
    assert!(matches!(error, ManifestError::MemberDigest { .. }), "{error}");

    // A member that nobody listed, whose name begins as the manifest's.
    let mut added = members.clone();
    let tail = added.split_off(at("backup-manifest.000"));
    let (name, data) = ("backup-manifests.000", made.members[2].1.clone());
    archive::push(&mut added, name, data, made.form);
    added.extend(tail);
    let error = manifest_error(&outer(&added));
    assert!(matches!(error, ManifestError::MemberExtra { .. }), "{error}");

    // A whole file left out, and the manifest itself.
    let keep = |start: &'static str| {
        let kept = members.iter().filter(|m| !m.0.starts_with(start));
        outer(&kept.cloned().collect::<Vec<_>>())
    };
    let error = manifest_error(&keep("vm5/firewall"));
    assert!(matches!(error, ManifestError::MemberMissing { .. }), "{error}");
    let error = manifest_error(&keep("backup-manifest"));
    assert!(matches!(error, ManifestError::Missing), "{error}");
}

/// With `keep_going` files do not wait for a manifest: what it does not bind
/// in the end is said of each.
//= spec/format3.md#nothing-unbound-gets-its-name
#[test]
fn what_is_in_place_and_not_bound_is_reported() {
    let made = made(Form { chunk: 10_240, ..Form::default() });
    let members = bound(&made);
    let run = |members: &[Member], keep_going: bool, from_file: bool| {
        let to = tempfile::tempdir().unwrap();
        let target = Target::open(to.path(), false).unwrap();
        let goal = Goal::Restore { target, wanted: Vec::new() };
        let options = Options { keep_going, ..options(goal) };
        let (archive, mut report) = (outer(members), Report::default());
        let outcome = match from_file {
            false => read_into(archive.as_slice(), options, &mut report),
            true => {
                let source = Cursor::new(&archive);
                read_seekable_into(source, options, &mut report)
            }
        };
        let with = |state| {
            let files = report.files.iter().filter(move |f| f.state == state);
            let names = files.map(|file| String::from_utf8_lossy(&file.name));
            names.map(String::from).collect::<Vec<_>>()
        };
        let restored = with(FileState::Restored);
        (outcome, restored, with(FileState::Unbound), report.binding)
    };
    let all = |without: &[&str]| {
        let all = ["qubes.xml", "vm5/private.img", "vm5/firewall.xml", "vm7/."];
        let all = all.into_iter().chain(["dom0-home/user"]);
        let kept = all.filter(|name| !without.contains(name));
        kept.map(str::to_owned).collect::<Vec<_>>()
    };
    let none: [String; 0] = [];
    let at = |name: &str| members.iter().position(|m| m.0 == name).unwrap();
    for from_file in [false, true] {
        let (outcome, restored, unbound, _) = run(&members, true, from_file);
        outcome.unwrap();
        assert_eq!((restored, unbound), (all(&[]), none.to_vec()));

        // A manifest that is none binds nothing.
        let mut forged = members.clone();
        let place = at("backup-manifest.000");
        forged[place].1[700] ^= 1;
        forged[place + 1].1 =
            archive::mac_text(&forged[place].1, made.form.digest);
        let (outcome, restored, unbound, binding) =
            run(&forged, true, from_file);
        let error = outcome.unwrap_err();
        assert!(matches!(error, ReadError::Manifest(_)), "{error}");
        assert_eq!((restored, unbound), (none.to_vec(), all(&[])));
        assert_eq!(binding, Binding::Refused);

        // One that misses a file binds the others, but not another's.
        let mut less = members.clone();
        less.retain(|(name, _)| !name.starts_with("vm5/firewall.xml"));
        let place = less.iter().position(|m| m.0 == "backup-manifest.000");
        let tail = less.split_off(place.unwrap());
        let mut data = made.members[2].1.clone();
        data[..9].copy_from_slice(b"vm5/notes");
        let sum: u32 = data[..148]
            .iter()
            .chain(&data[156..512])
            .map(|byte| u32::from(*byte))
            .sum::<u32>()
            + 8 * 32;
        data[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive::push(&mut less, "vm5/notes.000", data, made.form);
        less.extend(tail);
        let (outcome, restored, unbound, _) = run(&less, true, from_file);
        let error = outcome.unwrap_err();
        assert!(matches!(error, ReadError::Manifest(_)), "{error}");
        assert_eq!(unbound, ["vm5/notes"]);
        assert_eq!(restored, all(&["vm5/firewall.xml"]));
    }
    // Where none is promised, no file is less bound than another.
    let mut cut = made.members.clone();
    cut.truncate(cut.len() - 1);
    let (outcome, restored, unbound, binding) = run(&cut, true, false);
    outcome.unwrap_err();
    assert_eq!(restored, all(&["dom0-home/user"]));
    assert_eq!((unbound, binding), (none.to_vec(), Binding::NotBound));
}

/// Format 3 without a manifest cannot know.
#[test]
fn exchanged_chunks_pass_where_nothing_binds_them() {
    let made = made(Form { chunk: 10_240, ..Form::default() });
    let mut members = made.members.clone();
    let at = |name: &str| {
        members.iter().position(|member| member.0 == name).unwrap()
    };
    let (one, two) = (at("vm5/private.img.001"), at("vm5/private.img.002"));
    for offset in 0..2 {
        let data = members[one + offset].1.clone();
        members[one + offset].1 = members[two + offset].1.clone();
        members[two + offset].1 = data;
    }
    let report = verify(&outer(&members)).unwrap();
    assert_eq!(report.binding, Binding::NotBound);
}

#[test]
fn the_chunk_that_ends_too_early_is_named() {
    let mut made = made(Form { filter: Some("gzip"), ..Form::default() });
    let data = &made.members[2].1[..100];
    let mac = archive::mac_text(data, made.form.digest);
    assert_eq!(made.members[2].0, "qubes.xml.000");
    made.members[2].1.truncate(100);
    made.members[3].1 = mac;
    let text = refused(&made, &outer(&made.members)).to_string();
    let wanted = "qubes.xml.000: gzip stream: ends after 100 bytes; wanted its \
                  end mark (before byte ";
    assert!(text.starts_with(wanted), "{text}");
}

/// Of an encrypted file the end of a stream is known by its padding alone;
/// whether the inner archive has ended tells more.
#[test]
fn a_last_chunk_that_is_missing_is_said_to_be() {
    let text = |encrypted, filter, chunk, lost: usize| {
        let form = Form { encrypted, filter, chunk, ..Form::default() };
        let made = made(form);
        let chunks = |members: &[Member]| {
            let is_own = |(name, _): &&Member| {
                name.starts_with("vm5/private.img.") && !name.ends_with("hmac")
            };
            members.iter().filter(is_own).count()
        };
        let count = chunks(&made.members);
        let mut members = made.members.clone();
        for chunk in count - lost..count {
            let start = format!("vm5/private.img.{chunk:03}");
            members.retain(|(name, _)| !name.starts_with(&start));
        }
        assert_eq!(chunks(&members), count - lost);
        refused(&made, &outer(&members)).to_string()
    };
    // Within a block, and at its end; compressed or not.
    for (filter, chunk, found) in [
        (None, 10_001, "bytes behind the salt; wanted a multiple of 16"),
        (None, 10_240, "as each of them says"),
        (Some("gzip"), 10_001, "a multiple of 16"),
    ] {
        let text = text(true, filter, chunk, 2);
        assert!(text.starts_with("vm5/private.img."), "{text}");
        let wanted = format!(
            "{found}, and an inner archive that ends: the stream is cut off \
             (before byte "
        );
        assert!(text.contains(&wanted), "{text}");
    }
    // The salt moves the last zeros into a chunk of their own.
    let text = text(true, None, 10_240, 1);
    let wanted = "says; perhaps a chunk is missing at its end (before byte ";
    assert!(text.contains(wanted), "{text}");
}

/// Old writers packed an icon as the link that it was; a file that nobody
/// knows is no link.
#[test]
fn an_icon_may_be_a_link_and_nothing_else_at_the_top() {
    let made = made(Form::default());
    let with_link = |name: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        let mut inner = tar::Builder::new(Vec::new());
        let target = "/usr/share/icons/red.png";
        inner.append_link(&mut header, name, target).unwrap();
        let stream = inner.into_inner().unwrap();
        let mut members = made.members.clone();
        archive::push_stream(&mut members, name, &stream, made.form);
        outer(&members)
    };
    let to = made.directory.path().join("to");
    let archive = with_link("vm5/icon.png");
    assert_eq!(restore(&archive, &to).unwrap().omissions, [""; 0]);
    let icon = fs::read_link(to.join("vm5/icon.png")).unwrap();
    assert_eq!(icon, Path::new("/usr/share/icons/red.png"));
    verify(&archive).unwrap();
    let archive = with_link("vm5/apps");
    let error = verify(&archive).map(|_| ()).unwrap_err().to_string();
    let wanted = "vm5/apps.000: member vm5/apps: a symbolic link to \
                  /usr/share/icons/red.png; wanted a regular file or a \
                  directory (before byte ";
    assert!(error.starts_with(wanted), "{error}");
}

#[test]
fn a_manifest_that_is_read_first_goes_through_the_outside_program() {
    let made = made(Form { filter: Some("gzip"), ..Form::default() });
    // gzip under a name that nothing built in has.
    let header = header(made.form).replace("=gzip", "=lz4");
    let archive = outer(&bound_by(&made, &header));
    let programs = made.directory.path().join("programs");
    fs::create_dir(&programs).unwrap();
    assert!(Path::new("/bin/gzip").exists(), "install the package gzip");
    symlink("/bin/gzip", programs.join("lz4")).unwrap();
    let verify = |directories| {
        let mut options = options(Goal::Verify);
        let running = Running::new(Arc::clone(&options.gate));
        let programs = Programs { directories };
        options.external_filter = Some(External { programs, running });
        read_seekable(Cursor::new(&archive), options)
    };
    let report = verify(vec![programs]).unwrap();
    assert!(matches!(report.binding, Binding::Bound(_)));
    assert_eq!(report.omissions, [""; 0]);
    let error = verify(Vec::new()).map(|_| ()).unwrap_err();
    assert!(matches!(error, ReadError::Program(_)), "{error}");
}
