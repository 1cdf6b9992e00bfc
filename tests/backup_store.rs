//! `qubes-fsm backup --store`: which qubes and files of a store are in the
//! archive and under which names, what its copy of the store says, and the
//! date that the store itself gets.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use qubes_fsm::backup::write::source::{Contents, SourceError};
use qubes_fsm::store::document::{Document, Limits};
use qubes_fsm::store::{Loaded, Store};
use serde_json::Value;
use tempfile::TempDir;

const OURS: &str = env!("CARGO_BIN_EXE_qubes-fsm");
/// Longer than anything takes: when it is over, something hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// Every qube of the store: class, number, name, more attributes, and which
/// directory it has below the root.
type Row = (&'static str, u32, &'static str, &'static str, &'static str);
const QUBES: [Row; 13] = [
    ("AdminVm", 0, "dom0", "template_qid=\"none\"", ""),
    (
        "TemplateVm",
        1,
        "fedora",
        "template_qid=\"none\" installed_by_rpm=\"False\"",
        "vm-templates/fedora",
    ),
    (
        "TemplateVm",
        2,
        "stock",
        "template_qid=\"none\" installed_by_rpm=\"True\"",
        "vm-templates/stock",
    ),
    ("NetVm", 3, "net", "template_qid=\"1\"", "servicevms/net"),
    (
        "ProxyVm",
        4,
        "guard",
        "template_qid='1' include_in_backups='True'",
        "servicevms/guard",
    ),
    // Somewhere else than its name says.
    (
        "AppVm",
        5,
        "work",
        "dir_path='/var/lib/qubes/appvms/old-name' template_qid=\"1\" \
         include_in_backups=\"True\"",
        "appvms/old-name",
    ),
    ("AppVm", 6, "alone", "template_qid=\"none\"", "appvms/alone"),
    ("HVm", 7, "windows", "dir_path=\"None\"", "appvms/windows"),
    (
        "AppVm",
        8,
        "secret",
        "template_qid=\"1\" include_in_backups=\"False\"",
        "appvms/secret",
    ),
    (
        "AppVm",
        9,
        "hidden",
        "template_qid=\"1\" internal=\"True\"",
        "appvms/hidden",
    ),
    ("DisposableVm", 10, "disp1", "template_qid=\"9\"", ""),
    (
        "TemplateVm",
        11,
        "kept",
        "installed_by_rpm=\"True\" include_in_backups=\"1\"",
        "vm-templates/kept",
    ),
    (
        "AppVm",
        12,
        "zero",
        "template_qid=\"1\" include_in_backups=\"0\"",
        "appvms/zero",
    ),
];
/// The ones that are in a backup if none is named.
const DEFAULT: [&str; 8] =
    ["dom0", "fedora", "net", "guard", "work", "alone", "windows", "kept"];

/// The text of a store, with what `more` says behind the attributes of each
/// qube.
fn store_text(more: impl Fn(&Row) -> String) -> String {
    let mut text = String::from(
        "<?xml version='1.0' encoding='UTF-8'?>\r\n<!-- all of <it> -->\n\
         <QubesVmCollection default_template=\"1\" default_netvm='None'>\n",
    );
    for row in &QUBES {
        let (class, qid, name, attributes, _) = row;
        let more = more(row);
        text.push_str(&format!(
            "  <Qubes{class} qid=\"{qid}\" name='{name}' label=\"a&amp;b\"\n   \
             {attributes}{more} />\n"
        ));
    }
    text + "</QubesVmCollection>\n<!-- end -->"
}

struct Scene {
    directory: TempDir,
    root: PathBuf,
    store: PathBuf,
    home: PathBuf,
}

