//! Names in any order, each behind a NUL: a name that is accepted is
//! canonical, and an order that is accepted has every file once, from 000,
//! without a gap.
//!
//! Lives here: that, and orders to begin with. May not live here: what is in
//! a chunk.

use std::collections::BTreeMap;

use qubes_fsm::format::chunk::{Chunk, Member, Order};

use super::{Seed, refused, texts};

/// Whether all of them are names, in an order.
pub fn run(untrusted_names: &[u8]) -> bool {
    let mut order = Order::new();
    let mut files: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    let mut last = Vec::new();
    let mut good = true;
    for untrusted_name in untrusted_names.split(|byte| *byte == 0) {
        let member = match Member::parse(untrusted_name) {
            Ok(member) => member,
            Err(error) => {
                good = refused(&error);
                continue;
            }
        };
        assert_eq!(member.name(), untrusted_name);
        if let Some(mac) = member.mac() {
            let name = mac.name();
            // It may be too long for its code's.
            if let Ok(parsed) = Member::parse(&name) {
                assert_eq!(parsed, mac);
            }
        }
        let Member::Chunk(chunk) = member else { continue };
        if let Ok(next) = chunk.next() {
            assert_eq!(Chunk::new(chunk.file(), next.number()), Ok(next));
        }
        if let Err(error) = order.accept(chunk) {
            return refused(&error);
        }
        let file = chunk.file().to_vec();
        let next = files.entry(file.clone()).or_default();
        assert_eq!(chunk.number(), *next, "a number that does not follow");
        assert!(*next == 0 || last == file, "a file came back");
        *next += 1;
        last = file;
    }
    good
}

/// A backup as it is written, and orders that are refused.
pub fn seeds() -> Vec<Seed> {
    let whole = "backup-header\0backup-header.hmac\0qubes.xml.000\0\
                 qubes.xml.000.hmac\0vm5/private.img.000\0\
                 vm5/private.img.000.hmac\0vm5/private.img.001\0\
                 vm5/private.img.001.hmac\0vm7/..000\0dom0-home/user0.000";
    let many = (0..1002).map(|number| format!("a.{number:03}"));
    let many = many.collect::<Vec<_>>().join("\0");
    let long = format!("{}.000", "n".repeat(252));
    vec![
        Seed::good("backup", whole.as_bytes()),
        Seed::good("thousand", many.as_bytes()),
        Seed::bad("gap", b"a.000\0a.002"),
        Seed::bad("again", b"a.000\0a.000"),
        Seed::bad("not-first", b"a.000\0b.001"),
        Seed::bad("back", b"a.000\0b.000\0a.001"),
        Seed::bad("not-canonical", b"a.1"),
        Seed::bad("too-large", b"a.4294967296"),
        Seed::bad("no-number", b"a"),
        Seed::bad("absolute", b"/a.000"),
        Seed::bad("up", b"a/../b.000"),
        Seed::bad("long", long.as_bytes()),
    ]
}

/// Names and their ends.
pub fn words() -> Vec<Vec<u8>> {
    texts(&[
        ".000\0", ".001\0", ".002\0", ".1000\0", ".hmac\0", "vm5/", "..",
        "a.000\0", "a.001\0", "b.000\0",
    ])
}
