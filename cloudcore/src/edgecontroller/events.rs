//! Events of nodes, written to the API server. What an event is about was authorised before; here it is seen to that one
//! about something else is not changed under its name.

use message::{Json, ObjectKey, ObjectKind, Status, Upstream, Verb};
use serde_json::Value;

use crate::kubernetes::{Cluster, Merge};

/// What an event says again and again: client-go's recorder patches nothing else.
const PATCHED: [&str; 6] = ["count", "eventTime", "firstTimestamp", "lastTimestamp", "message", "series"];

/// Writes one event.
///
/// # Errors
/// The API server's; 403 for a change of an event about something else, or of more than `PATCHED`; 400 for what is no
/// event. The caller logs them: events are never answered.
pub async fn record(cluster: &Cluster, event: &Upstream) -> Result<(), Status> {
    let Upstream::Event { namespace, name, verb, object } = event else { return Ok(()) };
    let (one, all) = (path(namespace, name)?, path(namespace, "")?);
    let create = async |object: &Json| match cluster.create(&all, object).await {
        Err(status) if !status.is_conflict() => Err(status),
        _ => Ok(()),
    };
    let given = match verb {
        Verb::Create => return create(object).await,
        Verb::Update => object.parse().map_err(bad_request)?,
        Verb::Patch => object.parse::<Value>().map_err(bad_request)?["event"].take(),
    };
    match cluster.get(&one).await {
        Err(status) if status.is_not_found() && *verb == Verb::Update => return create(object).await,
        Err(status) if status.is_not_found() => {
            return create(&Json::of(&given)).await;
        }
        Err(status) => return Err(status),
        Ok(stored) => is_about_the_same(&stored.parse().map_err(bad_request)?, &given, name)?,
    }
    match verb {
        Verb::Patch => cluster.patch(&one, Merge::Strategic, patch_of(object)?).await.map(drop),
        _ => cluster.replace(&one, object).await.map(drop),
    }
}

fn is_about_the_same(stored: &Value, given: &Value, name: &str) -> Result<(), Status> {
    let (stored, given) = (&stored["involvedObject"], &given["involvedObject"]);
    let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    match ["kind", "namespace", "name"].iter().all(|field| text(stored, field) == text(given, field)) {
        true => Ok(()),
        false => Err(forbidden(format!("event {name} is about another object"))),
    }
}

/// The patch beside the event, if it changes only what may be changed.
fn patch_of(wrapped: &Json) -> Result<String, Status> {
    let wrapped: Value = wrapped.parse().map_err(bad_request)?;
    let text = wrapped["patchData"].as_str().unwrap_or("{}");
    let patch: Value = serde_json::from_str(text).map_err(bad_request)?;
    let fields = patch.as_object().ok_or_else(|| bad_request("the patch is not an object"))?;
    match fields.keys().find(|field| !PATCHED.contains(&field.as_str())) {
        Some(field) => Err(forbidden(format!("a patch of an event may not change {field}"))),
        None => Ok(text.to_owned()),
    }
}

fn path(namespace: &str, name: &str) -> Result<String, Status> {
    let key = ObjectKey::new(Some(namespace), ObjectKind::Event, name);
    key.api_path().ok_or_else(|| bad_request(format!("{key} has no path")))
}

fn forbidden(text: String) -> Status {
    Status::new(403, "Forbidden", text)
}

fn bad_request(error: impl std::fmt::Display) -> Status {
    Status::new(400, "BadRequest", error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_stays_about_what_it_was_about() {
        let about = |name: &str| json!({"involvedObject": {"kind": "Pod", "namespace": "d", "name": name, "uid": "u"}});
        assert!(is_about_the_same(&about("p"), &about("p"), "e").is_ok());
        assert_eq!(is_about_the_same(&about("p"), &about("q"), "e").unwrap_err().code, 403);
        assert_eq!(is_about_the_same(&about("p"), &json!({}), "e").unwrap_err().code, 403);
    }

    #[test]
    fn a_patch_counts_and_changes_nothing_else() {
        let patch = |data: &str| patch_of(&Json::encode(&json!({"patchData": data})).unwrap());
        let counted = r#"{"count":2,"lastTimestamp":"2026-11-28T00:00:00Z","message":"again"}"#;
        assert_eq!(patch(counted).unwrap(), counted);
        for data in
            [r#"{"involvedObject":{"name":"other"}}"#, r#"{"$patch":"replace"}"#, r#"{"metadata":{}}"#]
        {
            assert_eq!(patch(data).unwrap_err().code, 403, "{data}");
        }
        assert_eq!(patch("[]").unwrap_err().code, 400);
    }
}
