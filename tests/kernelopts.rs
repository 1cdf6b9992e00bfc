//! Kernel options in force, and the line of the kernel log that they cure.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use qubes_fsm::store::document::{Dialect, Document, Limits};
use qubes_fsm::store::kernelopts::{
    MemoryType, Origin, PatConflict, Release, explain_line, options_in_force,
};
use quickcheck::quickcheck;

const CORE2: &str = r#"<?xml version='1.0' encoding='UTF-8'?>
<QubesVmCollection default_kernel="3.7.6-2">
  <QubesAdminVm qid="0" name="dom0" uses_default_kernelopts="False"
    kernelopts="own"/>
  <QubesTemplateVm qid="1" name="fedora-20-x64" kernelopts="" pcidevs="[]"
    uses_default_kernelopts="True"/>
  <QubesNetVm qid="2" name="netvm" kernelopts="iommu=soft swiotlb=2048"
    uses_default_kernelopts="True" pcidevs="['02:00.0', '03:00.0']"/>
  <QubesNetVm qid="3" name="usbvm" pcidevs="'00:1a.0'"/>
  <QubesAppVm qid="4" name="bare"/>
  <QubesAppVm qid="5" name="none" pcidevs="none"/>
  <QubesAppVm qid="6" name="own" uses_default_kernelopts="False"
    kernelopts="quiet &amp; slow" pcidevs="broken]"/>
  <QubesAppVm qid="7" name="own-empty" uses_default_kernelopts="False"
    kernelopts=""/>
  <QubesAppVm qid="8" name="own-missing" uses_default_kernelopts="False"/>
  <QubesAppVm qid="9" name="no-flag" kernelopts="nopat"/>
  <QubesHVm qid="10" name="win7" kernelopts="nopat"/>
  <QubesTemplateHVm qid="11" name="win7-template"/>
  <QubesAppVm qid="12" name="broken" pcidevs="['00:1a.0'"/>
</QubesVmCollection>
"#;

const CORE3: &str = r#"<qubes>
  <domains>
    <domain id="domain-0" class="AdminVM">
      <properties>
        <property name="kernelopts">own</property>
      </properties>
    </domain>
    <domain id="domain-1" class="AppVM">
      <properties>
        <property name="name">sys-net</property>
      </properties>
      <devices class="pci">
        <device backend-domain="dom0" id="02_00.0"/>
      </devices>
    </domain>
    <domain id="domain-2" class="AppVM">
      <properties>
        <property name="name">work</property>
        <property name="uses_default_kernelopts">True</property>
        <property name="kernelopts">nopat</property>
      </properties>
      <devices class="pci"/>
    </domain>
    <domain id="domain-3" class="StandaloneVM">
      <properties>
        <property name="name">own-kernel</property>
        <property name="kernel"></property>
        <property name="kernelopts">nopat</property>
      </properties>
    </domain>
    <domain id="domain-4" class="AppVM">
      <properties><property name="name">bare</property></properties>
    </domain>
  </domains>
</qubes>
"#;

fn parse(text: &str) -> Document {
    Document::parse(text.as_bytes().to_vec(), &Limits::default()).unwrap()
}

#[test]
fn options_are_those_in_force() {
    use Origin::{Dom0, Own, OwnKernel, ReleaseDefault};
    use Release::{R2014, R2020};
    let pci = "nopat iommu=soft swiotlb=4096";
    let cases = [
        (CORE2, "dom0", R2014, "", Dom0),
        (CORE2, "fedora-20-x64", R2014, "nopat", ReleaseDefault(R2014)),
        (CORE2, "netvm", R2014, pci, ReleaseDefault(R2014)),
        (CORE2, "usbvm", R2014, pci, ReleaseDefault(R2014)),
        (CORE2, "netvm", R2020, "", ReleaseDefault(R2020)),
        (CORE2, "bare", R2014, "nopat", ReleaseDefault(R2014)),
        (CORE2, "none", R2014, "nopat", ReleaseDefault(R2014)),
        (CORE2, "own", R2014, "quiet & slow", Own),
        (CORE2, "own-empty", R2014, "", Own),
        (CORE2, "own-missing", R2014, "", Own),
        (CORE2, "no-flag", R2014, "nopat", Own),
        (CORE2, "win7", R2014, "", OwnKernel),
        (CORE2, "win7-template", R2014, "", OwnKernel),
        (CORE3, "dom0", R2020, "", Dom0),
        (CORE3, "dom0", R2014, "", Dom0),
        (CORE3, "sys-net", R2020, "", ReleaseDefault(R2020)),
        (CORE3, "sys-net", R2014, pci, ReleaseDefault(R2014)),
        (CORE3, "work", R2020, "nopat", Own),
        (CORE3, "own-kernel", R2020, "", OwnKernel),
        (CORE3, "bare", R2020, "", ReleaseDefault(R2020)),
        (CORE3, "bare", R2014, "nopat", ReleaseDefault(R2014)),
    ];
    for (text, qube, release, options, origin) in cases {
        let found = options_in_force(&parse(text), qube, release).unwrap();
        assert_eq!(found.options, options, "{qube}");
        assert_eq!(found.origin, origin, "{qube}");
    }
    assert_eq!(Release::of(Dialect::Core2), R2014);
    assert_eq!(Release::of(Dialect::Core3), R2020);
}

