#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| forgebind::fuzz::run("bitbucket_cloud_webhook", data));
