//! A real EdgeCore process without pods.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use api::config::edgecore::EdgeCoreConfig;
use harness::ports;
use harness::process::Process;
use store::rusqlite::{Connection, OpenFlags, OptionalExtension};

use crate::Common;
use crate::cgroup::Cgroup;
use crate::ground::Ground;
use crate::hollow;

pub(crate) struct Edge {
    pub process: Process,
    pub database: PathBuf,
    pub mqtt_port: u16,
    pub dmi_socket: PathBuf,
}

impl Edge {
    /// Starts EdgeCore as `node`, with a certificate made here. `server` is where it dials WebSocket.
    pub(crate) async fn start(common: &Common, ground: &Ground, node: &str, server: &str) -> Result<Edge> {
        Edge::start_in(None, common, ground, node, server).await
    }

    /// Like [`Edge::start`], in `group`.
    pub(crate) async fn start_in(
        group: Option<&Cgroup>,
        common: &Common,
        ground: &Ground,
        node: &str,
        server: &str,
    ) -> Result<Edge> {
        Edge::start_with(group, common, ground, node, server, |_| {}).await
    }

    /// Like [`Edge::start_in`], with what `adjust` makes of the configuration.
    pub(crate) async fn start_with(
        group: Option<&Cgroup>,
        common: &Common,
        ground: &Ground,
        node: &str,
        server: &str,
        adjust: impl FnOnce(&mut EdgeCoreConfig),
    ) -> Result<Edge> {
        let root = ground.scratch.path().join(node);
        let authority = ground.authority().await?;
        let files = hollow::write_identity(&authority, &root, node)?;
        let mut config = EdgeCoreConfig::default();
        let database = root.join("edgecore.db");
        config.database.data_source = database.to_string_lossy().into_owned();
        config.modules.edged.enable = false;
        config.modules.edged.hostname_override = node.to_owned();
        let (mqtt_port, dmi_socket) = (ports::free()?, root.join("dmi.sock"));
        config.modules.event_bus.mqtt_server_internal = format!("tcp://127.0.0.1:{mqtt_port}");
        config.modules.device_twin.dmi_sock_path = dmi_socket.to_string_lossy().into_owned();
        let hub = &mut config.modules.edge_hub;
        hub.tls_ca_file = files.ca.to_string_lossy().into_owned();
        hub.tls_cert_file = files.certificate.to_string_lossy().into_owned();
        hub.tls_private_key_file = files.key.to_string_lossy().into_owned();
        hub.http_server = format!("https://127.0.0.1:{}", ground.cert_port);
        hub.dialect = common.dialect.clone();
        hub.websocket.server = server.to_owned();
        hub.websocket.enable = !common.quic;
        hub.quic.enable = common.quic;
        hub.quic.server = ground.quic_server();
        adjust(&mut config);
        let path = root.join("edgecore.yaml");
        std::fs::write(&path, daemon::config::to_yaml(&config).map_err(anyhow::Error::msg)?)?;
        let program = common.programs.join("edgecore");
        let mut command = match group {
            Some(group) => group.command(&program)?,
            None => Command::new(program),
        };
        command.arg("--config").arg(&path);
        let process = Process::start(command, "edgecore", &root.join("edgecore.log"))?;
        Ok(Edge { process, database, mqtt_port, dmi_socket })
    }

    pub(crate) fn pid(&self) -> Result<i32> {
        Ok(i32::try_from(self.process.pid())?)
    }

    /// A connection that sees what is committed.
    pub(crate) async fn open(&self) -> Result<Seen> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        while !self.database.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Seen { db: Connection::open_with_flags(&self.database, flags)? })
    }
}

/// Reads the edge's database from outside.
pub(crate) struct Seen {
    db: Connection,
}

impl Seen {
    /// Version of a config map as it is committed.
    pub(crate) fn version(&self, name: &str) -> Result<Option<String>> {
        let found =
            self.db.prepare_cached("SELECT version FROM meta WHERE key = ?1").and_then(|mut statement| {
                statement.query_row([format!("default/configmap/{name}")], |row| row.get(0)).optional()
            });
        // The schema may not be there yet.
        Ok(found.unwrap_or_default())
    }

    /// Config maps whose text is `text`.
    pub(crate) fn count(&self, text: &str) -> Result<usize> {
        let sql =
            "SELECT count(*) FROM meta WHERE type = 'configmap' AND json_extract(value, '$.data.text') = ?1";
        Ok(self.db.prepare_cached(sql)?.query_row([text], |row| row.get::<_, i64>(0))? as usize)
    }

    /// Waits until `names` are committed.
    pub(crate) async fn wait_for(&self, names: &[String]) -> Result<()> {
        let began = harness::wait::now();
        for name in names {
            while self.version(name)?.is_none() {
                anyhow::ensure!(began.elapsed() < Duration::from_secs(60), "{name} does not arrive");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        Ok(())
    }
}
