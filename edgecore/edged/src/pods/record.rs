//! What this node has to remember of a pod over its own restarts, besides the pod object and the runtime: that it was
//! admitted, when it started, and how it ended. One row a pod, written before anything of it runs and when it ends.
//!
//! The cloud does not send a node's own words back, so a pod that failed here would otherwise start again.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodStatus;
use serde::{Deserialize, Serialize};
use store::StoreError;

use metamanager::Objects;
use podmodel::stop_decision::StopDecision;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub uid: String,
    /// When the pod was first seen here.
    pub start: Timestamp,
    /// Why it had to end.
    #[serde(rename = "verdict", default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<StopDecision>,
    /// Its last status, once it has succeeded or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<PodStatus>,
}

const ROWS: &str = "podrecord";

impl Record {
    pub(super) async fn write(&self, objects: &Objects) -> Result<(), StoreError> {
        let row = serde_json::to_string(self).unwrap_or_default();
        objects.put_local(format!("{ROWS}/{}", self.uid), ROWS, self.uid.clone(), row).await
    }

    /// What is kept of one pod. A row of a later version that cannot be read counts as none.
    pub(super) async fn read(objects: &Objects, uid: &str) -> Result<Option<Record>, StoreError> {
        let row = objects.get_local(format!("{ROWS}/{uid}")).await?;
        Ok(row.and_then(|row| serde_json::from_str(&row).ok()))
    }

    /// All records, by uid. A row of a later version that cannot be read counts as none.
    pub(super) async fn all(objects: &Objects) -> Result<HashMap<String, Record>, StoreError> {
        let rows = objects.list_local(ROWS).await?;
        let records = rows.iter().filter_map(|row| serde_json::from_str::<Record>(row).ok());
        Ok(records.map(|record| (record.uid.clone(), record)).collect())
    }

    /// Uids of all pods that something is kept of.
    pub(super) async fn uids(objects: &Objects) -> Result<Vec<String>, StoreError> {
        objects.local_owners(ROWS).await
    }

    pub(super) async fn forget(objects: &Objects, uid: &str) -> Result<(), StoreError> {
        objects.delete_local(ROWS, uid.to_owned()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use podmodel::stop_decision::Disposition;

    #[test]
    fn what_an_earlier_build_kept_of_an_evicted_pod_is_read() {
        let row = r#"{"uid":"u","start":"2026-11-01T00:00:00Z","verdict":{"sentence":"Held","reason":"Evicted","message":"m","grace":null,"disrupted":true}}"#;
        let record: Record = serde_json::from_str(row).unwrap();
        assert_eq!(record.decision.as_ref().unwrap().disposition, Disposition::Hold);
        assert_eq!(serde_json::to_string(&record).unwrap(), row);
    }
}
