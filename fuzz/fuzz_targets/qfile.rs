//! The invariants are in `src/targets/qfile.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|untrusted_bytes: &[u8]| {
    qubes_fsm_fuzz::targets::qfile::run(untrusted_bytes);
});
