//! Names in any order: a name that is accepted is canonical, and an order that
//! is accepted has every file once, from 000, without a gap.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use qubes_fsm::format::chunk::{Member, Order};

fuzz_target!(|untrusted_names: Vec<Vec<u8>>| {
    let mut order = Order::new();
    let mut files: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    let mut last = Vec::new();
    for untrusted_name in &untrusted_names {
        let Ok(member) = Member::parse(untrusted_name) else { continue };
        assert_eq!(member.name(), *untrusted_name);
        let Member::Chunk(chunk) = member else { continue };
        if order.accept(chunk).is_err() {
            return;
        }
        let file = chunk.file().to_vec();
        let next = files.entry(file.clone()).or_default();
        assert_eq!(chunk.number(), *next);
        assert!(*next == 0 || last == file, "a file came back");
        *next += 1;
        last = file;
    }
});