fn write(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn scene() -> Scene {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("lib");
    for (class, _, name, _, at) in &QUBES {
        if at.is_empty() {
            continue;
        }
        let at = root.join(at);
        let image = format!("private of {name}").repeat(2_000);
        write(&at.join("private.img"), image.as_bytes());
        write(&at.join("volatile.img"), &[0xff; 50_000]);
        write(&at.join(format!("{name}.conf")), b"conf");
        symlink("/usr/share/icons/red.png", at.join("icon.png")).unwrap();
        let root_img = fs::File::create(at.join("root.img")).unwrap();
        root_img.set_len(3 << 20).unwrap();
        if class.starts_with("Template") {
            write(&at.join("apps.templates/a.desktop"), b"template");
            symlink("private.img", at.join("link")).unwrap();
        }
    }
    let at = |path: &str| root.join(path);
    write(&at("appvms/old-name/firewall.xml"), b"<firewall/>");
    write(&at("appvms/old-name/whitelisted-appmenus.list"), b"a.desktop\n");
    write(&at("appvms/old-name/apps/a.desktop"), b"not of its own");
    write(&at("appvms/alone/apps/a.desktop"), b"own");
    write(&at("appvms/alone/kernels/vmlinuz"), b"kernel");
    write(&at("appvms/nobody/private.img"), b"in no store");
    let home = directory.path().join("homes/joe");
    write(&home.join("deep/file"), b"in a home");
    symlink("joe/x", home.join("link")).unwrap();
    let store = root.join("qubes.xml");
    fs::write(&store, store_text(|_| String::new())).unwrap();
    write(&directory.path().join("passphrase"), b"secret words\n");
    Scene { directory, root, store, home }
}

impl Scene {
    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, command: &str) -> Command {
        let mut ours = Command::new(OURS);
        ours.arg(command)
            .arg("--passphrase-file")
            .arg(self.at("passphrase"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        ours
    }

    fn backup(&self, to: &str, arguments: &[&str]) -> Command {
        let mut ours = self.command("backup");
        ours.arg("--store")
            .arg(&self.store)
            .arg("--root")
            .arg(&self.root)
            .arg("--home")
            .arg(&self.home)
            .arg("--to")
            .arg(self.at(to))
            .args(arguments);
        ours
    }

    /// Files and directories that a restore makes, and its own `qubes.xml`.
    fn restored(&self, archive: &str) -> (BTreeSet<String>, String) {
        let to = self.at(&format!("{archive}.restored"));
        let mut ours = self.command("restore");
        let output = ours.arg(self.at(archive)).arg("--to").arg(&to).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let document = fs::read_to_string(to.join("qubes.xml")).unwrap();
        (files_below(&to), document)
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.store).unwrap()
    }

    /// What a failure says, with the directory of the test left out.
    fn refusal(&self, text: &str, names: &[&str]) -> String {
        fs::write(&self.store, text).unwrap();
        let names: Vec<String> =
            names.iter().map(|name| (*name).to_owned()).collect();
        let error = self.contents(Some(&self.home), &names, true).unwrap_err();
        let own = format!("{}/", self.directory.path().display());
        error.to_string().replace(&own, "")
    }

    fn contents(
        &self,
        home: Option<&Path>,
        names: &[String],
        hide: bool,
    ) -> Result<Contents, SourceError> {
        let (store, root) = (&self.store, &self.root);
        Contents::from_store(store, root, home, names, &[], hide)
    }

    fn lock(&self) -> Loaded {
        Store::open(&self.store).unwrap().lock().unwrap().load().unwrap()
    }

    /// Runs while the store is locked; goes on when the archive is there.
    fn until_archive(&self, to: &str, arguments: &[&str]) -> Child {
        let mut child = self.backup(to, arguments).spawn().unwrap();
        let start = Instant::now();
        while !self.at(to).exists() {
            let ended = child.try_wait().unwrap();
            assert_eq!(ended, None, "before {to} came");
            assert!(start.elapsed() < PATIENCE, "{to} does not come");
            sleep(Duration::from_millis(5));
        }
        child
    }
}

/// Its output; it must not wait for ever.
fn end(mut child: Child) -> Output {
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("it does not end");
        }
        sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

fn files_below(top: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut left = vec![top.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                left.push(path);
            } else {
                let name = path.strip_prefix(top).unwrap();
                found.insert(name.to_str().unwrap().to_owned());
            }
        }
    }
    found
}

