//! Whose an object is, by its labels (the crate `manifests` writes them). Pure.

use serde_json::Value;

/// What keadm makes has these labels.
const PART_OF: (&str, &str) = ("app.kubernetes.io/part-of", "causeway");
const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "causeway");

/// The same as a selector, written for a URL.
pub(crate) const SELECTOR: &str =
    "app.kubernetes.io%2Fpart-of%3Dcauseway%2Capp.kubernetes.io%2Fmanaged-by%3Dcauseway";

/// True if `keadm init` made it, or `kubectl` of what `keadm manifest generate` printed; false of what Helm made.
pub(crate) fn is_ours(object: &Value) -> bool {
    let labels = &object["metadata"]["labels"];
    [PART_OF, MANAGED_BY].iter().all(|(label, value)| labels[label] == *value)
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
    fn what_an_installation_is_made_of_is_keadms_and_what_helm_made_is_not() {
        for object in manifests::objects(&Installation::default()) {
            assert!(is_ours(&object), "{}", title(&object));
        }
        let labels =
            |part: &str, by: &str| json!({"metadata": {"labels": {PART_OF.0: part, MANAGED_BY.0: by}}});
        assert!(is_ours(&labels("causeway", "causeway")));
        assert!(!is_ours(&labels("causeway", "Helm")) && !is_ours(&labels("other", "causeway")));
        assert!(!is_ours(&json!({})));
    }
}
