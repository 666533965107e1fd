//! MetaServer behind [`kubeapi`]: reads of the cloud, of views and of what is kept; everything else is handed to the cloud.

use std::sync::Arc;

use apimachinery::Status;
use apimachinery::rbac::{Attributes, What};
use http::request::Parts;
use http::{HeaderMap, Method};
use kubeapi::registry::{Computed, REVIEWS, Registry};
use kubeapi::request::Incoming;
use kubeapi::respond::{self, Answer};
use kubeapi::stored::{ListQuery, Page, Replay, Stored, Subscription};
use kubeapi::target::Target;
use kubeapi::user::{Asker, User};
use kubeapi::{Backend, Call, Peer, Question, Reader};
use kubeletproxy::Passes;
use metamanager::{Outbox, Reach};
use tokio_util::sync::CancellationToken;

use crate::caller::Caller;
use crate::catalog::{self, Catalog};
use crate::filters::{Filters, Glass};
use crate::gathered::Gathered;
use crate::held::Held;
use crate::pass;
use crate::pods::{self, NodeApi};
use crate::recent::Recent;
use crate::reviews;
use crate::tables::{Right, Tables, trouble};
use crate::upstream::Upstream;
use crate::users::Users;
use crate::views::Views;
use crate::waiting::Queue;

/// All that answers are made of.
pub(crate) struct Shared {
    pub upstream: Arc<dyn Upstream>,
    pub tables: Tables,
    pub views: Views,
    pub catalog: Arc<Catalog>,
    pub users: Users,
    pub held: Held,
    pub node_api: Option<NodeApi>,
    /// When the link was lost, in Unix seconds, as far as this process knows.
    pub cut: Arc<std::sync::atomic::AtomicI64>,
    pub filters: Filters,
    pub gathered: Gathered,
    pub queue: Queue,
    pub recent: Recent,
    /// What this node says of its pods waits there.
    pub outbox: Option<Outbox>,
    /// What this node shows to its kubelet.
    pub passes: Option<Passes>,
    /// Where programs of this node reach MetaServer.
    pub reach: tokio::sync::watch::Receiver<Option<Reach>>,
    pub stop: CancellationToken,
}

impl Backend for Shared {
    fn catalog(&self) -> &Registry {
        &self.catalog.registry
    }

    fn computed(&self) -> &[Computed] {
        &REVIEWS
    }

    async fn authenticate(&self, peer: &Peer, headers: &HeaderMap) -> Result<Option<Asker>, Status> {
        let asker = self.users.authenticate(&self.held, peer, headers).await?;
        if let Some(asker) = &asker {
            self.queue.shows(&asker.user, headers);
        }
        Ok(asker)
    }

    /// The cloud authorises what it answers, and what is answered here is authorised where it is.
    async fn authorise(&self, _: &User, asked: &Attributes<'_>) -> Result<String, Status> {
        let is_unknown = match &asked.what {
            What::Resource { group, resource, .. } => !self.catalog.has(group, resource),
            _ => false,
        };
        match is_unknown {
            true => self.catalog.refresh().await,
            false => self.catalog.refresh_if_old(),
        }
        Ok(String::new())
    }

    async fn get(&self, reader: Reader<'_>, target: &Target) -> Result<Option<Stored>, Status> {
        let found = self.object(reader, target).await?;
        let glass = self.glass(reader.headers, &target.served.resource.key());
        let facts = self.gathered.facts.borrow().clone();
        Ok(found.and_then(|found| glass.show(&facts, &found)))
    }

    async fn list(&self, reader: Reader<'_>, query: ListQuery) -> Result<Page, Status> {
        let glass = self.glass(reader.headers, &query.resource);
        let mut page = self.page(reader, query).await?;
        if !glass.is_clear() {
            let facts = self.gathered.facts.borrow().clone();
            page.items = page.items.iter().filter_map(|stored| glass.show(&facts, stored)).collect();
        }
        Ok(page)
    }

    async fn subscribe(&self, reader: Reader<'_>, query: &ListQuery) -> Result<Subscription, Status> {
        let subscription = self.watch(reader, query).await?;
        let lens = self.lens(self.glass(reader.headers, &query.resource), query);
        Ok(match lens {
            Some(lens) => subscription.through(lens),
            None => subscription,
        })
    }

    async fn revision(&self, _: Reader<'_>, query: &ListQuery) -> Result<i64, Status> {
        // Without a view, the cloud says itself what it does not have yet.
        Ok(self.views.of(query).map_or(i64::MAX, |view| view.reached()))
    }

    async fn replay(&self, query: &ListQuery, since: i64) -> Result<Replay, Status> {
        self.views.replay(query, since)
    }

    fn announced(&self, query: &ListQuery) -> i64 {
        self.views.of(query).map_or(0, |view| view.reached())
    }