fn text(output: &Output) -> String {
    let all = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8(all).unwrap()
}

fn done(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", text(output));
}

fn document(text: &str) -> Document {
    let bytes = text.as_bytes().to_vec();
    Document::parse(bytes, &Limits::default()).unwrap()
}

fn du(path: &Path) -> u64 {
    let output = Command::new("du")
        .args(["-s", "--block-size=1"])
        .arg(path)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split('\t').next().unwrap().parse().unwrap()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The time that the store has of a qube.
fn date(text: &str, qube: &str) -> Option<u64> {
    let document = document(text);
    let date = document.get(qube, "backup_timestamp").ok();
    date.map(|date| date.parse().unwrap())
}

/// The copy of the store that is to be in an archive with these qubes.
fn announced(scene: &Scene, chosen: &[&str], hide: bool) -> String {
    store_text(|(_, qid, name, _, at)| {
        if !chosen.contains(name) {
            return " backup_content=\"False\"".to_owned();
        }
        let (path, bytes) = match (*name, hide) {
            ("dom0", _) => ("dom0-home/joe".to_owned(), du(&scene.home)),
            (_, true) => (format!("vm{qid}"), du(&scene.root.join(at))),
            (_, false) => ((*at).to_owned(), du(&scene.root.join(at))),
        };
        format!(
            " backup_content=\"True\" backup_path=\"{path}\" \
             backup_size=\"{bytes}\""
        )
    })
}

/// The store after a backup of these qubes, which are all there are.
fn with_date(chosen: &[&str], date: u64) -> String {
    store_text(|(_, _, name, ..)| match chosen.contains(name) {
        true => format!(" backup_timestamp=\"{date}\""),
        false => String::new(),
    })
}

/// What is kept of the qubes of [`DEFAULT`], with their directories.
fn kept(hide: bool) -> BTreeSet<String> {
    let of_app = ["private.img", "icon.png"].as_slice();
    let of_template = [
        "private.img",
        "icon.png",
        "root.img",
        "volatile.img",
        "link",
        "apps.templates/a.desktop",
    ];
    let more = |name: &str| -> Vec<&str> {
        match name {
            "dom0" => vec!["deep/file", "link"],
            "fedora" => [of_template.as_slice(), &["fedora.conf"]].concat(),
            "kept" => [of_template.as_slice(), &["kept.conf"]].concat(),
            "net" | "guard" => vec!["private.img"],
            "work" => [of_app, &["firewall.xml", "whitelisted-appmenus.list"]]
                .concat(),
            "alone" => {
                [of_app, &["apps/a.desktop", "kernels/vmlinuz", "root.img"]]
                    .concat()
            }
            "windows" => [of_app, &["root.img"]].concat(),
            _ => Vec::new(),
        }
    };
    let mut all = BTreeSet::from(["qubes.xml".to_owned()]);
    for (_, qid, name, _, at) in &QUBES {
        let path = match (*name, hide) {
            ("dom0", _) => "dom0-home/joe".to_owned(),
            (_, true) => format!("vm{qid}"),
            (_, false) => (*at).to_owned(),
        };
        all.extend(more(name).iter().map(|file| format!("{path}/{file}")));
    }
    all
}

#[test]
fn a_store_in_a_clear_archive() {
    let scene = scene();
    let before = now();
    let output = scene.backup("archive", &[]).output().unwrap();
    done(&output, 0);
    let (files, copy) = scene.restored("archive");
    assert_eq!(files, kept(false));
    assert_eq!(copy, announced(&scene, &DEFAULT, false));
    let date = date(&scene.text(), "work").unwrap();
    assert!((before..=now()).contains(&date), "{date}");
    assert_eq!(scene.text(), with_date(&DEFAULT, date));
    // Nothing else was left in the directory of the store.
    let in_root: Vec<_> = fs::read_dir(&scene.root).unwrap().collect();
    assert_eq!(in_root.len(), 4, "{in_root:?}");
}

#[test]
fn names_are_hidden_in_an_encrypted_archive() {
    let scene = scene();
    let arguments = ["--encrypt", "--compress"];
    let output = scene.backup("archive", &arguments).output().unwrap();
    done(&output, 0);
    let (files, copy) = scene.restored("archive");
    assert_eq!(files, kept(true));
    assert_eq!(copy, announced(&scene, &DEFAULT, true));
    for (real, name) in [
        (scene.root.join("appvms/old-name/private.img"), "vm5/private.img"),
        (
            scene.root.join("vm-templates/kept/apps.templates/a.desktop"),
            "vm11/apps.templates/a.desktop",
        ),
        (scene.home.join("deep/file"), "dom0-home/joe/deep/file"),
    ] {
        let restored = scene.at("archive.restored").join(name);
        assert_eq!(fs::read(real).unwrap(), fs::read(restored).unwrap());
    }
    let link = scene.at("archive.restored/dom0-home/joe/link");
    assert_eq!(fs::read_link(link).unwrap(), Path::new("joe/x"));
    let archive = fs::read(scene.at("archive")).unwrap();
    for (_, _, name, _, at) in &QUBES[1..] {
        for secret in [*name, *at] {
            let is_there = archive
                .windows(secret.len().max(1))
                .any(|bytes| bytes == secret.as_bytes());
            // Short ones may come in random bytes by chance.
            assert!(secret.len() < 5 || !is_there, "{secret}");
        }
    }
}

#[test]
fn files_come_in_the_order_of_the_engine() {
    let scene = scene();
    let contents = scene.contents(Some(&scene.home), &[], true).unwrap();
    let names: Vec<_> = contents
        .files
        .iter()
        .map(|file| String::from_utf8(file.name.clone()).unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "qubes.xml",
            // alone, guard, net, windows, work
            "vm6/private.img",
            "vm6/icon.png",
            "vm6/apps",
            "vm6/kernels",
            "vm6/root.img",
            "vm4/private.img",
            "vm3/private.img",
            "vm7/private.img",
            "vm7/icon.png",
            "vm7/root.img",
            "vm5/private.img",
            "vm5/icon.png",
            "vm5/firewall.xml",
            "vm5/whitelisted-appmenus.list",
            "vm1/.",
            "vm11/.",
            "dom0-home/joe",
        ]
    );
    assert_eq!(contents.omissions, Vec::<String>::new());
    assert_eq!(contents.files[11].qube.as_deref(), Some("work"));
}

