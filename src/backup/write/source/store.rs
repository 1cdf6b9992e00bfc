//! What of a store and of the directories of its qubes belongs to a backup.
//!
//! Lives here: which qubes, which files of each, where these are, what the
//! copy of `qubes.xml` says of it, and what the store itself is told when all
//! is done. May not live here: the lock of the store, how a file is read.
//!
//! Source: core-admin `core/backup.py`, `backup_prepare`, `backup_do`;
//! `core-modules/000QubesVm.py`, `get_attrs_config`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FileType;

use super::dir::{check_count, check_paths};
use super::error::SourceError;
use super::kernel::{Folder, Stat};
use super::walk::Walk;
use super::{Contents, Moved, Omitted, Place, STORE_NAME, SourceFile, What};
use crate::backup::error::kind_name;
use crate::backup::report;
use crate::format::document::{Dialect, Document, DocumentError, Edit, Qube};
use crate::format::escape::Escaped;
use crate::format::tar::safe_components;

/// Where the directories of all qubes are, as stores name them.
const BASE: &str = "/var/lib/qubes";
/// Where homes of dom0 are in an archive.
const HOMES: &str = "dom0-home";

/// What a qube is for a backup.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Role {
    /// Its home is kept.
    Dom0,
    App,
    Net,
    Template,
    /// Nothing is kept.
    Other,
}

/// A qube that is to be in the backup.
#[derive(Debug)]
struct Chosen<'d> {
    qube: &'d Qube,
    role: Role,
    /// Its directory in the archive.
    path: String,
    /// The same where it is, below the root, or below the home's parent.
    real: String,
}

impl Contents {
    /// Looks at a store of release 3 or before, and at the directories of its
    /// qubes below `root`; links in the paths of these are followed here, and
    /// none below. The lock is not taken: a save renames, so what is read is
    /// a complete version.
    ///
    /// `names` are the qubes to back up. If it is empty: those that the store
    /// says to include, which are all but internal ones, unless
    /// `include_in_backups` is set, and by default not what was installed by
    /// rpm; and dom0, whose `home` that is. `exclude` are names to leave out.
    /// Whether a qube runs is not in the store, and its images change then:
    /// see to it that none does.
    ///
    /// A qube is at its `dir_path`, where that is below `root` or below
    /// `/var/lib/qubes`, which `root` stands for; without one at
    /// `root/appvms/NAME` or the like. With `hide_names` the archive calls its
    /// directory `vmQID`, otherwise as it is called below `root`.
    ///
    /// The copy of the store that is written says what the backup has, in
    /// `backup_content`, `backup_path` and `backup_size`; all else in it is
    /// untouched.
    ///
    /// # Errors
    /// As [`from_dir`](Self::from_dir), and `NotCore2`; `NoFiles`, `NoHome`
    /// for a name; `NoNumber`, `Outside`.
    pub fn from_store(
        store: &Path,
        root: &Path,
        home: Option<&Path>,
        names: &[String],
        exclude: &[String],
        hide_names: bool,
    ) -> Result<Self, SourceError> {
        let (document, stat) = read(store)?;
        for name in names.iter().chain(exclude) {
            if document.qube(name).is_err() {
                let (name, qubes) = (name.clone(), document.qubes().len());
                return Err(SourceError::NoSuchQube { name, qubes });
            }
        }
        let mut omissions = Vec::new();
        let plan = Plan { root, home, names, exclude, hide_names };
        let mut chosen = plan.choose(&document, &mut omissions)?;
        chosen.sort_by(|one, other| {
            let key = |it: &Chosen<'_>| (it.rank(), it.qube.name().to_owned());
            key(one).cmp(&key(other))
        });
        check_apart(&chosen)?;
        let place = plan.place(&chosen)?;
        let (mut files, mut sizes) = (Vec::new(), Vec::new());
        for it in &chosen {
            let found = place.files_of_chosen(it, &mut omissions)?;
            sizes.push(found.bytes);
            files.extend(found.files);
        }
        check_count(files.len(), || root.to_owned())?;
        if chosen.is_empty() {
            omissions.push(
                "qubes.xml: no qube of it is to be in the backup".to_owned(),
            );
        }
        let bytes: Arc<[u8]> = announce(&document, &chosen, &sizes)?.into();
        let held = SourceFile {
            name: STORE_NAME.to_vec(),
            qube: None,
            members: 1,
            apparent: bytes.len() as u64,
            on_disk: stat.on_disk,
            what: What::Held { bytes, stat },
        };
        files.insert(0, held);
        Ok(Self { files, omissions, place })
    }
}

