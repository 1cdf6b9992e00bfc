//! What of a directory is in the backup, and what is said of the rest.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use qubes_fsm::backup::write::source::{Contents, SourceError};

use crate::scene::{Scene, all, names, qube};
use crate::tar_support::inner;
use crate::trees::Layout;

const HOME: &str = "dom0-home/user";

/// Four qubes, of three kinds.
fn four() -> Scene {
    let qubes = [
        &*qube("AdminVm", "dom0", HOME),
        &qube("TemplateVm", "fedora", "vm7"),
        &qube("AppVm", "work", "vm5"),
        "<!-- between -->",
        &qube("AppVm", "mail", "vm6"),
        "<QubesAppVm name=\"out\"/>",
    ];
    Scene::with(
        &qubes.concat(),
        &[
            "vm5/private.img",
            "vm5/zebra",
            "vm5/root.img",
            "vm5/apps/x",
            "vm5/.hidden",
            "vm5/firewall.xml",
            "vm6/private.img",
            "vm7/private.img",
            "vm7/root.img",
            "dom0-home/user/.bashrc",
        ],
    )
}

fn document(contents: &Contents) -> String {
    let (archive, _) = all(contents.open(0).unwrap(), 4096).unwrap();
    let member = inner(&archive).unwrap().remove(0);
    assert_eq!(member.entry.path, b"qubes.xml");
    String::from_utf8(member.content()).unwrap()
}

fn only(scene: &Scene, only: &[&str], exclude: &[&str]) -> Contents {
    choose(scene, only, exclude).unwrap()
}

fn choose(
    scene: &Scene,
    only: &[&str],
    exclude: &[&str],
) -> Result<Contents, SourceError> {
    let owned = |names: &[&str]| {
        names.iter().map(|n| n.to_string()).collect::<Vec<_>>()
    };
    Contents::from_dir(&scene.from(), &owned(only), &owned(exclude))
}

fn mkfifo(path: &std::path::Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).unwrap();
}

#[test]
fn files_come_in_the_order_of_writers() {
    let scene = four();
    let contents = scene.contents();
    assert_eq!(
        names(&contents),
        [
            "qubes.xml",
            "vm5/private.img",
            "vm5/apps",
            "vm5/firewall.xml",
            "vm5/root.img",
            "vm5/.hidden",
            "vm5/zebra",
            "vm6/private.img",
            "vm7/.",
            "dom0-home/user",
        ]
    );
    assert_eq!(contents.omissions, [""; 0]);
    let qubes = contents.files.iter().map(|file| file.qube.as_deref());
    let qubes: Vec<_> = qubes.map(Option::unwrap_or_default).collect();
    assert_eq!(qubes[..2], ["", "work"]);
    assert_eq!(qubes[7..], ["mail", "fedora", "dom0"]);
    // The sizes of a plan.
    let of = |index: usize| {
        let file = &contents.files[index];
        (file.members, file.apparent)
    };
    assert_eq!(of(1), (1, "vm5/private.img".len() as u64));
    assert_eq!(of(2), (2, "vm5/apps/x".len() as u64));
    let images = "vm7/private.img".len() + "vm7/root.img".len();
    assert_eq!(of(8), (3, images as u64));
    let apparent: u64 = contents.files.iter().map(|f| f.apparent).sum();
    assert_eq!(contents.apparent(), apparent);
    assert!(contents.on_disk() > 0);
}

#[test]
fn the_document_is_as_it_was_if_all_is_backed_up() {
    let scene = four();
    let text = fs::read_to_string(scene.at("qubes.xml")).unwrap();
    assert_eq!(document(&scene.contents()), text);
    let all = ["dom0", "fedora", "mail", "work"];
    assert_eq!(document(&only(&scene, &all, &[])), text);
    assert_eq!(document(&only(&scene, &[], &["out"])), text);
}

