//! Devices: values of one, a status for each of many, and what a node hears of those that went while it was away.

use std::process::Command;

use anyhow::{Result, ensure};
use harness::process::Process;
use harness::site::NODE;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

use super::Lab;

const THERMOMETER: &str = include_str!("../../../../manifests/samples/thermometer.yaml");
/// More than CloudCore makes a status for without asking first which of them have one.
const MANY: usize = 60;

/// Devices that are there before CloudCore starts, of a node that never comes.
pub(super) fn many() -> String {
    let device = |number: usize| {
        json!({"apiVersion": "devices.kubeedge.io/v1beta1", "kind": "Device",
            "metadata": {"name": format!("early-{number}"), "namespace": "default"},
            "spec": {"nodeName": "edge-9", "deviceModelRef": {"name": "thermometer"}}})
    };
    let items: Vec<Value> = (0..MANY).map(device).collect();
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

impl Lab {
    pub(super) fn devices(&mut self) -> Result<()> {
        let socket = self.edges[0].dmi_socket();
        self.until("EdgeCore's DMI socket", || Ok(socket.exists()))?;
        let (own, config) =
            (self.scratch.path().join("virtual.sock"), self.scratch.path().join("virtual.yaml"));
        let text = format!(
            "grpc_server: {{socket_path: {}}}\ncommon: {{name: virtual-mapper, version: v1.0.0, api_version: v1.0.0, protocol: \
             virtual, address: 127.0.0.1, edgecore_sock: {}}}\n",
            own.display(),
            socket.display()
        );
        std::fs::write(&config, text)?;
        let mut command = Command::new(self.programs.path("mapper-virtual"));
        command.arg("--config-file").arg(&config);
        self.mapper =
            Some(Process::start(command, "mapper-virtual", &self.scratch.path().join("mapper.log"))?);
        self.kubectl.apply(THERMOMETER)?;
        let path = ".status.twins[?(@.propertyName==\"temperature\")].reported.value";
        self.waits("a value comes", "devicestatus", "thermometer", path, |value| !value.is_empty())?;
        self.until("each device has a status", || {
            let statuses = self.kubectl.run(&["get", "devicestatuses", "-o", "name"])?;
            Ok(statuses.lines().filter(|name| name.contains("/early-")).count() == MANY)
        })?;
        self.gone_while_away()
    }

    /// A device goes while its node is away, and the model is left without a device: before CloudCore takes them from the node, it asks
    /// what has become of them.
    fn gone_while_away(&self) -> Result<()> {
        let edge = &self.edges[0];
        ensure!(self.stored_devices()? == 2, "the node has a device and its model");
        edge.kill9()?;
        // Another replica may have the node.
        let stats = format!("/api/v1/nodes/{NODE}/proxy/stats/summary");
        self.until("CloudCore has looked for the node at other replicas", || {
            let asked = self.kubectl.run(&["get", "--raw", &stats]);
            Ok(asked.is_err_and(|error| format!("{error:#}").contains("nor to another")))
        })?;
        self.kubectl.run(&["delete", "device", "thermometer"])?;
        edge.start()?;
        self.until("the node has neither the device nor its model", || Ok(self.stored_devices()? == 0))
    }

    /// Devices and models in the node's database.
    fn stored_devices(&self) -> Result<i64> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let database = Connection::open_with_flags(self.edges[0].database(), flags)?;
        let count = "SELECT count(*) FROM meta WHERE type IN ('device', 'devicemodel')";
        Ok(database.query_row(count, [], |row| row.get(0))?)
    }
}
