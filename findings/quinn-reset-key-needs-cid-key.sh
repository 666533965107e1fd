#!/bin/bash
# quinn 0.11.12 with quinn-proto 0.11.19 (crates.io), QUIC: a server whose endpoint has a fixed `reset_key` and is started
# again on its port sends no stateless reset to clients of the one before.
# Guessed before: the first packet of a client is answered with a reset, which is what the key is documented for.
# Seen: nothing is answered, and the client notices by its idle timeout. The connection IDs of `EndpointConfig::new` are
# signed with a key that is random in each endpoint, and packets whose ID does not verify are dropped before a reset is
# thought of. With `HashedConnectionIdGenerator::from_key` and a fixed key, too, the reset comes.
# So a fixed `reset_key` alone changes nothing over a restart; quinn does not re-export the generator that is needed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat > Cargo.toml <<'TOML'
[package]
name = "probe"
version = "0.0.0"
edition = "2021"
[dependencies]
quinn = { version = "=0.11.12", default-features = false, features = ["runtime-tokio", "rustls-ring"] }
quinn-proto = { version = "=0.11.19", default-features = false }
rcgen = "=0.14.10"
ring = "0.17"
rustls = { version = "0.23", default-features = false, features = ["ring", "std"] }
tokio = { version = "1", features = ["rt-multi-thread", "net", "time"] }
TOML
cat > src/main.rs <<'RUST'
use std::{net::{SocketAddr, UdpSocket}, sync::Arc, time::Duration};
use quinn::{ClientConfig, Endpoint, EndpointConfig, ServerConfig, TokioRuntime, TransportConfig};
use rustls::pki_types::PrivateKeyDer;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn server(config: &ServerConfig, address: SocketAddr, fixed_ids: bool) -> Endpoint {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"the same in both");
    let mut endpoint = EndpointConfig::new(Arc::new(key));
    if fixed_ids {
        endpoint.cid_generator(|| Box::new(quinn_proto::HashedConnectionIdGenerator::from_key(7)));
    }
    let socket = UdpSocket::bind(address).unwrap();
    Endpoint::new(endpoint, Some(config.clone()), socket, Arc::new(TokioRuntime)).unwrap()
}

/// How a client's connection ends whose server is gone and was started again.
fn ends(fixed_ids: bool) -> String {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::with_single_cert(vec![certificate.clone()], key).unwrap();
    let (first, second, client) = (runtime(), runtime(), runtime());
    let listening = {
        let _of = first.enter();
        server(&config, "127.0.0.1:0".parse().unwrap(), fixed_ids)
    };
    let address = listening.local_addr().unwrap();
    let accepting = first.spawn(async move {
        let connection = listening.accept().await.unwrap().await.unwrap();
        (listening, connection)
    });
    let connection = client.block_on(async {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate).unwrap();
        let mut config = ClientConfig::with_root_certificates(Arc::new(roots)).unwrap();
        let mut transport = TransportConfig::default();
        transport.keep_alive_interval(Some(Duration::from_millis(500)));
        transport.max_idle_timeout(Some(Duration::from_secs(5).try_into().unwrap()));
        config.transport_config(Arc::new(transport));
        let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        endpoint.connect_with(config, address, "localhost").unwrap().await.unwrap()
    });
    let held = first.block_on(accepting).unwrap();
    // Its threads end before they can say good-bye.
    first.shutdown_timeout(Duration::from_secs(5));
    drop(held);
    let _of = second.enter();
    let _again = server(&config, address, fixed_ids);
    client.block_on(connection.closed()).to_string()
}

fn main() {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    println!("reset_key -> {}", ends(false));
    println!("reset_key and fixed IDs -> {}", ends(true));
}
RUST
cargo run --quiet > seen
cat seen
diff seen - <<'WANTED'
reset_key -> timed out
reset_key and fixed IDs -> reset by peer
WANTED
