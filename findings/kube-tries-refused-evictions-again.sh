#!/bin/bash
# kube 5.0.0 (crates.io), its client as `Client::try_from(config)` makes it: a POST that is answered with 429 is sent up to 16 times before
# its caller hears of it, each after what Retry-After says. Kubernetes answers an eviction that a disruption budget does not allow with
# 429 and Retry-After: 10, so `Api::evict` returns after two and a half minutes instead of at once, and a proxy made of this client holds its own
# caller for as long.
# Guessed before: what changes something is sent once, and the refusal comes back as Error::Api with code 429.
# Seen: 16 requests for one eviction; with `config.default_retry = false` one.
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
kube = { version = "=5.0.0", default-features = false, features = ["client", "config"] }
k8s-openapi = { version = "0.29", default-features = false, features = ["v1_33"] }
tokio = { version = "1", features = ["rt-multi-thread", "macros", "net", "io-util"] }
TOML
cat > src/main.rs <<'RUST'
use k8s_openapi::api::core::v1::Pod;
use kube::api::EvictParams;
use kube::{Api, Client, Config};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const REFUSAL: &str = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"TooManyRequests","message":"no","code":429}"#;

async fn requests(default_retry: bool) -> (usize, String) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut text = vec![0; 65536];
            let _ = stream.read(&mut text).await;
            counted.fetch_add(1, Ordering::SeqCst);
            // A second instead of the ten that Kubernetes says; 0 would not be waited for.
            let head = format!(
                "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                REFUSAL.len()
            );
            let _ = stream.write_all((head + REFUSAL).as_bytes()).await;
        }
    });
    let mut config = Config::new(format!("http://{address}").parse().unwrap());
    config.default_retry = default_retry;
    let pods: Api<Pod> = Api::namespaced(Client::try_from(config).unwrap(), "shop");
    let told = match pods.evict("web", &EvictParams::default()).await {
        Err(kube::Error::Api(status)) => format!("code {}", status.code),
        other => format!("{other:?}"),
    };
    (count.load(Ordering::SeqCst), told)
}

#[tokio::main]
async fn main() {
    let usual = Config::new("http://127.0.0.1:1".parse().unwrap()).default_retry;
    println!("default_retry is {usual} if nobody says");
    for retry in [true, false] {
        let (count, told) = requests(retry).await;
        println!("default_retry {retry}: {count} requests, then {told}");
    }
}
RUST
seen=$(cargo run --quiet)
echo "$seen"
wanted="default_retry is true if nobody says
default_retry true: 16 requests, then code 429
default_retry false: 1 requests, then code 429"
[ "$seen" = "$wanted" ] || { echo "this has changed; expected:"; echo "$wanted"; exit 1; }
