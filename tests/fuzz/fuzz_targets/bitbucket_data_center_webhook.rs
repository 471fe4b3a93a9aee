#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| forgebind::fuzz::run("bitbucket_data_center_webhook", data));
