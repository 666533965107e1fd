//! The verbs of the API on resources.

pub(crate) mod backends;
mod budgets;
mod connect;
pub(crate) mod create;
pub(crate) mod decode;
pub(crate) mod delete;
pub(crate) mod ownership;
mod prepare;
pub(crate) mod read;
pub(crate) mod review;
pub(crate) mod scale;
pub(crate) mod streams;
pub(crate) mod subresources;
pub(crate) mod update;
pub(crate) mod usage;

use std::sync::Arc;

use apimachinery::Status;
use apimachinery::decode::Strict;
use serde_json::{Value, json};

use crate::context::Context;
use crate::render::{Include, Renderer};
use crate::request::Query;
use crate::respond::{self, Answer};
use crate::storage::Stored;
use crate::target::Target;
use crate::user::User;
use crate::warnings::Warnings;
use crate::webhooks::Caller;

/// One request for a resource.
pub(crate) struct Call<'a> {
    pub context: &'a Arc<Context>,
    pub target: Target,
    pub query: Query,
    pub user: User,
    pub parts: http::request::Parts,
    pub warnings: Warnings,
}

impl Call<'_> {
    pub(crate) fn renderer(&self) -> Result<Renderer, Status> {
        let form = respond::negotiate(&self.parts.headers)?;
        let include = Include::parse(self.query.get("includeObject"))?;
        Ok(Renderer::new(&self.target.served, form, include))
    }

    pub(crate) async fn body(&self, body: crate::request::Incoming) -> Result<Value, Status> {
        let content_type = crate::request::content_type(&self.parts.headers);
        crate::request::parse(content_type, &crate::request::body(&self.parts.headers, body).await?)
    }

    /// A body, with what comes twice in it.
    pub(crate) async fn strict_body(&self, body: crate::request::Incoming) -> Result<Strict, Status> {
        let content_type = crate::request::content_type(&self.parts.headers);
        crate::request::parse_strict(content_type, &crate::request::body(&self.parts.headers, body).await?)
    }

    /// Who asks, for webhooks. `options` is the kind of the request's options.
    pub(crate) fn caller(&self, options: &str) -> Result<Caller<'_>, Status> {
        let dry_run = self.query.dry_run()?;
        if self.context.webhooks.is_empty() {
            return Ok(Caller::new(&self.user, &self.warnings, dry_run, Value::Null));
        }
        let mut said = json!({"kind": options, "apiVersion": "meta.k8s.io/v1"});
        if dry_run {
            said["dryRun"] = json!(["All"]);
        }
        for field in ["fieldManager", "fieldValidation"] {
            let value = self.query.get(field);
            if !value.is_empty() && options != "DeleteOptions" {
                said[field] = json!(value);
            }
        }
        Ok(Caller::new(&self.user, &self.warnings, dry_run, said))
    }

    fn answer(&self, code: u16, stored: &Stored) -> Result<Answer, Status> {
        Ok(respond::bytes(code, "application/json", self.renderer()?.object(stored)?))
    }
}

/// A value that was not stored (dry run), as if it had been.
pub(crate) fn unstored(target: &Target, revision: i64, value: &Value) -> Stored {
    Stored { key: target.key(), revision, body: value.to_string().into() }
}
