//! What the cloud allowed to whom, for when it cannot be asked.

use store::StoreError;
use store::rusqlite::params;

use super::Tables;

/// Rights that are remembered; the oldest go first.
const MOST: i64 = 5000;
/// Seconds after which a right that is used is noted again.
const AGAIN: i64 = 3600;

/// A user may do this.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Right {
    pub user: String,
    /// `get`, `list` or `watch`.
    pub verb: &'static str,
    /// `pods`, `deployments.apps`, `pods/log`
    pub resource: String,
    /// Empty: all, or the cluster's.
    pub namespace: String,
    /// Empty: all.
    pub name: String,
}

impl Right {
    /// What would allow this: itself, and what is wider. Who lists or watches sees what the other would show, and what is in it.
    pub(crate) fn wider(&self) -> Vec<Right> {
        let verbs: &[&'static str] = match self.verb {
            "get" if !self.resource.contains('/') => &["get", "list", "watch"],
            "list" | "watch" => &["list", "watch"],
            other => &[other],
        };
        let mut all = Vec::new();
        for verb in verbs {
            for namespace in [self.namespace.as_str(), ""] {
                for name in [self.name.as_str(), ""] {
                    let right =
                        Right { verb, namespace: namespace.into(), name: name.into(), ..self.clone() };
                    if !all.contains(&right) {
                        all.push(right);
                    }
                }
            }
        }
        all
    }
}

impl Tables {
    /// True if the cloud allowed this, or what is wider, when it was asked last.
    pub(crate) async fn may(&self, right: &Right) -> Result<bool, StoreError> {
        let wider = right.wider();
        self.store
            .read(move |db| {
                let mut statement = db.prepare_cached(
                    "SELECT 1 FROM rights WHERE user = ?1 AND verb = ?2 AND resource = ?3 AND namespace = ?4 AND name = ?5",
                )?;
                for Right { user, verb, resource, namespace, name } in &wider {
                    if statement.exists(params![user, verb, resource, namespace, name])? {
                        return Ok(true);
                    }
                }
                Ok(false)
            })
            .await
    }

    /// The cloud allowed it.
    pub(crate) async fn allow(&self, right: &Right, now: i64) -> Result<(), StoreError> {
        let asked = right.clone();
        let is_known = self
            .store
            .read(move |db| {
                let Right { user, verb, resource, namespace, name } = &asked;
                db.prepare_cached(
                    "SELECT 1 FROM rights WHERE user = ?1 AND verb = ?2 AND resource = ?3 AND namespace = ?4 AND name = ?5
                       AND seen > ?6 AND seen <= ?7",
                )?
                .exists(params![user, verb, resource, namespace, name, now - AGAIN, now])
            })
            .await?;
        if is_known {
            return Ok(());
        }
        let Right { user, verb, resource, namespace, name } = right.clone();
        self.store
            .write(move |tx| {
                tx.prepare_cached("INSERT OR REPLACE INTO rights VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
                    .execute(params![user, verb, resource, namespace, name, now])?;
                let count: i64 = tx.query_row("SELECT count(*) FROM rights", [], |row| row.get(0))?;
                if count > MOST {
                    tx.execute(
                        "DELETE FROM rights WHERE seen <= (SELECT seen FROM rights ORDER BY seen LIMIT 1 OFFSET ?1)",
                        [count - MOST],
                    )?;
                }
                Ok(())
            })
            .await
    }

    /// The cloud refused it: what would allow it here is forgotten as well.
    pub(crate) async fn deny(&self, right: &Right) -> Result<(), StoreError> {
        if !self.may(right).await? {
            return Ok(());
        }
        let wider = right.wider();
        self.store
            .write(move |tx| {
                let mut statement = tx.prepare_cached(
                    "DELETE FROM rights WHERE user = ?1 AND verb = ?2 AND resource = ?3 AND namespace = ?4 AND name = ?5",
                )?;
                wider.iter().try_for_each(|Right { user, verb, resource, namespace, name }| {
                    statement.execute(params![user, verb, resource, namespace, name]).map(drop)
                })
            })
            .await
    }

    /// The cloud knows the user no longer (401): nothing is left of what he might do.
    pub(crate) async fn disown(&self, user: &str) -> Result<(), StoreError> {
        let user = user.to_owned();
        self.store.write(move |tx| tx.execute("DELETE FROM rights WHERE user = ?1", [user]).map(drop)).await
    }
}