/// The document of a store as it is now, with the time of a backup, in seconds
/// since 1970, as `backup_timestamp` of every qube that is in it; and what
/// could not be said, each a sentence. `backed_up` is
/// [`Contents::document`] of that backup.
///
/// To be called under the lock of the store: what others changed since the
/// backup began stays. A qube that has another number or name by now is not
/// the one that was backed up.
///
/// # Errors
/// What [`Document::set`] refuses.
pub fn dated(
    now: &Document,
    backed_up: &Document,
    seconds: u64,
) -> Result<(Vec<u8>, Vec<String>), DocumentError> {
    let seconds = seconds.to_string();
    let (mut edits, mut sentences) = (Vec::new(), Vec::new());
    for qube in backed_up.qubes() {
        if qube.attribute("backup_content") != Some("True") {
            continue;
        }
        let name = qube.name();
        let same = now.qube(name).is_ok_and(|found| {
            found.attribute("qid") == qube.attribute("qid")
                && found.class() == qube.class()
        });
        if same {
            edits.push(Edit {
                qube: name.to_owned(),
                attribute: "backup_timestamp".to_owned(),
                untrusted_value: seconds.clone(),
            });
        } else {
            let name = Escaped(name.as_bytes());
            sentences.push(format!(
                "qube {name}: in the backup, and the store has no such qube \
                 any more; the date of the backup is not in it"
            ));
        }
    }
    Ok((now.set_all(&edits)?.into_bytes(), sentences))
}

/// What was asked for.
struct Plan<'p> {
    root: &'p Path,
    home: Option<&'p Path>,
    names: &'p [String],
    exclude: &'p [String],
    hide_names: bool,
}

impl Plan<'_> {
    fn choose<'d>(
        &self,
        document: &'d Document,
        omissions: &mut Vec<String>,
    ) -> Result<Vec<Chosen<'d>>, SourceError> {
        let mut chosen = Vec::new();
        for qube in document.qubes() {
            let (name, role) = (qube.name().to_owned(), role(qube));
            if self.exclude.contains(&name) {
                continue;
            }
            let is_named = self.names.contains(&name);
            if !is_named && (!self.names.is_empty() || !is_default(qube, role))
            {
                continue;
            }
            if role == Role::Other {
                let class = qube.class().to_owned();
                return Err(SourceError::NoFiles { name, class });
            }
            if role == Role::Dom0 && self.home.is_none() {
                if is_named {
                    return Err(SourceError::NoHome { name });
                }
                omissions.push(format!(
                    "qube {}: left out, its home is not known",
                    Escaped(name.as_bytes())
                ));
                continue;
            }
            chosen.push(self.find(qube, role)?);
        }
        let has_dom0 = document.qubes().iter().any(|q| role(q) == Role::Dom0);
        if self.names.is_empty() && self.home.is_some() && !has_dom0 {
            omissions.push(
                "qubes.xml: no qube of it is dom0, so that its home cannot be \
                 announced; left out"
                    .to_owned(),
            );
        }
        Ok(chosen)
    }

    /// Where a qube is, and is to be.
    fn find<'d>(
        &self,
        qube: &'d Qube,
        role: Role,
    ) -> Result<Chosen<'d>, SourceError> {
        let name = || qube.name().to_owned();
        if role == Role::Dom0 {
            let user = self.home.and_then(Path::file_name);
            let Some(user) = user.and_then(OsStr::to_str) else {
                return Err(SourceError::NoHome { name: name() });
            };
            let (path, real) = (format!("{HOMES}/{user}"), user.to_owned());
            return Ok(Chosen { qube, role, path, real });
        }
        let real = self.directory(qube, role)?;
        if !self.hide_names {
            return Ok(Chosen { qube, role, path: real.clone(), real });
        }
        let qid = qube.attribute("qid").unwrap_or_default();
        match qid.parse::<u32>() {
            Ok(number) => {
                let path = format!("vm{number}");
                Ok(Chosen { qube, role, path, real })
            }
            Err(_) => {
                let (name, qid) = (name(), qid.to_owned());
                Err(SourceError::NoNumber { name, qid })
            }
        }
    }

    /// The directory of a qube, below the root.
    fn directory(
        &self,
        qube: &Qube,
        role: Role,
    ) -> Result<String, SourceError> {
        let kind = match role {
            Role::Net => "servicevms",
            Role::Template => "vm-templates",
            Role::App | Role::Dom0 | Role::Other => "appvms",
        };
        let named = qube.attribute("dir_path").filter(|path| !is_none(path));
        let path = match named {
            Some(path) => path.to_owned(),
            None => format!("{BASE}/{kind}/{}", qube.name()),
        };
        let root = std::path::absolute(self.root);
        let root = root.unwrap_or_else(|_| self.root.to_owned());
        let below = Path::new(&path);
        let below = below
            .strip_prefix(&root)
            .or_else(|_| below.strip_prefix(BASE))
            .ok()
            .and_then(|below| {
                // Without doubled slashes and the like.
                let below: PathBuf = below.components().collect();
                below.into_os_string().into_string().ok()
            })
            .filter(|below| safe_components(below.as_bytes()).is_ok());
        match below {
            Some(below) => Ok(below),
            None => Err(SourceError::Outside {
                name: qube.name().to_owned(),
                path,
                root,
            }),
        }
    }

    /// The root, and where in it each directory of the archive is.
    fn place(&self, chosen: &[Chosen<'_>]) -> Result<Arc<Place>, SourceError> {
        let root = Arc::new(Place::open(self.root)?);
        let mut place = Place::open(self.root)?;
        for it in chosen {
            let above = match (it.role, self.home) {
                (Role::Dom0, Some(home)) => Arc::new(Place::open(above(home))?),
                _ => Arc::clone(&root),
            };
            place.moved.push(Moved {
                name: it.path.clone().into_bytes(),
                place: above,
                real: it.real.clone().into_bytes(),
            });
        }
        Ok(Arc::new(place))
    }
}

