//! Device and DeviceModel v1beta1, the parts the programs read (docs/protocol/devices.md 1.1, 1.2, 1.4).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub const GROUP: &str = "devices.kubeedge.io";
pub const VERSION: &str = "v1beta1";

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Metadata {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub resource_version: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Device {
    pub metadata: Metadata,
    pub spec: DeviceSpec,
    pub status: LegacyReporting,
}

impl Device {
    /// `<namespace>/<name>`, a device's identity everywhere on the edge.
    pub fn id(&self) -> String {
        format!("{}/{}", self.metadata.namespace, self.metadata.name)
    }
}

/// `status.reportToCloud` and `reportCycle`: where `spec.stateReport` lived before 1.23.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LegacyReporting {
    pub report_to_cloud: bool,
    pub report_cycle: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DeviceSpec {
    pub device_model_ref: Option<ModelRef>,
    pub node_name: String,
    pub properties: Vec<DeviceProperty>,
    pub protocol: Protocol,
    pub methods: Vec<Method>,
    pub state_report: Option<LegacyReporting>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelRef {
    pub name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DeviceProperty {
    pub name: String,
    pub desired: TwinProperty,
    pub visitors: Protocol,
    pub collect_cycle: i64,
    pub report_cycle: i64,
    pub report_to_cloud: bool,
    pub push_method: Option<Value>,
}

/// A value with its metadata; all values are strings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TwinProperty {
    pub value: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// A protocol name with free-form configuration (`protocol` and `visitors`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Protocol {
    pub protocol_name: String,
    pub config_data: Map<String, Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Method {
    pub name: String,
    pub description: String,
    pub property_names: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceModel {
    pub metadata: Metadata,
    pub spec: DeviceModelSpec,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DeviceModelSpec {
    pub protocol: String,
    pub protocol_config_data: Map<String, Value>,
    pub properties: Vec<ModelProperty>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ModelProperty {
    pub name: String,
    pub description: String,
    /// INT, FLOAT, DOUBLE, STRING, BOOLEAN, BYTES or STREAM.
    #[serde(rename = "type")]
    pub kind: String,
    /// ReadWrite or ReadOnly.
    pub access_mode: String,
    pub minimum: String,
    pub maximum: String,
    pub unit: String,
    pub visitors: Option<Protocol>,
}

/// One entry of `DeviceStatus.status.twins`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StatusTwin {
    pub property_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reported: Option<TwinProperty>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_desired: Option<TwinProperty>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DeviceStatus {
    pub twins: Vec<StatusTwin>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub state: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub last_online_time: String,
}
