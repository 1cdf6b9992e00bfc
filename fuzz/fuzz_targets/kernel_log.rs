//! The invariants are in `src/targets/kernel_log.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|untrusted_bytes: &[u8]| {
    qubes_fsm_fuzz::targets::kernel_log::run(untrusted_bytes);
});
