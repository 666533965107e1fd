//! A device as drivers see it, read from DMI messages that may lack anything.

mod report;
mod task;

use std::time::Duration;

use dmi::v1beta1::{self as wire, CustomizedValue, DeviceModel, DeviceProperty};
use serde_json::{Map, Value};

pub(crate) use task::{Task, Twins};

#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    pub namespace: String,
    pub name: String,
    /// `spec.protocol.configData`; nested values are strings holding JSON.
    pub protocol: Map<String, Value>,
    pub properties: Vec<Property>,
    /// How often the state is reported; `None`: never.
    pub state_cycle: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Property {
    pub name: String,
    /// The model's type in lower case, else what the desired value's metadata says, else `string`.
    pub kind: String,
    pub is_writable: bool,
    /// Empty: nothing is desired.
    pub desired: String,
    pub visitor: Map<String, Value>,
    pub collect_cycle: Duration,
    pub is_reported: bool,
}

/// A cycle of 0 (docs/protocol/devices.md 6.3).
const DEFAULT_CYCLE: Duration = Duration::from_secs(1);
/// Faster cycles would keep EdgeCore and its disk busy.
const SHORTEST_CYCLE: Duration = Duration::from_millis(10);
/// Cycles written in nanoseconds for mappers before 1.18 are far longer than this.
const LONGEST_CYCLE: Duration = Duration::from_secs(24 * 60 * 60);

fn cycle(milliseconds: i64) -> Duration {
    match u64::try_from(milliseconds) {
        Ok(0) | Err(_) => DEFAULT_CYCLE,
        Ok(given) => Duration::from_millis(given).clamp(SHORTEST_CYCLE, LONGEST_CYCLE),
    }
}

impl Device {
    /// Reads a message; whatever is missing is empty.
    pub(crate) fn read(device: &wire::Device, model: Option<&DeviceModel>) -> Device {
        let spec = device.spec.clone().unwrap_or_default();
        let protocol = spec.protocol.and_then(|protocol| protocol.config_data);
        let status = device.status.as_ref().filter(|status| status.report_to_cloud);
        Device {
            namespace: device.namespace.clone(),
            name: device.name.clone(),
            protocol: values(protocol),
            properties: spec.properties.into_iter().map(|property| Property::read(property, model)).collect(),
            state_cycle: status.map(|status| cycle(status.report_cycle)),
        }
    }

    /// True if only desired values differ, so that the driver can go on.
    fn differs_only_in_desired(&self, other: &Device) -> bool {
        let without_desired = |device: &Device| {
            let mut device = device.clone();
            device.properties.iter_mut().for_each(|property| property.desired.clear());
            device
        };
        without_desired(self) == without_desired(other)
    }
}

impl Property {
    fn read(property: DeviceProperty, model: Option<&DeviceModel>) -> Property {
        let declared = model.and_then(|model| model.spec.as_ref());
        let declared =
            declared.and_then(|spec| spec.properties.iter().find(|declared| declared.name == property.name));
        let desired = property.desired.unwrap_or_default();
        let kind = declared.map(|declared| declared.r#type.to_lowercase()).filter(|kind| !kind.is_empty());
        let kind = kind.or_else(|| desired.metadata.get("type").cloned()).unwrap_or_else(|| "string".into());
        Property {
            kind,
            // Without a model only a desired value shows that writing is meant.
            is_writable: declared
                .map_or(!desired.value.is_empty(), |declared| declared.access_mode != "ReadOnly"),
            desired: desired.value,
            visitor: values(property.visitors.and_then(|visitors| visitors.config_data)),
            collect_cycle: cycle(property.collect_cycle),
            is_reported: property.report_to_cloud,
            name: property.name,
        }
    }
}

fn values(data: Option<CustomizedValue>) -> Map<String, Value> {
    let data = data.unwrap_or_default().data;
    data.iter().filter_map(|(key, any)| Some((key.clone(), dmi::json_from_any(any)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dmi::v1beta1::{DeviceModelSpec, DeviceSpec, DeviceStatus, ModelProperty, TwinProperty};

    fn property(desired: &str) -> DeviceProperty {
        let desired =
            TwinProperty { value: desired.into(), metadata: [("type".into(), "int".into())].into() };
        DeviceProperty { name: "p".into(), desired: Some(desired), ..DeviceProperty::default() }
    }

    fn model(access_mode: &str) -> DeviceModel {
        let property = ModelProperty {
            name: "p".into(),
            r#type: "DOUBLE".into(),
            access_mode: access_mode.into(),
            ..ModelProperty::default()
        };
        let spec = DeviceModelSpec { properties: vec![property], ..DeviceModelSpec::default() };
        DeviceModel { name: "m".into(), spec: Some(spec), namespace: "default".into() }
    }

    #[test]
    fn a_device_without_anything_has_no_properties() {
        let bare = wire::Device { name: "d".into(), ..wire::Device::default() };
        let device = Device::read(&bare, None);
        assert!(device.properties.is_empty() && device.protocol.is_empty() && device.state_cycle.is_none());
        let spec = DeviceSpec { properties: vec![DeviceProperty::default()], ..DeviceSpec::default() };
        let device = Device::read(&wire::Device { spec: Some(spec), ..bare }, None);
        assert!(!device.properties[0].is_writable);
    }

    #[test]
    fn the_model_says_type_and_access() {
        let read = |mode| Property::read(property("7"), Some(&model(mode)));
        assert_eq!((read("ReadWrite").kind.as_str(), read("ReadWrite").is_writable), ("double", true));
        assert!(!read("ReadOnly").is_writable);
        let without = Property::read(property("7"), None);
        assert_eq!((without.kind.as_str(), without.is_writable), ("int", true));
    }

    #[test]
    fn cycles_are_milliseconds_within_bounds() {
        assert_eq!(cycle(0), DEFAULT_CYCLE);
        assert_eq!(cycle(-5), DEFAULT_CYCLE);
        assert_eq!(cycle(1), SHORTEST_CYCLE);
        assert_eq!(cycle(2500), Duration::from_millis(2500));
        assert_eq!(cycle(i64::MAX), LONGEST_CYCLE);
        let status = DeviceStatus { report_to_cloud: true, report_cycle: 500, ..DeviceStatus::default() };
        let device = wire::Device { status: Some(status), ..wire::Device::default() };
        assert_eq!(Device::read(&device, None).state_cycle, Some(Duration::from_millis(500)));
    }
}
