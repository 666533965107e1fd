//! Device and DeviceModel objects -> DMI messages (docs/protocol/devices.md 5.4). Pure.
//!
//! Go mappers dereference spec, protocol, and every property's desired, visitors and visitors.configData: all are
//! always there. A value without a form on the wire is left out instead of failing the device.

use std::collections::HashMap;

use api::devices::{Device, DeviceModel, DeviceProperty, Protocol};
use dmi::v1beta1 as wire;
use serde_json::{Map, Value};

pub(super) fn model(model: &DeviceModel) -> wire::DeviceModel {
    let properties = model.spec.properties.iter().map(|property| wire::ModelProperty {
        name: property.name.clone(),
        description: property.description.clone(),
        r#type: property.kind.clone(),
        access_mode: property.access_mode.clone(),
        minimum: property.minimum.clone(),
        maximum: property.maximum.clone(),
        unit: property.unit.clone(),
    });
    wire::DeviceModel {
        name: model.metadata.name.clone(),
        namespace: model.metadata.namespace.clone(),
        spec: Some(wire::DeviceModelSpec { properties: properties.collect(), commands: Vec::new() }),
    }
}

/// The device with what it inherits from its model.
pub(super) fn device(device: &Device, model: &DeviceModel) -> wire::Device {
    let spec = &device.spec;
    let mut protocol = spec.protocol.clone();
    protocol.config_data = overlaid(&model.spec.protocol_config_data, &protocol.config_data);
    let reporting = spec.state_report.clone().unwrap_or_else(|| device.status.clone());
    wire::Device {
        name: device.metadata.name.clone(),
        namespace: device.metadata.namespace.clone(),
        spec: Some(wire::DeviceSpec {
            device_model_reference: model.metadata.name.clone(),
            protocol: Some(wire::ProtocolConfig {
                protocol_name: protocol.protocol_name.clone(),
                config_data: Some(values(&protocol.config_data)),
            }),
            properties: spec.properties.iter().map(|property| self::property(property, model)).collect(),
            methods: spec
                .methods
                .iter()
                .map(|method| wire::DeviceMethod {
                    name: method.name.clone(),
                    description: method.description.clone(),
                    property_names: method.property_names.clone(),
                })
                .collect(),
        }),
        status: Some(wire::DeviceStatus {
            twins: Vec::new(),
            report_to_cloud: reporting.report_to_cloud,
            report_cycle: reporting.report_cycle,
        }),
    }
}

fn property(property: &DeviceProperty, model: &DeviceModel) -> wire::DeviceProperty {
    let inherited = model.spec.properties.iter().find(|candidate| candidate.name == property.name);
    let visitors = match inherited.and_then(|inherited| inherited.visitors.as_ref()) {
        Some(base) => Protocol {
            protocol_name: base.protocol_name.clone(),
            config_data: overlaid(&base.config_data, &property.visitors.config_data),
        },
        None => property.visitors.clone(),
    };
    wire::DeviceProperty {
        name: property.name.clone(),
        desired: Some(wire::TwinProperty {
            value: property.desired.value.clone(),
            metadata: property.desired.metadata.clone().into_iter().collect(),
        }),
        visitors: Some(wire::VisitorConfig {
            protocol_name: visitors.protocol_name,
            config_data: Some(values(&visitors.config_data)),
        }),
        report_cycle: property.report_cycle,
        collect_cycle: property.collect_cycle,
        report_to_cloud: property.report_to_cloud,
        push_method: property.push_method.as_ref().map(push_method),
    }
}

/// `over` on top of `base`, key by key.
fn overlaid(base: &Map<String, Value>, over: &Map<String, Value>) -> Map<String, Value> {
    let mut merged = base.clone();
    merged.extend(over.clone());
    merged
}

fn values(config: &Map<String, Value>) -> wire::CustomizedValue {
    let data: HashMap<_, _> = config
        .iter()
        .filter_map(|(key, value)| Some((key.clone(), dmi::any_from_json(value).ok()?)))
        .collect();
    wire::CustomizedValue { data }
}

