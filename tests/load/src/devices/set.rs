//! The devices: their names, their objects, and what the API server knows of them.

use std::collections::HashMap;

use anyhow::{Context, Result};
use cloudcore::kubernetes::Cluster;
use serde_json::{Value, json};

use crate::objects;

const GROUP: &str = "/apis/devices.kubeedge.io/v1beta1/namespaces/default";

/// The value sent last of each property, by device and property.
pub(super) type Newest = HashMap<(usize, usize), u64>;

/// Devices over nodes and models, in turn.
#[derive(Clone)]
pub(super) struct Set {
    pub devices: usize,
    pub nodes: usize,
    /// Properties of each model.
    pub properties: Vec<usize>,
}

pub(super) fn node_name(number: usize) -> String {
    format!("edge-{number}")
}

pub(super) fn device_name(number: usize) -> String {
    format!("load-device-{number}")
}

pub(super) fn property_name(number: usize) -> String {
    format!("value-{number}")
}

impl Set {
    /// Numbers of the devices of a node.
    pub(super) fn of_node(&self, node: usize) -> impl Iterator<Item = usize> {
        (node..self.devices).step_by(self.nodes)
    }

    /// Properties of a device.
    pub(super) fn properties_of(&self, device: usize) -> usize {
        self.properties[self.model_of(device)]
    }

    /// Devices of one node are of all models.
    fn model_of(&self, device: usize) -> usize {
        device / self.nodes % self.properties.len()
    }

    /// Makes nodes, models and devices.
    pub(super) async fn make(&self, cluster: &Cluster) -> Result<()> {
        let mut wanted: Vec<_> = (0..self.nodes).map(|node| objects::node(&node_name(node))).collect();
        wanted.extend((0..self.properties.len()).map(|model| self.model(model)));
        objects::ensure_all(cluster, wanted).await?;
        objects::ensure_all(cluster, (0..self.devices).map(|device| self.device(device)).collect()).await
    }

    /// Makes the DeviceStatus objects that are missing, as in a cluster that has run for a while.
    pub(super) async fn make_statuses(&self, cluster: &Cluster) -> Result<()> {
        objects::ensure_all(cluster, (0..self.devices).map(status).collect()).await
    }

    fn model(&self, number: usize) -> (String, Value) {
        let property =
            |number| json!({"name": property_name(number), "type": "INT", "accessMode": "ReadWrite"});
        let properties: Vec<Value> = (0..self.properties[number]).map(property).collect();
        let model = json!({"apiVersion": "devices.kubeedge.io/v1beta1", "kind": "DeviceModel",
            "metadata": {"name": format!("load-model-{number}"), "namespace": "default"},
            "spec": {"protocol": "modbus", "properties": properties}});
        (format!("{GROUP}/devicemodels"), model)
    }

    fn device(&self, number: usize) -> (String, Value) {
        let property = |number| {
            json!({"name": property_name(number), "visitors": {"protocolName": "modbus",
                "configData": {"register": "HoldingRegister", "offset": number, "limit": 1}}})
        };
        let properties: Vec<Value> = (0..self.properties_of(number)).map(property).collect();
        let device = json!({"apiVersion": "devices.kubeedge.io/v1beta1", "kind": "Device",
            "metadata": {"name": device_name(number), "namespace": "default"},
            "spec": {"nodeName": node_name(number % self.nodes),
                "deviceModelRef": {"name": format!("load-model-{}", self.model_of(number))},
                "protocol": {"protocolName": "modbus", "configData": {"slaveID": number % 247}},
                "properties": properties}});
        (format!("{GROUP}/devices"), device)
    }

    /// How many of `newest` the API server does not have.
    pub(super) async fn stale(&self, cluster: &Cluster, newest: &Newest) -> Result<usize> {
        let list: Value = cluster.get(&format!("{GROUP}/devicestatuses")).await?.parse()?;
        let mut told = HashMap::new();
        for status in list["items"].as_array().context("items")? {
            let device = status["metadata"]["name"].as_str().unwrap_or_default();
            for twin in status["status"]["twins"].as_array().into_iter().flatten() {
                let property = twin["propertyName"].as_str().unwrap_or_default();
                let value = twin["reported"]["value"].as_str().unwrap_or_default();
                told.insert((device.to_owned(), property.to_owned()), value.to_owned());
            }
        }
        let is_told = |(device, property): &(usize, usize), value: &u64| {
            told.get(&(device_name(*device), property_name(*property))) == Some(&value.to_string())
        };
        Ok(newest.iter().filter(|(property, value)| !is_told(property, value)).count())
    }
}

fn status(device: usize) -> (String, Value) {
    let status = json!({"apiVersion": "devices.kubeedge.io/v1beta1", "kind": "DeviceStatus",
        "metadata": {"name": device_name(device), "namespace": "default"}, "spec": {}});
    (format!("{GROUP}/devicestatuses"), status)
}
