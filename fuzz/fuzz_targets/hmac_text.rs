//! Untrusted bytes as the text of a code: what is accepted has a value that is
//! written, in the one form, and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qubes_fsm::format::hmac::MacText;

fuzz_target!(|untrusted_text: &[u8]| {
    let Ok(mac) = MacText::parse(untrusted_text) else { return };
    let again = MacText::parse(&mac.to_text()).expect("its own text");
    assert_eq!(again.value(), mac.value());
});
