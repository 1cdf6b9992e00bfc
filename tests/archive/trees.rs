//! Trees to make archives of: what qubes and a home have, and what tar has to
//! do something special for.

#![allow(dead_code, reason = "each test program uses some of it")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use crate::archive::Packed;

/// Where in an archive the qubes are, and how much there is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Layout {
    /// `vmQID/`, as in encrypted archives.
    Hidden,
    /// `appvms/NAME/` and so on.
    Plain,
    /// One qube with one image.
    Small,
}

const HIDDEN: [Packed; 7] = [
    ("qubes.xml", ".", "qubes.xml"),
    ("vm5/private.img", "vm5", "private.img"),
    ("vm5/icon.png", "vm5", "icon.png"),
    ("vm5/firewall.xml", "vm5", "firewall.xml"),
    ("vm3/private.img", "vm3", "private.img"),
    ("vm7/.", "vm7", "."),
    ("dom0-home/user", "dom0-home", "user"),
];
const PLAIN: [Packed; 7] = [
    ("qubes.xml", ".", "qubes.xml"),
    ("appvms/work/private.img", "appvms/work", "private.img"),
    ("appvms/work/icon.png", "appvms/work", "icon.png"),
    ("appvms/work/firewall.xml", "appvms/work", "firewall.xml"),
    ("servicevms/net/private.img", "servicevms/net", "private.img"),
    ("vm-templates/fedora/.", "vm-templates/fedora", "."),
    ("dom0-home/user", "dom0-home", "user"),
];
const SMALL: [Packed; 2] = [
    ("qubes.xml", ".", "qubes.xml"),
    ("vm5/private.img", "vm5", "private.img"),
];

impl Layout {
    /// Files of the archive, in its order.
    pub(crate) fn files(self) -> &'static [Packed] {
        match self {
            Self::Hidden => &HIDDEN,
            Self::Plain => &PLAIN,
            Self::Small => &SMALL,
        }
    }

    /// Qubes, in the order of `qubes.xml`.
    pub(crate) fn qubes(self) -> &'static [&'static str] {
        match self {
            Self::Hidden | Self::Plain => &["dom0", "fedora", "net", "work"],
            Self::Small => &["work"],
        }
    }

    /// Files that `cat` shall print.
    pub(crate) fn printed(self) -> &'static [&'static str] {
        match self {
            Self::Hidden => &[
                "qubes.xml",
                "vm5/private.img",
                "vm5/icon.png",
                "vm7/root.img",
                // Not a name of several: only the first has the content.
                "dom0-home/user/setuid",
            ],
            Self::Plain => &[
                "appvms/work/private.img",
                "vm-templates/fedora/root.img",
                "dom0-home/user/locked/inside",
            ],
            Self::Small => &["qubes.xml", "vm5/private.img"],
        }
    }

    /// Makes the tree.
    pub(crate) fn write(self, directory: &Path) {
        let paths = match self {
            Self::Hidden => ["vm5", "vm3", "vm7"],
            Self::Plain => {
                ["appvms/work", "servicevms/net", "vm-templates/fedora"]
            }
            Self::Small => ["vm5", "", ""],
        };
        write(&directory.join("qubes.xml"), self.document(paths).as_bytes());
        let [work, net, fedora] = paths.map(|path| directory.join(path));
        // A hole at the beginning, one in the middle, one at the end.
        let (one, two) = (noise(60_000), noise(12_288));
        let pieces: [(u64, &[u8]); 2] = [(1 << 20, &one), (3 << 20, &two)];
        match self {
            Self::Small => return write(&work.join("private.img"), &one),
            Self::Hidden | Self::Plain => {}
        }
        data_at(&work.join("private.img"), &pieces, (5 << 20) + 123);
        write(&work.join("icon.png"), b"");
        write(&work.join("firewall.xml"), b"<firewall/>\n");
        // Data at both ends, which is in no whole block.
        let pieces: [(u64, &[u8]); 2] = [(0, b"begin"), (2 << 20, &noise(777))];
        data_at(&net.join("private.img"), &pieces, (2 << 20) + 777);
        template(&fedora);
        home(&directory.join("dom0-home/user"));
    }

    fn document(self, [work, net, fedora]: [&str; 3]) -> String {
        let qube = |kind, qid, name, path| {
            format!(
                "  <Qubes{kind} qid=\"{qid}\" name=\"{name}\" \
                 template_qid=\"none\" backup_content=\"True\" \
                 backup_path=\"{path}\" backup_size=\"70000\"/>\n"
            )
        };
        let mut text =
            "<QubesVmCollection default_template=\"7\">\n".to_owned();
        if self != Self::Small {
            text += &qube("AdminVm", 0, "dom0", "dom0-home/user");
            text += &qube("TemplateVm", 7, "fedora", fedora);
            text += &qube("NetVm", 3, "net", net);
        }
        text += &qube("AppVm", 5, "work", work);
        // Not in the backup.
        text += "  <QubesAppVm qid=\"6\" name=\"out\" template_qid=\"7\"/>\n";
        text + "</QubesVmCollection>\n"
    }
}

/// The whole directory of one: packed as `.`.
fn template(directory: &Path) {
    // All of it a hole; more pieces than one header, and one more block, has.
    data_at(&directory.join("private.img"), &[], 9 << 20);
    let pieces: Vec<Vec<u8>> =
        (1..=40).map(|index| noise(index * 100)).collect();
    let pieces: Vec<(u64, &[u8])> = (0..40)
        .zip(&pieces)
        .map(|(index, piece)| (index << 18, piece.as_slice()))
        .collect();
    data_at(&directory.join("root.img"), &pieces, 12 << 20);
    write(&directory.join("apps/a.desktop"), b"[Desktop Entry]\n");
    write(&directory.join("empty"), b"");
    fs::create_dir(directory.join("apps.tempicons")).unwrap();
    symlink("apps/a.desktop", directory.join("link")).unwrap();
    symlink("/usr/share/icons", directory.join("icons")).unwrap();
    fs::hard_link(directory.join("empty"), directory.join("again")).unwrap();
    mode(&directory.join("apps"), 0o2750);
    time(&directory.join("apps"), 1_400_000_000, 7);
    time(directory, 1_300_000_000, 999_999_999);
}

