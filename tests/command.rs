//! `qubes-fsm store`, as scripts use it: what is printed, where, and when
//! nothing is.

#![cfg(feature = "cli")]
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Stdio};

use common::{FILE, OURS, PATIENCE, Place, document, finish};
use serde_json::{Value, json};

const CORE3: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<qubes>
  <domains>
    <domain id="domain-0" class="AdminVM"/>
    <domain id="domain-2" class="AppVM">
      <properties>
        <property name="qid">2</property>
        <property name="name">sys-net</property>
        <property name="kernelopts">quiet</property>
      </properties>
    </domain>
  </domains>
</qubes>
"#;

const LOG: &str = "\
[    1.0] Linux version 3.12.23\n\
[  261.1] qubes-gui:664 map pfn expected mapping type write-back for \
[mem 0x00093000-0x00093fff], got uncached-minus\n\
[  262.0] something else\n";

const EXPLAINED: &str = "\
line 2: The process \"qubes-gui\" (number 664) wanted the memory \
0x00093000-0x00093fff as write-back, but the kernel's page attribute table \
(PAT) has it as uncached-minus. The kernel refuses a mapping of another type, \
so the program fails or is killed; if it is the GUI agent, the windows of the \
qube go with it. Add nopat to the kernel options of the qube, never to those \
of dom0, which needs the table, and start the qube again: qubes-fsm store set \
--store FILE QUBE kernelopts nopat (before release 4.0 also set \
uses_default_kernelopts to False).\n";

const NOTE: &str = "qubes-fsm: netvm: uses_default_kernelopts is True, so \
                    kernelopts has no effect until it is False\n";

