//! Patience as Kubernetes understands it: tolerations of the two taints of nodes that are not heard of.
//!
//! The API lets tolerations be added to a pod that exists, and the seconds of those it has be changed. Of all tolerations that
//! fit a taint the shortest counts, so it is not enough to add one.

use serde_json::{Value, json};

use super::policy::Patience;

/// The taints by which pods are evicted, and where OpenYurt keeps a pod's own seconds of them.
const TAINTS: [(&str, &str); 2] = [
    ("node.kubernetes.io/not-ready", "apps.openyurt.io/original-not-ready-toleration-duration"),
    ("node.kubernetes.io/unreachable", "apps.openyurt.io/original-unreachable-toleration-duration"),
];
/// What a pod gets that says nothing (Kubernetes' admission `DefaultTolerationSeconds`).
const USUAL: u64 = 300;
/// In the annotation: the pod stayed for ever by itself.
const FOR_EVER: &str = "forever";

/// The merge patch that gives a pod this patience, or its own back. `None`: it has it.
pub(super) fn patch(pod: &Value, patience: Patience) -> Option<Value> {
    let before = pod["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
    let annotations = &pod["metadata"]["annotations"];
    let (mut after, mut notes) = (before.clone(), serde_json::Map::new());
    for (taint, note) in TAINTS {
        let kept = annotations[note].as_str();
        let seconds = match (patience, kept) {
            (Patience::Usual, None) => continue,
            (Patience::Usual, Some(own)) => {
                notes.insert(note.to_owned(), Value::Null);
                own_seconds(own)
            }
            (Patience::Forever, _) => None,
            (Patience::For(time), _) => Some(time.as_secs()),
        };
        let own = tolerate(&mut after, taint, seconds);
        if patience != Patience::Usual && kept.is_none() {
            notes.insert(note.to_owned(), own.into());
        }
    }
    if after == before && notes.is_empty() {
        return None;
    }
    let mut patch = json!({"spec": {"tolerations": after}});
    if !notes.is_empty() {
        patch["metadata"] = json!({"annotations": notes});
    }
    Some(patch)
}

fn own_seconds(note: &str) -> Option<u64> {
    if note == FOR_EVER { None } else { Some(note.parse().unwrap_or(USUAL)) }
}

/// Has all that fits the taint last for `seconds`, and adds a toleration if nothing fits. The result is what was there, for the
/// annotation.
fn tolerate(tolerations: &mut Vec<Value>, taint: &str, seconds: Option<u64>) -> String {
    let mut own: Option<Option<u64>> = None;
    for toleration in tolerations.iter_mut().filter(|toleration| fits(toleration, taint)) {
        let had = toleration["tolerationSeconds"].as_i64().map(|had| u64::try_from(had).unwrap_or(0));
        own = Some(match (own, had) {
            (None, had) => had,
            (Some(one), other) => one.into_iter().chain(other).min(),
        });
        let Some(fields) = toleration.as_object_mut() else { continue };
        match seconds {
            Some(seconds) => fields.insert("tolerationSeconds".to_owned(), seconds.into()),
            None => fields.remove("tolerationSeconds"),
        };
    }
    let Some(own) = own else {
        let mut added = json!({"key": taint, "operator": "Exists", "effect": "NoExecute"});
        if let Some(seconds) = seconds {
            added["tolerationSeconds"] = seconds.into();
        }
        tolerations.push(added);
        return USUAL.to_string();
    };
    own.map_or(FOR_EVER.to_owned(), |seconds| seconds.to_string())
}

/// True for a toleration of this taint alone: one of all taints is the pod's own wish and stays.
fn fits(toleration: &Value, taint: &str) -> bool {
    let is_any = |field: &str| matches!(toleration[field].as_str(), None | Some(""));
    toleration["key"] == taint
        && (toleration["effect"] == "NoExecute" || is_any("effect"))
        && (toleration["operator"] == "Exists" || is_any("value"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HOUR: Patience = Patience::For(Duration::from_secs(3600));

    /// A merge patch as the API server applies it.
    fn apply(pod: &mut Value, patch: Value) {
        match (pod, patch) {
            (Value::Object(fields), Value::Object(changes)) => {
                for (name, change) in changes {
                    match change {
                        Value::Null => drop(fields.remove(&name)),
                        change => apply(fields.entry(name).or_insert(Value::Null), change),
                    }
                }
            }
            (pod @ Value::Null, patch @ Value::Object(_)) => {
                *pod = json!({});
                apply(pod, patch);
            }
            (pod, patch) => *pod = patch,
        }
    }

    fn follow(pod: &mut Value, patience: Patience) {
        let patch = patch(pod, patience).unwrap();
        apply(pod, patch);
    }

    fn seconds(pod: &Value) -> Vec<(String, Option<u64>)> {
        let tolerations = pod["spec"]["tolerations"].as_array().unwrap();
        let of =
            |one: &Value| (one["key"].as_str().unwrap_or("*").to_owned(), one["tolerationSeconds"].as_u64());
        tolerations.iter().map(of).collect()
    }

    #[test]
    fn a_pod_gets_patience_and_its_own_back() {
        let both = |seconds: Option<u64>| TAINTS.map(|(taint, _)| (taint.to_owned(), seconds)).to_vec();
        let admitted = TAINTS.map(|(taint, _)| {
            json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})
        });
        let original = json!({"metadata": {"name": "p"}, "spec": {"tolerations": admitted}});
        let mut pod = original.clone();
        for (patience, expected) in [(HOUR, Some(3600)), (Patience::Forever, None), (HOUR, Some(3600))] {
            follow(&mut pod, patience);
            assert_eq!(seconds(&pod), both(expected));
            assert_eq!(patch(&pod, patience), None, "once is enough");
        }
        follow(&mut pod, Patience::Usual);
        assert_eq!(pod["spec"], original["spec"]);
        assert_eq!(pod["metadata"]["annotations"], json!({}));
        assert_eq!(patch(&pod, Patience::Usual), None);
    }

    #[test]
    fn what_a_pod_wishes_itself_is_kept_for_afterwards_and_other_tolerations_stay() {
        let (not_ready, unreachable) = (TAINTS[0].0, TAINTS[1].0);
        let own = json!([
            {"operator": "Exists"},
            {"key": "gpu", "operator": "Exists"},
            {"key": unreachable, "operator": "Exists"},
            {"key": not_ready, "operator": "Exists", "effect": "NoSchedule"}
        ]);
        let mut pod = json!({"metadata": {"annotations": {"a": "b"}}, "spec": {"tolerations": own}});
        follow(&mut pod, HOUR);
        assert_eq!(pod["metadata"]["annotations"]["a"], "b");
        let expected = [
            ("*", None),
            ("gpu", None),
            (unreachable, Some(3600)),
            (not_ready, None),
            (not_ready, Some(3600)),
        ];
        assert_eq!(seconds(&pod), expected.map(|(key, seconds)| (key.to_owned(), seconds)));
        follow(&mut pod, Patience::Usual);
        // What was added cannot be taken away: it lasts as long as Kubernetes' own would.
        let expected =
            [("*", None), ("gpu", None), (unreachable, None), (not_ready, None), (not_ready, Some(USUAL))];
        assert_eq!(seconds(&pod), expected.map(|(key, seconds)| (key.to_owned(), seconds)));
    }
}
