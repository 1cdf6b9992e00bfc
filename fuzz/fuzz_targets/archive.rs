//! The invariants are in `src/targets/archive.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|untrusted_bytes: &[u8]| {
    qubes_fsm_fuzz::targets::archive::run(untrusted_bytes);
});