#[test]
fn names_and_exclude() {
    let scene = scene();
    let arguments = ["secret", "stock", "work", "--exclude", "work"];
    let output = scene.backup("archive", &arguments).output().unwrap();
    done(&output, 0);
    let (files, copy) = scene.restored("archive");
    let chosen = ["secret", "stock"];
    assert_eq!(copy, announced(&scene, &chosen, false));
    assert!(files.contains("appvms/secret/private.img"));
    assert!(files.contains("vm-templates/stock/root.img"));
    let others = files.iter().filter(|name| {
        !name.starts_with("appvms/secret/")
            && !name.starts_with("vm-templates/stock/")
    });
    assert_eq!(others.collect::<Vec<_>>(), ["qubes.xml"]);
    let date = date(&scene.text(), "secret").unwrap();
    assert_eq!(scene.text(), with_date(&chosen, date));

    let arguments = ["--exclude", "dom0", "--exclude", "fedora"];
    let output = scene.backup("second", &arguments).output().unwrap();
    done(&output, 0);
    let (files, _) = scene.restored("second");
    let wanted: BTreeSet<String> = kept(false)
        .into_iter()
        .filter(|name| !name.starts_with("dom0-home"))
        .filter(|name| !name.starts_with("vm-templates/fedora"))
        .collect();
    assert_eq!(files, wanted);
}

