//! Twin and state reports -> DeviceStatus (docs/protocol/devices.md 2.4).

use std::collections::BTreeMap;

use api::devices::{DeviceStatus, StatusTwin, TwinProperty};
use apimachinery::kinds::lines;
use message::{Json, Status};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Devices;
use super::downstream::DeviceRef;
use super::written::{Stamp, Written};
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

/// Annotation that holds the stamp of the last report written, so that a report sent again is written once, whichever
/// replica wrote it first.
const REPORTED: &str = "causeway.io/reported";

/// Attempts against writers in between.
const ATTEMPTS: usize = 5;

/// Writes the twins of a device into its DeviceStatus. A property the device does not have is dropped; a report that
/// was written before, by its stamp, is not written again.
pub async fn report_twins(
    cluster: &Cluster,
    devices: &Devices,
    namespace: &str,
    name: &str,
    report: &Json,
    stamp: Option<&Stamp>,
) -> Result<(), Status> {
    let device = known(devices, namespace, name)?;
    let report: TwinReport =
        report.parse().map_err(|error| Status::new(400, "BadRequest", error.to_string()))?;
    let mut failed = Status::default();
    for _ in 0..ATTEMPTS {
        let current = match devices.written(&device) {
            Some(written) => written,
            None => read_status(cluster, &device).await?,
        };
        let twins = merge(&current.twins, &report, &device.properties);
        if twins == current.twins || stamp.is_some_and(|stamp| stamp.is_covered_by(current.stamp.as_ref())) {
            devices.remember(&device, current);
            return Ok(());
        }
        let mut patch = json!({"status": {"twins": twins}});
        if current.exists() {
            patch["metadata"]["resourceVersion"] = Value::String(current.version);
        }
        if let Some(stamp) = stamp {
            patch["metadata"]["annotations"][REPORTED] = format!("{}/{}", stamp.store, stamp.seq).into();
        }
        match write(cluster, &device, &patch).await {
            Ok(object) => {
                devices.remember(&device, written(&object));
                return Ok(());
            }
            Err(status) => {
                devices.forget(&device);
                if !status.is_conflict() {
                    return Err(status);
                }
                failed = status;
            }
        }
    }
    // Somebody else writes all the time; the report is tried again.
    Err(Status::new(503, "ServiceUnavailable", failed.message))
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
        report.parse().map_err(|error| Status::new(400, "BadRequest", error.to_string()))?;
    let mut status = serde_json::Map::new();
    for (field, text) in [("state", reported.state), ("lastOnlineTime", reported.last_online_time)] {
        if !text.is_empty() {
            status.insert(field.to_owned(), Value::String(text));
        }
    }
    devices.forget(&device);
    write(cluster, &device, &json!({"status": status})).await.map(|_| ())
}

fn known(devices: &Devices, namespace: &str, name: &str) -> Result<DeviceRef, Status> {
    devices
        .device(namespace, name)
        .ok_or_else(|| Status::new(404, "NotFound", format!("device {namespace}/{name} does not exist")))
}

fn path(device: &DeviceRef) -> String {
    lines::DeviceStatus.path(Some(&device.namespace), &device.name)
}

async fn read_status(cluster: &Cluster, device: &DeviceRef) -> Result<Written, Status> {
    match cluster.get(&path(device)).await {
        Ok(object) => Ok(written(&object)),
        Err(status) if status.is_not_found() => Ok(Written::default()),
        Err(status) => Err(status),
    }
}

fn written(object: &Json) -> Written {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Object {
        metadata: Metadata,
        status: DeviceStatus,
    }
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Metadata {
        resource_version: String,
        annotations: BTreeMap<String, String>,
    }
    let Object { metadata, status } = object.parse().unwrap_or_default();
    let stamp = metadata.annotations.get(REPORTED).and_then(|text| Stamp::parse(text));
    Written { version: metadata.resource_version, twins: status.twins, stamp }
}

async fn write(cluster: &Cluster, device: &DeviceRef, patch: &Value) -> Result<Json, Status> {
    match cluster.patch(&path(device), Merge::Json, patch.to_string()).await {
        Err(status) if status.is_not_found() => {
            create_status(cluster, device).await?;
            cluster.patch(&path(device), Merge::Json, patch.to_string()).await
        }
        other => other,
    }
}

/// Makes the DeviceStatus of a device; one that exists is left as it is.
pub(super) async fn create_status(cluster: &Cluster, device: &DeviceRef) -> Result<(), Status> {
    let collection = lines::DeviceStatus.path(Some(&device.namespace), "");
    let object = json!({
        "apiVersion": lines::DeviceStatus.api_version(),
        "kind": lines::DeviceStatus.kind,
        "metadata": {
            "name": device.name,
            "namespace": device.namespace,
            "ownerReferences": [{
                "apiVersion": lines::Device.api_version(),
                "kind": lines::Device.kind,
                "name": device.name,
                "uid": device.uid,
                "controller": true,
            }],
        },
        "spec": {},
    });
    let body = Json::encode(&object).map_err(|error| Status::new(500, "InternalError", error.to_string()))?;
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
            twin.reported =
                value.actual.as_ref().and_then(|side| as_property(side, type_name)).or(twin.reported);
            twin.observed_desired = value
                .expected
                .as_ref()
                .and_then(|side| as_property(side, type_name))
                .or(twin.observed_desired);
        }
        twins.push(twin);
    }
    twins
}

fn as_property(side: &Reported, type_name: &str) -> Option<TwinProperty> {
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
