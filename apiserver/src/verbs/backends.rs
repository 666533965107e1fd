//! `pods/NAME/proxy`, `services/NAME/proxy` and `nodes/NAME:PORT/proxy`: a request to a port of a pod or of a node, through the
//! node (`pkg/registry/core/{pod,service,node}`, `ResourceLocation`).

mod forward;
mod named;

use apimachinery::object::{list, text};
use apimachinery::{LabelSelector, Status};
use hyper::body::Incoming;
use kubeapi::respond::Answer;
use kubeapi::stored::{Key, ListQuery};
use serde_json::Value;

use super::{Call, connect};
use forward::{Backend, forward};
pub(super) use named::Named;

/// True for the proxies of pods and services.
pub(crate) fn is_one(call: &Call<'_>) -> bool {
    let served = &call.target.served;
    call.target.subresource == "proxy" && (served.is_core("pods") || served.is_core("services"))
}

pub(crate) async fn answer(call: Call<'_>, body: Incoming) -> Result<Answer, Status> {
    let wanted = call.target.name.clone();
    let named = Named::parse(&wanted)?;
    let object = object(&call, named.name).await?;
    connect::admit(&call).await?;
    let is_service = call.target.served.is_core("services");
    let (pod, port) = match is_service {
        true => backend(&call, &object, &named).await?,
        false => (object.clone(), pod_port(&object, named.port)?),
    };
    let (node, name) = (text(&pod, "/spec/nodeName"), text(&pod, "/metadata/name"));
    if node.is_empty() {
        return Err(Status::bad_request(format!("pod {name} does not have a host assigned")));
    }
    let backend = Backend {
        node,
        path: format!("/podTcp/{}/{name}/{port}", call.target.namespace),
        host: format!("{name}:{port}"),
        is_tls: named.is_tls,
    };
    forward(call, body, &backend).await
}

/// A port of a node that is not its kubelet's. `named` is what the call names.
pub(super) async fn port_of_node(
    call: Call<'_>,
    named: &Named<'_>,
    body: Incoming,
) -> Result<Answer, Status> {
    let port = named.port.parse::<u16>().ok().filter(|port| *port > 0);
    let port =
        port.ok_or_else(|| Status::bad_request(format!("{:?} is not a port of a node", named.port)))?;
    connect::admit(&call).await?;
    let backend = Backend {
        node: named.name,
        path: format!("/nodeTcp/{port}"),
        host: format!("{}:{port}", named.name),
        is_tls: named.is_tls,
    };
    forward(call, body, &backend).await
}

async fn object(call: &Call<'_>, name: &str) -> Result<Value, Status> {
    let resource = &call.target.served.resource;
    let key = Key::new(&resource.key(), &call.target.namespace, name);
    match call.backend.storage.get(&key).await? {
        Some(stored) => Ok(stored.value()?.clone()),
        None => Err(Status::not_found(&resource.group, &resource.plural, name)),
    }
}

/// A port of a pod by number or name; the first one if none is named.
fn pod_port(pod: &Value, port: &str) -> Result<u16, Status> {
    let containers = list(pod, "/spec/containers").iter();
    let mut ports = containers.flat_map(|container| list(container, "/ports"));
    let number = |port: &Value| port["containerPort"].as_u64().and_then(|port| u16::try_from(port).ok());
    let found = match port {
        "" => ports.next().and_then(number).or(Some(80)),
        text => match text.parse::<u16>() {
            Ok(port) => Some(port).filter(|port| *port > 0),
            Err(_) => ports.find(|port| port["name"] == text).and_then(number),
        },
    };
    found.ok_or_else(|| Status::bad_request(format!("the pod has no port {port:?}")))
}

/// A ready pod behind a service, and the port there.
async fn backend(call: &Call<'_>, service: &Value, named: &Named<'_>) -> Result<(Value, u16), Status> {
    let ports = list(service, "/spec/ports");
    let chosen = match (named.port, ports) {
        ("", [only]) => Some(only),
        ("", _) => None,
        (wanted, ports) => {
            let number = wanted.parse::<u16>().ok();
            ports
                .iter()
                .find(|port| port["name"] == wanted || number.is_some_and(|number| port["port"] == number))
        }
    };
    let chosen =
        chosen.ok_or_else(|| Status::unavailable(format!("no service port {:?} found", named.port)))?;
    let selector = service["spec"]["selector"].as_object().filter(|selector| !selector.is_empty());
    let selector =
        selector.ok_or_else(|| Status::unavailable("a service without a selector is not proxied to"))?;
    let selector: Vec<String> =
        selector.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    let labels =
        LabelSelector::parse(&selector.join(",")).map_err(|error| Status::bad_request(error.to_string()))?;
    let query = ListQuery {
        resource: "pods".to_owned(),
        namespace: Some(call.target.namespace.clone()),
        labels,
        ..ListQuery::default()
    };
    let page = call.backend.storage.list(query).await?;
    for stored in &page.items {
        let pod = stored.value()?;
        if is_ready(&pod) {
            let target = match &chosen["targetPort"] {
                Value::Number(port) => port.to_string(),
                Value::String(port) => port.clone(),
                _ => chosen["port"].to_string(),
            };
            let port = pod_port(&pod, &target)?;
            return Ok((pod.clone(), port));
        }
    }
    Err(Status::unavailable(format!("no endpoints available for service {:?}", named.name)))
}

fn is_ready(pod: &Value) -> bool {
    let mut conditions = list(pod, "/status/conditions").iter();
    !text(pod, "/spec/nodeName").is_empty()
        && conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ports_are_found_by_number_and_name() {
        let pod = json!({"spec": {"containers": [{"ports": [{"containerPort": 8080, "name": "web"}]}, {}]}});
        let port = |text| pod_port(&pod, text).ok();
        assert_eq!(
            (port(""), port("web"), port("9"), port("0"), port("other")),
            (Some(8080), Some(8080), Some(9), None, None)
        );
    }
}
