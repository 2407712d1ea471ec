//! Runs [`targets::finders`](ftp_nat_common_fuzz::targets::finders) under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ftp_nat_common_fuzz::targets::finders::run(data));
