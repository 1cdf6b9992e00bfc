//! `qubes.xml` read and edited: both dialects, byte identity outside the edit,
//! every refusal in full, and whatever quickcheck finds.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use qubes_fsm::store::document::{
    Dialect, Document, DocumentError, Edit, Limits,
};
use quickcheck::{TestResult, quickcheck};

/// As release 2 wrote it, but for line breaks in tags, with odd but legal
/// spots.
const CORE2: &str = r#"<?xml version='1.0' encoding='UTF-8'?>
<QubesVmCollection updatevm="3" default_kernel="3.7.6-2" clockvm="1">
  <!-- <QubesAppVm name="not-here" qid="99"/> -->
  <QubesTemplateVm installed_by_rpm="True" uses_default_kernelopts="True"
    qid="1" kernelopts="" services="{ 'meminfo-writer': True}" pcidevs="[]"
    name="fedora-20-x64" dir_path="/var/lib/qubes/vm-templates/fedora-20-x64"/>
  <QubesNetVm uses_default_kernelopts="True" qid="2" name="netvm"
    kernelopts="iommu=soft swiotlb=4096" pcidevs="['02:00.0', '03:00.0']"
    dir_path="/var/lib/qubes/servicevms/netvm"/>
  <QubesProxyVm qid='3' name = 'firewallvm'
    netvm_qid='2' services='{&apos;ntpd&apos;: &#70;alse}' />
  <QubesAppVm backup_content="True" backup_path="appvms/work"
              backup_size="104857600"
              qid="5" name="work" kernelopts="a&amp;b" label="a	b
c" dir_path="/var/lib/qubes/appvms/work">
  </QubesAppVm>
  <QubesHVm qid="14" name="win7" drive="None" dir_path="appvms/win7"/>
  <QubesDisposableVm dispid="50" name="disp50" netvm_qid="2" qid="15"/>
</QubesVmCollection>
"#;

/// As release 4 writes it, with odd but legal spots.
const CORE3: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<qubes>
  <labels>
    <label id="label-1" color="0xcc0000">red</label>
  </labels>
  <pools/>
  <properties>
    <property name="clockvm">sys-net</property>
  </properties>
  <domains>
    <domain id="domain-0" class="AdminVM">
      <properties>
        <property name="label" ref="label-8">black</property>
      </properties>
      <features/>
      <tags/>
    </domain>
    <domain id="domain-2" class="AppVM">
      <properties>
        <property name="qid">2</property>
        <property name="name">sys-net</property>
        <property name="kernelopts"><![CDATA[a<b]]> &amp; <!-- c -->d</property>
        <property name="netvm" />
        <property name='memory'>400</property> <!-- in MiB -->
      </properties>
      <features>
        <feature name="gui">1</feature>
      </features>
      <devices class="pci">
        <device backend-domain="dom0" id="02_00.0"/>
        <device backend-domain="dom0" id="03_00.0"/>
      </devices>
      <devices class="block"><device id="sda"/></devices>
      <tags>
        <tag name="created-by-dom0"/>
      </tags>
    </domain>
    <domain id="domain-3" class="AppVM"><properties
      ><property name="name">work</property></properties></domain>
  </domains>
</qubes>
"#;

fn parse(text: &str) -> Result<Document, DocumentError> {
    Document::parse(text.as_bytes().to_vec(), &Limits::default())
}