#[test]
fn what_is_left_out_is_announced_no_more() {
    let scene = four();
    let text = fs::read_to_string(scene.at("qubes.xml")).unwrap();
    let without = |names: &[&str]| {
        let mut text = text.clone();
        for name in names {
            let of = |value| format!("name=\"{name}\" backup_content={value}");
            let (from, to) = (of("\"True\""), of("\"False\""));
            assert!(text.contains(&from));
            text = text.replace(&from, &to);
        }
        text
    };
    let contents = only(&scene, &[], &["work", "dom0"]);
    assert_eq!(names(&contents), ["qubes.xml", "vm6/private.img", "vm7/."]);
    assert_eq!(document(&contents), without(&["work", "dom0"]));
    assert_eq!(contents.omissions, [""; 0]);
    let contents = only(&scene, &["mail"], &[]);
    assert_eq!(names(&contents), ["qubes.xml", "vm6/private.img"]);
    assert_eq!(document(&contents), without(&["dom0", "fedora", "work"]));
    // What is asked for and left out is left out.
    let contents = only(&scene, &["mail", "fedora"], &["mail"]);
    assert_eq!(names(&contents), ["qubes.xml", "vm7/."]);
    // What is left out need not be there.
    fs::remove_dir_all(scene.at("vm5")).unwrap();
    assert_eq!(names(&only(&scene, &[], &["work"])).len(), 4);
}

#[test]
fn names_that_are_not_there() {
    let scene = four();
    let refused = |only: &[&str], exclude: &[&str]| {
        choose(&scene, only, exclude).unwrap_err()
    };
    let error = refused(&["work", "Work"], &[]);
    assert!(matches!(error, SourceError::NoSuchQube { .. }));
    assert_eq!(
        error.to_string(),
        "qube Work: not in qubes.xml, which has 5; wanted the name of one of \
         them"
    );
    let error = refused(&[], &["vm5"]);
    assert!(matches!(error, SourceError::NoSuchQube { .. }));
    let error = refused(&["out"], &[]);
    assert!(matches!(error, SourceError::NotAnnounced { .. }));
    assert_eq!(
        error.to_string(),
        "qube out: qubes.xml announces no files of it; wanted one of the 4 \
         qubes that have some"
    );
}

#[test]
fn a_qube_of_which_nothing_is_there() {
    let text = "qube work: found nothing of it at vm5; wanted its files, or \
                to leave it out";
    let scene = Scene::with(&qube("AppVm", "work", "vm5"), &[]);
    assert_eq!(scene.refusal(), text);
    fs::create_dir(scene.at("vm5")).unwrap();
    assert_eq!(scene.refusal(), text);
    let error = scene.try_contents().unwrap_err();
    assert!(matches!(error, SourceError::NothingThere { .. }));
    // A link alone is nothing, nor is an empty template.
    symlink("x", scene.at("vm5/private.img")).unwrap();
    assert_eq!(scene.refusal(), text);
    let scene = Scene::with(&qube("TemplateVm", "work", "a/vm5"), &[]);
    let text = text.replace("vm5", "a/vm5");
    assert_eq!(scene.refusal(), text);
    fs::create_dir_all(scene.at("a/vm5")).unwrap();
    assert_eq!(scene.refusal(), text);
    let home = Scene::with(&qube("AdminVm", "dom0", HOME), &[]);
    let error = home.try_contents().unwrap_err();
    assert!(matches!(error, SourceError::NothingThere { .. }));
}

#[test]
fn the_directory_and_its_document() {
    let scene = four();
    let refused = |path: &str| {
        let path = scene.at(path);
        let error = Contents::from_dir(&path, &[], &[]).unwrap_err();
        assert!(matches!(error, SourceError::Missing { .. }));
        scene.text(&error)
    };
    let nothing = "nothing: found nothing; wanted a directory";
    assert_eq!(refused("nothing"), nothing);
    let nothing = "vm5/qubes.xml: found nothing; wanted a regular file";
    assert_eq!(refused("vm5"), nothing);
    fs::rename(scene.at("qubes.xml"), scene.at("q")).unwrap();
    symlink("q", scene.at("qubes.xml")).unwrap();
    assert_eq!(
        scene.refusal(),
        "qubes.xml: found a symbolic link; wanted a regular file"
    );
    fs::remove_file(scene.at("qubes.xml")).unwrap();
    fs::write(scene.at("qubes.xml"), "<html/>").unwrap();
    assert_eq!(
        scene.refusal(),
        "qubes.xml: line 1: root element \"html\"; wanted \
         \"QubesVmCollection\" or \"qubes\""
    );
    let large = fs::File::create(scene.at("qubes.xml")).unwrap();
    large.set_len(1 << 40).unwrap();
    assert_eq!(
        scene.refusal(),
        "qubes.xml: 16777217 bytes; wanted at most 16777216"
    );
}