#[test]
fn dom0_is_known_by_any_sign() {
    for element in [
        "<QubesAdminVm name='x' kernelopts='a'/>",
        "<QubesDomainZero name='x' kernelopts='a'/>",
        "<QubesNetVm name='x' qid='0' kernelopts='a'/>",
        "<QubesNetVm name='x' id='0' kernelopts='a'/>",
        "<QubesHVm name='x' qid='0' kernelopts='a'/>",
    ] {
        let text = format!("<QubesVmCollection>{element}</QubesVmCollection>");
        let found =
            options_in_force(&parse(&text), "x", Release::R2014).unwrap();
        assert_eq!(
            (found.options.as_str(), found.origin),
            ("", Origin::Dom0),
            "{element}"
        );
    }
}

#[test]
fn origins_are_told() {
    let told: Vec<_> = [
        Origin::Own,
        Origin::ReleaseDefault(Release::R2014),
        Origin::ReleaseDefault(Release::R2020),
        Origin::Dom0,
        Origin::OwnKernel,
    ]
    .map(|origin| origin.to_string())
    .into();
    assert_eq!(
        told,
        [
            "the qube's own",
            "the default since 2014",
            "the default since 2020",
            "none: dom0 has those of its boot loader",
            "none: the qube boots a kernel of its own",
        ]
    );
}

#[test]
fn what_is_not_known_is_refused() {
    let refusal = |qube| {
        options_in_force(&parse(CORE2), qube, Release::R2014)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refusal("nobody"),
        "qubes.xml: no qube \"nobody\" among 13; wanted the name of one of \
         them"
    );
    assert_eq!(
        refusal("broken"),
        "qubes.xml: attribute \"pcidevs\" of qube \"broken\" is \
         \"['00:1a.0'\"; wanted a list such as \"['00:1a.0']\" or \"[]\""
    );
}

const TAIL: &str = " map pfn expected mapping type write-back for \
                    [mem 0x00093000-0x00093fff], got uncached-minus";

fn gui_agent() -> PatConflict {
    PatConflict {
        process: "qubes-gui".to_owned(),
        pid: 664,
        first: 0x93000,
        last: 0x93fff,
        expected: MemoryType::WriteBack,
        got: MemoryType::UncachedMinus,
    }
}

#[test]
fn the_line_is_known_behind_any_prefix() {
    for prefix in [
        "",
        "<4>",
        "[   12.345678] ",
        "[   12.345678] x86/PAT: ",
        "<3>[   12.345678] ",
        "<11>[   12.345678][  T664] ",
        "[   12.345678][    C1] x86/PAT: ",
        "Nov 25 12:00:00 work kernel: [   12.345678] ",
        "Nov 25 12:00:00 work kernel: x86/PAT: ",
        "2014-06-01T12:00:00+0200 work kernel: ",
        "something nobody knows: ",
        "\u{fffd}\u{1b}[31m ",
    ] {
        for end in ["", "\n", "\r\n", "\".", "\" "] {
            let line = format!("{prefix}qubes-gui:664{TAIL}{end}");
            assert_eq!(
                explain_line(line.as_bytes()),
                Some(gui_agent()),
                "{line}"
            );
        }
    }
}

#[test]
fn names_are_kept_escaped() {
    let cases: [(&[u8], &str); 8] = [
        (b"x86/PAT: Web Content", "Web Content"),
        (b"[    1.000000] Web Content", "Web Content"),
        (b"<4>a:b] c", "a:b] c"),
        (b"x86/PAT: \xff\x1b[31m\\\xc3\xa9", "\\xff\\u{1b}[31m\\\\\u{e9}"),
        (b"x86/PAT: ", ""),
        (b"h kernel: fifteen.bytes.x", "fifteen.bytes.x"),
        (b"[ 1.0] x86/PAT: a kernel: b", "a kernel: b"),
        (b"[ 1.0] [2.0] x", "x"),
    ];
    for (before, process) in cases {
        let line = [before, b":664", TAIL.as_bytes()].concat();
        let found = explain_line(&line).unwrap();
        assert_eq!(
            found,
            PatConflict { process: process.into(), ..gui_agent() }
        );
    }
}

