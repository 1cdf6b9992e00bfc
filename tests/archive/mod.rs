//! Writes archives of format 3 with tar, gzip, bzip2, xz, zstd and openssl,
//! the programs that wrote the old ones, so that reading is not tested with a
//! writer of ours. Only authentication codes may be made without openssl,
//! where there are thousands ([`Codes::Here`]).

#![allow(dead_code, reason = "each test program uses some of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use qubes_fsm::format::hmac::{Digest, Mac};
use qubes_fsm::format::qfile::{Encoder, Entry, Kind, Time};

pub(crate) const PASSPHRASE: &str = "correct horse";

/// How an archive is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    pub(crate) encrypted: bool,
    pub(crate) filter: Option<&'static str>,
    pub(crate) digest: &'static str,
    pub(crate) chunk: usize,
    /// tar's `--format`.
    pub(crate) inner: &'static str,
    pub(crate) sparse: &'static str,
    pub(crate) header: bool,
    /// Size of the chunks of `qubes.xml`; some readers want it in one.
    pub(crate) store_chunk: usize,
    pub(crate) codes: Codes,
    /// Whether the filter's output is filled up to 10,240 bytes, as tar does
    /// when it writes to a named pipe, as the old writer let it.
    pub(crate) padded: bool,
}

/// Who makes the authentication codes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Codes {
    Openssl,
    /// This process, in the words of openssl before 3.
    Here,
}

impl Default for Form {
    fn default() -> Self {
        Self {
            encrypted: false,
            filter: None,
            digest: "SHA512",
            chunk: 100 << 20,
            inner: "gnu",
            sparse: "1.0",
            header: true,
            store_chunk: usize::MAX,
            codes: Codes::Openssl,
            padded: true,
        }
    }
}

/// A member of the outer archive.
pub(crate) type Member = (String, Vec<u8>);

/// Runs a program with `input`; its package is named if it is missing.
pub(crate) fn run(
    program: &str,
    package: &str,
    arguments: &[&str],
    input: &[u8],
) -> Vec<u8> {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = child.unwrap_or_else(|error| {
        panic!("{program}: {error}; install the package {package}")
    });
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join();
    assert!(output.status.success(), "{program} {arguments:?}");
    output.stdout
}

