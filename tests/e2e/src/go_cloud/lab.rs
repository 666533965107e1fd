//! A scripted cloud, an edge of ours that joined it, and looks into the edge's database.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use harness::edge::Edge;
use harness::programs::Programs;
use rumqttc::{AsyncClient, MqttOptions, QoS};
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use serde_json::Value;
use tempfile::TempDir;

use super::{GoCloud, PATIENCE, Session};

/// Name of the node in the recorded messages.
pub const NODE: &str = "edge1";

/// A scripted cloud and an edge that joined it.
pub struct Lab {
    pub edge: Edge,
    pub cloud: GoCloud,
    _scratch: TempDir,
}

impl Lab {
    /// Joins while the script lets the edge in; the session is the first in KubeEdge's dialect.
    pub async fn start(runtime: Option<&Path>, settings: &[&str]) -> Result<(Lab, Session)> {
        let scratch = tempfile::tempdir()?;
        let cloud = GoCloud::start().await?;
        let (root, doors) = (scratch.path().join(NODE), cloud.doors());
        let join = || Edge::join_at(&Programs::find()?, doors, NODE, &root, runtime, settings);
        let (edge, session) = tokio::join!(async { tokio::task::block_in_place(join) }, async {
            cloud.accept_kubeedge().await
        });
        Ok((Lab { edge: edge?, cloud, _scratch: scratch }, session?))
    }

    /// (text, version) of a stored object.
    pub fn stored(&self, key: &str) -> Result<Option<(Value, String)>> {
        let db = Connection::open_with_flags(self.edge.database(), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let row = db
            .query_row("SELECT value, version FROM meta WHERE key = ?1", [key], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?))
            })
            .optional()?;
        row.map(|(text, version)| Ok((serde_json::from_str(&text)?, version.unwrap_or_default()))).transpose()
    }

    pub fn version(&self, key: &str) -> Result<Option<String>> {
        Ok(self.stored(key)?.map(|(_, version)| version))
    }

    /// Rows of a query that counts.
    pub fn count(&self, sql: &str) -> Result<i64> {
        let db = Connection::open_with_flags(self.edge.database(), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        Ok(db.query_row(sql, [], |row| row.get(0))?)
    }

    /// Publishes to the edge's own broker and returns once it took the message.
    pub async fn publish(&self, topic: &str, payload: &Value) -> Result<()> {
        let mut options = MqttOptions::new("app", "127.0.0.1", self.edge.mqtt_port);
        options.set_keep_alive(Duration::from_secs(10));
        let (client, mut events) = AsyncClient::new(options, 8);
        client.publish(topic, QoS::AtLeastOnce, false, payload.to_string()).await?;
        let taken = async {
            while !matches!(events.poll().await?, rumqttc::Event::Incoming(rumqttc::Packet::PubAck(_))) {}
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, taken).await?
    }
}

/// Whether a message has this route.
pub fn is(operation: &'static str, resource: &'static str) -> impl Fn(&Value) -> bool {
    move |message| message["route"]["operation"] == operation && message["route"]["resource"] == resource
}

/// For one test: the cloud runs while `keadm` is waited for.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}
