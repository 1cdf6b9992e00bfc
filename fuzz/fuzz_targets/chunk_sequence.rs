//! The invariants are in `src/targets/chunk_sequence.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|untrusted_bytes: &[u8]| {
    qubes_fsm_fuzz::targets::chunk_sequence::run(untrusted_bytes);
});
