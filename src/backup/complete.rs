//! Is everything there that `qubes.xml` in the archive announces?
//!
//! Lives here: which qubes are announced, which files belong to one, what a
//! file may be, and what is missing. May not live here: where the files come
//! from.

use std::collections::{BTreeSet, HashMap};

use super::report::{File, Qube};
use crate::format::document::{Dialect, Document};
use crate::format::escape::Escaped;
use crate::format::tar::Kind;

/// The qubes that a document announces, in its order.
///
/// Which of the two a format 3 archive holds is up to the release that wrote
/// it. Source: core-admin `backup.py`: in Core2 the attributes
/// `backup_content` (exactly `True`), `backup_path`, `backup_size`; in Core3
/// the features `backup-content` (anything but nothing), `backup-path` (with a
/// slash at its end), `backup-size`; core-admin-client `core2.py`, `core3.py`.
pub(super) fn announced(document: &Document) -> Vec<Qube> {
    let qubes = document.qubes().iter();
    qubes
        .filter_map(|qube| {
            let (content, path, bytes) = match document.dialect() {
                Dialect::Core2 => (
                    qube.attribute("backup_content") == Some("True"),
                    qube.attribute("backup_path"),
                    qube.attribute("backup_size"),
                ),
                Dialect::Core3 => (
                    qube.feature("backup-content").is_some_and(is_not_empty),
                    qube.feature("backup-path").filter(|p| is_not_empty(p)),
                    qube.feature("backup-size"),
                ),
            };
            let path = path.filter(|_| content)?;
            Some(Qube {
                name: qube.name().to_owned(),
                class: qube.class().to_owned(),
                path: path.strip_suffix('/').unwrap_or(path).to_owned(),
                bytes: bytes.and_then(|bytes| bytes.parse().ok()),
            })
        })
        .collect()
}

fn is_not_empty(text: &str) -> bool {
    !text.is_empty()
}

/// Qubes by the directory in the archive, the first where it is that of more.
///
/// A document may announce as many as there are files, and each file is looked
/// up: not by going through all of them.
#[derive(Default)]
pub(super) struct ByPath(HashMap<Vec<u8>, usize>);

impl ByPath {
    pub(super) fn of(qubes: &[Qube]) -> Self {
        let mut by_path = HashMap::new();
        for (number, qube) in qubes.iter().enumerate() {
            let path = qube.path.as_bytes().to_vec();
            by_path.entry(path).or_insert(number);
        }
        Self(by_path)
    }

    /// The first qube that a file [`belongs`] to.
    pub(super) fn find<'q>(
        &self,
        name: &[u8],
        qubes: &'q [Qube],
    ) -> Option<&'q Qube> {
        let numbers = above(name).filter_map(|path| self.0.get(path));
        qubes.get(*numbers.min()?)
    }
}

/// A name, and each directory above it, the highest first.
pub(super) fn above(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    let bytes = name.iter().enumerate();
    let slashes = bytes.filter(|(_, byte)| **byte == b'/');
    let ends = slashes.map(|(at, _)| at).chain([name.len()]);
    ends.map(|end| name.get(..end).unwrap_or_default())
}

/// Whether a file of the archive belongs to a qube.
pub(super) fn belongs(name: &[u8], qube: &Qube) -> bool {
    let rest = name.strip_prefix(qube.path.as_bytes());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Qubes of which nothing is there, and files that are missing of others,
/// each as a sentence.
//= spec/format3.md#what-was-announced-is-there
pub(super) fn missing(
    qubes: &[Qube],
    files: &[File],
) -> (Vec<String>, Vec<String>) {
    let (mut nothing, mut omissions) = (Vec::new(), Vec::new());
    let names = Names::of(files);
    for qube in qubes {
        let name = Escaped(qube.name.as_bytes());
        if !names.has_some_of(qube) {
            nothing.push(name.to_string());
            continue;
        }
        for path in absent_of(qube, &names) {
            let path = Escaped(&path);
            omissions.push(format!(
                "{path}: not in the archive, although qubes.xml announces the \
                 qube {name}"
            ));
        }
    }
    (nothing, omissions)
}

/// What may stand at the top of a file of the archive, by its name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Top {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Either: the name says no more.
    NoLink,
    /// Anything.
    Any,
}

