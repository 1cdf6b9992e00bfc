//! Every form of an archive is restored to the same tree: by us, from a pipe
//! and from a file, and by tar, openssl and the filter.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use qubes_fsm::backup::report::Binding;
use qubes_fsm::backup::write::{CHUNK_BYTES, to_file};

use crate::archive::{PASSPHRASE, run};
use crate::scene::{
    FORM, Form, Scene, comparable, directory, options, restored,
    restored_seekable, same, without_special_bits,
};
use crate::trees::Layout;

const FILTERS: [&str; 4] = ["gzip", "bzip2", "xz", "zstd"];

/// What the programs of a filter are in.
fn package(filter: &str) -> &str {
    if filter == "xz" { "xz-utils" } else { filter }
}

/// Runs a program that may not say anything on stderr.
fn silently(
    program: &str,
    package: &str,
    arguments: &[&str],
    input: &[u8],
) -> Vec<u8> {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap_or_else(|error| {
        panic!("{program}: {error}; install the package {package}")
    });
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {err}");
    assert_eq!(err, "", "{program} {arguments:?}");
    output.stdout
}

/// Members of an archive as tar unpacks them, and in its order.
struct Unpacked {
    directory: tempfile::TempDir,
    names: Vec<String>,
}

impl Unpacked {
    fn new(archive: &[u8]) -> Self {
        let directory = directory();
        let at = directory.path().to_str().unwrap();
        silently("tar", "tar", &["-x", "-f", "-", "-C", at], archive);
        let quoting = "--quoting-style=literal";
        let listed = ["-t", quoting, "-f", "-"];
        let names = silently("tar", "tar", &listed, archive);
        let names = String::from_utf8(names).unwrap();
        let names = names.lines().map(str::to_owned).collect();
        Self { directory, names }
    }

    fn data(&self, name: &str) -> Vec<u8> {
        fs::read(self.directory.path().join(name)).unwrap()
    }

    /// The chunks of each file, one behind the other.
    fn streams(&self) -> BTreeMap<String, Vec<u8>> {
        let mut streams: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
        for name in &self.names {
            if name.ends_with(".hmac") || name == "backup-header" {
                continue;
            }
            let (file, digits) = name.rsplit_once('.').unwrap();
            let number = numbers.entry(file.to_owned()).or_default();
            assert_eq!(digits, format!("{number:03}"), "{name}");
            *number += 1;
            let stream = streams.entry(file.to_owned()).or_default();
            stream.extend(self.data(name));
        }
        streams
    }
}

/// Restores without any code of ours.
fn by_hand(archive: &[u8], form: Form, to: &Path) {
    let unpacked = Unpacked::new(archive);
    let header = String::from_utf8(unpacked.data("backup-header")).unwrap();
    let has = |line: &str| header.lines().any(|found| found == line);
    assert!(has(if form.encrypt {
        "encrypted=True"
    } else {
        "encrypted=False"
    }));
    assert!(
        has("hmac-algorithm=SHA512") && has("crypto-algorithm=aes-256-cbc")
    );
    if let Some(filter) = form.filter {
        assert!(has(&format!("compression-filter={filter}")), "{header}");
    }
    let to = to.to_str().unwrap();
    let pass = format!("pass:{PASSPHRASE}");
    let mut manifest = false;
    for (name, mut stream) in unpacked.streams() {
        if form.encrypt {
            let cipher = ["enc", "-d", "-aes-256-cbc", "-md", "md5"];
            let arguments = [&cipher[..], &["-pass", &pass]].concat();
            // It warns of the old way to make a key.
            stream = run("openssl", "openssl", &arguments, &stream);
        }
        if let Some(filter) = form.filter {
            let package = package(filter);
            silently(filter, package, &["-q", "-t"], &stream);
            stream = silently(filter, package, &["-dc"], &stream);
        }
        silently("tar", "tar", &["-tv", "-f", "-"], &stream);
        if name == "backup-manifest" {
            manifest = true;
            continue;
        }
        // It warns of times that are long ago; and without -P it makes links
        // to absolute paths last, and forgets the time of `vm7/./` then.
        let warning = "--warning=no-timestamp";
        let arguments = ["-x", "-p", "-P", warning, "-f", "-", "-C", to];
        silently("tar", "tar", &arguments, &stream);
    }
    assert_eq!(manifest, form.manifest);
}