#[test]
fn what_was_announced_before_is_replaced_where_it_is() {
    let scene = scene();
    let old = |content: &str, path: &str, bytes: u64| {
        format!(
            "<QubesVmCollection><QubesAppVm backup_path='{path}' qid='5' \
             backup_size=\"{bytes}\" name='work' backup_timestamp='7' \
             backup_content='{content}' template_qid='1' \
             dir_path='appvms/x'/><QubesAppVm name='secret' qid='8' \
             backup_content='True' backup_path='x' \
             include_in_backups='False'/></QubesVmCollection>"
        )
        .replace("'appvms/x'", "'/var/lib/qubes//appvms/./old-name/'")
    };
    fs::write(&scene.store, old("False", "old", 1)).unwrap();
    let contents = scene.contents(None, &[], true).unwrap();
    let bytes = du(&scene.root.join("appvms/old-name"));
    let wanted = old("True", "vm5", bytes);
    // What is left out is announced no more, and keeps the rest.
    let wanted = wanted.replace(
        "backup_content='True' backup_path='x'",
        "backup_content='False' backup_path='x'",
    );
    assert_eq!(std::str::from_utf8(contents.document()), Ok(&*wanted));
}

#[test]
fn refusals() {
    let scene = scene();
    let whole = scene.text();
    let of_work = |attributes: &str| {
        format!(
            "<QubesVmCollection><QubesAppVm name='work' {attributes}/>\
             <QubesAppVm name='net' qid='3' \
             dir_path='/var/lib/qubes/servicevms/net'/></QubesVmCollection>"
        )
    };
    assert_eq!(
        scene.refusal(&whole, &["work", "nobody"]),
        "qube nobody: not in qubes.xml, which has 13; wanted the name of one \
         of them"
    );
    assert_eq!(
        scene.refusal(&whole, &["disp1"]),
        "qube disp1: its class is QubesDisposableVm; wanted one of which \
         files are kept"
    );
    for path in ["/mnt/pool/work", "/var/lib/qubes/../x", "appvms/work", "/"] {
        let text = of_work(&format!("qid='5' dir_path='{path}'"));
        let wanted = format!(
            "qube work: its directory is \"{path}\"; wanted one below lib, or \
             to leave it out"
        );
        assert_eq!(scene.refusal(&text, &[]), wanted);
    }
    let old = "dir_path='/var/lib/qubes/appvms/old-name'";
    assert_eq!(
        scene.refusal(&of_work(&format!("qid='x/y' {old}")), &[]),
        "qube work: qid \"x/y\" in qubes.xml; wanted a number"
    );
    assert_eq!(
        scene.refusal(&of_work(&format!("qid='3' {old}")), &[]),
        "qube work: its directory \"vm3\" is that of qube net or in it; \
         wanted one for each"
    );
    let same = "dir_path='/var/lib/qubes/servicevms/net'";
    assert_eq!(
        scene.refusal(&of_work(&format!("qid='5' {same}")), &[]),
        "qube work: its directory \"servicevms/net\" is that of qube net or \
         in it; wanted one for each"
    );
    assert_eq!(
        scene.refusal(&of_work("qid='5'"), &[]),
        "qube work: found nothing of it at lib/appvms/work; wanted its files, \
         or to leave it out"
    );
    symlink("old-name", scene.root.join("appvms/work")).unwrap();
    assert_eq!(
        scene.refusal(&of_work("qid='5'"), &[]),
        "lib/appvms/work: found a symbolic link; wanted a directory"
    );
    assert_eq!(
        scene.refusal("<qubes><domains/></qubes>", &[]),
        "lib/qubes.xml: a store in the form of release 4; wanted the form \
         before, whose qubes are directories"
    );
    fs::remove_file(&scene.store).unwrap();
    symlink("other.xml", &scene.store).unwrap();
    let error = scene.contents(None, &[], true).unwrap_err().to_string();
    assert!(
        error.ends_with(": found a symbolic link; wanted a regular file"),
        "{error}"
    );
}

