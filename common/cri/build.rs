//! Compiles `proto/cri.proto` without protoc. The server half is for the fake runtime only.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/cri.proto");
    let files = protox::compile(["proto/cri.proto"], ["proto"])?;
    let fake = std::env::var_os("CARGO_FEATURE_FAKE").is_some();
    tonic_prost_build::configure().build_server(fake).compile_fds(files)?;
    Ok(())
}
