//! Whose an object is, by its labels (the crate `manifests` writes them). Pure.

use serde_json::Value;

/// Who made an object of CloudCore's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// `keadm init`, or `kubectl` of what `keadm manifest generate` printed.
    Keadm,
    /// Helm, of the chart.
    Helm,
    Other,
}

/// What keadm makes has these labels.
const PART_OF: (&str, &str) = ("app.kubernetes.io/part-of", "causeway");
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// The same as a selector, written for a URL.
pub(crate) const SELECTOR: &str =
    "app.kubernetes.io%2Fpart-of%3Dcauseway%2Capp.kubernetes.io%2Fmanaged-by%3Dcauseway";

pub(crate) fn owner(object: &Value) -> Owner {
    let labels = &object["metadata"]["labels"];
    match labels[MANAGED_BY].as_str() {
        _ if labels[PART_OF.0] != PART_OF.1 => Owner::Other,
        Some("causeway") => Owner::Keadm,
        Some("Helm") => Owner::Helm,
        _ => Owner::Other,
    }
}

pub(crate) fn is_ours(object: &Value) -> bool {
    owner(object) == Owner::Keadm
}

/// `Kind namespace/name`, for people.
pub(crate) fn title(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, meta) = (text(&object["kind"]), &object["metadata"]);
    match meta["namespace"].as_str() {
        Some(namespace) => format!("{kind} {namespace}/{}", text(&meta["name"])),
        None => format!("{kind} {}", text(&meta["name"])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use manifests::Installation;
    use serde_json::json;

    #[test]
    fn what_an_installation_is_made_of_is_keadms_and_a_charts_is_helms() {
        for object in manifests::objects(&Installation::default()) {
            assert!(is_ours(&object), "{}", title(&object));
        }
        let labels = |by: &str| json!({"metadata": {"labels": {PART_OF.0: PART_OF.1, MANAGED_BY: by}}});
        assert_eq!(owner(&labels("Helm")), Owner::Helm);
        assert_eq!(owner(&json!({"metadata": {"labels": {MANAGED_BY: "causeway"}}})), Owner::Other);
        assert_eq!(owner(&json!({})), Owner::Other);
    }
}
