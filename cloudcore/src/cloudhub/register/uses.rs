//! Which tokens that are good once have been used: one config map each, made and never changed, so that of two
//! replicas asked at the same time one wins.
//!
//! The record names the signing request: an edge that did not get its answer sends the same request again and is
//! served, anybody else is not.

use apimachinery::kinds::lines;
use hyper::StatusCode;
use message::{Json, NodeName};
use pki::CLOCK_SKEW;
use serde_json::{Value, json};

use super::RegisterRefusal;
use crate::cloudhub::material::NAMESPACE;
use crate::kubernetes::Cluster;

const PREFIX: &str = "used-token-";
const LABEL: &str = "causeway.io/used-token";

fn collection() -> String {
    lines::ConfigMap.path(Some(NAMESPACE), "")
}

fn internal(status: message::Status) -> RegisterRefusal {
    RegisterRefusal(
        StatusCode::SERVICE_UNAVAILABLE,
        format!("recording the use of the token: {}", status.message),
    )
}

/// Records that token `id` is used for `request` (DER) of `node`; refuses if it was used for anything else.
pub(super) async fn record(
    cluster: &Cluster,
    id: &str,
    expires: i64,
    node: &NodeName,
    request: &[u8],
) -> Result<(), RegisterRefusal> {
    let name = format!("{PREFIX}{id}");
    let data = json!({
        "node": node.as_str(),
        "request": pki::fingerprint(request),
        "expires": expires.to_string(),
    });
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {LABEL: "true"}},
        "data": data,
    });
    let body = Json::of(&object);
    match cluster.create(&collection(), &body).await {
        Ok(_) => return Ok(()),
        Err(status) if status.is_conflict() => {}
        Err(status) => return Err(internal(status)),
    }
    let record = cluster.get(&format!("{}/{name}", collection())).await.map_err(internal)?;
    let record: Value = record.parse().unwrap_or(Value::Null);
    if record["data"]["request"] == data["request"] {
        return Ok(());
    }
    let user = record["data"]["node"].as_str().unwrap_or_default();
    Err(RegisterRefusal(
        StatusCode::UNAUTHORIZED,
        format!(
            "token is good once and was used for node {user}; make a new one with keadm gettoken --single-use"
        ),
    ))
}

/// Deletes the records of tokens that have ended: they are refused without. One replica at a time does this.
pub async fn forget_expired(cluster: &Cluster, now: i64) {
    let list = match cluster.get(&format!("{}?labelSelector={LABEL}%3Dtrue", collection())).await {
        Ok(list) => list.parse::<Value>().unwrap_or(Value::Null),
        Err(status) => {
            tracing::warn!(error = %status, "used tokens not listed");
            return;
        }
    };
    for record in list["items"].as_array().into_iter().flatten() {
        let name = record["metadata"]["name"].as_str().unwrap_or_default();
        if !is_over(record, now) || !name.starts_with(PREFIX) {
            continue;
        }
        if let Err(status) = cluster.delete(&format!("{}/{name}", collection()), &Json::null()).await
            && !status.is_not_found()
        {
            tracing::warn!(name, error = %status, "record of a used token not deleted");
        }
    }
}

/// True if the token of a record is refused for its age.
fn is_over(record: &Value, now: i64) -> bool {
    let expires = record["data"]["expires"].as_str().and_then(|text| text.parse::<i64>().ok());
    expires.is_some_and(|expires| expires.saturating_add(2 * CLOCK_SKEW) < now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_stays_as_long_as_its_token_could_be_used_on_any_clock() {
        let record = json!({"data": {"expires": "1000"}});
        assert!(!is_over(&record, 1000 + 2 * CLOCK_SKEW));
        assert!(is_over(&record, 1001 + 2 * CLOCK_SKEW));
        assert!(!is_over(&json!({"data": {"expires": "soon"}}), i64::MAX));
    }
}