/// A tree in the layout that `restore --to` makes.
pub(crate) fn source(directory: &Path) {
    let write = |path: &str, content: &[u8]| {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    let image: Vec<u8> =
        (0..60_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
    write("vm5/private.img", &image);
    write("vm5/firewall.xml", b"<firewall/>");
    write("vm7/private.img", b"small");
    write("vm7/root.img", b"");
    let root =
        fs::File::options().write(true).open(directory.join("vm7/root.img"));
    root.unwrap().set_len(9 << 20).unwrap();
    write("vm7/apps.templates/a.desktop", b"[Desktop Entry]\n");
    let long = "n".repeat(120);
    write(&format!("dom0-home/user/{long}/deep/file"), b"deep");
    write("dom0-home/user/.bashrc", b"export A=1\n");
    let home = directory.join("dom0-home/user");
    for (name, target) in [
        ("relative", "sub/x"),
        ("absolute", "/etc/hostname"),
        ("dangling", "user/nothing"),
        ("up", "../../x"),
    ] {
        symlink(target, home.join(name)).unwrap();
    }
    fs::hard_link(home.join(".bashrc"), home.join("hard")).unwrap();
    let mode = fs::Permissions::from_mode(0o640);
    fs::set_permissions(home.join(".bashrc"), mode).unwrap();
    write(
        "qubes.xml",
        b"<QubesVmCollection default_template=\"7\">\n  \
          <QubesAdminVm qid=\"0\" name=\"dom0\" backup_content=\"True\" \
          backup_path=\"dom0-home/user\"/>\n  \
          <QubesTemplateVm qid=\"7\" name=\"fedora\" \
          backup_content=\"True\" backup_path=\"vm7\"/>\n  \
          <QubesAppVm qid=\"5\" name=\"work\" backup_content=\"True\" \
          backup_path=\"vm5\"/>\n  <QubesAppVm qid=\"6\" name=\"out\"/>\n\
          </QubesVmCollection>\n",
    );
}

/// A file of the archive: its name, the folder, what tar is told to pack.
pub(crate) type Packed = (&'static str, &'static str, &'static str);

const FILES: [Packed; 5] = [
    ("qubes.xml", ".", "qubes.xml"),
    ("vm5/private.img", "vm5", "private.img"),
    ("vm5/firewall.xml", "vm5", "firewall.xml"),
    ("vm7/.", "vm7", "."),
    ("dom0-home/user", "dom0-home", "user"),
];

/// Every member of an archive of the tree, in order, codes included.
pub(crate) fn members(directory: &Path, form: Form) -> Vec<Member> {
    members_of(directory, &FILES, form)
}

pub(crate) fn members_of(
    directory: &Path,
    files: &[Packed],
    form: Form,
) -> Vec<Member> {
    let mut members = Vec::new();
    if form.header {
        push(&mut members, "backup-header", header(form).into_bytes(), form);
    }
    for &(name, folder, packed) in files {
        let stream = stream(&directory.join(folder), name, packed, form);
        push_stream(&mut members, name, &stream, form);
    }
    members
}

/// Cuts a stream in chunks, each with its code.
pub(crate) fn push_stream(
    members: &mut Vec<Member>,
    name: &str,
    stream: &[u8],
    form: Form,
) {
    let is_store = name == "qubes.xml";
    let size = if is_store { form.store_chunk } else { form.chunk };
    let mut chunks: Vec<&[u8]> = stream.chunks(size).collect();
    // The old writer leaves an empty chunk behind full ones.
    if stream.len().is_multiple_of(size) {
        chunks.push(b"");
    }
    for (number, chunk) in chunks.into_iter().enumerate() {
        let name = format!("{name}.{number:03}");
        push(members, &name, chunk.to_vec(), form);
    }
}

pub(crate) fn header(form: Form) -> String {
    let boolean = |value| if value { "True" } else { "False" };
    let mut text = format!(
        "version=3\nhmac-algorithm={}\ncrypto-algorithm=aes-256-cbc\n\
         encrypted={}\ncompressed={}\n",
        form.digest,
        boolean(form.encrypted),
        boolean(form.filter.is_some())
    );
    if let Some(filter) = form.filter {
        text.push_str(&format!("compression-filter={filter}\n"));
    }
    text
}

/// Adds a member and its code.
pub(crate) fn push(
    members: &mut Vec<Member>,
    name: &str,
    data: Vec<u8>,
    form: Form,
) {
    let mac = match form.codes {
        Codes::Openssl => mac_text(&data, form.digest),
        Codes::Here => mac_text_here(&data, form.digest),
    };
    members.push((name.to_owned(), data));
    members.push((format!("{name}.hmac"), mac));
}

pub(crate) fn mac_text(data: &[u8], digest: &str) -> Vec<u8> {
    let digest = format!("-{}", digest.to_lowercase());
    run("openssl", "openssl", &["dgst", &digest, "-hmac", PASSPHRASE], data)
}

fn mac_text_here(data: &[u8], digest: &str) -> Vec<u8> {
    let digest = Digest::from_name(digest).unwrap();
    let mut mac = Mac::new(digest, PASSPHRASE.as_bytes());
    mac.update(data);
    let bytes = mac.finish().bytes().to_vec();
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    format!("(stdin)= {hex}\n").into_bytes()
}

fn stream(folder: &Path, name: &str, packed: &str, form: Form) -> Vec<u8> {
    let prefix = name.rsplit_once('/').map_or("", |(prefix, _)| prefix);
    let xform = format!("s:^{packed}:{prefix}/{packed}:S");
    let folder = folder.to_str().unwrap();
    let format = format!("--format={}", form.inner);
    let version = format!("--sparse-version={}", form.sparse);
    let mut arguments =
        vec!["-P", "-c", "--sparse", &version, &format, "-f", "-"];
    arguments.extend(["-C", folder]);
    if !prefix.is_empty() {
        arguments.extend(["--xform", &xform]);
    }
    arguments.push(packed);
    let mut stream = run("tar", "tar", &arguments, b"");
    if let Some(filter) = form.filter {
        stream = compress(filter, &stream);
        if form.padded {
            stream.resize(stream.len().next_multiple_of(10_240), 0);
        }
    }
    if form.encrypted { encrypt(&stream) } else { stream }
}

/// By the program of that name, or by the one whose format it writes.
fn compress(filter: &str, data: &[u8]) -> Vec<u8> {
    match filter {
        "gzip" | "pigz" => run("gzip", "gzip", &["-c"], data),
        "bzip2" => run("bzip2", "bzip2", &["-c"], data),
        // It compresses pieces, and writes one stream behind the other.
        "pbzip2" => data
            .chunks(40_000)
            .flat_map(|piece| run("bzip2", "bzip2", &["-c"], piece))
            .collect(),
        "xz" => run("xz", "xz-utils", &["-c"], data),
        "lzma" => run("xz", "xz-utils", &["--format=lzma", "-c"], data),
        "zstd" => run("zstd", "zstd", &["-q", "-c"], data),
        "zstdmt" => run("zstd", "zstd", &["-q", "-T0", "-c"], data),
        other => panic!("no filter {other}"),
    }
}

pub(crate) fn encrypt(data: &[u8]) -> Vec<u8> {
    let pass = format!("pass:{PASSPHRASE}");
    let arguments = ["enc", "-e", "-aes-256-cbc", "-md", "md5", "-pass", &pass];
    run("openssl", "openssl", &arguments, data)
}

/// The outer archive: one tar per member, as the old writer left them.
pub(crate) fn outer(members: &[Member]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, data) in members {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).unwrap_or_else(|_| {
            // Names that the crate refuses are written as they are.
            let field = &mut header.as_mut_bytes()[..name.len()];
            field.copy_from_slice(name.as_bytes());
        });
        // `vm7/..000` would be cleaned by the crate.
        if name.contains("/.") {
            let bytes = header.as_mut_bytes();
            bytes[..100].fill(0);
            bytes[..name.len()].copy_from_slice(name.as_bytes());
        }
        header.set_mode(0o644);
        header.set_size(data.len() as u64);
        header.set_mtime(1_400_000_000);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        let mut one = header.as_bytes().to_vec();
        one.extend(data);
        let padded = (one.len() + 1024).next_multiple_of(10_240);
        one.resize(padded, 0);
        archive.extend(one);
    }
    archive
}

/// Whose outer archive.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outer {
    /// `tar -cO --posix` once for each member, as the old writer did it: a
    /// header with times before each, zeros in the middle.
    TarEach,
    /// One tar of that `--format` with all members.
    Tar(&'static str),
    /// As [`outer`] makes it.
    Plain,
    /// One tar by hand, with 512 bytes for each header and no more.
    Tight,
}

/// The outer archive, written by GNU tar where that is what is asked for.
pub(crate) fn outer_by(members: &[Member], by: Outer) -> Vec<u8> {
    match by {
        Outer::Plain => return outer(members),
        Outer::Tight => return tight(members),
        Outer::TarEach | Outer::Tar(_) => {}
    }
    let stage = tempfile::tempdir().unwrap();
    for (name, data) in members {
        let path = stage.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, data).unwrap();
    }
    let folder = stage.path().to_str().unwrap();
    let names = members.iter().map(|member| member.0.as_str());
    if let Outer::Tar(format) = by {
        let format = format!("--format={format}");
        let mut arguments = vec!["-c", &format, "-f", "-", "-C", folder];
        arguments.extend(names);
        let mut archive = run("tar", "tar", &arguments, b"");
        // More zeros than tar writes.
        archive.resize(archive.len() + 30_720, 0);
        return archive;
    }
    names
        .flat_map(|name| {
            let arguments = ["-cO", "--posix", "-f", "-", "-C", folder, name];
            run("tar", "tar", &arguments, b"")
        })
        .collect()
}

