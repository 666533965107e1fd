//! One request, as a backend gets it.

use std::sync::Arc;

use apimachinery::Status;
use apimachinery::decode::Strict;
use apimachinery::listing::Asked as _;
use apimachinery::path::ResourcePath;
use http::HeaderMap;
use http::request::Parts;
use serde_json::Value;

use crate::protobuf;
use crate::render::{Include, Renderer};
use crate::request::{self, Incoming, Query};
use crate::respond::{self, Answer, Holds};
use crate::stored::Stored;
use crate::target::Target;
use crate::user::User;
use crate::warnings::Warnings;

/// Who reads.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    pub user: &'a User,
    /// Of the request.
    pub headers: &'a HeaderMap,
    /// What he is told beside the answer.
    pub warnings: &'a Warnings,
    /// `resourceVersion` of a get or list: a state that is at least as new will do (0: any), unless the query says which.
    pub not_older: Option<i64>,
}

/// A request for a resource of the catalogue, authorised.
pub struct Call<'a, B> {
    pub backend: &'a Arc<B>,
    pub target: Target,
    /// What follows the subresource in the path (`proxy/...`), without a leading slash.
    pub rest: String,
    pub query: Query,
    pub user: User,
    pub parts: Parts,
    pub warnings: Warnings,
}

impl<B> Call<'_, B> {
    pub fn reader(&self) -> Reader<'_> {
        let not_older = self.query.text("resourceVersion").parse().ok();
        Reader { user: &self.user, headers: &self.parts.headers, warnings: &self.warnings, not_older }
    }

    /// How the client wants objects.
    ///
    /// # Errors
    /// 406 for what cannot be served, 400 for options that do not read.
    pub fn renderer(&self) -> Result<Renderer, Status> {
        let is_collection = self.target.name.is_empty() && self.parts.method == http::Method::GET;
        let holds = match (self.query.flag("watch"), is_collection) {
            (true, _) => Holds::Events,
            (false, true) => Holds::List,
            (false, false) => Holds::One,
        };
        let has_message = protobuf::has_message(&self.target.served);
        let wanted = respond::negotiate(&self.parts.headers, holds, has_message)?;
        let include = Include::parse(self.query.get("includeObject"))?;
        Ok(Renderer::wanted(&self.target.served, wanted, include))
    }

    /// The body, parsed.
    ///
    /// # Errors
    /// Those of [`request::body`] and [`request::parse`].
    pub async fn body(&self, body: Incoming) -> Result<Value, Status> {
        let content_type = request::content_type(&self.parts.headers);
        request::parse(content_type, &request::body(&self.parts.headers, body).await?)
    }

    /// The body, with what comes twice in it.
    ///
    /// # Errors
    /// As for [`Call::body`].
    pub async fn strict_body(&self, body: Incoming) -> Result<Strict, Status> {
        let content_type = request::content_type(&self.parts.headers);
        let body = request::body(&self.parts.headers, body).await?;
        request::parse_strict(content_type, &body, None)
    }

    /// [`Call::strict_body`], of the kind that is asked for.
    ///
    /// # Errors
    /// As for [`Call::strict_body`].
    pub async fn object_body(&self, body: Incoming) -> Result<Strict, Status> {
        let content_type = request::content_type(&self.parts.headers);
        let body = request::body(&self.parts.headers, body).await?;
        request::parse_strict(content_type, &body, Some(&self.target.served.resource.kind))
    }

    /// An answer with one object.
    ///
    /// # Errors
    /// Those of [`Call::renderer`], and 500 for an object that does not parse.
    pub fn answer(&self, code: u16, stored: &Stored) -> Result<Answer, Status> {
        let mut answer = self.renderer()?.answer(code, stored)?;
        // For the audit log, which does not read answers.
        answer.extensions_mut().insert(stored.key.clone());
        Ok(answer)
    }
}

/// A request for what is answered and never stored ([`crate::registry::Computed`]), authorised.
pub struct Question<'a, B> {
    pub backend: &'a Arc<B>,
    pub path: ResourcePath,
    pub query: Query,
    pub user: User,
    pub parts: Parts,
    pub warnings: Warnings,
}
