#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| noise::protobuf(data));
