#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| forgebind::fuzz::run("azure_devops_webhook", data));
