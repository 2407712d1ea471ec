//! Runs [`targets::commands`](ftp_nat_common_fuzz::targets::commands) under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ftp_nat_common_fuzz::targets::commands::run(data));
