//! The verbs of the API on resources.

pub(crate) mod backends;
mod budgets;
mod connect;
pub(crate) mod create;
pub(crate) mod decode;
pub(crate) mod delete;
pub(crate) mod ownership;
mod prepare;
pub(crate) mod review;
pub(crate) mod scale;
pub(crate) mod streams;
pub(crate) mod subresources;
pub(crate) mod update;
pub(crate) mod usage;

use apimachinery::Status;
use kubeapi::registry::{Computed, REVIEWS};
use kubeapi::stored::Stored;
use kubeapi::target::Target;
use serde_json::{Value, json};

use crate::context::Context;
use crate::webhooks::Caller;

/// One request for a resource.
pub(crate) type Call<'a> = kubeapi::Call<'a, Context>;

/// Who asks, for webhooks and policies. `options` is the kind of the request's options.
pub(crate) fn caller<'a>(call: &'a Call<'_>, options: &str) -> Result<Caller<'a>, Status> {
    let dry_run = call.query.dry_run(options)?;
    if !call.backend.asks() {
        return Ok(Caller::new(&call.user, &call.warnings, dry_run, Value::Null));
    }
    let mut said = json!({"kind": options, "apiVersion": "meta.k8s.io/v1"});
    if dry_run {
        said["dryRun"] = json!(["All"]);
    }
    for field in ["fieldManager", "fieldValidation"] {
        let value = call.query.get(field);
        if !value.is_empty() && options != "DeleteOptions" {
            said[field] = json!(value);
        }
    }
    Ok(Caller::new(&call.user, &call.warnings, dry_run, said))
}

/// What is answered and never stored: reviews, and what nodes use if they are reached.
pub(crate) fn computed(reaches_nodes: bool) -> &'static [Computed] {
    const REVIEWED: usize = REVIEWS.len();
    const ALL: [Computed; REVIEWED + usage::RESOURCES.len()] = {
        let mut all = [REVIEWS[0]; REVIEWED + usage::RESOURCES.len()];
        let mut at = 0;
        while at < all.len() {
            all[at] = if at < REVIEWED { REVIEWS[at] } else { usage::RESOURCES[at - REVIEWED] };
            at += 1;
        }
        all
    };
    if reaches_nodes { &ALL } else { &REVIEWS }
}

/// A value that was not stored (dry run), as if it had been.
pub(crate) fn unstored(target: &Target, revision: i64, value: &Value) -> Stored {
    Stored { key: target.key(), revision, body: value.to_string().into() }
}
