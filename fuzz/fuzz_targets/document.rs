//! Untrusted bytes as a store: parsed or refused, never a panic; an accepted
//! edit reads back, changes nothing else, and keeps head and tail.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qubes_fsm::store::document::{Document, Limits};

fuzz_target!(|input: (&str, &str, Vec<u8>)| {
    let (attribute, value, untrusted_bytes) = input;
    let limits = Limits::default();
    let Ok(document) = Document::parse(untrusted_bytes.clone(), &limits) else {
        return;
    };
    assert_eq!(document.bytes(), untrusted_bytes);
    let names = document.qubes().iter().map(|qube| qube.name().to_owned());
    for name in names.take(3) {
        let Ok(bytes) = document.set(&name, attribute, value) else { continue };
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
});