fn tight(members: &[Member]) -> Vec<u8> {
    let mut archive = Vec::new();
    for member in members {
        let one = outer(std::slice::from_ref(member));
        let size = 512 + member.1.len().next_multiple_of(512);
        archive.extend(&one[..size]);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

/// What the service of a qube sends of an archive: each member as a file, each
/// directory once before what is in it. And what a reply to it must say.
pub(crate) fn qfile(members: &[Member]) -> (Vec<u8>, Encoder) {
    let (mut encoder, mut stream) = (Encoder::default(), Vec::new());
    let time = Time { seconds: 1_400_000_000, nanoseconds: 0 };
    let entry = |name: &str, kind, size: usize| Entry {
        name: name.into(),
        kind,
        mode: 0o644,
        size: size as u64,
        accessed: time,
        modified: time,
    };
    let mut folders = std::collections::BTreeSet::new();
    for (name, data) in members {
        for (end, _) in name.match_indices('/') {
            let folder = &name[..end];
            if folders.insert(folder) {
                let folder = entry(folder, Kind::Directory, 0);
                encoder.entry(&folder, &mut stream).unwrap();
            }
        }
        let file = entry(name, Kind::File, data.len());
        encoder.entry(&file, &mut stream).unwrap();
        encoder.data(data).unwrap();
        stream.extend(data);
    }
    encoder.end(&mut stream).unwrap();
    (stream, encoder)
}
