//! The invariants are in `src/targets/device.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|untrusted_bytes: &[u8]| {
    qubes_fsm_fuzz::targets::device::run(untrusted_bytes);
});
