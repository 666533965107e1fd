//! A container's environment (docs/protocol/edge-runtime.md 5.11).

use std::collections::BTreeMap;
use std::net::SocketAddr;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Pod, Secret};

use super::service_env;
use metamanager::{Queries, QueryError, Reach};
use podmodel::expand::expand;
use podmodel::fields::{self, FieldError, NodeFacts};

#[derive(Debug, thiserror::Error)]
pub enum EnvError {
    #[error("reading {kind} {name:?} for the environment")]
    Read { kind: &'static str, name: String, source: QueryError },
    #[error("{kind} {name:?} cannot be read as one")]
    Unreadable { kind: &'static str, name: String, source: message::JsonError },
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey { kind: &'static str, namespace: String, name: String, key: String },
    #[error(transparent)]
    Field(#[from] FieldError),
}

/// Reads what the environment refers to.
pub struct Reader<'a> {
    pub queries: &'a Queries,
    pub pod: &'a Pod,
    pub place: &'a NodeFacts,
}

type Values = BTreeMap<String, String>;

/// Where the pod reaches the Kubernetes API on this node; `None`: nowhere.
fn api_server(reach: Option<&Reach>, is_in_host_network: bool) -> Option<SocketAddr> {
    reach.and_then(|reach| if is_in_host_network { Some(reach.host) } else { reach.pods })
}

impl Reader<'_> {
    /// The variables in order: those of Services and of the API server, `envFrom`, then `env`; a later one of the same name wins.
    pub async fn environment(&self, container: &Container) -> Result<Vec<(String, String)>, EnvError> {
        let spec = self.pod.spec.as_ref();
        let is_in_host_network = spec.is_some_and(|spec| spec.host_network == Some(true));
        let has_links = spec.is_none_or(|spec| spec.enable_service_links != Some(false));
        let api = api_server(self.queries.reach().as_ref(), is_in_host_network);
        let services = self.queries.services();
        let mut vars = service_env::variables(&services, self.namespace(), has_links, api);
        for source in container.env_from.iter().flatten() {
            let values = match (&source.config_map_ref, &source.secret_ref) {
                (Some(map), _) => self.config_map(&map.name, map.optional == Some(true)).await?,
                (None, Some(secret)) => self.secret(&secret.name, secret.optional == Some(true)).await?,
                (None, None) => None,
            };
            let prefix = source.prefix.as_deref().unwrap_or_default();
            for (name, value) in values.into_iter().flatten() {
                let name = format!("{prefix}{name}");
                if is_env_name(&name) {
                    set(&mut vars, name, value);
                }
            }
        }
        for var in container.env.iter().flatten() {
            let value = match (&var.value_from, &var.value) {
                (Some(source), _) => self.value_from(source, &container.name).await?,
                (None, text) => {
                    let known = |name: &str| get(&vars, name);
                    Some(expand(text.as_deref().unwrap_or_default(), known))
                }
            };
            if let Some(value) = value {
                set(&mut vars, var.name.clone(), value);
            }
        }
        Ok(vars)
    }

    async fn value_from(&self, source: &EnvVarSource, container: &str) -> Result<Option<String>, EnvError> {
        if let Some(field) = &source.field_ref {
            return Ok(Some(fields::field(self.pod, self.place, &field.field_path)?));
        }
        if let Some(selector) = &source.resource_field_ref {
            return Ok(Some(fields::resource(self.pod, self.place, selector, container)?));
        }
        let (kind, values, name, key, optional) = match (&source.config_map_key_ref, &source.secret_key_ref) {
            (Some(of), _) => {
                let optional = of.optional == Some(true);
                ("ConfigMap", self.config_map(&of.name, optional).await?, &of.name, &of.key, optional)
            }
            (None, Some(of)) => {
                let optional = of.optional == Some(true);
                ("Secret", self.secret(&of.name, optional).await?, &of.name, &of.key, optional)
            }
            (None, None) => return Ok(None),
        };
        match values.and_then(|mut values| values.remove(key)) {
            Some(value) => Ok(Some(value)),
            None if optional => Ok(None),
            None => {
                let namespace = self.namespace().to_owned();
                Err(EnvError::NoKey { kind, namespace, name: name.clone(), key: key.clone() })
            }
        }
    }

    fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or("default")
    }

    async fn config_map(&self, name: &str, optional: bool) -> Result<Option<Values>, EnvError> {
        let kind = "ConfigMap";
        let object = match self.queries.config_map(self.namespace(), name).await {
            Ok(object) => object,
            Err(error) if optional && error.is_not_found() => return Ok(None),
            Err(source) => return Err(EnvError::Read { kind, name: name.to_owned(), source }),
        };
        let unreadable = |source| EnvError::Unreadable { kind, name: name.to_owned(), source };
        Ok(object.parse::<ConfigMap>().map_err(unreadable)?.data)
    }

    async fn secret(&self, name: &str, optional: bool) -> Result<Option<Values>, EnvError> {
        let kind = "Secret";
        let object = match self.queries.secret(self.namespace(), name).await {
            Ok(object) => object,
            Err(error) if optional && error.is_not_found() => return Ok(None),
            Err(source) => return Err(EnvError::Read { kind, name: name.to_owned(), source }),
        };
        let unreadable = |source| EnvError::Unreadable { kind, name: name.to_owned(), source };
        let data = object.parse::<Secret>().map_err(unreadable)?.data.unwrap_or_default();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Some(data.into_iter().map(|(key, value)| (key, text(value.0))).collect()))
    }
}

pub fn get(vars: &[(String, String)], name: &str) -> Option<String> {
    vars.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
}

fn set(vars: &mut Vec<(String, String)>, name: String, value: String) {
    vars.retain(|(known, _)| *known != name);
    vars.push((name, value));
}

/// Printable ASCII without `=` (the relaxed rule of Kubernetes 1.30 and later).
fn is_env_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| (' '..='~').contains(&c) && c != '=')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_told_of_the_api_that_it_can_reach_and_of_no_other() {
        let reach = |pods: Option<&str>| Reach {
            host: "127.0.0.1:10550".parse().unwrap(),
            pods: pods.map(|address| address.parse().unwrap()),
            ca: String::new(),
        };
        let told = |reach: Option<&Reach>, is_in_host_network: bool| {
            api_server(reach, is_in_host_network).map(|address| address.to_string()).unwrap_or_default()
        };
        let both = reach(Some("169.254.30.10:10550"));
        assert_eq!(told(Some(&both), false), "169.254.30.10:10550");
        assert_eq!(told(Some(&both), true), "127.0.0.1:10550");
        assert_eq!(told(Some(&reach(None)), true), "127.0.0.1:10550");
        assert!(told(Some(&reach(None)), false).is_empty() && told(None, true).is_empty());
    }
}