    async fn answer(call: Call<'_, Shared>, body: Incoming) -> Result<Answer, Status> {
        let backend = call.backend.clone();
        let caller = Caller::of(&call.user, &call.parts.headers);
        let body = match caller.is_node() {
            true => match backend.node_writes(&call, body).await? {
                Ok(answer) => return Ok(answer),
                Err(body) => body,
            },
            false => match backend.caller_writes(&call, &caller, body).await? {
                Ok(answer) => return Ok(answer),
                Err(body) => body,
            },
        };
        if pods::is_one(&call)
            && let Some(node_api) = &backend.node_api
            && let Some(pod) = backend.held.pod(&call.target.namespace, &call.target.name).await?
            && (backend.users.is_certified_node(&call.user)
                || (!backend.is_connected() && backend.may(&call).await?))
        {
            return node_api.answer(&call, &pod, Some(body), &backend.stop).await;
        }
        let answer =
            pass::hand_on(&*backend.upstream, &caller, &call.parts, Some(body), &backend.stop).await?;
        backend.learn(&call, answer.status().as_u16()).await?;
        if answer.status().is_success() {
            backend.catalog.was_changed(&call.target.served.resource.group);
        }
        Ok(answer)
    }

    async fn compute(question: Question<'_, Shared>, body: Incoming) -> Result<Answer, Status> {
        let Question { backend, path, user, parts, .. } = question;
        let is_kubelet = backend.users.is_certified_node(&user);
        let body = match reviews::answer(backend.passes.as_ref(), is_kubelet, (&path, &parts), body).await? {
            Ok(answer) => return Ok(answer),
            Err(body) => body,
        };
        let caller = Caller::of(&user, &parts.headers);
        pass::hand_on(&*backend.upstream, &caller, &parts, Some(body), &backend.stop).await
    }

    async fn plain(&self, user: &User, parts: &Parts) -> Result<Answer, Status> {
        let path = parts.uri.path();
        if path != "/openid/v1/jwks" && path != "/.well-known/openid-configuration" {
            return Err(Status::no_such_path());
        }
        let caller = Caller::of(user, &parts.headers);
        pass::hand_on(&*self.upstream, &caller, parts, None, &self.stop).await
    }

    async fn document(&self, user: Option<&User>, parts: &Parts) -> Result<Option<Answer>, Status> {
        let path = parts.uri.path();
        let kept = match path {
            "/version" => catalog::VERSION,
            "/api" => catalog::CORE,
            "/apis" => catalog::GROUPS,
            _ => "",
        };
        let Some(user) = user else {
            // Anybody may ask: nothing is asked of the cloud for it.
            let told = if kept == catalog::VERSION { self.catalog.kept(kept).await } else { None };
            return Ok(told.map(|told| respond::bytes(200, "application/json", told)));
        };
        let root = path.split('/').nth(1).unwrap_or_default();
        if !matches!(root, "api" | "apis" | "openapi") {
            return Ok(None);
        }
        if self.is_connected() {
            let caller = Caller::of(user, &parts.headers);
            let answer = pass::hand_on(&*self.upstream, &caller, parts, None, &self.stop).await;
            match answer {
                Ok(answer) if !matches!(answer.status().as_u16(), 502..=504) => return Ok(Some(answer)),
                _ => {}
            }
        }
        if kept.is_empty() {
            return Ok(None);
        }
        let accept = parts.headers.get(http::header::ACCEPT).and_then(|accept| accept.to_str().ok());
        let Some(told) = self.catalog.kept(kept).await else { return Ok(None) };
        Ok(aggregated(accept.unwrap_or_default(), &told).map(|media| respond::bytes(200, media, told)))
    }

    fn stop(&self) -> &CancellationToken {
        &self.stop
    }
}

/// The media type of what is kept, if the client takes it.
fn aggregated(accept: &str, told: &str) -> Option<&'static str> {
    const FORMS: [(&str, &str); 2] = [
        ("v=v2", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"),
        ("v=v2beta1", "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"),
    ];
    let is_beta = told.contains("apidiscovery.k8s.io/v2beta1");
    let (version, media) = FORMS[usize::from(is_beta)];
    let accept = accept.replace(' ', "");
    let takes =
        |range: &str| range.contains("g=apidiscovery.k8s.io") && range.split(';').any(|part| part == version);
    accept.split(',').any(takes).then_some(media)
}

impl Shared {
    /// What the component of a request sees `resource` through.
    fn glass(&self, headers: &HeaderMap, resource: &str) -> Glass {
        let glass = self.filters.of(headers, resource);
        if self.queue.declared.has(resource) { glass.with_writes() } else { glass }
    }

    pub(crate) fn is_connected(&self) -> bool {
        *self.upstream.connected().borrow()
    }

    /// True if the cloud allowed this request for a subresource when it was asked last.
    async fn may(&self, call: &Call<'_, Shared>) -> Result<bool, Status> {
        match right(call) {
            Some(right) => self.tables.may(&right).await.map_err(|error| trouble(&error)),
            None => Ok(false),
        }
    }

    /// Notes what the cloud's answer says about rights to subresources that this node can answer as well.
    async fn learn(&self, call: &Call<'_, Shared>, code: u16) -> Result<(), Status> {
        let Some(right) = right(call) else { return Ok(()) };
        let noted = match code {
            200 | 404 => self.tables.allow(&right, daemon::clock::unix_seconds()).await,
            401 | 403 => self.tables.deny(&right).await,
            _ => Ok(()),
        };
        noted.map_err(|error| trouble(&error))
    }
}

/// What is remembered of who may read logs.
fn right(call: &Call<'_, Shared>) -> Option<Right> {
    let is_log = call.parts.method == Method::GET
        && call.target.subresource == "log"
        && call.target.served.is_core("pods");
    is_log.then(|| Right {
        user: call.user.name.clone(),
        verb: "get",
        resource: "pods/log".to_owned(),
        namespace: call.target.namespace.clone(),
        name: call.target.name.clone(),
    })
}