fn refusal(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

/// The edit, as a text.
fn set(text: &str, qube: &str, attribute: &str, value: &str) -> String {
    let new = parse(text).unwrap().set(qube, attribute, value).unwrap();
    String::from_utf8(new).unwrap()
}

fn set_refusal(text: &str, edit: [&str; 3]) -> String {
    let [qube, attribute, value] = edit;
    let document = parse(text).unwrap();
    document.set(qube, attribute, value).unwrap_err().to_string()
}

/// One replacement in the text is all that may happen.
fn assert_edit(text: &str, edit: [&str; 3], from: &str, to: &str) {
    let [qube, attribute, value] = edit;
    assert_eq!(text.matches(from).count(), 1, "{from}");
    assert_eq!(set(text, qube, attribute, value), text.replace(from, to));
}

#[test]
fn features_of_core3_are_read() {
    let document = parse(CORE3).unwrap();
    let feature = |qube: &str, name: &str| {
        let qube = document.qube(qube).unwrap();
        qube.feature(name).map(str::to_owned)
    };
    assert_eq!(feature("sys-net", "gui").as_deref(), Some("1"));
    assert_eq!(feature("sys-net", "qid"), None);
    assert_eq!(feature("dom0", "gui"), None);
    assert_eq!(feature("work", "gui"), None);
    let text = CORE3.replace(
        "<feature name=\"gui\">1</feature>",
        "<feature name=\"a\">b&amp;<!-- c -->d</feature><feature name=\"e\"/>\
         <feature>f</feature><other name=\"g\">h</other>\
         <feature name=\"i\">j</feature><feature name=\"i\">k</feature>",
    );
    let document = parse(&text).unwrap();
    let qube = document.qube("sys-net").unwrap();
    let found = ["a", "e", "g", "i"].map(|name| qube.feature(name));
    assert_eq!(found, [Some("b&d"), Some(""), None, Some("k")]);
    let core2 = parse(CORE2).unwrap();
    assert!(core2.qubes().iter().all(|qube| qube.feature("a").is_none()));
}

#[test]
fn core2_is_read() {
    let document = parse(CORE2).unwrap();
    assert_eq!(document.dialect(), Dialect::Core2);
    let qubes: Vec<_> =
        document.qubes().iter().map(|q| (q.class(), q.name())).collect();
    assert_eq!(
        qubes,
        [
            ("QubesTemplateVm", "fedora-20-x64"),
            ("QubesNetVm", "netvm"),
            ("QubesProxyVm", "firewallvm"),
            ("QubesAppVm", "work"),
            ("QubesHVm", "win7"),
            ("QubesDisposableVm", "disp50"),
        ]
    );
    let firewall = document.qube("firewallvm").unwrap();
    assert_eq!(
        firewall.attributes().collect::<Vec<_>>(),
        [
            ("qid", "3"),
            ("name", "firewallvm"),
            ("netvm_qid", "2"),
            ("services", "{'ntpd': False}"),
        ]
    );
    assert_eq!(document.get("work", "kernelopts"), Ok("a&b"));
    assert_eq!(document.get("work", "label"), Ok("a b c"));
    assert_eq!(document.bytes(), CORE2.as_bytes());
    assert_eq!(document.into_bytes(), CORE2.as_bytes());
}

#[test]
fn core3_is_read() {
    let document = parse(CORE3).unwrap();
    assert_eq!(document.dialect(), Dialect::Core3);
    let qubes: Vec<_> = document
        .qubes()
        .iter()
        .map(|q| (q.class(), q.name(), q.pci_devices()))
        .collect();
    assert_eq!(
        qubes,
        [("AdminVM", "dom0", 0), ("AppVM", "sys-net", 2), ("AppVM", "work", 0),]
    );
    let net = document.qube("sys-net").unwrap();
    assert_eq!(
        net.attributes().collect::<Vec<_>>(),
        [
            ("id", "domain-2"),
            ("class", "AppVM"),
            ("qid", "2"),
            ("name", "sys-net"),
            ("kernelopts", "a<b & d"),
            ("netvm", ""),
            ("memory", "400"),
        ]
    );
    assert_eq!(document.get("dom0", "label"), Ok("black"));
    assert_eq!(document.get("sys-net", "id"), Ok("domain-2"));
}

#[test]
fn an_edit_changes_nothing_else() {
    let cases: [([&str; 3], &str, &str); 9] = [
        (["win7", "drive", "x"], "drive=\"None\"", "drive=\"x\""),
        (
            ["netvm", "pcidevs", "[\"<'&'>\"]"],
            "\"['02:00.0', '03:00.0']\"",
            "\"[&quot;&lt;'&amp;'&gt;&quot;]\"",
        ),
        // Single quotes and spaces around the equals sign stay.
        (
            ["firewallvm", "name", "it's \"new\""],
            "name = 'firewallvm'",
            "name = 'it&apos;s \"new\"'",
        ),
        // References outside the edit stay as they are.
        (
            ["firewallvm", "netvm_qid", "1"],
            "netvm_qid='2' services='{&apos;",
            "netvm_qid='1' services='{&apos;",
        ),
        (
            ["work", "label", "\ta\r\nb "],
            "label=\"a\tb\nc\"",
            "label=\"&#9;a&#13;&#10;b \"",
        ),
        (["work", "backup_path", ""], "\"appvms/work\"", "\"\""),
        // New ones come after the last.
        (
            ["firewallvm", "kernelopts", "a\"'"],
            "&#70;alse}' />",
            "&#70;alse}' kernelopts=\"a&quot;'\" />",
        ),
        (
            ["work", "backup", "é"],
            "appvms/work\">",
            "appvms/work\" backup=\"é\">",
        ),
        (["disp50", "mac", "1"], "qid=\"15\"/>", "qid=\"15\" mac=\"1\"/>"),
    ];
    for (edit, from, to) in cases {
        assert_edit(CORE2, edit, from, to);
        // The same with the line ends of Windows, and behind a mark.
        let crlf = format!("\u{feff}{}", CORE2.replace('\n', "\r\n"));
        let from = from.replace('\n', "\r\n");
        assert_edit(&crlf, edit, &from, to);
    }
}

#[test]
fn a_property_is_edited_or_added() {
    let cases: [([&str; 3], &str, &str); 8] = [
        (["sys-net", "qid", "7"], ">2</property>", ">7</property>"),
        (
            ["sys-net", "kernelopts", " ]]>\r\n\t\"'& "],
            "<![CDATA[a<b]]> &amp; <!-- c -->d",
            " ]]&gt;&#13;\n\t\"'&amp; ",
        ),
        (
            ["sys-net", "netvm", "fw"],
            "<property name=\"netvm\" />",
            "<property name=\"netvm\" >fw</property>",
        ),
        (["sys-net", "memory", ""], ">400<", "><"),
        (["work", "name", "job"], ">work<", ">job<"),
        // The comment stays with the property it follows.
        (
            ["sys-net", "vcpus", "<2>"],
            "<!-- in MiB -->\n",
            "<!-- in MiB -->\n        <property name=\"vcpus\">&lt;2&gt;\
             </property>\n",
        ),
        (
            ["work", "vcpus", "2"],
            ">work</property>",
            ">work</property><property name=\"vcpus\">2</property>",
        ),
        (
            ["dom0", "vcpus", "2"],
            "black</property>",
            "black</property>\n        <property name=\"vcpus\">2</property>",
        ),
    ];
    for (edit, from, to) in cases {
        assert_edit(CORE3, edit, from, to);
    }
    let crlf = format!("\u{feff}{}", CORE3.replace('\n', "\r\n"));
    assert_edit(
        &crlf,
        ["sys-net", "vcpus", "2"],
        "<!-- in MiB -->",
        "<!-- in MiB -->\r\n        <property name=\"vcpus\">2</property>",
    );
}

#[test]
fn missing_properties_are_made() {
    let around = |domain: &str| {
        format!("<qubes>\n <domains>\n  {domain}\n </domains>\n</qubes>")
    };
    let start = "<domain id=\"domain-0\" class=\"AdminVM\"";
    let new = "<property name=\"a\">b</property>";
    let deep =
        format!("<properties>\n    {new}\n   </properties>\n  </domain>");
    let cases = [
        (format!("{start} />"), format!("{start} >\n   {deep}")),
        (format!("{start}></domain>"), format!("{start}>\n   {deep}")),
        (
            format!("{start}>\n   <tags/>\n  </domain>"),
            format!("{start}>\n   <tags/>\n   {deep}"),
        ),
        (
            format!("{start}>\n   <properties/>\n  </domain>"),
            format!("{start}>\n   {deep}"),
        ),
        (
            format!("{start}>\n   <properties></properties>\n  </domain>"),
            format!("{start}>\n   {deep}"),
        ),
        (
            format!("{start}>\n   <properties>\n   </properties>\n  </domain>"),
            format!("{start}>\n   {deep}"),
        ),
        (
            format!("{start}><properties/></domain>"),
            format!("{start}><properties>{new}</properties></domain>"),
        ),
        (
            format!("{start}><tags/></domain>"),
            format!("{start}><tags/><properties>{new}</properties></domain>"),
        ),
    ];
    for (from, to) in cases {
        assert_eq!(set(&around(&from), "dom0", "a", "b"), around(&to));
    }
}

#[test]
fn names_of_other_namespaces_are_not_ours() {
    let text = "<QubesVmCollection xmlns:n='u'><Q n:name='a'/>\
                <Q n:kernelopts='x' name='b'/></QubesVmCollection>";
    let document = parse(text).unwrap();
    assert_eq!(document.qubes().len(), 1);
    let names: Vec<_> = document.qubes()[0].attributes().collect();
    assert_eq!(names, [("name", "b")]);
    let to = "name='b' kernelopts=\"y\"/>";
    assert_edit(text, ["b", "kernelopts", "y"], "name='b'/>", to);
    let text = "<qubes xmlns:n='u'><n:domains><domain/></n:domains>\
                <domains><n:domain/></domains></qubes>";
    assert_eq!(parse(text).unwrap().qubes().len(), 0);
}

#[test]
fn the_same_value_gives_the_same_bytes() {
    for text in [CORE2, CORE3] {
        let document = parse(text).unwrap();
        for qube in document.qubes() {
            for (name, value) in qube.attributes() {
                let same = document.set(qube.name(), name, value);
                assert_eq!(same.as_deref(), Ok(text.as_bytes()), "{name}");
            }
        }
    }
}

#[test]
fn us_ascii_stays_us_ascii() {
    let text = "<?xml version='1.0' encoding='us-ascii'?>\n\
                <QubesVmCollection><QubesAppVm name='a'/></QubesVmCollection>";
    let to = "name='&#233;&#128512;'/>";
    assert_edit(text, ["a", "name", "é😀"], "name='a'/>", to);
    assert_eq!(
        set_refusal(text, ["a", "é", "1"]),
        "qubes.xml: attribute name \"é\"; wanted an XML name without a colon"
    );
    assert_eq!(
        refusal(&text.replace("'a'", "'é'")),
        "qubes.xml: line 2: character 'é' in a file that declares US-ASCII; \
         wanted ASCII"
    );
}

#[test]
fn reading_is_refused() {
    let cases = [
        (
            "<!DOCTYPE lolz [<!ENTITY l \"lol\"><!ENTITY m \"&l;&l;&l;&l;\">\
             ]><qubes>&m;</qubes>",
            "qubes.xml: line 1: a document type declaration; wanted none",
        ),
        (
            "<?xml version=\"1.0\"?>\n<!-- <!DOCTYPE a> -->\n\
             <!DOCTYPE qubes SYSTEM \"file:///etc/passwd\"><qubes/>",
            "qubes.xml: line 3: a document type declaration; wanted none",
        ),
        (
            "",
            "qubes.xml: line 1: column 1: the document does not have a root \
             node; wanted well-formed XML",
        ),
        (
            "<",
            "qubes.xml: line 1: column 2: invalid name token at 1:2; wanted \
             well-formed XML",
        ),
        (
            "<qubes>\n<a b='",
            "qubes.xml: line 2: column 7: unexpected end of stream; wanted \
             well-formed XML",
        ),
        (
            "<qubes>\n <\n</qubes>",
            "qubes.xml: line 2: column 3: invalid name token at 2:3; wanted \
             well-formed XML",
        ),
        (
            "<qubes>\n<domains>\n",
            "qubes.xml: line 3: column 1: the root node was opened but never \
             closed; wanted well-formed XML",
        ),
        (
            "<qubes a='1' a='2'/>",
            "qubes.xml: line 1: column 14: attribute 'a' at 1:14 is already \
             defined; wanted well-formed XML",
        ),
        (
            "<qubes>&nbsp;</qubes>",
            "qubes.xml: line 1: column 8: unknown entity reference 'nbsp' at \
             1:8; wanted well-formed XML",
        ),
        (
            "<qubes a\u{1b}='1'/>",
            "qubes.xml: line 1: column 9: expected '=' not '\\u{1b}' at 1:9; \
             wanted well-formed XML",
        ),
        (
            "<!-- -->\n<html/>",
            "qubes.xml: line 2: root element \"html\"; wanted \
             \"QubesVmCollection\" or \"qubes\"",
        ),
        (
            "<qubes xmlns='urn:x'/>",
            "qubes.xml: line 1: root element \"{urn:x}qubes\"; wanted \
             \"QubesVmCollection\" or \"qubes\"",
        ),
        (
            "<qubes><domains>\n<domain class='AppVM'/></domains></qubes>",
            "qubes.xml: line 2: a domain of class \"AppVM\" without a name; \
             wanted a property \"name\"",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(refusal(text), expected);
    }
}

#[test]
fn duplicates_are_refused() {
    let text = CORE2.replace("name=\"win7\"", "name=\"netvm\"");
    assert_eq!(
        refusal(&text),
        "qubes.xml: line 17: a second qube \"netvm\", the first is in line 7; \
         wanted different names"
    );
    let text = CORE3.replace(">work<", ">sys-net<");
    assert_eq!(
        refusal(&text),
        "qubes.xml: line 38: a second qube \"sys-net\", the first is in line \
         18; wanted different names"
    );
    let text = CORE3.replace("name='memory'", "name='netvm'");
    assert_eq!(
        refusal(&text),
        "qubes.xml: line 24: a second property \"netvm\" of qube \"sys-net\", \
         the first is in line 23; wanted one"
    );
}

#[test]
fn limits_are_kept() {
    let limits = Limits {
        bytes_max: 200,
        nodes_max: 9,
        depth_max: 3,
        attributes_max: 2,
        namespaces_max: 1,
    };
    let parse = |text: &str| {
        Document::parse(text.as_bytes().to_vec(), &limits)
            .map(|_| String::new())
            .unwrap_or_else(|error| {
                assert!(error.is_limit(), "{error}");
                error.to_string()
            })
    };
    let cases = [
        (format!("<qubes>{}</qubes>", " ".repeat(185)), ""),
        (
            format!("<qubes>{}</qubes>", " ".repeat(186)),
            "qubes.xml: 201 bytes; wanted at most 200",
        ),
        ("<qubes>\n<a><b/></a></qubes>".to_owned(), ""),
        (
            "<qubes>\n<a><b><c/></b></a></qubes>".to_owned(),
            "qubes.xml: line 2: more than 3 elements inside each other; \
             wanted at most 3",
        ),
        ("<qubes><a a='' b=''/></qubes>".to_owned(), ""),
        (
            "<qubes><a a='' b='' c=''/></qubes>".to_owned(),
            "qubes.xml: line 1: an element with 3 attributes; wanted at most 2",
        ),
        (
            "<qubes>\n<a xmlns:a='x'/><b\nxmlns:b='y'/></qubes>".to_owned(),
            "qubes.xml: line 2: more than 1 namespace declarations; wanted at \
             most 1",
        ),
        (format!("<qubes>{}</qubes>", "<a/>".repeat(8)), ""),
        (
            format!("<qubes>{}</qubes>", "<a/>".repeat(9)),
            "qubes.xml: more than 9 nodes; wanted at most 9",
        ),
        // Not even counted by the parser: each takes room before.
        (
            format!("<qubes><!--{}--></qubes>", "<".repeat(20)),
            "qubes.xml: more than 9 nodes; wanted at most 9",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(parse(&text), expected, "{text}");
    }
}

#[test]
fn an_edit_keeps_the_limits() {
    let text = "<QubesVmCollection><Q name='a'/></QubesVmCollection>";
    let limits =
        Limits { bytes_max: 60, attributes_max: 1, ..Limits::default() };
    let document = Document::parse(text.as_bytes().to_vec(), &limits).unwrap();
    let refusal = |attribute, value| {
        let error = document.set("a", attribute, value).unwrap_err();
        assert!(error.is_limit());
        error.to_string()
    };
    assert_eq!(
        refusal("name", "0123456789"),
        "qubes.xml: 61 bytes; wanted at most 60"
    );
    assert_eq!(
        refusal("b", ""),
        "qubes.xml: line 1: an element with 2 attributes; wanted at most 1"
    );
}

#[test]
fn deep_and_large_files_are_refused_at_once() {
    for close in ["", "</a>"] {
        let deep = ["<a>".repeat(100_000), close.repeat(100_000)].concat();
        assert_eq!(
            refusal(&deep),
            "qubes.xml: line 1: more than 64 elements inside each other; \
             wanted at most 64"
        );
    }
    let large = " ".repeat(17 << 20);
    assert_eq!(
        refusal(&large),
        "qubes.xml: 17825792 bytes; wanted at most 16777216"
    );
    // 16 MiB of the shortest elements, and of the shortest attributes.
    let wide = format!("<qubes>{}</qubes>", "<a/>".repeat(4_000_000));
    assert_eq!(
        refusal(&wide),
        "qubes.xml: more than 1000000 nodes; wanted at most 1000000"
    );
    let names: String = (0..1_000_000).map(|n| format!(" a{n}=''")).collect();
    assert_eq!(
        refusal(&format!("<qubes{names}/>")),
        "qubes.xml: line 1: an element with 1000000 attributes; wanted at \
         most 256"
    );
}

#[test]
fn other_encodings_are_refused() {
    let utf16 = |is_little: bool, text: &str| -> Vec<u8> {
        let bytes = |unit: u16| {
            if is_little { unit.to_le_bytes() } else { unit.to_be_bytes() }
        };
        text.encode_utf16().flat_map(bytes).collect()
    };
    let utf32 = |is_little: bool, text: &str| -> Vec<u8> {
        let bytes = |c: u32| {
            if is_little { c.to_le_bytes() } else { c.to_be_bytes() }
        };
        text.chars().map(u32::from).flat_map(bytes).collect()
    };
    let marked = "\u{feff}<qubes/>";
    let cases = [
        (utf16(true, marked), "UTF-16LE by its byte order mark"),
        (utf16(false, marked), "UTF-16BE by its byte order mark"),
        (utf32(true, marked), "UTF-32LE by its byte order mark"),
        (utf32(false, marked), "UTF-32BE by its byte order mark"),
        (utf16(true, CORE3), "UTF-16LE by its NUL bytes"),
        (utf16(false, CORE3), "UTF-16BE by its NUL bytes"),
        (utf32(true, CORE3), "UTF-32LE by its NUL bytes"),
        (utf32(false, CORE3), "UTF-32BE by its NUL bytes"),
        (
            b"<?xml version='1.0' encoding = \"ISO-8859-2\"?><qubes/>".to_vec(),
            "\"ISO-8859-2\" by its declaration",
        ),
        (
            b"\xef\xbb\xbf<?xml\nversion='1.0' encoding='\x1b\xff'?><qubes/>"
                .to_vec(),
            "\"\\u{1b}\u{fffd}\" by its declaration",
        ),
    ];
    for (bytes, found) in cases {
        let error = Document::parse(bytes, &Limits::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("qubes.xml: encoding {found}; wanted UTF-8 or US-ASCII")
        );
    }
    for declared in ["UTF-8", "utf-8", "US-ASCII", "Us-Ascii"] {
        let text =
            format!("<?xml version='1.0' encoding='{declared}'?><qubes/>");
        assert!(parse(&text).is_ok(), "{declared}");
    }
    let latin1 = b"<qubes a='\xe9'/>".to_vec();
    assert_eq!(
        Document::parse(latin1, &Limits::default()).unwrap_err().to_string(),
        "qubes.xml: byte 10: not valid UTF-8; wanted UTF-8"
    );
}

#[test]
fn look_ups_that_fail() {
    let document = parse(CORE2).unwrap();
    assert_eq!(
        document.get("dom7", "qid").unwrap_err().to_string(),
        "qubes.xml: no qube \"dom7\" among 6; wanted the name of one of them"
    );
    assert_eq!(
        document.get("work", "mac").unwrap_err().to_string(),
        "qubes.xml: line 12: qube \"work\" has no attribute \"mac\"; wanted \
         one that it has"
    );
    let long = "\u{1b}".repeat(65);
    assert_eq!(
        document.qube(&long).unwrap_err().to_string(),
        format!(
            "qubes.xml: no qube \"{}\"... among 6; wanted the name of one of \
             them",
            "\\u{1b}".repeat(64)
        )
    );
}

#[test]
fn edits_that_are_refused() {
    let cases = [
        (
            CORE2,
            ["dom7", "qid", "1"],
            "qubes.xml: no qube \"dom7\" among 6; wanted the name of one of \
             them",
        ),
        (
            CORE2,
            ["work", "name", "netvm"],
            "qubes.xml: line 7: a qube \"netvm\" is already there; wanted a \
             name for qube \"work\" that no other has",
        ),
        (
            CORE3,
            ["work", "name", "dom0"],
            "qubes.xml: line 11: a qube \"dom0\" is already there; wanted a \
             name for qube \"work\" that no other has",
        ),
        (
            CORE2,
            ["work", "qid", "2"],
            "qubes.xml: line 7: qube \"netvm\" has qid \"2\"; wanted a qid for \
             qube \"work\" that no other has",
        ),
        (
            CORE2,
            ["disp50", "qid", "05"],
            "qubes.xml: line 12: qube \"work\" has qid \"05\"; wanted a qid \
             for qube \"disp50\" that no other has",
        ),
        (
            CORE3,
            ["work", "qid", "2"],
            "qubes.xml: line 18: qube \"sys-net\" has qid \"2\"; wanted a qid \
             for qube \"work\" that no other has",
        ),
        (
            CORE3,
            ["sys-net", "qid", "0"],
            "qubes.xml: line 11: qube \"dom0\" has qid \"0\"; wanted a qid for \
             qube \"sys-net\" that no other has",
        ),
        (
            CORE3,
            ["sys-net", "qid", "3"],
            "qubes.xml: line 38: qube \"work\" has qid \"3\"; wanted a qid for \
             qube \"sys-net\" that no other has",
        ),
        (
            CORE3,
            ["work", "name", ""],
            "qubes.xml: an empty name for qube \"work\"; wanted a name",
        ),
        (
            CORE3,
            ["work", "class", "AdminVM"],
            "qubes.xml: line 38: attribute \"class\" of qube \"work\" says \
             what it is; wanted an attribute that can be changed",
        ),
        (
            CORE3,
            ["work", "id", "domain-0"],
            "qubes.xml: line 38: attribute \"id\" of qube \"work\" says what \
             it is; wanted an attribute that can be changed",
        ),
        (
            CORE3,
            ["dom0", "label", "red"],
            "qubes.xml: line 13: attribute \"label\" of qube \"dom0\" is a \
             reference to \"label-8\"; wanted an attribute with a text of its \
             own",
        ),
        (
            CORE2,
            ["work", "mac", "a\u{1b}b\0"],
            "qubes.xml: character '\\u{1b}' in the value for attribute \
             \"mac\" of qube \"work\"; wanted characters that XML 1.0 can \
             carry",
        ),
        (
            CORE3,
            ["work", "mac", "\u{ffff}"],
            "qubes.xml: character '\\u{ffff}' in the value for attribute \
             \"mac\" of qube \"work\"; wanted characters that XML 1.0 can \
             carry",
        ),
    ];
    for (text, edit, expected) in cases {
        assert_eq!(set_refusal(text, edit), expected);
    }
    for name in ["", "a:b", "xmlns", "1", "a b", "a='1' b", "/><x", "a\u{1b}"] {
        for text in [CORE2, CORE3] {
            assert_eq!(
                set_refusal(text, ["work", name, "1"]),
                format!(
                    "qubes.xml: attribute name {name:?}; wanted an XML name \
                     without a colon"
                )
            );
        }
    }
}

/// Among edits made together too.
#[test]
fn two_qubes_do_not_get_the_same_qid() {
    let document = parse(CORE2).unwrap();
    let edit = |qube: &str, qid: &str| Edit {
        qube: qube.to_owned(),
        attribute: "qid".to_owned(),
        untrusted_value: qid.to_owned(),
    };
    let twice = [edit("work", "70"), edit("win7", "70")];
    assert_eq!(
        document.set_all(&twice).unwrap_err().to_string(),
        "qubes.xml: line 12: qube \"work\" has qid \"70\"; wanted a qid for \
         qube \"win7\" that no other has"
    );
    let swapped = [edit("work", "70"), edit("win7", "5"), edit("work", "14")];
    let new = document.set_all(&swapped).unwrap();
    let qids = ["work", "win7"].map(|qube| new.get(qube, "qid").unwrap());
    assert_eq!(qids, ["14", "5"]);
}

/// Characters of XML only.
fn is_xml(value: &str) -> bool {
    value.chars().all(|c| match c {
        '\t' | '\n' | '\r' => true,
        c => c >= ' ' && c != '\u{fffe}' && c != '\u{ffff}',
    })
}

/// Whether `new` is `old` with bytes put in at one place.
fn is_insertion(old: &[u8], new: &[u8]) -> bool {
    let at = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    new.len() >= old.len() && new.ends_with(&old[at..])
}

quickcheck! {
    /// Any value, set in any attribute that is there or not, reads back; and
    /// the bytes before and after it are those of the old document.
    fn what_is_set_is_read(value: String, which: usize)
        -> TestResult
    {
        // What is before the value, and the value as it stands there.
        let (text, qube, attribute, before, span) = [
            (CORE2, "work", "name", " name=\"", "work"),
            (CORE2, "netvm", "pcidevs", "=\"", "['02:00.0', '03:00.0']"),
            (CORE2, "firewallvm", "services", "services='",
                "{&apos;ntpd&apos;: &#70;alse}"),
            (CORE3, "work", "name", ">", "work"),
            (CORE3, "sys-net", "kernelopts", ">",
                "<![CDATA[a<b]]> &amp; <!-- c -->d"),
            (CORE3, "sys-net", "memory", ">", "400"),
            (CORE2, "work", "fresh", "", ""),
            (CORE3, "work", "fresh", "", ""),
            (CORE3, "dom0", "fresh", "", ""),
        ][which % 9];
        if !is_xml(&value) || (attribute == "name" && value.is_empty()) {
            return TestResult::discard();
        }
        let old = parse(text).unwrap();
        let bytes = old.set(qube, attribute, &value).unwrap();
        if attribute == "fresh" {
            assert!(is_insertion(text.as_bytes(), &bytes));
        } else {
            let (head, tail) = text.split_once(&[before, span].concat())
                .unwrap();
            assert!(bytes.starts_with([head, before].concat().as_bytes()));
            assert!(bytes.ends_with(tail.as_bytes()));
        }
        let new = Document::parse(bytes, &Limits::default()).unwrap();
        let name = if attribute == "name" { &value } else { qube };
        assert_eq!(new.get(name, attribute), Ok(value.as_str()));
        if let Ok(before) = old.get(qube, attribute) {
            let back = new.set(name, attribute, before).unwrap();
            let back = Document::parse(back, &Limits::default()).unwrap();
            assert_eq!(back.get(qube, attribute), Ok(before));
        }
        TestResult::passed()
    }

    /// All edits at once do what they do one after another, errors included.
    fn edits_at_once_are_those_in_turn(picks: Vec<(u8, u8, u8)>) -> bool {
        const QUBES: [&str; 5] = ["work", "sys-net", "netvm", "dom0", "other"];
        const ATTRIBUTES: [&str; 6] =
            ["label", "memory", "fresh", "name", "backup_size", "1"];
        const VALUES: [&str; 6] =
            ["7", "work", "other", "<a&b \"'>", "None", "\u{1b}"];
        let edits: Vec<_> = picks
            .iter()
            .map(|(qube, attribute, value)| Edit {
                qube: QUBES[usize::from(*qube) % 5].to_owned(),
                attribute: ATTRIBUTES[usize::from(*attribute) % 6].to_owned(),
                untrusted_value: VALUES[usize::from(*value) % 6].to_owned(),
            })
            .collect();
        for text in [CORE2, CORE3] {
            // Up to the first that is refused, so that some are left.
            let (mut made, mut document) = (0, parse(text).unwrap());
            let error = loop {
                let Some(edit) = edits.get(made) else { break None };
                let Edit { qube, attribute, untrusted_value } = edit;
                match document.set(qube, attribute, untrusted_value) {
                    Err(error) => break Some(error),
                    Ok(bytes) => {
                        let limits = Limits::default();
                        document = Document::parse(bytes, &limits).unwrap();
                    }
                }
                made += 1;
            };
            let all = parse(text).unwrap();
            let new = all.set_all(&edits[..made]).unwrap();
            assert_eq!(new.bytes(), document.bytes());
            // In which line it stands depends on what was read again.
            let same = |a: &DocumentError, b: &DocumentError| {
                std::mem::discriminant(a) == std::mem::discriminant(b)
            };
            match (error, all.set_all(&edits)) {
                (None, Ok(_)) => {}
                (Some(one), Err(other)) => assert!(same(&one, &other)),
                (one, other) => panic!("{edits:?}: {one:?}, {other:?}"),
            }
        }
        true
    }

    /// A value either reads back or is refused for a character of it.
    fn a_value_is_set_or_refused(value: String) -> bool {
        match parse(CORE2).unwrap().set("win7", "drive", &value) {
            Ok(_) => is_xml(&value),
            Err(DocumentError::BadCharacter { found, .. }) => {
                value.contains(found) && !is_xml(&value)
            }
            Err(_) => false,
        }
    }

    /// A name is taken or refused, and nothing else.
    fn an_attribute_name_is_taken_or_refused(name: String) -> bool {
        for text in [CORE2, CORE3] {
            match parse(text).unwrap().set("work", &name, "v") {
                Ok(_) | Err(DocumentError::BadAttributeName { .. }) => {}
                Err(error) => panic!("{name:?}: {error}"),
            }
        }
        true
    }

    fn no_bytes_panic(untrusted_bytes: Vec<u8>) -> bool {
        let _ = Document::parse(untrusted_bytes, &Limits::default());
        true
    }

    /// Documents with a piece cut out, doubled or overwritten: read or
    /// refused; and what is read can be edited.
    fn no_damage_panics(core3: bool, at: usize, len: u8, with: Vec<u8>)
        -> bool
    {
        let mut bytes =
            if core3 { CORE3 } else { CORE2 }.as_bytes().to_vec();
        let start = at % bytes.len();
        let end = (start + usize::from(len)).min(bytes.len());
        bytes.splice(start..end, with);
        if let Ok(document) = Document::parse(bytes, &Limits::default()) {
            for qube in document.qubes() {
                match document.set(qube.name(), "kernelopts", "a&b") {
                    Ok(_) | Err(DocumentError::Reference { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
        true
    }

    /// Markup of every kind in any order.
    fn no_markup_panics(pieces: Vec<u8>) -> bool {
        const PIECES: [&str; 24] = [
            "<qubes>", "</qubes>", "<domains>", "</domains>", "<domain",
            " class='AdminVM'", ">", "/>", "</domain>", "<properties>",
            "</properties>", "<property name='name'>", "</property>", "\"",
            "'", "<!--", "-->", "<![CDATA[", "]]>", "<?", "?>", "<!DOCTYPE",
            "\r\n ", "&",
        ];
        let text: String = pieces
            .iter()
            .map(|piece| PIECES[usize::from(*piece) % PIECES.len()])
            .collect();
        for text in [text.clone(), format!("<qubes><domains>{text}")] {
            if let Ok(document) = parse(&text) {
                for qube in document.qubes() {
                    let _ = document.set(qube.name(), "a", "b").unwrap();
                }
            }
        }
        true
    }
}