#[test]
fn a_document_that_announces_nothing() {
    let scene = Scene::with("<QubesAppVm name=\"out\"/>", &["vm5/private.img"]);
    let contents = scene.contents();
    assert_eq!(names(&contents), ["qubes.xml"]);
    assert_eq!(
        contents.omissions,
        [
            "qubes.xml: no qube that it announces is to be in the backup",
            "vm5: left out, no qube that qubes.xml announces is there",
        ]
    );
}

/// Nothing leads out of the directory.
#[test]
fn links_are_not_followed() {
    let scene = four();
    let refused = |name: &str, moved: &str| {
        fs::rename(scene.at(name), scene.at(moved)).unwrap();
        symlink(scene.at(moved), scene.at(name)).unwrap();
        let text = scene.refusal();
        fs::remove_file(scene.at(name)).unwrap();
        fs::rename(scene.at(moved), scene.at(name)).unwrap();
        text
    };
    let text = ": found a symbolic link; wanted a directory";
    for name in ["vm5", "vm7", "dom0-home", HOME] {
        assert_eq!(refused(name, "moved"), format!("{name}{text}"));
    }
    let of = |name, path| qube("AppVm", name, path);
    let plain = Scene::with(&of("a", "appvms/a"), &["other/a/private.img"]);
    symlink("other", plain.at("appvms")).unwrap();
    assert_eq!(plain.refusal(), format!("appvms{text}"));
    // The path of the directory itself is the user's.
    let link = scene.directory.path().join("link");
    symlink(scene.from(), &link).unwrap();
    assert!(Contents::from_dir(&link, &[], &[]).is_ok());
    // A file in the way is none either.
    fs::rename(scene.at("vm5"), scene.at("vm8")).unwrap();
    fs::write(scene.at("vm5"), "").unwrap();
    assert_eq!(
        scene.refusal(),
        "vm5: found a regular file; wanted a directory"
    );
}

#[test]
fn what_is_left_out_is_named() {
    let scene = four();
    let make_socket = |name: &str| {
        let path = scene.directory.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        fs::rename(path, scene.at(name)).unwrap();
    };
    make_socket("dom0-home/user/sub");
    mkfifo(&scene.at("vm7/pipe"));
    mkfifo(&scene.at("vm5/pipe"));
    fs::remove_file(scene.at("vm5/private.img")).unwrap();
    symlink("/dev/x", scene.at("vm5/private.img")).unwrap();
    symlink("label.png", scene.at("vm5/icon.png")).unwrap();
    fs::create_dir(scene.at("vm6/firewall.xml")).unwrap();
    fs::remove_file(scene.at("vm6/private.img")).unwrap();
    fs::remove_file(scene.at("vm7/root.img")).unwrap();
    let long = format!("vm6/{}", "n".repeat(120));
    fs::write(scene.at(&long), "").unwrap();
    fs::write(scene.at("vm6/x"), "").unwrap();
    fs::create_dir_all(scene.at("dom0-home/other/deep")).unwrap();
    fs::write(scene.at("\u{1b}[1m"), "").unwrap();
    let contents = scene.contents();
    let suffix = ".4294967295.hmac";
    let found = long.len() + suffix.len();
    assert_eq!(contents.omissions, [
        "vm5/private.img: a symbolic link, left out; wanted a regular file"
            .to_owned(),
        "vm5/pipe: a named pipe, left out".to_owned(),
        "vm6/firewall.xml: a directory, left out; wanted a regular file"
            .to_owned(),
        format!(
            "{long}: left out: member \"{long}{suffix}\": {found} bytes \
             without a slash to cut it at; wanted 100 at most, or 155, a \
             slash and 100"
        ),
        "vm6/private.img: not there, although qubes.xml announces the qube \
         mail"
            .to_owned(),
        "vm7/pipe: a named pipe, left out".to_owned(),
        "vm7/root.img: not there, although qubes.xml announces the qube \
         fedora"
            .to_owned(),
        "dom0-home/user/sub: a socket, left out".to_owned(),
        "\\u{1b}[1m: left out, no qube that qubes.xml announces is there"
            .to_owned(),
        "dom0-home/other: left out, no qube that qubes.xml announces is there"
            .to_owned(),
    ]);
    assert_eq!(
        names(&contents),
        [
            "qubes.xml",
            "vm5/icon.png",
            "vm5/apps",
            "vm5/firewall.xml",
            "vm5/root.img",
            "vm5/.hidden",
            "vm5/zebra",
            "vm6/x",
            "vm7/.",
            "dom0-home/user",
        ]
    );
    // It is all written, and what was named already is not named again.
    for index in 0..contents.files.len() {
        let (archive, facts) = all(contents.open(index).unwrap(), 512).unwrap();
        assert_eq!(facts.omissions, [""; 0]);
        assert_eq!(facts.members, contents.files[index].members);
        assert_eq!(inner(&archive).unwrap().len() as u64, facts.members);
    }
    // What came later is.
    mkfifo(&scene.at("vm7/later"));
    let (_, facts) = all(contents.open(8).unwrap(), 512).unwrap();
    assert_eq!(facts.omissions, ["vm7/later: a named pipe, left out"]);
}

