//! The bytes of inner archives: the same tree comes out of them again.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, chown};
use std::path::Path;
use std::process::{Command, Stdio};

use qubes_fsm::backup::read::{Goal, Options, read};
use qubes_fsm::backup::tree::Target;
use qubes_fsm::backup::write::source::{Archiver, Contents};
use qubes_fsm::format::tar::Kind;
use zeroize::Zeroizing;

use crate::archive::{Form, PASSPHRASE, header, outer, push, push_stream, run};
use crate::facts::{Tree, What, tree};
use crate::scene::{Scene, all, index, names, qube};
use crate::tar_support::inner;
use crate::trees::{Layout, data_at, noise, write};

const MIB: usize = 1 << 20;

/// What of a tree is in some file of the backup: folders above are not.
fn covered(tree: Tree, contents: &Contents) -> Tree {
    let tops: Vec<Vec<u8>> = contents
        .files
        .iter()
        .map(|file| file.name.strip_suffix(b"/.").unwrap_or(&file.name).into())
        .collect();
    tree.into_iter()
        .filter(|(path, _)| tops.iter().any(|top| path.starts_with(top)))
        .collect()
}

fn assert_same(found: &Tree, wanted: &Tree) {
    for (path, facts) in wanted {
        assert_eq!(found.get(path), Some(facts), "{}", path.escape_ascii());
    }
    assert_eq!(found.len(), wanted.len());
}

fn gnu_tar(arguments: &[&str], archive: &[u8]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("archive.tar");
    fs::write(&path, archive).unwrap();
    let output = Command::new("tar")
        .args(arguments)
        .arg("-f")
        .arg(&path)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output();
    let output = output.unwrap_or_else(|error| {
        panic!("tar: {error}; install the package tar (GNU tar)")
    });
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success());
    output.stdout
}

fn extracted(layout: Layout) {
    let scene = Scene::of(layout);
    let contents = scene.contents();
    let wanted: Vec<&str> = layout.files().iter().map(|file| file.0).collect();
    let mut found = names(&contents);
    found.sort();
    let mut sorted = wanted.clone();
    sorted.sort_unstable();
    assert_eq!(found, sorted);
    assert_eq!(contents.omissions, [""; 0]);
    let to = scene.directory.path().join("to");
    fs::create_dir(&to).unwrap();
    let to_text = to.to_str().unwrap();
    for (index, file) in contents.files.iter().enumerate() {
        let (archive, facts) = all(contents.open(index).unwrap(), MIB).unwrap();
        assert_eq!(archive.len() % 10_240, 0);
        assert_eq!(facts.archive_bytes, archive.len() as u64);
        // Our decoder.
        let members = inner(&archive).unwrap();
        assert_eq!(members.len() as u64, facts.members);
        assert_eq!(file.members, facts.members);
        let data = members.iter().flat_map(|member| &member.data);
        let data: usize = data.map(|(_, bytes)| bytes.len()).sum();
        assert_eq!(data as u64, facts.read_bytes);
        // Without `P` it makes absolute links last, and loses the time of the
        // directory that they are in, also of its own archives.
        let arguments = ["-xpP", "--warning=no-timestamp", "-C", to_text];
        gnu_tar(&arguments, &archive);
    }
    let from_tree = covered(tree(&scene.from()), &contents);
    assert!(from_tree.len() > 10);
    assert_same(&covered(tree(&to), &contents), &from_tree);
    // So that it can be removed by anybody.
    for root in [&to, &scene.from()] {
        let root = root.to_str().unwrap();
        run("chmod", "coreutils", &["-R", "u+rwx", root], b"");
    }
}

#[test]
fn gnu_tar_extracts_hidden_names() {
    extracted(Layout::Hidden);
}

#[test]
fn gnu_tar_extracts_plain_names() {
    extracted(Layout::Plain);
}

