//! The invariants are in `src/targets/header.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|untrusted_bytes: &[u8]| {
    qubes_fsm_fuzz::targets::header::run(untrusted_bytes);
});