fn push_method(method: &Value) -> wire::PushMethod {
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let number = |value: &Value, key: &str| value[key].as_i64().unwrap_or_default();
    let present = |key: &str| method.get(key).filter(|value| value.is_object());
    let database = |kind: &str| method["dbMethod"].get(kind).filter(|value| value.is_object());
    let db_method = present("dbMethod").map(|_| wire::DbMethod {
        influxdb2: database("influxdb2").map(|influx| {
            let (client, data) = (&influx["influxdb2ClientConfig"], &influx["influxdb2DataConfig"]);
            let tags = data["tag"].as_object().into_iter().flatten();
            wire::DbMethodInfluxdb2 {
                influxdb2_client_config: Some(wire::Influxdb2ClientConfig {
                    url: text(client, "url"),
                    org: text(client, "org"),
                    bucket: text(client, "bucket"),
                }),
                influxdb2_data_config: Some(wire::Influxdb2DataConfig {
                    measurement: text(data, "measurement"),
                    tag: tags
                        .map(|(key, tag)| (key.clone(), tag.as_str().unwrap_or_default().to_owned()))
                        .collect(),
                    field_key: text(data, "fieldKey"),
                }),
            }
        }),
        redis: database("redis").map(|redis| {
            let client = &redis["redisClientConfig"];
            wire::DbMethodRedis {
                redis_client_config: Some(wire::RedisClientConfig {
                    addr: text(client, "addr"),
                    db: number(client, "db") as i32,
                    poolsize: number(client, "poolsize") as i32,
                    min_idle_conns: number(client, "minIdleConns") as i32,
                }),
            }
        }),
        tdengine: database("TDEngine").map(|engine| {
            let client = &engine["TDEngineClientConfig"];
            wire::DbMethodTdEngine {
                td_engine_client_config: Some(wire::TdEngineClientConfig {
                    addr: text(client, "addr"),
                    dbname: text(client, "dbName"),
                }),
            }
        }),
        mysql: database("mysql").map(|mysql| {
            let client = &mysql["mysqlClientConfig"];
            wire::DbMethodMySql {
                mysql_client_config: Some(wire::MySqlClientConfig {
                    addr: text(client, "addr"),
                    database: text(client, "database"),
                    user_name: text(client, "userName"),
                }),
            }
        }),
    });
    wire::PushMethod {
        http: present("http").map(|http| wire::PushMethodHttp {
            hostname: text(http, "hostName"),
            port: number(http, "port"),
            requestpath: text(http, "requestPath"),
            timeout: number(http, "timeout"),
        }),
        mqtt: present("mqtt").map(|mqtt| wire::PushMethodMqtt {
            address: text(mqtt, "address"),
            topic: text(mqtt, "topic"),
            qos: number(mqtt, "qos") as i32,
            retained: mqtt["retained"].as_bool().unwrap_or_default(),
        }),
        db_method,
        otel: present("otel").map(|otel| wire::PushMethodOtel { endpoint_url: text(otel, "endpointURL") }),
        anomaly_detection: present("anomalyDetection").map(|detection| wire::AnomalyDetection {
            data: detection
                .as_object()
                .into_iter()
                .flatten()
                .filter_map(|(key, value)| Some((key.clone(), dmi::any_from_json(value).ok()?)))
                .collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_device_inherits_from_its_model_and_leaves_nothing_a_go_mapper_needs_absent() {
        let model: DeviceModel = serde_json::from_value(json!({
            "metadata": {"name": "m", "namespace": "d"},
            "spec": {"protocol": "modbus", "protocolConfigData": {"baud": 9600, "port": "a"},
                "properties": [{"name": "t", "type": "INT", "visitors": {"protocolName": "modbus", "configData": {"register": 1, "scale": 0.5}}}]}
        }))
        .unwrap();
        let device: Device = serde_json::from_value(json!({
            "metadata": {"name": "x", "namespace": "d"},
            "spec": {"deviceModelRef": {"name": "m"}, "protocol": {"protocolName": "modbus", "configData": {"port": "b", "none": null}},
                "properties": [{"name": "t", "visitors": {"configData": {"register": 2}}}, {"name": "bare"}]},
            "status": {"reportToCloud": true, "reportCycle": 7}
        }))
        .unwrap();
        let wire = super::device(&device, &model);
        let spec = wire.spec.unwrap();
        let config =
            |value: &wire::CustomizedValue, key: &str| value.data.get(key).and_then(dmi::json_from_any);
        let protocol = spec.protocol.unwrap().config_data.unwrap();
        assert_eq!(config(&protocol, "port"), Some(json!("b")));
        assert_eq!(config(&protocol, "baud"), Some(json!(9600)));
        assert_eq!(protocol.data.len(), 2);
        let visitors = spec.properties[0].visitors.as_ref().unwrap();
        assert_eq!(visitors.protocol_name, "modbus");
        assert_eq!(config(visitors.config_data.as_ref().unwrap(), "register"), Some(json!(2)));
        assert!(
            spec.properties[1].desired.is_some()
                && spec.properties[1].visitors.as_ref().unwrap().config_data.is_some()
        );
        assert_eq!(wire.status.unwrap().report_cycle, 7);
    }
}
