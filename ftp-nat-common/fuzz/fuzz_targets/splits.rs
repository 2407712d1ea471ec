//! Runs [`targets::splits`](ftp_nat_common_fuzz::targets::splits) under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ftp_nat_common_fuzz::targets::splits::run(data));
