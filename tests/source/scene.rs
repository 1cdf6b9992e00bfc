//! What the tests of the source share: a directory, and how it is read.

use std::fs;
use std::path::{Path, PathBuf};

use qubes_fsm::backup::write::source::{
    Archiver, Contents, Facts, SourceError,
};
use tempfile::TempDir;

use crate::trees::{Layout, write};

/// A directory to back up.
pub(crate) struct Scene {
    pub(crate) directory: TempDir,
}

impl Scene {
    /// With that layout.
    pub(crate) fn of(layout: Layout) -> Self {
        let scene = Self { directory: tempfile::tempdir().unwrap() };
        fs::create_dir(scene.from()).unwrap();
        layout.write(&scene.from());
        scene
    }

    /// With that document of Core2 and these files, each with its name in it.
    pub(crate) fn with(qubes: &str, files: &[&str]) -> Self {
        let scene = Self { directory: tempfile::tempdir().unwrap() };
        let text = format!("<QubesVmCollection>{qubes}</QubesVmCollection>");
        write(&scene.at("qubes.xml"), text.as_bytes());
        for file in files {
            write(&scene.at(file), file.as_bytes());
        }
        scene
    }

    pub(crate) fn from(&self) -> PathBuf {
        self.directory.path().join("from")
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.from().join(name)
    }

    pub(crate) fn contents(&self) -> Contents {
        self.try_contents().unwrap()
    }

    pub(crate) fn try_contents(&self) -> Result<Contents, SourceError> {
        Contents::from_dir(&self.from(), &[], &[])
    }

    /// The error's text, without the directory in front.
    pub(crate) fn refusal(&self) -> String {
        self.text(&self.try_contents().unwrap_err())
    }

    pub(crate) fn text(&self, error: &SourceError) -> String {
        let from = format!("{}/", self.from().display());
        error.to_string().replace(&from, "")
    }

    /// The file of that name, not yet read.
    pub(crate) fn open(&self, name: &str) -> Archiver {
        let contents = self.contents();
        contents.open(index(&contents, name)).unwrap()
    }
}

/// An element of a qube that is announced.
pub(crate) fn qube(class: &str, name: &str, path: &str) -> String {
    format!(
        "<Qubes{class} name=\"{name}\" backup_content=\"True\" \
         backup_path=\"{path}\"/>"
    )
}

pub(crate) fn names(contents: &Contents) -> Vec<String> {
    let names = contents.files.iter().map(|file| file.name.clone());
    names.map(|name| String::from_utf8(name).unwrap()).collect()
}

pub(crate) fn index(contents: &Contents, name: &str) -> usize {
    let mut files = contents.files.iter();
    files.position(|file| file.name == name.as_bytes()).unwrap()
}

/// All bytes of a file of the backup.
pub(crate) fn all(
    mut archiver: Archiver,
    room: usize,
) -> Result<(Vec<u8>, Facts), SourceError> {
    let mut room = vec![0xaa; room];
    let mut archive = Vec::new();
    let mut last = room.len();
    loop {
        let count = archiver.fill(&mut room)?;
        assert!(count == 0 || last == room.len(), "less before the end");
        last = count;
        if count == 0 {
            break;
        }
        archive.extend(&room[..count]);
    }
    assert_eq!(archiver.fill(&mut room), Ok(0), "the end stays");
    Ok((archive, archiver.finish()?))
}

/// Reads until the member of that path is at hand, and a byte of it.
pub(crate) fn read_to(archiver: &mut Archiver, path: &str) {
    while archiver.entry_name() != path.as_bytes() {
        assert_eq!(archiver.fill(&mut [0]), Ok(1), "{path} does not come");
    }
}

/// Changes something until the kernel's clock has ticked since `path` was
/// changed before.
pub(crate) fn until_seen(path: &Path, mut change: impl FnMut()) {
    use std::os::unix::fs::MetadataExt as _;
    let time = || {
        let meta = fs::symlink_metadata(path).unwrap();
        (meta.ctime(), meta.ctime_nsec())
    };
    let before = time();
    while time() == before {
        change();
    }
}
