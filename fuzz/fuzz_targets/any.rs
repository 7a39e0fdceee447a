//! Every target: which one is the name that it is built under. Cargo warns that one file is many programs; it is.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| clawker_fuzz::check(env!("CARGO_BIN_NAME"), input));
