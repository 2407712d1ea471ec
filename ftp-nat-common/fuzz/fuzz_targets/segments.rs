//! Runs [`targets::segments`](ftp_nat_common_fuzz::targets::segments) under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ftp_nat_common_fuzz::targets::segments::run(data));
