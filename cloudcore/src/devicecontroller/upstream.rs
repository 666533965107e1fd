//! Twin and state reports -> DeviceStatus (spec/devices.md 2.4).

use std::collections::BTreeMap;

use api::devices::{DeviceStatus, GROUP, StatusTwin, TwinProperty, VERSION};
use message::{Json, Status};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Devices;
use super::downstream::DeviceRef;
use crate::kubernetes::{Cluster, Merge};

/// What an edge sends about twins.
#[derive(Debug, Deserialize)]
struct TwinReport {
    #[serde(default)]
    twin: BTreeMap<String, Option<TwinValue>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TwinValue {
    expected: Option<Reported>,
    actual: Option<Reported>,
    metadata: Option<TypeName>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Reported {
    value: Option<String>,
    metadata: Option<ReportedAt>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ReportedAt {
    timestamp: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TypeName {
    #[serde(rename = "type")]
    name: String,
}

/// Writes the twins of a device into its DeviceStatus. A property the device does not have is dropped.
pub async fn report_twins(
    cluster: &Cluster,
    devices: &Devices,
    namespace: &str,
    name: &str,
    report: &Json,
) -> Result<(), Status> {
    let device = known(devices, namespace, name)?;
    let report: TwinReport =
        report.parse().map_err(|error| Status::failure(400, "BadRequest", error.to_string()))?;
    let current = read_status(cluster, &device).await?;
    let twins = merge(&current.twins, &report, &device.properties);
    if twins == current.twins {
        return Ok(());
    }
    write(cluster, &device, &json!({"status": {"twins": twins}})).await
}

/// Writes the state of a device into its DeviceStatus.
pub async fn report_state(
    cluster: &Cluster,
    devices: &Devices,
    namespace: &str,
    name: &str,
    report: &Json,
) -> Result<(), Status> {
    #[derive(Deserialize)]
    struct Report {
        #[serde(alias = "Device")]
        device: State,
    }
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct State {
        #[serde(alias = "State")]
        state: String,
        #[serde(alias = "LastOnlineTime")]
        last_online_time: String,
    }
    let device = known(devices, namespace, name)?;
    let Report { device: reported } =
        report.parse().map_err(|error| Status::failure(400, "BadRequest", error.to_string()))?;
    let mut status = serde_json::Map::new();
    for (field, text) in [("state", reported.state), ("lastOnlineTime", reported.last_online_time)] {
        if !text.is_empty() {
            status.insert(field.to_owned(), Value::String(text));
        }
    }
    write(cluster, &device, &json!({"status": status})).await
}

fn known(devices: &Devices, namespace: &str, name: &str) -> Result<DeviceRef, Status> {
    devices
        .device(namespace, name)
        .ok_or_else(|| Status::failure(404, "NotFound", format!("device {namespace}/{name} does not exist")))
}

fn path(device: &DeviceRef) -> String {
    format!("/apis/{GROUP}/{VERSION}/namespaces/{}/devicestatuses/{}", device.namespace, device.name)
}

async fn read_status(cluster: &Cluster, device: &DeviceRef) -> Result<DeviceStatus, Status> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Object {
        status: DeviceStatus,
    }
    match cluster.get(&path(device)).await {
        Ok(object) => Ok(object.parse::<Object>().unwrap_or_default().status),
        Err(status) if status.is_not_found() => Ok(DeviceStatus::default()),
        Err(status) => Err(status),
    }
}

async fn write(cluster: &Cluster, device: &DeviceRef, patch: &Value) -> Result<(), Status> {
    match cluster.patch(&path(device), Merge::Plain, patch.to_string()).await {
        Err(status) if status.is_not_found() => {
            create_status(cluster, device).await?;
            cluster.patch(&path(device), Merge::Plain, patch.to_string()).await.map(|_| ())
        }
        other => other.map(|_| ()),
    }
}

/// Makes the DeviceStatus of a new device; one that exists is left as it is.
pub(super) async fn ensure_status(cluster: &Cluster, device: &DeviceRef) {
    if let Err(status) = create_status(cluster, device).await {
        let (namespace, name) = (&device.namespace, &device.name);
        tracing::warn!(%namespace, %name, error = %status, "could not create DeviceStatus; the next report tries again");
    }
}

async fn create_status(cluster: &Cluster, device: &DeviceRef) -> Result<(), Status> {
    let collection = format!("/apis/{GROUP}/{VERSION}/namespaces/{}/devicestatuses", device.namespace);
    let object = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": "DeviceStatus",
        "metadata": {
            "name": device.name,
            "namespace": device.namespace,
            "ownerReferences": [{
                "apiVersion": format!("{GROUP}/{VERSION}"),
                "kind": "Device",
                "name": device.name,
                "uid": device.uid,
                "controller": true,
            }],
        },
        "spec": {},
    });
    let body =
        Json::encode(&object).map_err(|error| Status::failure(500, "InternalError", error.to_string()))?;
    match cluster.create(&collection, &body).await {
        Err(status) if !status.is_conflict() => Err(status),
        _ => Ok(()),
    }
}

/// The stored twins with the report's values, for the properties the device has. Order is the device's.
fn merge(current: &[StatusTwin], report: &TwinReport, properties: &[String]) -> Vec<StatusTwin> {
    let mut twins = Vec::new();
    for property in properties {
        let stored = current.iter().find(|twin| twin.property_name == *property).cloned();
        let value = report.twin.get(property).and_then(Option::as_ref);
        let mut twin = match (&stored, value) {
            (None, None) => continue,
            _ => stored
                .unwrap_or_else(|| StatusTwin { property_name: property.clone(), ..StatusTwin::default() }),
        };
        if let Some(value) = value {
            let type_name =
                value.metadata.as_ref().map(|metadata| metadata.name.as_str()).unwrap_or_default();
            twin.reported = value.actual.as_ref().and_then(|side| written(side, type_name)).or(twin.reported);
            twin.observed_desired =
                value.expected.as_ref().and_then(|side| written(side, type_name)).or(twin.observed_desired);
        }
        twins.push(twin);
    }
    twins
}

fn written(side: &Reported, type_name: &str) -> Option<TwinProperty> {
    let mut metadata = BTreeMap::new();
    if let Some(at) = &side.metadata {
        metadata.insert("timestamp".to_owned(), at.timestamp.to_string());
    }
    if !type_name.is_empty() {
        metadata.insert("type".to_owned(), type_name.to_owned());
    }
    Some(TwinProperty { value: side.value.clone()?, metadata })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str) -> TwinReport {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_first_report_of_a_property_is_kept_and_unknown_properties_are_dropped() {
        let properties = ["temperature".to_owned(), "threshold".to_owned()];
        let first = report(
            r#"{"event_id":"e","timestamp":1,"twin":{
                "temperature":{"actual":{"value":"36.6","metadata":{"timestamp":17}},"metadata":{"type":"string"}},
                "nonsense":{"actual":{"value":"1"}}}}"#,
        );
        let twins = merge(&[], &first, &properties);
        assert_eq!(twins.len(), 1);
        let reported = twins[0].reported.as_ref().unwrap();
        assert_eq!((reported.value.as_str(), reported.metadata["timestamp"].as_str()), ("36.6", "17"));
        let second = report(r#"{"twin":{"threshold":{"expected":{"value":"40"},"actual":{"value":"39"}}}}"#);
        let twins = merge(&twins, &second, &properties);
        assert_eq!(twins[0].reported.as_ref().unwrap().value, "36.6");
        assert_eq!(twins[1].observed_desired.as_ref().unwrap().value, "40");
        assert_eq!(merge(&twins, &report(r#"{"twin":{"threshold":null}}"#), &properties), twins);
    }
}
