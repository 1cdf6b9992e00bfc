//! The invariants are in `src/targets/document.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|untrusted_bytes: &[u8]| {
    qubes_fsm_fuzz::targets::document::run(untrusted_bytes);
});
