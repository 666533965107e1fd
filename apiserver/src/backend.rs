//! This server behind [`kubeapi`]: its storage, users, rights and verbs.

use std::sync::Arc;

use apimachinery::Status;
use apimachinery::rbac::Attributes;
use http::request::Parts;
use http::{HeaderMap, Method, Request};
use kubeapi::registry::{Computed, Elsewhere, Registry};
use kubeapi::request::Incoming;
use kubeapi::respond::{self, Answer};
use kubeapi::stored::{Event, ListQuery, Page, Replay, Stored, Subscription};
use kubeapi::target::Target;
use kubeapi::user::{Asker, User};
use kubeapi::{Backend, Peer, Question, Reader};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::signer::ISSUER;
use crate::verbs::{self, Call};
use crate::{aggregation, auth, authorise, conversion};

impl Backend for Context {
    const METRICS: bool = true;

    fn catalog(&self) -> &Registry {
        &self.registry
    }

    fn computed(&self) -> &[Computed] {
        verbs::computed(self.nodes.reaches())
    }

    async fn authenticate(&self, peer: &Peer, headers: &HeaderMap) -> Result<Option<Asker>, Status> {
        auth::authenticate(self, peer, headers).await.map(Some)
    }

    async fn authorise(&self, user: &User, asked: &Attributes<'_>) -> Result<String, Status> {
        authorise::reason(self, user, asked)
    }

    async fn get(&self, _: Reader<'_>, target: &Target) -> Result<Option<Stored>, Status> {
        match self.storage.get(&target.key()).await? {
            Some(stored) => conversion::one(self, &target.served, stored).await.map(Some),
            None => Ok(None),
        }
    }

    async fn list(&self, _: Reader<'_>, query: ListQuery) -> Result<Page, Status> {
        self.part(query).await
    }

    const PART: usize = 1024 * 1024;

    async fn part(&self, query: ListQuery) -> Result<Page, Status> {
        match conversion::served(self, &query) {
            None => self.storage.list(query).await,
            Some(served) => {
                let page = self.storage.list(query).await?;
                let items = conversion::all(self, &served, page.items).await?;
                Ok(Page { items, ..page })
            }
        }
    }

    async fn shown(&self, query: &ListQuery, stored: &Stored) -> Result<Option<Stored>, Status> {
        match conversion::served(self, query) {
            None => Ok(None),
            Some(served) => conversion::one(self, &served, stored.clone()).await.map(Some),
        }
    }

    async fn subscribe(&self, _: Reader<'_>, query: &ListQuery) -> Result<Subscription, Status> {
        Ok(Subscription::new(self.storage.subscribe(Some(&query.resource))))
    }

    async fn revision(&self, _: Reader<'_>, _: &ListQuery) -> Result<i64, Status> {
        self.storage.revision().await
    }

    async fn replay(&self, query: &ListQuery, since: i64) -> Result<Replay, Status> {
        self.storage.replay(&query.resource, since).await
    }

    async fn before(&self, event: &Event) -> Result<Option<Stored>, Status> {
        self.storage.before(&event.stored).await
    }

    fn announced(&self, _: &ListQuery) -> i64 {
        self.storage.announced()
    }

    async fn answer(call: Call<'_>, body: Incoming) -> Result<Answer, Status> {
        if verbs::streams::is_one(&call) {
            return verbs::streams::answer(call, body.of_connection()?).await;
        }
        if verbs::backends::is_one(&call) {
            return verbs::backends::answer(call, body.of_connection()?).await;
        }
        if verbs::scale::is_one(&call) {
            return verbs::scale::answer(call, body).await;
        }
        match (call.parts.method.clone(), call.target.name.is_empty(), call.target.subresource.is_empty()) {
            (Method::GET, ..) => Err(Status::no_such_path()),
            (Method::POST, true, _) => verbs::create::create(call, body).await,
            (Method::POST, false, false) => verbs::subresources::post(call, body).await,
            (Method::PUT, false, _) => verbs::update::update(call, body).await,
            (Method::PATCH, false, _) => verbs::update::patch(call, body).await,
            (Method::DELETE, true, _) => verbs::delete::collection(call, body).await,
            (Method::DELETE, false, true) => verbs::delete::one(call, body).await,
            _ => Err(Status::method_not_allowed()),
        }
    }

    async fn compute(question: Question<'_, Context>, body: Incoming) -> Result<Answer, Status> {
        let Question { backend, path, query, user, parts, .. } = question;
        match verbs::review::kind(&path) {
            Some(kind) => verbs::review::answer(backend, (kind, &path.namespace), &user, &parts, body).await,
            None => verbs::usage::answer(backend, &path, &query, &parts.method).await,
        }
    }

    /// Where and by which keys tokens of service accounts can be checked, as OpenID Connect has it.
    async fn plain(&self, _: &User, parts: &Parts) -> Result<Answer, Status> {
        match parts.uri.path() {
            "/.well-known/openid-configuration" => {
                let host = parts.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
                let host = host
                    .or_else(|| parts.uri.authority().map(http::uri::Authority::as_str))
                    .unwrap_or_default();
                Ok(respond::json(
                    200,
                    &json!({
                        "issuer": ISSUER, "jwks_uri": format!("https://{host}/openid/v1/jwks"),
                        "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
                        "id_token_signing_alg_values_supported": [self.signer.algorithm()],
                    }),
                ))
            }
            "/openid/v1/jwks" => {
                Ok(respond::bytes(200, "application/jwk-set+json", self.signer.keys().to_string()))
            }
            _ => Err(Status::no_such_path()),
        }
    }

    fn elsewhere(&self) -> Vec<Elsewhere> {
        self.services.listed()
    }

    fn is_elsewhere(&self, group: &str, version: &str) -> bool {
        self.services.is_elsewhere(group, version)
    }

    async fn hand_on(
        backend: &Arc<Context>,
        of: (&str, &str),
        user: &User,
        request: Request<Incoming>,
    ) -> Result<Answer, Status> {
        aggregation::hand_on(backend, of, user, request).await
    }

    fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    fn moved(&self, bytes: u64) {
        self.traffic.note(bytes);
    }
}