fn done(out: &str, err: &str) -> (i32, String, String) {
    (0, out.to_owned(), err.to_owned())
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The binary itself, for what is not `store ... FILE`.
fn ours(arguments: &[&str]) -> Command {
    let mut command = Command::new(OURS);
    command.args(arguments).stdin(Stdio::null());
    command
}

#[test]
fn show_prints_all_qubes_in_the_order_of_the_file() {
    let place = Place::new();
    let before = place.seen();
    let out = place.succeed(&["show", "--store", FILE]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 42);
    assert_eq!(
        lines[..3],
        ["netvm    QubesNetVm", "work     QubesAppVm", "qube-0   QubesAppVm",]
    );
    place.assert_as(&before);
}

#[test]
fn show_prints_one_qube_with_its_attributes() {
    let place = Place::new();
    let out = place.succeed(&["show", "--store", FILE, "work"]);
    // The tab is shown, and not sent to the terminal.
    let wanted = "work (QubesAppVm)\n  qid = 5\n  name = work\n  \
                  label = a\\u{9}<b\n  kernelopts = quiet\n  \
                  backup_size = 0\n  dir_path = appvms/work\n";
    assert_eq!(out, wanted);
}

#[test]
fn show_json_is_one_document() {
    let place = Place::new();
    let out = place.succeed(&["show", "--store", FILE, "work", "--json"]);
    let work = json!({
        "name": "work",
        "class": "QubesAppVm",
        "attributes": {
            "qid": "5",
            "name": "work",
            "label": "a\t<b",
            "kernelopts": "quiet",
            "backup_size": "0",
            "dir_path": "appvms/work",
        },
    });
    let wanted = json!({ "dialect": "Core2", "qubes": [work] });
    assert_eq!(parsed(&out), wanted);

    let out = place.succeed(&["show", "--json", "--store", FILE]);
    let all = parsed(&out);
    assert_eq!(all["qubes"].as_array().unwrap().len(), 42);
    assert_eq!(all["qubes"][1], work);

    let place = Place::with(CORE3.as_bytes());
    let out = place.succeed(&["show", "--json", "--store", FILE, "sys-net"]);
    let all = parsed(&out);
    assert_eq!(all["dialect"], "Core3");
    assert_eq!(all["qubes"][0]["attributes"]["kernelopts"], "quiet");
}

#[test]
fn get_prints_the_value_and_a_line_break() {
    let place = Place::new();
    let get = |qube, attribute| {
        place.succeed(&["get", "--store", FILE, qube, attribute])
    };
    assert_eq!(get("work", "kernelopts"), "quiet\n");
    assert_eq!(get("netvm", "pcidevs"), "['02:00.0']\n");
    // Data for a program: the value as it is.
    assert_eq!(get("work", "label"), "a\t<b\n");
}

#[test]
fn set_changes_one_value_and_no_other_byte() {
    let place = Place::new();
    let before = place.seen();
    let set = |value| {
        let set = ["set", "--store", FILE, "work", "backup_size", value];
        assert_eq!(place.run(&set), done("", ""));
    };
    set("1");
    assert_eq!(place.read(), document(1));
    set("-1");
    let minus = document(1).replace("size=\"1\"", "size=\"-1\"");
    assert_eq!(place.read(), minus);
    set("a\"&<\n");
    let get = ["get", "--store", FILE, "work", "backup_size"];
    assert_eq!(place.succeed(&get), "a\"&<\n\n");
    set("0");
    place.assert_as(&before);
}

#[test]
fn set_adds_an_attribute() {
    let place = Place::new();
    place.succeed(&["set", "--store", FILE, "work", "new", "value"]);
    let wanted = document(0).replace(
        "dir_path=\"appvms/work\">",
        "dir_path=\"appvms/work\" new=\"value\">",
    );
    assert_eq!(place.read(), wanted);
}

#[test]
fn set_notes_options_without_effect_and_quiet_does_not() {
    let place = Place::new();
    let set = ["set", "--store", FILE, "netvm", "kernelopts", "nopat"];
    assert_eq!(place.run(&set), done("", NOTE));
    for quiet in ["-q", "--quiet"] {
        let set = [quiet, "--store", FILE, "netvm", "kernelopts", "x"];
        let set = [&["set"][..], &set].concat();
        assert_eq!(place.run(&set), done("", ""));
    }
    let set = ["set", "--store", FILE, "work", "kernelopts", "nopat"];
    assert_eq!(place.run(&set), done("", ""));
}

#[test]
fn verbose_says_what_is_done() {
    let place = Place::new();
    let set = ["set", "-v", "--store", FILE, "work", "backup_size", "1"];
    let waiting = "qubes-fsm: waiting for the lock\n";
    let saved = format!("{waiting}qubes-fsm: saved and durable\n");
    assert_eq!(place.run(&set), done("", &saved));
    let same = format!("{waiting}qubes-fsm: nothing to change\n");
    assert_eq!(place.run(&set), done("", &same));
}

#[test]
fn nothing_to_change_leaves_the_file_itself() {
    use std::os::unix::fs::MetadataExt as _;
    let place = Place::new();
    let inode = || fs::metadata(&place.store).unwrap().ino();
    let before = (place.seen(), inode());
    place.succeed(&["update", "--store", FILE, "--", "cat"]);
    place.succeed(&["set", "--store", FILE, "work", "backup_size", "0"]);
    place.assert_as(&before.0);
    assert_eq!(inode(), before.1);
}

#[test]
fn update_takes_what_the_command_prints() {
    let place = Place::new();
    let sed = ["sed", "s/backup_size=\"0\"/backup_size=\"1\"/"];
    let update = [&["update", "--store", FILE, "--"][..], &sed].concat();
    assert_eq!(place.run(&update), done("", ""));
    assert_eq!(place.read(), document(1));

    // The command may say something, and need not read.
    let script = "echo heard >&2; printf '<qubes/>'";
    let update = ["update", "--store", FILE, "--", "sh", "-c", script];
    assert_eq!(place.run(&update), done("", "heard\n"));
    assert_eq!(place.read(), "<qubes/>");
}

#[test]
fn update_carries_a_document_larger_than_a_pipe() {
    let mut text = String::from("<QubesVmCollection>\n");
    for number in 0..20_000 {
        text.push_str(&format!("<QubesAppVm name=\"q{number}\"/>\n"));
    }
    text.push_str("</QubesVmCollection>\n");
    let place = Place::with(text.as_bytes());
    let sed = ["sed", "s/q19999/last/"];
    place.succeed(&[&["update", "--store", FILE, "--"][..], &sed].concat());
    assert_eq!(place.read(), text.replace("q19999", "last"));
}

#[test]
fn kernelopts_prints_the_options_and_notes_where_they_come_from() {
    let place = Place::new();
    let of = |arguments: &[&str]| {
        place.run(&[&["kernelopts", "--store", FILE][..], arguments].concat())
    };
    let own = "qubes-fsm: work: the qube's own\n";
    assert_eq!(of(&["work"]), done("quiet\n", own));
    assert_eq!(of(&["-q", "work"]), done("quiet\n", ""));
    let default = "qubes-fsm: netvm: the default since 2014\n";
    let options = "nopat iommu=soft swiotlb=4096\n";
    assert_eq!(of(&["netvm"]), done(options, default));
    let default = "qubes-fsm: netvm: the default since 2020\n";
    assert_eq!(of(&["--release", "2020", "netvm"]), done("\n", default));

    let (code, out, err) = of(&["--json", "netvm"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let wanted = json!({
        "qube": "netvm",
        "kernelopts": "nopat iommu=soft swiotlb=4096",
        "origin": "release default",
        "release": "2014",
    });
    assert_eq!(parsed(&out), wanted);
}

#[test]
fn a_log_is_explained_from_a_file_and_from_stdin() {
    let place = Place::with(LOG.as_bytes());
    let file = place.run(&["kernelopts", "--explain-log", FILE]);
    assert_eq!(file, done(EXPLAINED, ""));

    let mut stdin = assert_cmd::Command::new(OURS);
    stdin.args(["store", "kernelopts", "--explain-log", "-"]);
    let stdin = stdin.write_stdin(LOG).timeout(PATIENCE).assert();
    stdin.code(0).stdout(EXPLAINED).stderr("");

    let json = ["kernelopts", "--json", "--explain-log", FILE];
    let (code, out, err) = place.run(&json);
    assert_eq!((code, err.as_str()), (0, ""));
    let explained = EXPLAINED.strip_prefix("line 2: ").unwrap().trim_end();
    let wanted = json!([{
        "line": 2,
        "process": "qubes-gui",
        "pid": 664,
        "first": "0x93000",
        "last": "0x93fff",
        "expected": "write-back",
        "got": "uncached-minus",
        "explanation": explained,
    }]);
    assert_eq!(parsed(&out), wanted);
}

#[test]
fn a_log_without_such_a_line_is_exit_10() {
    let text = "no line about the page attribute table; wanted \"map pfn \
                expected mapping type ..., got ...\"\n";
    let place = Place::with(b"[    1.0] Linux version 3.12.23\n");
    let arguments = ["kernelopts", "--explain-log", FILE];
    let wanted = format!("qubes-fsm: ERROR: FILE: {text}");
    let wanted = (10, String::new(), place.fill(&wanted));
    assert_eq!(place.run(&arguments), wanted);

    let (code, out, err) = place.run(&["kernelopts", "--explain-log", "-"]);
    assert_eq!(err, format!("qubes-fsm: ERROR: -: {text}"));
    assert_eq!((code, out.as_str()), (10, ""));

    // With --json the answer is an empty list, and no success either.
    let (code, out, _) = place.run(&[&arguments[..], &["--json"]].concat());
    assert_eq!((code, parsed(&out)), (10, json!([])));

    let missing = Place::empty();
    let text = "qubes-fsm: ERROR: FILE: No such file or directory (os error \
                2)\n";
    let wanted = (10, String::new(), missing.fill(text));
    assert_eq!(missing.run(&arguments), wanted);
}

#[test]
fn no_color_is_honoured() {
    let colored = |no_color: Option<&str>| {
        let mut wrong = ours(&["store", "show"]);
        wrong.env("CLICOLOR_FORCE", "1").env_remove("NO_COLOR");
        wrong.envs(no_color.map(|value| ("NO_COLOR", value)));
        let (code, out, err) = finish(wrong);
        assert_eq!((code, out.as_str()), (2, ""));
        err.contains('\u{1b}')
    };
    assert!(colored(None), "without colors there is nothing to test");
    assert!(!colored(Some("1")));
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    let mut text = String::from("<QubesVmCollection>\n");
    for number in 0..10_000 {
        text.push_str(&format!("<QubesAppVm name=\"qube-{number}\"/>\n"));
    }
    text.push_str("</QubesVmCollection>\n");
    let place = Place::with(text.as_bytes());
    for json in [&[][..], &["--json"]] {
        let show = [&["show", "--store", FILE][..], json].concat();
        let mut show = place.ours(&show);
        show.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut show = show.spawn().unwrap();
        // More than fits into the pipe is to come.
        let mut out = BufReader::new(show.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert!(!line.is_empty());
        drop(out);
        let mut err = String::new();
        show.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert_eq!(err, "");
        assert_eq!(show.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn a_name_that_is_not_text_works_and_is_shown_escaped() {
    let place = Place::new();
    let name = OsStr::from_bytes(b"q\xff\x1b[1m.xml");
    let path = place.store.with_file_name(name);
    let get = || {
        let mut get = assert_cmd::Command::new(OURS);
        get.args(["store", "get", "--store"]).arg(&path);
        get.args(["work", "backup_size"]).timeout(PATIENCE);
        get
    };
    let directory = place.store.parent().unwrap().to_str().unwrap();
    get().assert().code(10).stdout("").stderr(format!(
        "qubes-fsm: ERROR: {directory}/q\\xff\\u{{1b}}[1m.xml: no such file; \
         wanted an existing store\n"
    ));
    fs::rename(&place.store, &path).unwrap();
    get().assert().code(0).stdout("0\n").stderr("");
    let mut set = assert_cmd::Command::new(OURS);
    set.args(["store", "set", "--store"]).arg(&path);
    set.args(["work", "backup_size", "1"]).timeout(PATIENCE);
    set.assert().code(0).stdout("").stderr("");
    assert_eq!(fs::read_to_string(&path).unwrap(), document(1));
    assert_eq!(fs::read_dir(directory).unwrap().count(), 1);
}

#[test]
fn control_characters_of_a_store_do_not_reach_the_terminal() {
    let place = Place::with(
        "<QubesVmCollection><QubesAppVm name=\"a\u{202e}b&#10;c\" \
         label=\"&#9;\"/></QubesVmCollection>"
            .as_bytes(),
    );
    let out = place.succeed(&["show", "--store", FILE]);
    assert_eq!(out, "a\\u{202e}b\\u{a}c  QubesAppVm\n");
    let name = "a\u{202e}b\nc";
    let out = place.succeed(&["show", "--store", FILE, name]);
    assert_eq!(
        out,
        "a\\u{202e}b\\u{a}c (QubesAppVm)\n  name = a\\u{202e}b\\u{a}c\n  \
         label = \\u{9}\n"
    );
    let (code, _, err) = place.run(&["show", "--store", FILE, "\u{1b}[1m"]);
    assert_eq!(code, 10);
    assert!(!err.contains('\u{1b}'), "{err:?}");
}