/// Every kind of link, mode, time and name.
fn home(home: &Path) {
    let at = |name: &str| home.join(name);
    write(&at(".bashrc"), b"export A=1\n");
    write(&at("sub/x"), b"x");
    write(&at("sub/user/user"), b"named as the folder");
    fs::create_dir(at("empty-folder")).unwrap();
    write(&at("empty-file"), b"");
    let long = "t".repeat(300);
    for (name, target) in [
        ("relative", "sub/x"),
        ("absolute", "/etc/hostname"),
        ("dangling", "user/nothing"),
        ("prefix", "username-like"),
        ("up", "../../x"),
        ("folder", "sub"),
        ("slash", "sub/"),
        ("here", "."),
        ("itself", "itself"),
        ("long-target", &long),
        ("sub/odd", "a\nb \"c\" \u{1b}[31m"),
    ] {
        symlink(target, at(name)).unwrap();
    }
    symlink(OsStr::from_bytes(b"\xff\xfe"), at("raw")).unwrap();
    // Before it in any order, after it, elsewhere; and of a link.
    for name in ["!first", "~last", "sub/hard", "zzz"] {
        fs::hard_link(at(".bashrc"), at(name)).unwrap();
    }
    fs::hard_link(at("sub/x"), at("a-later-one")).unwrap();
    fs::hard_link(at("dangling"), at("dangling-too")).unwrap();
    names(home);
    // A sparse file deep in a tree, too.
    data_at(&at("sub/sparse"), &[(1 << 16, b"middle")], 1 << 18);
    for (name, bits) in [
        ("setuid", 0o4755),
        ("setgid", 0o2711),
        ("sticky", 0o1644),
        ("read-only", 0o444),
        ("all", 0o7777),
        ("locked/inside", 0o400),
    ] {
        write(&at(name), name.as_bytes());
        mode(&at(name), bits);
    }
    fs::create_dir(at("tmp")).unwrap();
    write(&at("tmp/file"), b"file");
    for (name, bits) in
        [("tmp", 0o1777), ("sub", 0o2775), ("locked", 0o500), ("", 0o710)]
    {
        mode(&at(name), bits);
    }
    mode(&at(".bashrc"), 0o640);
    for (name, seconds, nanoseconds) in [
        ("read-only", -2, 500_000_000),
        ("empty-file", -1_000_000_000, 1),
        ("all", -1, 999_999_999),
        ("setuid", 0, 0),
        ("setgid", 0, 1),
        ("sticky", 1_700_000_000, 123_456_789),
        // More than 11 octal digits hold.
        (".bashrc", 8_589_934_592, 5),
        ("absolute", -86_400, 25),
        ("relative", 1_234_567_890, 100),
        ("locked/inside", 12, 0),
        ("locked", 1_500_000_000, 42),
        ("empty-folder", -3, 4),
        ("tmp", 1, 2),
        ("", 1_600_000_000, 1),
    ] {
        time(&at(name), seconds, nanoseconds);
    }
}

/// Names that are long, that are no text, that mean something elsewhere.
fn names(home: &Path) {
    let folder = home.join("names");
    let mut names: Vec<Vec<u8>> = [
        &b"\xff\xfe\x80"[..],
        b"latin-\xe9",
        b"new\nline",
        b"tab\tand\rreturn",
        b"quote\"'`",
        b"back\\slash\\n\\101",
        b"\x1b[31mred\x07",
        b"\x01\x7f",
        b" blank ",
        b"-rf",
        b"*?[a]",
        b"...",
        b"a:b=c,d",
        "\u{202e}txt.exe".as_bytes(),
        "\u{e9}\u{1f512}".as_bytes(),
    ]
    .map(<[u8]>::to_vec)
    .to_vec();
    names.extend([99, 100, 101, 155, 156, 255].map(|size| vec![b'n'; size]));
    for (index, name) in names.iter().enumerate() {
        let name = OsStr::from_bytes(name);
        write(&folder.join(name), format!("{index}").as_bytes());
    }
    // Paths that end just where a header's fields do.
    let above = "dom0-home/user/names/d".len() + 1;
    for size in [99, 100, 101, 155, 156, 255, 256, 257] {
        write(&folder.join("d").join("m".repeat(size - above)), b"m");
        let directory = folder.join("d").join("l".repeat(size - above));
        fs::create_dir_all(&directory).unwrap();
        symlink("m".repeat(size), directory.join("s")).unwrap();
        let found = directory.join("s");
        fs::hard_link(found, directory.join("h")).unwrap();
    }
}

pub(crate) fn write(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// A file of that size which is a hole but for the pieces.
pub(crate) fn data_at(path: &Path, pieces: &[(u64, &[u8])], size: u64) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = fs::File::create(path).unwrap();
    for (offset, piece) in pieces {
        file.write_all_at(piece, *offset).unwrap();
    }
    file.set_len(size).unwrap();
}

/// Bytes that no filter makes much smaller.
pub(crate) fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ size as u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..size).map(|_| next()).collect()
}

fn mode(path: &Path, bits: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(bits)).unwrap();
}

/// Of the name itself, also if it is a link.
fn time(path: &Path, tv_sec: i64, tv_nsec: i64) {
    let time = Timespec { tv_sec, tv_nsec };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}