fn forms(encrypt: bool, filters: &[Option<&'static str>]) -> Vec<Form> {
    let mut forms = Vec::new();
    for &filter in filters {
        for manifest in [true, false] {
            forms.push(Form { encrypt, filter, manifest, ..FORM });
        }
    }
    forms
}

/// Each form, to a file and to a pipe, and back in every way.
fn all_ways(forms: &[Form], layout: Layout) {
    let scene = Scene::full(layout);
    let wanted = scene.tree();
    for &form in forms {
        let path = scene.path("out/archive");
        let contents = scene.contents();
        assert_eq!(contents.omissions, [""; 0]);
        let report = to_file(&contents, &path, options(form)).unwrap();
        let archive = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(report.archive_bytes, archive.len() as u64);
        assert_eq!(report.omissions, [""; 0]);
        assert_eq!(report.id.is_some(), form.manifest);
        let names = contents.files.iter().map(|file| file.name.clone());
        let manifest = form.manifest.then(|| b"backup-manifest".to_vec());
        let told = report.files.iter().map(|file| file.name.clone());
        assert!(told.eq(names.chain(manifest)), "{:?}", report.files);
        let read_in_all: u64 =
            report.files.iter().map(|file| file.real_bytes).sum();
        // What is a hole is not read.
        assert!(read_in_all < 1 << 24, "{read_in_all}");

        let piped = scene.written(form);
        for (archive, seekable) in
            [(&archive, false), (&archive, true), (&piped, false)]
        {
            let to = directory();
            let way = if seekable { restored_seekable } else { restored };
            let read = way(archive, to.path()).unwrap();
            assert_eq!(read.omissions, [""; 0], "{form:?}");
            let is_bound = matches!(read.binding, Binding::Bound(_));
            let is_not = read.binding == Binding::NotBound;
            assert_eq!((is_bound, is_not), (form.manifest, !form.manifest));
            same(&comparable(to.path()), &wanted, &format!("{form:?}"));
        }
        for archive in [&archive, &piped] {
            let to = directory();
            by_hand(archive, form, to.path());
            let what = format!("{form:?}, by hand");
            same(&comparable(to.path()), &wanted, &what);
        }
    }
}

#[test]
fn clear_and_encrypted() {
    all_ways(&forms(false, &[None]), Layout::Hidden);
    all_ways(&forms(true, &[None]), Layout::Plain);
}

#[test]
fn compressed() {
    all_ways(&forms(false, &FILTERS.map(Some)), Layout::Plain);
}

#[test]
fn compressed_and_encrypted() {
    all_ways(&forms(true, &FILTERS.map(Some)), Layout::Hidden);
}

/// As it is by default, and with levels.
#[test]
fn levels_and_chunks_of_the_usual_size() {
    let scene = Scene::full(Layout::Plain);
    let chunk = CHUNK_BYTES;
    for filter in ["gzip:1", "gzip:9", "zstd:1", "xz:0", "bzip2:1"] {
        let form = Form { filter: Some(filter), chunk, ..FORM };
        let archive = scene.written(form);
        scene.assert_same(&archive);
        let filter = filter.split(':').next();
        let to = directory();
        by_hand(&archive, Form { filter, ..form }, to.path());
        same(&comparable(to.path()), &scene.tree(), "by hand");
    }
}

/// Gives a pipe's bytes on in pieces of every size from 1 to 4,096.
struct Pieces<'a> {
    left: &'a [u8],
    state: u32,
}

impl Read for Pieces<'_> {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        self.state = self.state.wrapping_mul(1_664_525).wrapping_add(7);
        let count = 1 + (self.state >> 20) as usize;
        let count = count.min(room.len()).min(self.left.len());
        let (piece, left) = self.left.split_at(count);
        room[..count].copy_from_slice(piece);
        self.left = left;
        Ok(count)
    }
}

#[test]
fn the_bytes_of_a_pipe_come_in_any_pieces() {
    use qubes_fsm::backup::read::{Goal, Options, read};
    use qubes_fsm::backup::tree::Target;
    let scene = Scene::full(Layout::Hidden);
    for encrypt in [false, true] {
        let form = Form { encrypt, filter: Some("gzip"), ..FORM };
        let archive = scene.written(form);
        let to = directory();
        let target = Target::open(to.path(), false).unwrap();
        let target = target.with_special_bits(true);
        let goal = Goal::Restore { target, wanted: Vec::new() };
        let options = Options::new(crate::scene::passphrase(), goal);
        read(Pieces { left: &archive, state: 1 }, options).unwrap();
        same(&comparable(to.path()), &scene.tree(), "in pieces");
    }
}