/// `backup` by hand, and a restore of ours.
#[test]
fn a_restore_gives_the_same_tree() {
    let scene = Scene::of(Layout::Hidden);
    let contents = scene.contents();
    let form = Form { encrypted: false, ..Form::default() };
    let mut members = Vec::new();
    push(&mut members, "backup-header", header(form).into_bytes(), form);
    for (index, name) in names(&contents).iter().enumerate() {
        let (archive, _) = all(contents.open(index).unwrap(), 4096).unwrap();
        push_stream(&mut members, name, &archive, form);
    }
    let to = scene.directory.path().join("to");
    let target = Target::open(&to, false).unwrap().with_special_bits(true);
    let goal = Goal::Restore { target, wanted: Vec::new() };
    let passphrase = Zeroizing::new(PASSPHRASE.as_bytes().to_vec());
    let archive = outer(&members);
    let report = read(&*archive, Options::new(passphrase, goal)).unwrap();
    assert_eq!(report.omissions, [""; 0]);
    let from_tree = covered(tree(&scene.from()), &contents);
    assert!(from_tree.len() > 50);
    assert_same(&covered(tree(&to), &contents), &from_tree);
    for root in [&to, &scene.from()] {
        let root = root.to_str().unwrap();
        run("chmod", "coreutils", &["-R", "u+rwx", root], b"");
    }
}

#[test]
fn a_room_of_any_size_is_filled_with_the_same_bytes() {
    let scene = Scene::of(Layout::Hidden);
    let contents = scene.contents();
    for index in 0..contents.files.len() {
        let of = |room| all(contents.open(index).unwrap(), room).unwrap();
        let whole = of(MIB);
        for room in [1, 511, 512, 513, 10_240, 65_537] {
            assert!(of(room) == whole, "file {index}, room {room}");
        }
    }
}

/// Names of the members, and what they are told to be.
#[test]
fn a_template_is_one_file_with_a_dot_in_its_names() {
    let scene = Scene::with(
        &qube("TemplateVm", "t", "vm9"),
        &[
            "vm9/root.img",
            "vm9/private.img",
            "vm9/apps/b",
            "vm9/apps/a",
            "vm9/apps-too",
        ],
    );
    fs::hard_link(scene.at("vm9/apps/a"), scene.at("vm9/zero")).unwrap();
    fs::hard_link(scene.at("vm9/apps/a"), scene.at("vm9/apps.x")).unwrap();
    let contents = scene.contents();
    assert_eq!(names(&contents), ["qubes.xml", "vm9/."]);
    let (archive, facts) = all(contents.open(1).unwrap(), MIB).unwrap();
    let listed = String::from_utf8(gnu_tar(&["-t"], &archive)).unwrap();
    let wanted = "vm9/./\nvm9/./apps/\nvm9/./apps/a\nvm9/./apps/b\n\
                  vm9/./apps-too\nvm9/./apps.x\nvm9/./private.img\n\
                  vm9/./root.img\nvm9/./zero\n";
    let mut sorted: Vec<&str> = wanted.lines().collect();
    sorted.sort_by_key(|line| line.trim_end_matches('/').to_owned());
    let mut found: Vec<&str> = listed.lines().collect();
    let first = found.iter().position(|name| *name == "vm9/./apps/");
    // A directory comes before what is in it.
    assert_eq!(
        found[first.unwrap()..][..3],
        ["vm9/./apps/", "vm9/./apps/a", "vm9/./apps/b"]
    );
    found.sort_by_key(|line| line.trim_end_matches('/').to_owned());
    assert_eq!(found, sorted);
    let links: Vec<_> = inner(&archive)
        .unwrap()
        .into_iter()
        .filter_map(|member| match member.entry.kind {
            Kind::HardLink { target } => Some((member.entry.path, target)),
            Kind::File | Kind::Directory | Kind::Symlink { .. } => None,
        })
        .collect();
    let first = b"vm9/./apps/a".to_vec();
    assert_eq!(
        links,
        [
            (b"vm9/./apps.x".to_vec(), first.clone()),
            (b"vm9/./zero".to_vec(), first)
        ]
    );
    assert_eq!(facts.members, 9);
}

