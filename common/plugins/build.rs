//! Compiles the protocols without protoc. The server halves of what plugins serve are for tests.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protocols = ["proto/csi.proto", "proto/deviceplugin.proto", "proto/registration.proto"];
    for protocol in protocols {
        println!("cargo:rerun-if-changed={protocol}");
    }
    let files = protox::compile(protocols, ["proto"])?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
