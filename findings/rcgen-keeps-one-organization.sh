#!/bin/bash
# rcgen 0.14.10 (crates.io), certificates: of two organizations that are pushed onto a distinguished name the last one alone
# is in the certificate, without an error; and of a signing request that names two, one is left in what is signed from it.
# Guessed before: each `push` adds an attribute, as X.501 allows a type several times, and Kubernetes tells groups so
# (O=system:masters, O=others).
# Seen: the name is a map by type. Whoever makes client certificates for a Kubernetes API with it drops groups silently. Told
# once by name and once by number (2.5.4.10) the same attribute is there twice, and both are in the certificate.
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
rcgen = { version = "=0.14.10", features = ["x509-parser"] }
TOML
cat > src/main.rs <<'RUST'
use rcgen::{CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, Issuer, KeyPair};

fn has(der: &[u8], word: &str) -> bool {
    der.windows(word.len()).any(|part| part == word.as_bytes())
}

fn shown(der: &[u8]) -> String {
    ["group-one", "group-two"].into_iter().filter(|word| has(der, word)).collect::<Vec<_>>().join(" ")
}

fn of(second: DnType) -> CertificateParams {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "group-one");
    name.push(second, "group-two");
    name.push(DnType::CommonName, "someone");
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params
}

fn main() {
    let key = KeyPair::generate().unwrap();
    let by_number = || DnType::CustomDnType(vec![2, 5, 4, 10]);
    let pushed = of(DnType::OrganizationName).self_signed(&key).unwrap();
    println!("pushed twice: {}", shown(pushed.der()));
    let numbered = of(by_number()).self_signed(&key).unwrap();
    println!("by name and number: {}", shown(numbered.der()));
    let request = of(by_number()).serialize_request(&key).unwrap();
    println!("in the request: {}", shown(request.der()));
    let read = CertificateSigningRequestParams::from_der(request.der()).unwrap();
    let issuer = Issuer::new(CertificateParams::default(), KeyPair::generate().unwrap());
    println!("signed from the request: {}", shown(read.signed_by(&issuer).unwrap().der()));
}
RUST
seen=$(cargo run --quiet)
echo "$seen"
wanted="pushed twice: group-two
by name and number: group-one group-two
in the request: group-one group-two
signed from the request: group-two"
[ "$seen" = "$wanted" ] || { echo "this has changed; expected:"; echo "$wanted"; exit 1; }