#[test]
fn ranges_and_types_are_read() {
    let line = |range: &str, expected: &str, got: &str| {
        let line = format!(
            "a:4294967295 map pfn expected mapping type {expected} for \
             {range}, got {got}"
        );
        let found = explain_line(line.as_bytes())?;
        Some((found.first, found.last, found.expected, found.got))
    };
    assert_eq!(
        line("[mem 0x0-0xFFFFffffFFFFffff]", "uncached", "write-through"),
        Some((0, u64::MAX, MemoryType::Uncached, MemoryType::WriteThrough))
    );
    // Linux 3.4 and before.
    assert_eq!(
        line("93000-94000", "write-combining", "(unknown)"),
        Some((
            0x93000,
            0x93fff,
            MemoryType::WriteCombining,
            MemoryType::Other("(unknown)".to_owned())
        ))
    );
    let word = "w".repeat(32);
    assert!(line("[mem 0x1-0x1]", &word, &word).is_some());
    for range in [
        "[mem 0x2-0x1]",
        "[mem 0x1-0x10000000000000000]",
        "[mem 0x1-0x2",
        "[mem +1-+2]",
        "[mem 0x-0x]",
        "[mem 0x1]",
        "0-0",
        "5-5",
        "",
    ] {
        assert_eq!(line(range, "write-back", "uncached"), None, "{range}");
    }
    for word in ["", "two words", "\u{e9}", "\u{1b}", &"w".repeat(33)] {
        assert_eq!(line("[mem 0x1-0x2]", word, "uncached"), None, "{word}");
        assert_eq!(line("[mem 0x1-0x2]", "uncached", word), None, "{word}");
    }
}

#[test]
fn other_lines_are_not_it() {
    for line in [
        "",
        " map pfn expected mapping type ",
        "qubes-gui:664 map pfn RAM range req write-back for \
         [mem 0x00093000-0x00093fff], got uncached-minus",
        "qubes-gui map pfn expected mapping type write-back for \
         [mem 0x00093000-0x00093fff], got uncached-minus",
        "qubes-gui:-1 map pfn expected mapping type write-back for \
         [mem 0x00093000-0x00093fff], got uncached-minus",
        "qubes-gui:4294967296 map pfn expected mapping type write-back for \
         [mem 0x00093000-0x00093fff], got uncached-minus",
        "qubes-gui:664 map pfn expected mapping type write-back for \
         [mem 0x00093000-0x00093fff]",
        "x86/PAT: sixteen.bytes.xx:664 map pfn expected mapping type \
         write-back for [mem 0x00093000-0x00093fff], got uncached-minus",
    ] {
        assert_eq!(explain_line(line.as_bytes()), None, "{line}");
    }
}

#[test]
fn the_explanation_says_what_to_do() {
    let expected = "The process \"qubes-gui\" (number 664) wanted the memory \
        0x00093000-0x00093fff as write-back, but the kernel's page attribute \
        table (PAT) has it as uncached-minus. The kernel refuses a mapping of \
        another type, so the program fails or is killed; if it is the GUI \
        agent, the windows of the qube go with it. Add nopat to the kernel \
        options of the qube, never to those of dom0, which needs the table, \
        and start the qube again: qubes-fsm store set --store FILE QUBE \
        kernelopts nopat (before release 4.0 also set \
        uses_default_kernelopts to False).";
    assert_eq!(gui_agent().explanation(), expected);
    assert_eq!(gui_agent().to_string(), expected);
}

/// A quadratic search would take hours for these.
#[test]
fn long_lines_take_no_long_time() {
    for piece in [" map pfn", "[ 1] ", " kernel: ", "<1>", ":1", "\\", " for "]
    {
        let long = piece.repeat(1_000_000);
        let lines = [
            long.clone(),
            format!("{long}{TAIL}"),
            format!("a:1{TAIL}{long}"),
            format!("a:1 map pfn expected mapping type {long}, got x"),
        ];
        for line in lines {
            let _ = explain_line(line.as_bytes());
        }
    }
}

quickcheck! {
    fn no_line_panics(untrusted_line: Vec<u8>) -> bool {
        explain_line(&untrusted_line).is_none()
    }

    /// A whole line in which one piece is anything.
    fn no_damage_panics(at: usize, len: u8, with: Vec<u8>) -> bool {
        let mut line =
            format!("[   12.3] x86/PAT: qubes-gui:664{TAIL}").into_bytes();
        let start = at % line.len();
        let end = (start + usize::from(len)).min(line.len());
        line.splice(start..end, with);
        if let Some(found) = explain_line(&line) {
            assert!(!found.explanation().contains(char::is_control));
            assert!(found.first <= found.last);
        }
        true
    }

    /// A name is its bytes, whatever they are, behind the kernel's prefix.
    fn any_name_is_kept(name: Vec<u8>, pid: u32) -> bool {
        let name: Vec<u8> = name.into_iter().take(15).collect();
        let pid_text = format!(":{pid}");
        let line = [b"x86/PAT: ", &name[..], pid_text.as_bytes(),
            TAIL.as_bytes()].concat();
        explain_line(&line).is_some_and(|found| {
            found.pid == pid && (found.process.len() >= name.len()
                || !name.is_ascii())
        })
    }
}
