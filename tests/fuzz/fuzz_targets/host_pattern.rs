#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| forgebind::fuzz::run("host_pattern", data));