#[test]
fn what_cannot_be_kept_is_an_omission() {
    let scene = scene();
    let error = scene.contents(None, &["dom0".to_owned()], true).unwrap_err();
    assert_eq!(
        error.to_string(),
        "qube dom0: its home is not known; wanted the directory of a user"
    );
    fs::remove_file(scene.root.join("appvms/alone/root.img")).unwrap();
    fs::remove_file(scene.root.join("vm-templates/kept/private.img")).unwrap();
    let contents = scene.contents(None, &[], false).unwrap();
    assert_eq!(
        contents.omissions,
        [
            "qube dom0: left out, its home is not known",
            "appvms/alone/root.img: not there, although qubes.xml announces \
             the qube alone",
            "vm-templates/kept/private.img: not there, although qubes.xml \
             announces the qube kept",
        ]
    );
    let without_dom0 = scene.text().replacen("Admin", "Unknown", 1);
    fs::write(&scene.store, without_dom0).unwrap();
    let contents = scene.contents(Some(&scene.home), &[], false).unwrap();
    assert_eq!(
        contents.omissions[0],
        "qubes.xml: no qube of it is dom0, so that its home cannot be \
         announced; left out"
    );
    fs::write(&scene.store, "<QubesVmCollection/>").unwrap();
    let contents = scene.contents(None, &[], false).unwrap();
    assert_eq!(
        contents.omissions,
        ["qubes.xml: no qube of it is to be in the backup"]
    );
}

#[test]
fn arguments_that_exclude_each_other() {
    let scene = scene();
    let (store, root) = (scene.store.to_str(), scene.root.to_str());
    let (store, root) = (store.unwrap(), root.unwrap());
    for arguments in [
        [].as_slice(),
        &["--store", store],
        &["--root", root],
        &["--from", root, "--store", store, "--root", root],
        &["--from", root, "--root", root],
        &["--from", root, "--home", root],
        &["--from", root, "--wait", "1s"],
    ] {
        let mut ours = scene.command("backup");
        ours.arg("--to").arg(scene.at("archive")).args(arguments);
        done(&ours.output().unwrap(), 2);
        assert!(!scene.at("archive").exists());
    }
    for (arguments, code) in [(["nobody"].as_slice(), 10), (&["disp1"], 10)] {
        done(&scene.backup("archive", arguments).output().unwrap(), code);
        assert!(!scene.at("archive").exists());
    }
    assert_eq!(scene.text(), store_text(|_| String::new()));
}

#[test]
fn no_date_without_an_archive() {
    let scene = scene();
    let output = scene.backup("archive", &["--dry-run", "--json"]).output();
    let output = output.unwrap();
    done(&output, 0);
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    let names = plan["files"].as_array().unwrap().iter();
    let mut names = names.map(|file| file["name"].as_str().unwrap());
    assert_eq!(names.next_back(), Some("dom0-home/joe"));
    assert!(!scene.at("archive").exists());
    fs::write(scene.at("archive"), b"already here").unwrap();
    done(&scene.backup("archive", &[]).output().unwrap(), 1);
    assert_eq!(scene.text(), store_text(|_| String::new()));
}

#[test]
fn through_a_pipe_and_a_link_to_the_store() {
    let mut scene = scene();
    let link = scene.at("link.xml");
    symlink("lib/qubes.xml", &link).unwrap();
    let real = std::mem::replace(&mut scene.store, link);
    let mut ours = scene.backup("-", &["--encrypt"]);
    // Not a file of that name.
    let arguments: Vec<_> = ours
        .get_args()
        .map(|argument| match Path::new(argument) == scene.at("-") {
            true => "-".into(),
            false => argument.to_owned(),
        })
        .collect();
    ours = Command::new(OURS);
    let output = ours.args(arguments).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    fs::write(scene.at("archive"), &output.stdout).unwrap();
    let (files, _) = scene.restored("archive");
    assert_eq!(files, kept(true));
    assert!(scene.store.is_symlink());
    let text = fs::read_to_string(real).unwrap();
    let date = date(&text, "dom0").unwrap();
    assert_eq!(text, with_date(&DEFAULT, date));
}