impl Top {
    /// Of the file of that name. Below a directory links are what they were;
    /// a file that is one has nothing of what is announced.
    ///
    /// Source: core-admin `backup.py`, `get_files_to_backup`. An icon was a
    /// link to that of its label, and packed as such until f714a822.
    pub(super) fn of(name: &[u8]) -> Self {
        let last = name.rsplit(|byte| *byte == b'/').next();
        let in_home = name.strip_prefix(b"dom0-home/");
        let is_home = in_home.is_some_and(|user| !user.contains(&b'/'));
        match last.unwrap_or_default() {
            _ if is_home => Self::Directory,
            b"." => Self::Directory,
            b"private.img"
            | b"root.img"
            | b"volatile.img"
            | b"firewall.xml"
            | b"whitelisted-appmenus.list" => Self::File,
            b"icon.png" => Self::Any,
            _ => Self::NoLink,
        }
    }

    /// What is wanted instead of a member of that kind, if it is refused.
    pub(super) fn refuses(self, kind: &Kind) -> Option<&'static str> {
        let (is_file, is_directory) =
            (*kind == Kind::File, *kind == Kind::Directory);
        match self {
            Self::File => (!is_file).then_some("a regular file"),
            Self::Directory => (!is_directory).then_some("a directory"),
            Self::NoLink => (!is_file && !is_directory)
                .then_some("a regular file or a directory"),
            Self::Any => None,
        }
    }
}

/// What the target of a symbolic link begins with if the writer rewrote it as
/// if it were a name: the directory of the file, such as `vm7/` in a template.
/// No member stands in a directory of that name, so no link of use does it.
///
/// Source: core-admin `backup.py`, `--xform s:^BASENAME:SUBDIR/\0:`, where
/// the `.` of a template is any letter; before 39496bf6 every target was hit.
pub(super) fn link_prefix(name: &[u8]) -> Vec<u8> {
    let slash = name.iter().rposition(|byte| *byte == b'/');
    // `qubes.xml` is in no directory: nothing was put before its name.
    let end = slash.map_or(0, |slash| slash.saturating_add(1));
    name.get(..end).unwrap_or_default().to_vec()
}

/// Files that are missing of all qubes, by name.
pub(super) fn absent(qubes: &[Qube], files: &[File]) -> Vec<Vec<u8>> {
    let names = Names::of(files);
    qubes.iter().flat_map(|qube| absent_of(qube, &names)).collect()
}

/// The names of all files, in order: a document may announce as many qubes as
/// there are files, and each is looked for.
struct Names<'f>(BTreeSet<&'f [u8]>);

impl<'f> Names<'f> {
    fn of(files: &'f [File]) -> Self {
        Self(files.iter().map(|file| file.name.as_slice()).collect())
    }

    fn has(&self, path: &str) -> bool {
        self.0.contains(path.as_bytes())
    }

    /// Whether one [`belongs`] to this qube.
    fn has_some_of(&self, qube: &Qube) -> bool {
        let below = format!("{}/", qube.path);
        let mut below = self.0.range(below.as_bytes()..);
        self.has(&qube.path)
            || below.next().is_some_and(|name| belongs(name, qube))
    }
}

fn absent_of(qube: &Qube, names: &Names) -> Vec<Vec<u8>> {
    // A template is one file, its whole directory.
    let whole = format!("{}/.", qube.path);
    let paths = wanted(qube).iter().map(|end| format!("{}{end}", qube.path));
    let absent = paths.filter(|path| !names.has(path) && !names.has(&whole));
    absent.map(String::into_bytes).collect()
}

/// What every qube of that class has, behind its path.
pub(super) fn wanted(qube: &Qube) -> &'static [&'static str] {
    let has_root = is_template(qube) || qube.class.contains("Standalone");
    match (is_home(qube), has_root) {
        (true, _) => &[""],
        (false, true) => &["/private.img", "/root.img"],
        (false, false) => &["/private.img"],
    }
}

/// Whether its directory is a home of dom0: one file, a tree.
pub(super) fn is_home(qube: &Qube) -> bool {
    qube.path.starts_with("dom0-home")
}

/// Whether its directory is one file of the archive, `.`.
pub(super) fn is_template(qube: &Qube) -> bool {
    qube.class.contains("Template")
}
