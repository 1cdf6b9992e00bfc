//! Untrusted bytes as a header: parsed or refused; what is accepted is written
//! to bytes that mean the same, and those come back byte for byte.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qubes_fsm::format::header::Header;

fuzz_target!(|untrusted_bytes: &[u8]| {
    let Ok(header) = Header::parse(untrusted_bytes) else { return };
    let bytes = header.to_bytes();
    let again = Header::parse(&bytes).expect("its own bytes");
    assert_eq!(again.to_bytes(), bytes);
    assert_eq!(again.digest(), header.digest());
    assert_eq!(again.is_encrypted(), header.is_encrypted());
    assert_eq!(again.filter(), header.filter());
    assert_eq!(again.promise(), header.promise());
});
