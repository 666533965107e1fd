//! Registry credentials from the pod's pull secrets.

use futures_util::future::BoxFuture;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cri::v1::AuthConfig;
use k8s_openapi::api::core::v1::{PodSpec, Secret};
use serde::Deserialize;

use metamanager::Queries;

/// What the pod's secrets say, by registry. Not printable: it holds passwords.
#[derive(Default)]
pub struct Credentials {
    entries: Vec<(String, AuthConfig)>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DockerConfig {
    auths: BTreeMap<String, Login>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Login {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
}

impl Credentials {
    /// Reads the pull secrets; one that is missing or unreadable is left out, as the kubelet does.
    pub fn of<'a>(queries: &'a Queries, namespace: &'a str, spec: &'a PodSpec) -> BoxFuture<'a, Credentials> {
        Box::pin(async move {
            let mut credentials = Credentials::default();
            for reference in spec.image_pull_secrets.iter().flatten() {
                let Ok(object) = queries.secret(namespace, &reference.name).await else { continue };
                let Ok(secret) = object.parse::<Secret>() else { continue };
                let data = secret.data.unwrap_or_default();
                if let Some(config) = data.get(".dockerconfigjson") {
                    credentials
                        .add(serde_json::from_slice::<DockerConfig>(&config.0).unwrap_or_default().auths);
                } else if let Some(config) = data.get(".dockercfg") {
                    credentials.add(serde_json::from_slice(&config.0).unwrap_or_default());
                }
            }
            credentials
        })
    }

    fn add(&mut self, auths: BTreeMap<String, Login>) {
        for (registry, entry) in auths {
            self.entries.push((registry_path(&registry), entry.into_auth()));
        }
    }

    /// Credentials whose registry is a prefix of the image, the longest first.
    pub fn matching(&self, image: &str) -> Vec<AuthConfig> {
        let full = with_registry(image);
        let mut fits: Vec<&(String, AuthConfig)> =
            self.entries.iter().filter(|(registry, _)| covers(registry, &full)).collect();
        fits.sort_by_key(|(registry, _)| std::cmp::Reverse(registry.len()));
        fits.into_iter().map(|(_, auth)| auth.clone()).collect()
    }
}

impl Login {
    fn into_auth(self) -> AuthConfig {
        let decoded = STANDARD.decode(self.auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
        let (username, password) = match pair {
            Some((name, password)) if self.username.is_empty() => (name.to_owned(), password.to_owned()),
            _ => (self.username, self.password),
        };
        AuthConfig { username, password, identity_token: self.identitytoken, ..AuthConfig::default() }
    }
}

/// Host and path of a registry key, without scheme and API version.
fn registry_path(key: &str) -> String {
    let bare = key.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let bare = bare.strip_suffix("/v1").or_else(|| bare.strip_suffix("/v2")).unwrap_or(bare);
    match bare {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        other => other.to_owned(),
    }
}

fn with_registry(image: &str) -> String {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => image.to_owned(),
        Some(_) => format!("docker.io/{image}"),
        None => format!("docker.io/library/{image}"),
    }
}

/// Whether a registry key (`host[/path]`, `*` for one label of the host) covers an image.
fn covers(registry: &str, image: &str) -> bool {
    let (host, path) = registry.split_once('/').unwrap_or((registry, ""));
    let (image_host, image_path) = image.split_once('/').unwrap_or((image, ""));
    let (labels, image_labels): (Vec<&str>, Vec<&str>) =
        (host.split('.').collect(), image_host.split('.').collect());
    let host_fits = labels.len() == image_labels.len()
        && labels.iter().zip(&image_labels).all(|(label, image)| *label == "*" || label == image);
    let rest = image_path.strip_prefix(path);
    host_fits
        && rest.is_some_and(|rest| path.is_empty() || rest.is_empty() || rest.starts_with(['/', ':', '@']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_match_by_host_and_path() {
        for (registry, image, fits) in [
            ("https://index.docker.io/v1/", "busybox", true),
            ("reg.io", "reg.io/a/b:1", true),
            ("reg.io/a", "reg.io/a/b", true),
            ("reg.io/a", "reg.io/ab", false),
            ("*.reg.io", "eu.reg.io/a", true),
            ("*.reg.io", "reg.io/a", false),
            ("reg.io", "reg.io.evil.com/a", false),
        ] {
            assert_eq!(covers(&registry_path(registry), &with_registry(image)), fits, "{registry} {image}");
        }
    }

    #[test]
    fn the_longest_match_is_tried_first_and_auth_is_decoded() {
        let mut credentials = Credentials::default();
        let text =
            r#"{"auths": {"reg.io": {"username": "u", "password": "p"}, "reg.io/a": {"auth": "eDp5Onk="}}}"#;
        credentials.add(serde_json::from_str::<DockerConfig>(text).unwrap().auths);
        let found = credentials.matching("reg.io/a/b:1");
        assert_eq!((found[0].username.as_str(), found[0].password.as_str()), ("x", "y:y"));
        assert_eq!(found[1].username, "u");
    }
}