/// A name in another file of the backup is of no use there.
#[test]
fn names_in_other_files_of_the_backup_are_no_links() {
    let scene = Scene::with(&qube("AppVm", "a", "vm1"), &["vm1/private.img"]);
    fs::hard_link(scene.at("vm1/private.img"), scene.at("vm1/again")).unwrap();
    let contents = scene.contents();
    assert_eq!(names(&contents), ["qubes.xml", "vm1/private.img", "vm1/again"]);
    for index in [1, 2] {
        let (archive, _) = all(contents.open(index).unwrap(), MIB).unwrap();
        let members = inner(&archive).unwrap();
        assert_eq!(members[0].content(), b"vm1/private.img");
    }
}

#[test]
fn owners_are_numbers() {
    let scene = Scene::with(&qube("AppVm", "a", "vm1"), &["vm1/private.img"]);
    let path = scene.at("vm1/private.img");
    // More than seven octal digits, where the kernel lets us.
    let _ = chown(&path, Some(70_000), Some(3_000_000));
    let meta = fs::metadata(&path).unwrap();
    let (archive, _) = all(scene.open("vm1/private.img"), MIB).unwrap();
    let listed = gnu_tar(&["-tv", "--numeric-owner"], &archive);
    let listed = String::from_utf8(listed).unwrap();
    let owner = format!("{}/{}", meta.uid(), meta.gid());
    assert_eq!(listed.split_whitespace().nth(1), Some(owner.as_str()));
    // No names: they mean nothing in another system.
    assert_eq!(archive[265..329], [0; 64]);
}

#[test]
fn holes_are_neither_read_nor_written() {
    let scene = Scene::with(&qube("AppVm", "a", "vm1"), &["vm1/firewall.xml"]);
    let size = (9 << 30) + 5;
    let pieces: [(u64, &[u8]); 3] =
        [(0, b"begin"), (5 << 30, &noise(100_000)), (size - 3, b"end")];
    data_at(&scene.at("vm1/private.img"), &pieces, size);
    data_at(&scene.at("vm1/root.img"), &[], size);
    let contents = scene.contents();
    let file = &contents.files[index(&contents, "vm1/private.img")];
    assert_eq!(file.apparent, size);
    assert!(file.on_disk < 1 << 20, "{}", file.on_disk);
    let (archive, facts) = all(scene.open("vm1/private.img"), MIB).unwrap();
    assert!(facts.read_bytes < 1 << 18, "{}", facts.read_bytes);
    let members = inner(&archive).unwrap();
    let [member] = members.as_slice() else { panic!("{}", members.len()) };
    assert_eq!(member.entry.size, size);
    for (offset, piece) in pieces {
        let found = member.data.iter().find_map(|(start, bytes)| {
            let at = usize::try_from(offset.checked_sub(*start)?).unwrap();
            bytes.get(at..)?.get(..piece.len())
        });
        assert_eq!(found, Some(piece), "at {offset}");
    }
    let listed = gnu_tar(&["-tv"], &archive);
    let listed = String::from_utf8(listed).unwrap();
    let listed = listed.split_whitespace().nth(2);
    assert_eq!(listed, Some(size.to_string().as_str()));
    // One that is a hole has no data at all.
    let (archive, facts) = all(scene.open("vm1/root.img"), MIB).unwrap();
    assert_eq!((facts.read_bytes, archive.len()), (0, 10_240));
    assert_eq!(inner(&archive).unwrap()[0].entry.size, size);
}