/// Two processes and the pipe between them, and one more that gives the bytes
/// on as they come.
#[test]
fn backup_to_a_pipe_is_restored_from_it() {
    let scene = Scene::full(Layout::Hidden);
    let restore =
        ["restore", "-", "--to", "TO", "--passphrase-file", "PASSPHRASE"];
    for between in [None, Some("7")] {
        let piped = ["--to", "-", "--compress", "--encrypt"];
        let mut backup = scene
            .backup(&piped)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pipe = Stdio::from(backup.stdout.take().unwrap());
        let mut dd = None;
        if let Some(size) = between {
            let mut child = Command::new("dd")
                .args([format!("bs={size}"), "status=none".to_owned()])
                .stdin(pipe)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            pipe = child.stdout.take().unwrap().into();
            dd = Some(child);
        }
        let output = scene.bare(&restore).stdin(pipe).output().unwrap();
        let said = backup.wait_with_output().unwrap();
        assert_eq!(said.status.code(), Some(0));
        assert!(dd.is_none_or(|mut dd| dd.wait().unwrap().success()));
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let wanted = without_special_bits(scene.tree());
        same(&comparable(&scene.path("to")), &wanted, "through a pipe");
        fs::remove_dir_all(scene.path("to")).unwrap();
        // The archive is on stdout, so the report is not.
        let text = String::from_utf8(said.stderr).unwrap();
        assert!(text.contains("stdout: "), "{text}");
    }
}

/// MANIFEST, "By hand": what a reader with openssl alone can compare.
#[test]
fn the_manifest_and_every_code_are_right_for_openssl() {
    let scene = Scene::full(Layout::Hidden);
    let archive = scene.written(Form { chunk: 400_000, ..FORM });
    let path = scene.path("out/archive");
    let contents = scene.contents();
    let form = Form { chunk: 400_000, encrypt: true, ..FORM };
    to_file(&contents, &path, options(form)).unwrap();
    for (archive, encrypt) in
        [(archive, false), (fs::read(path).unwrap(), true)]
    {
        let unpacked = Unpacked::new(&archive);
        let mut script = "set -e; cd \"$1\"\n".to_owned();
        script.push_str(BY_HAND);
        let at = unpacked.directory.path().to_str().unwrap();
        let names = unpacked.names.join("\n");
        fs::write(unpacked.directory.path().join("names"), names + "\n")
            .unwrap();
        let word = if encrypt { "sealed" } else { "clear" };
        let arguments = ["-c", &script, "sh", at, PASSPHRASE, word];
        let out = run("bash", "bash", &arguments, b"");
        let out = String::from_utf8(out).unwrap();
        assert_eq!(out, "mac right\nmembers right\ncodes right\n");
    }
}

const BY_HAND: &str = r#"
P=$2
ALG=$(sed -n 's/^hmac-algorithm=//p' backup-header)
ID=$(sed -n 's/^backup-manifest=1-//p' backup-header)
if [ "$3" = sealed ]; then
    openssl enc -d -aes-256-cbc -md md5 -pass "pass:$P" \
        -in backup-manifest.000 2>/dev/null
else
    cat backup-manifest.000
fi | tar -xO > text
head -n -1 text | openssl dgst "-$ALG" -hmac "$ID"'!backup-manifest!'"$P" |
    sed 's/.*= /mac=/' | diff - <(tail -n 1 text) && echo "mac right"
grep -v -e '\.hmac$' names > members
while IFS= read -r n; do
    echo "$(openssl dgst "-$ALG" -hmac "$P" < "$n" | sed 's/.*= //') $n"
done < members > values
grep -v ' backup-manifest\.' values | while read -r v n; do
    echo "$v $(stat -c %s "$n") $n"
done | diff - <(tail -n +4 text | head -n -1) && echo "members right"
while read -r v n; do
    sed 's/.*= //' "$n.hmac" | grep -qx "$v"
done < values && echo "codes right"
"#;