#[test]
fn two_backups_and_another_writer_at_once() {
    let scene = scene();
    let loaded = scene.lock();
    let one = scene.until_archive("one", &["work", "net"]);
    let other = scene.until_archive("other", &["alone", "net", "--encrypt"]);
    // Both wait for the lock, or will; neither has what is written now.
    let changed = scene.text().replacen("a&amp;b", "green", 1);
    loaded.save(changed.clone().into_bytes()).unwrap().release();
    for child in [one, other] {
        done(&end(child), 0);
    }
    let text = scene.text();
    let all: Vec<Option<u64>> = ["work", "alone", "net", "fedora"]
        .iter()
        .map(|name| date(&text, name))
        .collect();
    assert!(matches!(all[..], [Some(_), Some(_), Some(_), None]), "{all:?}");
    let net = all[2];
    assert!(net >= all[0] && net >= all[1], "the later one counts: {all:?}");
    let mut without = text;
    for date in all.into_iter().flatten() {
        let date = format!(" backup_timestamp=\"{date}\"");
        without = without.replace(&date, "");
    }
    assert_eq!(without, changed);
}

#[test]
fn a_store_that_changes_meanwhile() {
    let scene = scene();
    let loaded = scene.lock();
    let child = scene.until_archive("archive", &[]);
    let text = scene.text();
    // net was renamed, the number of alone is that of another one.
    let changed = text.replace("name='net'", "name='net2'");
    let changed = changed.replace("qid=\"6\"", "qid=\"66\"");
    loaded.save(changed.clone().into_bytes()).unwrap().release();
    let output = end(child);
    done(&output, 3);
    for name in ["net", "alone"] {
        let line = format!(
            "omission: qube {name}: in the backup, and the store has no such \
             qube any more; the date of the backup is not in it\n"
        );
        assert!(text_of(&output).contains(&line), "{}", text_of(&output));
    }
    let date = date(&scene.text(), "work").unwrap();
    let chosen = DEFAULT.into_iter().filter(|n| !["net", "alone"].contains(n));
    let wanted = with_date(&chosen.collect::<Vec<_>>(), date);
    let wanted = wanted.replace("name='net'", "name='net2'");
    let wanted = wanted.replace("qid=\"6\"", "qid=\"66\"");
    assert_eq!(scene.text(), wanted);
    // The copy is that of the beginning.
    let (_, copy) = scene.restored("archive");
    assert_eq!(copy, announced(&scene, &DEFAULT, false));
}

fn text_of(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn an_archive_stays_when_the_store_cannot_be_told() {
    let scene = scene();
    let loaded = scene.lock();
    let arguments = ["--wait", "50ms", "--json"];
    let output = end(scene.backup("archive", &arguments).spawn().unwrap());
    done(&output, 3);
    let text = text_of(&output);
    let summary: Value =
        serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let wanted = format!(
        "the date of the backup, for the store: {}: locked by another process \
         until the time to wait was over; wanted the lock",
        scene.store.canonicalize().unwrap().display()
    );
    assert_eq!(summary["omissions"], Value::from(vec![wanted]));
    assert_eq!(
        (&summary["exit"], &summary["error"]),
        (&3.into(), &Value::Null)
    );
    loaded.release();
    assert_eq!(scene.text(), store_text(|_| String::new()));
    let (files, _) = scene.restored("archive");
    assert_eq!(files, kept(false));
}

#[test]
fn a_signal_ends_the_wait_for_the_lock() {
    let scene = scene();
    let loaded = scene.lock();
    let child = scene.until_archive("archive", &["work"]);
    let kill = Command::new("kill").arg(child.id().to_string()).status();
    assert!(kill.unwrap().success());
    let output = end(child);
    done(&output, 3);
    let all = text(&output);
    assert!(all.contains("too late to cancel: it is complete"), "{all}");
    assert!(all.contains(": canceled while waiting for the lock"), "{all}");
    loaded.release();
    assert_eq!(scene.text(), store_text(|_| String::new()));
    let (files, _) = scene.restored("archive");
    assert!(files.contains("appvms/old-name/private.img"), "{files:?}");
}
