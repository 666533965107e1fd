//! The verbs of the API on resources.

pub(crate) mod backends;
pub(crate) mod create;
pub(crate) mod delete;
mod prepare;
pub(crate) mod read;
pub(crate) mod review;
pub(crate) mod streams;
pub(crate) mod subresources;
pub(crate) mod update;
pub(crate) mod usage;

use std::sync::Arc;

use apimachinery::Status;
use serde_json::Value;

use crate::context::Context;
use crate::render::{Include, Renderer};
use crate::request::Query;
use crate::respond::{self, Answer};
use crate::storage::Stored;
use crate::target::Target;
use crate::user::User;

/// One request for a resource.
pub(crate) struct Call<'a> {
    pub context: &'a Arc<Context>,
    pub target: Target,
    pub query: Query,
    pub user: User,
    pub parts: http::request::Parts,
}

impl Call<'_> {
    pub(crate) fn renderer(&self) -> Result<Renderer, Status> {
        let form = respond::negotiate(&self.parts.headers)?;
        let include = Include::parse(self.query.get("includeObject"))?;
        Ok(Renderer::new(&self.target.served, form, include))
    }

    pub(crate) async fn body(&self, body: hyper::body::Incoming) -> Result<Value, Status> {
        let content_type = crate::request::content_type(&self.parts.headers);
        crate::request::parse(content_type, &crate::request::body(&self.parts.headers, body).await?)
    }

    fn answer(&self, code: u16, stored: &Stored) -> Result<Answer, Status> {
        Ok(respond::bytes(code, "application/json", self.renderer()?.object(stored)?))
    }
}

/// A value that was not stored (dry run), as if it had been.
pub(crate) fn unstored(target: &Target, revision: i64, value: &Value) -> Stored {
    Stored { key: target.key(), revision, body: value.to_string().into() }
}