impl Chosen<'_> {
    /// Templates after the others, and homes last.
    fn rank(&self) -> u8 {
        match self.role {
            Role::App | Role::Net | Role::Other => 0,
            Role::Template => 1,
            Role::Dom0 => 2,
        }
    }

    /// Nobody else has its root image.
    fn is_updateable(&self) -> bool {
        self.qube.attribute("template_qid").is_none_or(is_none)
    }

    fn as_announced(&self, path: &str) -> report::Qube {
        report::Qube {
            name: self.qube.name().to_owned(),
            class: self.qube.class().to_owned(),
            path: path.to_owned(),
            bytes: None,
        }
    }

    /// The files of it that are kept, in their order, and whether it has to
    /// have them.
    fn wanted(&self, has: impl Fn(&str) -> bool) -> Vec<(String, bool)> {
        let own = self.is_updateable();
        let mut wanted = vec![("private.img", true)];
        if self.role == Role::App {
            wanted.push(("icon.png", false));
        }
        if own {
            let apps = ["apps.templates", "apps"];
            wanted.extend(apps.into_iter().find(|n| has(n)).map(|n| (n, true)));
            wanted.push(("kernels", false));
        }
        let firewall = self.qube.attribute("firewall_conf");
        let firewall = firewall
            .filter(|name| !is_none(name) && !name.contains('/'))
            .unwrap_or("firewall.xml");
        wanted.push((firewall, false));
        wanted.push(("whitelisted-appmenus.list", false));
        if own {
            wanted.push(("root.img", true));
        }
        wanted.into_iter().map(|(name, must)| (name.to_owned(), must)).collect()
    }
}

/// What was found of a qube.
struct Found {
    files: Vec<SourceFile>,
    /// Bytes of its directory on the disk.
    bytes: u64,
}

impl Place {
    fn files_of_chosen(
        self: &Arc<Self>,
        it: &Chosen<'_>,
        omissions: &mut Vec<String>,
    ) -> Result<Found, SourceError> {
        let qube = it.as_announced(&it.path);
        let path = it.path.as_bytes();
        let nothing = || SourceError::NothingThere {
            name: qube.name.clone(),
            path: self.real(path),
        };
        let Some(folder) = self.reach(path)? else { return Err(nothing()) };
        let mut omitted = Omitted::default();
        let found = match it.role {
            Role::Dom0 | Role::Template => {
                let whole = it.role == Role::Template;
                let end: &[u8] = if whole { b"/." } else { b"" };
                let name = [path, end].concat();
                let file = self.file(&qube, name, &mut omitted)?;
                let Some(file) = file else { return Err(nothing()) };
                if whole {
                    for name in ["private.img", "root.img"] {
                        if !is_there(self, &folder, path, name)? {
                            omitted.add(absent(&it.path, name, &qube.name));
                        }
                    }
                }
                Found { bytes: file.on_disk, files: vec![file] }
            }
            Role::App | Role::Net | Role::Other => {
                let mut files = Vec::new();
                let has = |name: &str| folder.stat_of(name.as_bytes()).is_ok();
                for (name, must) in it.wanted(has) {
                    if is_there(self, &folder, path, &name)? {
                        let name = [path, b"/", name.as_bytes()].concat();
                        files.extend(self.file(&qube, name, &mut omitted)?);
                    } else if must {
                        omitted.add(absent(&it.path, &name, &qube.name));
                    }
                }
                if files.is_empty() {
                    return Err(nothing());
                }
                Found { bytes: self.bytes_of(path)?, files }
            }
        };
        omissions.extend(omitted.finish(path));
        Ok(found)
    }

