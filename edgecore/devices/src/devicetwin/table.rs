//! The device tables, in KubeEdge's form (docs/protocol/devices.md 3.3).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;
use store::rusqlite::{Connection, Row, Transaction, params};

use super::twin::{Side, Twin, Twins, Version};

/// What is kept of a device besides its object.
#[derive(Clone, Debug, Default)]
pub(super) struct StoredState {
    pub state: String,
    pub last_online: String,
    pub twins: Twins,
}

/// Reads every device's row and twins, by id.
pub(super) fn load(db: &Connection) -> store::rusqlite::Result<BTreeMap<String, StoredState>> {
    let mut devices = BTreeMap::new();
    let mut statement = db.prepare("SELECT id, state, last_online FROM device")?;
    let rows = statement.query_map([], |row| {
        let kept = StoredState { state: text(row, 1)?, last_online: text(row, 2)?, twins: Twins::default() };
        Ok((row.get::<_, String>(0)?, kept))
    })?;
    for row in rows {
        let (id, kept) = row?;
        devices.insert(id, kept);
    }
    let mut statement = db.prepare(
        "SELECT deviceid, name, expected, actual, expected_meta, actual_meta, expected_version, actual_version,
         optional, attr_type, metadata FROM device_twin ORDER BY id",
    )?;
    let rows = statement.query_map([], |row| Ok((text(row, 0)?, text(row, 1)?, read_twin(row)?)))?;
    for row in rows {
        let (device, name, twin) = row?;
        devices.entry(device).or_default().twins.0.insert(name, twin);
    }
    Ok(devices)
}

fn text(row: &Row<'_>, at: usize) -> store::rusqlite::Result<String> {
    Ok(row.get::<_, Option<String>>(at)?.unwrap_or_default())
}

fn read_twin(row: &Row<'_>) -> store::rusqlite::Result<Twin> {
    let side = |value: usize, meta: usize, version: usize| -> store::rusqlite::Result<Option<Side>> {
        let (value, meta, version) = (text(row, value)?, text(row, meta)?, text(row, version)?);
        // An empty version means that the side was never set.
        let Ok(version) = serde_json::from_str::<Version>(&version) else { return Ok(None) };
        let meta: serde_json::Value = serde_json::from_str(&meta).unwrap_or_default();
        Ok(Some(Side { value, at: meta["timestamp"].as_i64().unwrap_or_default(), version }))
    };
    Ok(Twin {
        expected: side(2, 4, 6)?,
        actual: side(3, 5, 7)?,
        observed: serde_json::from_str::<Metadata>(&text(row, 10)?).unwrap_or_default().observed,
        optional: row.get::<_, Option<bool>>(8)?.unwrap_or(true),
        kind: text(row, 9)?,
    })
}

/// What is kept beside KubeEdge's columns, in the one it leaves an empty object in and reads by names it knows.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Metadata {
    #[serde(skip_serializing_if = "Option::is_none")]
    observed: Option<String>,
}

/// Writes a device's row.
pub(super) fn put_device(
    tx: &Transaction<'_>,
    id: &str,
    name: &str,
    kept: &StoredState,
) -> store::rusqlite::Result<()> {
    tx.prepare_cached("INSERT OR REPLACE INTO device(id, name, description, state, last_online) VALUES (?1, ?2, '', ?3, ?4)")?
        .execute(params![id, name, kept.state, kept.last_online])
        .map(|_| ())
}

/// Writes one twin of a device.
pub(super) fn put_twin(
    tx: &Transaction<'_>,
    id: &str,
    name: &str,
    twin: &Twin,
) -> store::rusqlite::Result<()> {
    let value = |side: &Option<Side>| side.as_ref().map(|side| side.value.clone()).unwrap_or_default();
    let meta = |side: &Option<Side>| {
        side.as_ref().map(|side| json!({"timestamp": side.at}).to_string()).unwrap_or_default()
    };
    let version =
        |side: &Option<Side>| side.as_ref().map(|side| json!(side.version).to_string()).unwrap_or_default();
    let metadata = json!(Metadata { observed: twin.observed.clone() }).to_string();
    let row = params![
        id,
        name,
        value(&twin.expected),
        value(&twin.actual),
        meta(&twin.expected),
        meta(&twin.actual),
        version(&twin.expected),
        version(&twin.actual),
        twin.optional,
        twin.kind,
        metadata,
    ];
    let update = "UPDATE device_twin SET expected = ?3, actual = ?4, expected_meta = ?5, actual_meta = ?6,
         expected_version = ?7, actual_version = ?8, optional = ?9, attr_type = ?10, metadata = ?11
         WHERE deviceid = ?1 AND name = ?2";
    if tx.prepare_cached(update)?.execute(row)? > 0 {
        return Ok(());
    }
    let insert = "INSERT INTO device_twin(deviceid, name, description, expected, actual, expected_meta,
         actual_meta, expected_version, actual_version, optional, attr_type, metadata)
         VALUES (?1, ?2, '', ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    tx.prepare_cached(insert)?.execute(row).map(|_| ())
}

/// Removes everything of a device.
pub(super) fn remove(tx: &Transaction<'_>, id: &str) -> store::rusqlite::Result<()> {
    for statement in [
        "DELETE FROM device WHERE id = ?1",
        "DELETE FROM device_attr WHERE deviceid = ?1",
        "DELETE FROM device_twin WHERE deviceid = ?1",
    ] {
        tx.prepare_cached(statement)?.execute([id])?;
    }
    Ok(())
}
