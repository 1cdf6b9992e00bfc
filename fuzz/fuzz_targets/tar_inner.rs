//! The invariants are in `src/targets/tar_inner.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|untrusted_bytes: &[u8]| {
    qubes_fsm_fuzz::targets::tar_inner::run(untrusted_bytes);
});
