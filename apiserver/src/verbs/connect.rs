//! Webhooks are asked before a pod or a node is connected to: operation CONNECT, about the options of the connection.

use apimachinery::Status;
use apimachinery::listing::Asked as _;
use apimachinery::webhooks::Operation;
use serde_json::{Map, Value, json};

use super::Call;
use crate::admission;
use crate::webhooks::{Caller, Change, Objects};

pub(super) async fn admit(call: &Call<'_>) -> Result<(), Status> {
    if !call.backend.asks() {
        return Ok(());
    }
    let Some(options) = options(call) else { return Ok(()) };
    let caller = Caller::new(&call.user, &call.warnings, false, Value::Null);
    let change = Change::posted(call.backend, &caller, &call.target, Operation::Connect, &options);
    let objects = Objects { new: Some(&options), old: None };
    // Options that a webhook changes would have to be put back into the query; kube-apiserver does not do that either.
    change.mutate(objects, admission::complete).await?;
    change.validate(objects).await
}

/// The options as an object (`k8s.io/api/core/v1`); `None`: it is read, not connected to.
fn options(call: &Call<'_>) -> Option<Value> {
    let mut fields = Map::new();
    let kind = match (call.target.served.resource.kind.as_str(), call.target.subresource.as_str()) {
        (_, verb @ ("exec" | "attach")) => {
            for flag in ["stdin", "stdout", "stderr", "tty"] {
                if call.query.flag(flag) {
                    fields.insert(flag.to_owned(), json!(true));
                }
            }
            let container = call.query.get("container");
            if !container.is_empty() {
                fields.insert("container".to_owned(), json!(container));
            }
            if verb == "exec" {
                fields.insert("command".to_owned(), call.query.all("command").collect());
            }
            if verb == "exec" { "PodExecOptions".to_owned() } else { "PodAttachOptions".to_owned() }
        }
        (_, "portforward") => {
            let ports = call.query.all("ports").flat_map(|ports| ports.split(','));
            let ports = ports.filter_map(|port| port.parse::<u16>().ok());
            fields.insert("ports".to_owned(), ports.collect());
            "PodPortForwardOptions".to_owned()
        }
        (of, "proxy") => {
            fields.insert("path".to_owned(), json!(format!("/{}", call.rest)));
            format!("{of}ProxyOptions")
        }
        _ => return None,
    };
    fields.insert("kind".to_owned(), json!(kind));
    fields.insert("apiVersion".to_owned(), json!("v1"));
    Some(Value::Object(fields))
}