/// More directories inside each other than are held open, going down and
/// coming back up; and names that are no text.
#[test]
fn deep_trees_are_gone_through() {
    let home = qube("AdminVm", "dom0", "dom0-home/user");
    let scene = Scene::with(&home, &[]);
    let mut path = scene.at("dom0-home/user");
    let odd = OsString::from_vec(b"\xff\n\x1b".to_vec());
    for depth in 0..150 {
        write(&path.join("zz"), b"behind");
        write(&path.join("a"), b"before");
        path.push(format!("d{depth}"));
    }
    write(&path.join(&odd), b"odd");
    let contents = scene.contents();
    let (archive, facts) = all(contents.open(1).unwrap(), MIB).unwrap();
    // 150 directories with two files each, theirs above, the last one's file.
    assert_eq!(facts.members, 150 * 3 + 2);
    let to = scene.directory.path().join("to");
    fs::create_dir(&to).unwrap();
    gnu_tar(
        &["-xp", "--warning=no-timestamp", "-C", to.to_str().unwrap()],
        &archive,
    );
    let wanted = covered(tree(&scene.from()), &contents);
    let found = covered(tree(&to), &contents);
    let files =
        found.values().filter(|facts| matches!(facts.what, What::File { .. }));
    assert_eq!(files.count(), 301);
    let without_document: Tree =
        wanted.into_iter().filter(|(path, _)| path != b"qubes.xml").collect();
    assert_same(&found, &without_document);
}

#[test]
fn an_archiver_can_go_to_another_thread() {
    fn check<T: Send>() {}
    check::<Archiver>();
    let scene = Scene::of(Layout::Small);
    let archiver = scene.open("vm5/private.img");
    let there = std::thread::spawn(move || all(archiver, MIB).unwrap());
    let here = all(scene.open("vm5/private.img"), MIB).unwrap();
    assert!(there.join().unwrap() == here);
}

/// A small segment size, so that most of what is read is no whole block.
#[test]
fn a_file_without_holes_is_not_sparse() {
    let scene = Scene::with(&qube("AppVm", "a", "vm1"), &["vm1/firewall.xml"]);
    let content = noise(777_777);
    write(&scene.at("vm1/private.img"), &content);
    let (archive, facts) = all(scene.open("vm1/private.img"), MIB).unwrap();
    assert_eq!(facts.read_bytes, 777_777);
    let member = inner(&archive).unwrap().remove(0);
    assert!(!member.entry.sparse);
    assert!(member.content() == content);
}

/// The directory of a home with 100,000 files, in a child that may have
/// little memory and few descriptors.
#[test]
fn memory_does_not_grow_with_the_number_of_files() {
    const NAME: &str = "streams::memory_does_not_grow_with_the_number_of_files";
    const DIRECTORY: &str = "QUBES_FSM_SOURCE";
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        let contents =
            Contents::from_dir(Path::new(&directory), &[], &[]).unwrap();
        let mut archiver = contents.open(1).unwrap();
        let mut room = vec![0; MIB];
        while archiver.fill(&mut room).unwrap() > 0 {}
        assert_eq!(archiver.finish().unwrap().members, 100_201);
        return;
    }
    let memory = tempfile::tempdir_in("/dev/shm");
    let directory = memory.or_else(|_| tempfile::tempdir()).unwrap();
    let from = directory.path();
    let text = format!(
        "<QubesVmCollection>{}</QubesVmCollection>",
        qube("AdminVm", "dom0", "dom0-home/user")
    );
    fs::write(from.join("qubes.xml"), text).unwrap();
    let mut deep = from.join("dom0-home/user");
    for depth in 0..100 {
        deep.push(format!("d{depth}"));
    }
    fs::create_dir_all(&deep).unwrap();
    for group in 0..100 {
        let folder = deep.join(format!("folder-with-a-longer-name-{group}"));
        fs::create_dir(&folder).unwrap();
        for file in 0..1_000 {
            File::create(folder.join(format!("file-{file}"))).unwrap();
        }
    }
    let small = File::create(deep.join("folder-with-a-longer-name-0/file-0"));
    small.unwrap().write_all_at(b"content", 0).unwrap();
    let status = Command::new("sh")
        .args(["-c", "ulimit -d 40000 && ulimit -n 80 && exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--test-threads=1"])
        .env(DIRECTORY, from)
        // With one, an allocation that fails would wait for itself.
        .env("RUST_BACKTRACE", "0")
        .stdout(Stdio::null())
        .status();
    assert!(status.unwrap().success());
}