#[test]
fn there_may_be_many_sockets() {
    let scene = Scene::with(&qube("AdminVm", "dom0", HOME), &[]);
    fs::create_dir_all(scene.at(HOME)).unwrap();
    for number in 0..1_003 {
        mkfifo(&scene.at(&format!("{HOME}/{number:04}")));
    }
    let omissions = scene.contents().omissions;
    assert_eq!(omissions.len(), 1_001);
    let last = "dom0-home/user: left out, besides these: 3";
    assert_eq!(omissions.last().unwrap(), last);
}

#[test]
fn directories_of_qubes() {
    let refusal = |paths: &[&str]| {
        let qubes = ["a", "b"].into_iter().zip(paths);
        let qubes = qubes.map(|(name, path)| qube("AppVm", name, path));
        Scene::with(&qubes.collect::<String>(), &["vm/private.img"]).refusal()
    };
    for path in ["", "..", "vm/../x", "/vm", "./vm", "vm//x", "vm/."] {
        assert_eq!(
            refusal(&[path]),
            format!(
                "qube a: directory \"{path}\" in qubes.xml; wanted a relative \
                 path of names"
            )
        );
    }
    for (one, two) in [("vm", "vm"), ("vm", "vm/b")] {
        assert_eq!(
            refusal(&[one, two]),
            format!(
                "qube b: its directory \"{two}\" is that of qube a or in it; \
                 wanted one for each"
            )
        );
    }
    assert_eq!(
        refusal(&["vm/b", "vm"]),
        "qube a: its directory \"vm/b\" is that of qube b or in it; wanted \
         one for each"
    );
    // Not inside: it only begins alike.
    let nothing = "qube b: found nothing of it at vm-b; wanted its files, or \
                   to leave it out";
    assert_eq!(refusal(&["vm", "vm-b"]), nothing);
}

#[test]
fn a_document_of_release_4() {
    let text = "<qubes><labels/><properties/><domains>\
        <domain class=\"AdminVM\"><properties/><features>\
        <feature name=\"backup-content\">True</feature>\
        <feature name=\"backup-path\">dom0-home/user/</feature></features>\
        </domain><domain class=\"TemplateVM\"><properties>\
        <property name=\"name\">deb</property></properties><features>\
        <feature name=\"backup-content\">True</feature>\
        <feature name=\"backup-path\">vm2/</feature></features></domain>\
        </domains></qubes>";
    let files = ["vm2/private.img", "vm2/root.img", "dom0-home/user/x"];
    let scene = Scene::with("", &files);
    fs::write(scene.at("qubes.xml"), text).unwrap();
    let contents = scene.contents();
    assert_eq!(names(&contents), ["qubes.xml", "vm2/.", HOME]);
    assert_eq!(document(&contents), text);
    let error = choose(&scene, &["deb"], &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "qube dom0: it cannot be left out of a qubes.xml in the form of \
         release 4; wanted all qubes, or the form before"
    );
}

#[test]
fn a_number_that_no_file_has() {
    let scene = Scene::of(Layout::Small);
    let error = scene.contents().open(2).unwrap_err();
    assert!(matches!(error, SourceError::Unfinished { .. }));
}
