//! The invariants are in `src/targets/session.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|untrusted_bytes: &[u8]| {
    qubes_fsm_fuzz::targets::session::run(untrusted_bytes);
});
