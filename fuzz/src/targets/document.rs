//! Untrusted bytes as a store, behind a line with an attribute and one with a
//! value: parsed or refused, never a panic; an accepted edit reads back,
//! changes nothing else, and keeps head and tail.
//!
//! Lives here: that, and stores to begin with. May not live here: files.

use qubes_fsm::store::document::{Document, Limits};

use super::{Seed, refused, texts};

const CORE2: &str = "<QubesVmCollection default_template=\"1\">\n  \
    <QubesTemplateVm qid=\"1\" name='fedora'/>\n  <!-- one -->\n  \
    <QubesAppVm qid=\"5\" name=\"work\" label=\"red\"></QubesAppVm>\n\
    </QubesVmCollection>\n";
const CORE3: &str = "<?xml version=\"1.0\"?>\n<qubes><labels/><properties/>\
    <domains><domain id=\"domain-1\" class=\"AppVM\"><properties>\
    <property name=\"name\">work</property>\
    <property name=\"label\" ref=\"label-1\"/></properties><features/>\
    </domain></domains></qubes>\n";

/// Whether it is a store, and an edit of it was accepted.
pub fn run(untrusted_bytes: &[u8]) -> bool {
    let mut parts = untrusted_bytes.splitn(3, |byte| *byte == b'\n');
    let mut line = || parts.next().unwrap_or_default();
    let (attribute, value, bytes) = (line(), line(), line());
    let text = |bytes| str::from_utf8(bytes).unwrap_or("label");
    let (attribute, value) = (text(attribute), text(value));
    let limits = Limits::default();
    let document = match Document::parse(bytes.to_vec(), &limits) {
        Ok(document) => document,
        Err(error) => return refused(&error),
    };
    assert_eq!(document.bytes(), bytes);
    let names = document.qubes().iter().map(|qube| qube.name().to_owned());
    let mut good = false;
    for name in names.take(3) {
        let bytes = match document.set(&name, attribute, value) {
            Ok(bytes) => bytes,
            Err(error) => {
                refused(&error);
                continue;
            }
        };
        good = true;
        let edited = Document::parse(bytes, &limits).expect("reads back");
        let name = if attribute == "name" { value } else { &name };
        assert_eq!(edited.get(name, attribute), Ok(value));
        let same = document.bytes().iter().zip(edited.bytes());
        let head = same.take_while(|(old, new)| old == new).count();
        let old = document.bytes()[head..].iter().rev();
        let same = old.zip(edited.bytes()[head..].iter().rev());
        let tail = same.take_while(|(old, new)| old == new).count();
        // What is between them is the value, not the rest of the file.
        let replaced = document.bytes().len() - head - tail;
        let present = document.get(name, attribute).unwrap_or("");
        assert!(replaced <= 8 * present.len() + 64 || attribute == "name");
    }
    good
}

/// Both dialects, and what is refused.
pub fn seeds() -> Vec<Seed> {
    let input = |lines: &str, store: &str| [lines, store].concat().into_bytes();
    let doctype = CORE2.replacen('<', "<!DOCTYPE a><", 1);
    let cdata = CORE3.replacen(">work<", "><![CDATA[work]]><", 1);
    let twice = CORE2.replacen("fedora", "work", 1);
    vec![
        Seed::good("core2", &input("label\nblue\n", CORE2)),
        Seed::good("core2-name", &input("name\nhome\n", CORE2)),
        Seed::good("core2-new", &input("memory\n4 < 5\n", CORE2)),
        Seed::good("core3", &input("name\nhome\n", CORE3)),
        Seed::bad("core3-reference", &input("label\nblue\n", CORE3)),
        Seed::good("core3-new", &input("netvm\na&b\n", CORE3)),
        Seed::good("cdata", &input("name\nhome\n", &cdata)),
        Seed::bad("doctype", &input("label\nblue\n", &doctype)),
        Seed::bad("twice", &input("label\nblue\n", &twice)),
        Seed::bad("cut", &input("label\nblue\n", &CORE2[..100])),
        Seed::bad("empty", b""),
    ]
}

/// Tags, and what XML is made of.
pub fn words() -> Vec<Vec<u8>> {
    texts(&[
        "<QubesVmCollection>",
        "</QubesVmCollection>",
        "<QubesAppVm name=\"a\" qid='1'/>",
        "<qubes><domains>",
        "</domains></qubes>",
        "<domain id=\"1\" class=\"AppVM\">",
        "</domain>",
        "<properties>",
        "</properties>",
        "<property name=\"name\">",
        "</property>",
        "<![CDATA[",
        "]]>",
        "<!--",
        "-->",
        "&amp;",
        "&#10;",
        "<!DOCTYPE",
        "encoding=",
    ])
}
