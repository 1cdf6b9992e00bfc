//! The invariants are in `src/targets/trace.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|untrusted_bytes: &[u8]| {
    qubes_fsm_fuzz::targets::trace::run(untrusted_bytes);
});
