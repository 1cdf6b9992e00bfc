//! Is everything there that `qubes.xml` in the archive announces?
//!
//! Lives here: which qubes are announced, which files belong to one, and what
//! is missing. May not live here: where the files come from.

use super::report::{File, Qube};
use crate::format::document::{Dialect, Document};
use crate::format::escape::Escaped;

/// The qubes that a document announces, in its order.
///
/// Source: core-admin `backup.py`, attributes `backup_content` (exactly
/// `True`), `backup_path`, `backup_size`. A document of release 4 is in no
/// archive of format 3: it announces nothing.
pub(super) fn announced(document: &Document) -> Vec<Qube> {
    if document.dialect() != Dialect::Core2 {
        return Vec::new();
    }
    let qubes = document.qubes().iter();
    qubes
        .filter(|qube| qube.attribute("backup_content") == Some("True"))
        .filter_map(|qube| {
            let bytes = qube.attribute("backup_size");
            Some(Qube {
                name: qube.name().to_owned(),
                class: qube.class().to_owned(),
                path: qube.attribute("backup_path")?.to_owned(),
                bytes: bytes.and_then(|bytes| bytes.parse().ok()),
            })
        })
        .collect()
}

/// Whether a file of the archive belongs to a qube.
pub(super) fn belongs(name: &[u8], qube: &Qube) -> bool {
    let rest = name.strip_prefix(qube.path.as_bytes());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Qubes of which nothing is there, and files that are missing of others,
/// each as a sentence.
pub(super) fn missing(
    qubes: &[Qube],
    files: &[File],
) -> (Vec<String>, Vec<String>) {
    let (mut nothing, mut omissions) = (Vec::new(), Vec::new());
    for qube in qubes {
        let name = Escaped(qube.name.as_bytes());
        let own = files.iter().filter(|file| belongs(&file.name, qube));
        let own: Vec<&[u8]> = own.map(|file| file.name.as_slice()).collect();
        if own.is_empty() {
            nothing.push(name.to_string());
            continue;
        }
        // A template is one file, its whole directory.
        let whole = format!("{}/.", qube.path);
        for wanted in wanted(qube) {
            let path = format!("{}{wanted}", qube.path);
            let is_there = own
                .iter()
                .any(|name| [path.as_bytes(), whole.as_bytes()].contains(name));
            if !is_there {
                let path = Escaped(path.as_bytes());
                omissions.push(format!(
                    "{path}: not in the archive, although qubes.xml announces \
                     the qube {name}"
                ));
            }
        }
    }
    (nothing, omissions)
}

/// What every qube of that class has, behind its path.
pub(super) fn wanted(qube: &Qube) -> &'static [&'static str] {
    let is_home = qube.path.starts_with("dom0-home");
    let has_root =
        qube.class.contains("Template") || qube.class.contains("Standalone");
    match (is_home, has_root) {
        (true, _) => &[""],
        (false, true) => &["/private.img", "/root.img"],
        (false, false) => &["/private.img"],
    }
}
