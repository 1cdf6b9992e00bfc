//! The invariants are in `src/targets/hmac_text.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|untrusted_bytes: &[u8]| {
    qubes_fsm_fuzz::targets::hmac_text::run(untrusted_bytes);
});
