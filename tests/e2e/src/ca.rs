//! The cluster's CA, as its secret holds it: for certificates and tokens that nobody would be given.

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use harness::cloud::Cloud;
use pki::Authority;

pub fn authority(cloud: &Cloud) -> Result<Authority> {
    let secret = cloud.kubectl().run(&["get", "secret", "casecret", "-n", "kubeedge", "-o", "json"])?;
    let secret: serde_json::Value = serde_json::from_str(&secret)?;
    let bytes = |key: &str| -> Result<Vec<u8>> {
        Ok(STANDARD.decode(secret["data"][key].as_str().context("a key of the secret")?)?)
    };
    Ok(Authority::from_der(&bytes("cadata")?, &bytes("cakeydata")?)?)
}