    /// Bytes that a directory and all that is in it take on the disk.
    fn bytes_of(self: &Arc<Self>, path: &[u8]) -> Result<u64, SourceError> {
        let mut walk = Walk::new(self, path)?;
        let mut all = SourceFile {
            name: path.to_vec(),
            qube: None,
            members: 0,
            apparent: 0,
            on_disk: 0,
            what: What::OnDisk {
                kind: FileType::Directory,
                omitted: Arc::from([]),
            },
        };
        if let Some(top) = walk.next()? {
            all.measure(&mut walk, top, &mut Omitted::default())?;
        }
        Ok(all.on_disk)
    }
}

fn is_there(
    place: &Place,
    folder: &Folder,
    path: &[u8],
    name: &str,
) -> Result<bool, SourceError> {
    match folder.stat_of(name.as_bytes()) {
        Ok(_) => Ok(true),
        Err(failed) if failed.is_missing() => Ok(false),
        Err(failed) => Err(SourceError::call(place.real(path), failed)),
    }
}

fn absent(path: &str, name: &str, qube: &str) -> String {
    let (path, name) = (Escaped(path.as_bytes()), Escaped(name.as_bytes()));
    let qube = Escaped(qube.as_bytes());
    format!(
        "{path}/{name}: not there, although qubes.xml announces the qube {qube}"
    )
}

/// Reads the store, which is a file and no link.
fn read(store: &Path) -> Result<(Document, Stat), SourceError> {
    let wanted = "a regular file";
    let Some(name) = store.file_name() else {
        let (path, found) = (store.to_owned(), kind_name(FileType::Directory));
        return Err(SourceError::Kind { path, found, wanted });
    };
    let place = Place::open(above(store))?;
    let (document, stat) = place.document(name.as_bytes())?;
    match document.dialect() {
        Dialect::Core2 => Ok((document, stat)),
        Dialect::Core3 => Err(SourceError::NotCore2 { path: store.to_owned() }),
    }
}

fn above(path: &Path) -> &Path {
    match path.parent() {
        Some(above) if above.as_os_str().is_empty() => Path::new("."),
        Some(above) => above,
        None => path,
    }
}

/// No two qubes have the same files, neither in the archive nor on the disk.
fn check_apart(chosen: &[Chosen<'_>]) -> Result<(), SourceError> {
    let announced: Vec<_> =
        chosen.iter().map(|it| it.as_announced(&it.path)).collect();
    check_paths(&announced)?;
    let below_root = chosen.iter().filter(|it| it.role != Role::Dom0);
    let real: Vec<_> = below_root.map(|it| it.as_announced(&it.real)).collect();
    check_paths(&real)
}

/// The document with what is to be in the backup.
fn announce(
    document: &Document,
    chosen: &[Chosen<'_>],
    sizes: &[u64],
) -> Result<Vec<u8>, SourceError> {
    let mut edits = [const { Vec::new() }; 3];
    let [contents, paths, counts] = &mut edits;
    for qube in document.qubes() {
        let edit = |attribute: &str, value: &str| Edit {
            qube: qube.name().to_owned(),
            attribute: attribute.to_owned(),
            untrusted_value: value.to_owned(),
        };
        let mut found = chosen.iter().zip(sizes);
        let found = found.find(|(it, _)| it.qube.name() == qube.name());
        let Some((it, size)) = found else {
            contents.push(edit("backup_content", "False"));
            continue;
        };
        contents.push(edit("backup_content", "True"));
        paths.push(edit("backup_path", &it.path));
        counts.push(edit("backup_size", &size.to_string()));
    }
    Ok(document.set_all(&edits.concat())?.into_bytes())
}

fn role(qube: &Qube) -> Role {
    match qube.class() {
        "QubesAdminVm" => Role::Dom0,
        "QubesAppVm" | "QubesHVm" => Role::App,
        "QubesNetVm" | "QubesProxyVm" => Role::Net,
        "QubesTemplateVm" | "QubesTemplateHVm" => Role::Template,
        _ => Role::Other,
    }
}

/// Whether a qube is in a backup if none is named.
fn is_default(qube: &Qube, role: Role) -> bool {
    let is = |attribute| truth(qube.attribute(attribute));
    let included = is("include_in_backups")
        .unwrap_or(!is("installed_by_rpm").unwrap_or(false));
    match role {
        Role::Dom0 => true,
        Role::App => included && !is("internal").unwrap_or(false),
        Role::Net | Role::Template => included,
        Role::Other => false,
    }
}

/// What an attribute means to the engine, which reads numbers too.
fn truth(value: Option<&str>) -> Option<bool> {
    let value = value.filter(|value| !is_none(value))?;
    let is_zero = !value.is_empty() && value.bytes().all(|byte| byte == b'0');
    Some(!value.is_empty() && !is_zero && !value.eq_ignore_ascii_case("false"))
}

fn is_none(value: &str) -> bool {
    value.eq_ignore_ascii_case("none")
}
