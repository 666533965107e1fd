//! How API servers find CloudCore's admission webhooks. The configurations are made empty: CloudCore fills them, as they carry the
//! CA of today, and whoever removes the installation removes them.

use serde_json::{Value, json};

use crate::Values;
use crate::document::Document;

/// Of the configurations and of the Service.
pub(crate) const NAME: &str = "cloudcore-webhooks";
pub(crate) const GROUP: &str = "admissionregistration.k8s.io";

pub(crate) fn documents(values: &Values) -> Vec<Document> {
    vec![
        Document::new("mutatingwebhookconfiguration", configuration(values, "Mutating"))
            .when(&values.webhooks),
        Document::new("validatingwebhookconfiguration", configuration(values, "Validating"))
            .when(&values.webhooks),
    ]
}

fn configuration(values: &Values, phase: &str) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": format!("{phase}WebhookConfiguration"),
        "metadata": values.metadata(NAME, None),
    })
}
