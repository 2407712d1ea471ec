//! Runs [`targets::replies`](ftp_nat_common_fuzz::targets::replies) under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ftp_nat_common_fuzz::targets::replies::run(data));
