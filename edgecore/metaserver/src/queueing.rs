//! Drives [`queue`](crate::queue): takes declared writes while the node is cut off, and carries them out when the cloud is there,
//! each once, in their order.
//!
//! ```text
//! declared write --> connected, nothing of the writer waits: the cloud, as him
//!                    cut off, and he could before:           applied to what is known, committed --> answered, with a warning
//! connected again -> each that waits, as its writer: done | refused: told and dropped | no answer: later | no good token: stays
//! ```

use std::sync::Arc;
use std::time::Duration;

use apimachinery::Status;
use apimachinery::listing::Asked as _;
use bytes::Bytes;
use daemon::clock::unix_seconds;
use http::Method;
use kubeapi::Call;
use kubeapi::request::{self, Incoming};
use kubeapi::respond::{self, Answer};
use kubeapi::stored::Stored;
use kubeapi::target::Target;
use serde_json::{Value, json};
use store::StoreError;
use tokio::time::sleep;

use crate::ask::{self, Unreached};
use crate::backend::Shared;
use crate::caller::Caller;
use crate::object;
use crate::pass::cut_off;
use crate::queue::{self, Act, Author, Queued, Write};
use crate::scope::Scope;
use crate::tables::queue::{Full, OF_ONE};
use crate::tables::{Right, trouble};
use crate::waiting::unknown_right;

/// What a kubelet makes once and reads at each start.
const KEPT: [&str; 2] = ["nodes", "csinodes.storage.k8s.io"];
const JSON: &str = "application/json";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// After an attempt that the cloud did not answer.
const AGAIN: Duration = Duration::from_secs(5);
/// Answers of 500 to one write after which it is given up: it may be what the server stumbles over.
const STUMBLES: u32 = 5;

/// `apps/v1` and a kind, for a write to `target`.
fn write(kind: Queued, act: Act, target: &Target, name: String, path: &str, body: Value) -> Write {
    Write {
        kind,
        author: None,
        act,
        resource: target.served.resource.key(),
        api_version: target.served.api_version(),
        object_kind: target.served.resource.kind.clone(),
        namespace: target.namespace.clone(),
        name,
        path: path.to_owned(),
        body,
    }
}

fn is_dry<B>(call: &Call<'_, B>) -> bool {
    !call.query.text("dryRun").is_empty()
}

fn path_of<'a, B>(call: &'a Call<'_, B>) -> &'a str {
    call.parts.uri.path_and_query().map_or("/", |path| path.as_str())
}

fn media_of<B>(call: &Call<'_, B>) -> String {
    request::content_type(&call.parts.headers).to_owned()
}

/// The right that a write takes.
fn to_write(call: &Call<'_, Shared>, caller: &Caller) -> Right {
    let target = &call.target;
    let mut resource = target.served.resource.key();
    if !target.subresource.is_empty() {
        resource = format!("{resource}/{}", target.subresource);
    }
    let verb = match call.parts.method {
        Method::POST => "create",
        Method::PATCH => "patch",
        _ => "update",
    };
    let (namespace, name) = (target.namespace.clone(), target.name.clone());
    Right { user: caller.name.clone(), verb, resource, namespace, name }
}

fn author(caller: &Caller) -> Option<Author> {
    let token = caller.token()?.to_str().ok().map(str::to_owned);
    Some(Author { user: caller.name.clone(), token })
}

/// 409 for an object that its writer has seen in another version than this node knows: the cloud would refuse it as well.
fn is_of_now(write: &Write, known: Option<&Stored>) -> Result<(), Status> {
    let seen = apimachinery::object::text(&write.body, "/metadata/resourceVersion");
    let is_own = matches!(write.kind, Queued::Object | Queued::Status) && write.act == Act::Replace;
    match known {
        Some(known) if is_own && !seen.is_empty() && seen != known.revision.to_string() => {
            let why =
                "the object has been modified; please apply your changes to the latest version and try again";
            let (group, _) = apimachinery::kinds::split_api_version(&write.api_version);
            let plural = write.resource.split('.').next().unwrap_or_default();
            Err(Status::conflict(group, plural, &write.name, why))
        }
        _ => Ok(()),
    }
}

fn silent(unreached: &Unreached) -> Status {
    let text = format!("the API server did not answer, and may have done what was asked: {unreached}");
    Status::new(504, "Timeout", text)
}

impl Shared {
    /// Answers what the node itself writes and MetaServer has a part in; the body comes back for everything else.
    pub(crate) async fn node_writes(
        &self,
        call: &Call<'_, Shared>,
        body: Incoming,
    ) -> Result<Result<Answer, Incoming>, Status> {
        let target = &call.target;
        if let Some(kind) = Queued::of(&call.parts.method, target, &self.users.node)
            && self.queue.declared.kinds.contains(&kind)
        {
            let caller = Caller::node(self.users.node_user());
            return self.declared(call, &caller, kind, body).await.map(Ok);
        }
        let makes = call.parts.method == Method::POST;
        if makes
            && self.queue.keeps_tokens
            && target.served.is_core("serviceaccounts")
            && target.subresource == "token"
        {
            return self.token(call, body).await.map(Ok);
        }
        let registers = makes && target.served.is_core("nodes") && target.name.is_empty();
        if registers && !self.is_connected() {
            // A kubelet that starts asks to be made, and goes on from what there is.
            let own = Target { name: self.users.node.clone(), ..target.clone() };
            if self.known(&own).await?.is_some() {
                return Err(Status::already_exists("", "nodes", &own.name));
            }
        }
        let is_kept = KEPT.contains(&target.served.resource.key().as_str());
        if makes && target.name.is_empty() && (is_kept || media_of(call) == PROTOBUF) {
            return self.make(call, body).await.map(Ok);
        }
        Ok(Err(body))
    }

    /// Answers what another caller writes of what is declared; the body comes back for everything else.
    pub(crate) async fn caller_writes(
        &self,
        call: &Call<'_, Shared>,
        caller: &Caller,
        body: Incoming,
    ) -> Result<Result<Answer, Incoming>, Status> {
        match self.queue.declared.of_caller(&call.parts.method, &call.target) {
            Some(kind) => self.declared(call, caller, kind, body).await.map(Ok),
            None => Ok(Err(body)),
        }
    }

    /// A write of this caller waits.
    fn waits(&self, caller: &Caller) -> bool {
        match caller.is_node() {
            true => self.queue.told.borrow().iter().any(|(_, write)| write.author.is_none()),
            false => self.queue.has_of(&caller.name),
        }
    }

    /// True if nothing of this caller waits any more.
    async fn is_through(&self, caller: &Caller) -> bool {
        if self.waits(caller) {
            self.carry_out().await;
        }
        !self.waits(caller)
    }

    async fn declared(
        &self,
        call: &Call<'_, Shared>,
        caller: &Caller,
        kind: Queued,
        body: Incoming,
    ) -> Result<Answer, Status> {
        let body = request::body(&call.parts.headers, body).await?;
        if self.is_connected() && (is_dry(call) || self.is_through(caller).await) {
            let (method, path) = (&call.parts.method, path_of(call));
            let (media, sent) = match media_of(call) {
                media if media == PROTOBUF => {
                    (JSON.to_owned(), Bytes::from(request::parse(PROTOBUF, &body)?.to_string()))
                }
                media => (media, body.clone()),
            };
            let sent = ask::send(&*self.upstream, caller, method, path, (&media, sent)).await;
            match sent {
                Ok((code, told)) => {
                    if !caller.is_node() {
                        self.learn_right(&to_write(call, caller), code).await?;
                    }
                    self.learn_of(&call.target, code, &told).await?;
                    return Ok(respond::bytes(code, "application/json", told));
                }
                Err(Unreached::CutOff) => {}
                Err(unreached) => return Err(silent(&unreached)),
            }
        }
        if is_dry(call) {
            return Err(cut_off("a dry run"));
        }
        if !caller.is_node() {
            let right = to_write(call, caller);
            if !self.tables.may(&right).await.map_err(|error| trouble(&error))? {
                return Err(unknown_right(&right.user, &right.resource, &right.name));
            }
        }
        self.take(call, caller, kind, &body).await
    }

    /// Notes what the cloud's answer to a write says about the right to it.
    async fn learn_right(&self, right: &Right, code: u16) -> Result<(), Status> {
        let noted = match code {
            200..300 => self.tables.allow(right, unix_seconds()).await,
            401 => self.tables.disown(&right.user).await,
            403 => self.tables.deny(right).await,
            _ => Ok(()),
        };
        noted.map_err(|error| trouble(&error))
    }

    /// What a kubelet makes, as JSON: the cloud reads what a node makes before it lets it. What it asks for again when it starts is
    /// kept.
    async fn make(&self, call: &Call<'_, Shared>, body: Incoming) -> Result<Answer, Status> {
        let body = request::body(&call.parts.headers, body).await?;
        let body = Bytes::from(request::parse(&media_of(call), &body)?.to_string());
        let caller = Caller::node(self.users.node_user());
        let sent = ask::send(&*self.upstream, &caller, &Method::POST, path_of(call), (JSON, body)).await;
        match sent {
            Ok((code, told)) => {
                if KEPT.contains(&call.target.served.resource.key().as_str()) {
                    self.learn_of(&call.target, code, &told).await?;
                }
                Ok(respond::bytes(code, JSON, told))
            }
            Err(Unreached::CutOff) => Err(cut_off("this request")),
            Err(unreached) => Err(silent(&unreached)),
        }
    }

    /// Keeps what the cloud answered to a write of the node.
    async fn learn_of(&self, target: &Target, code: u16, told: &Bytes) -> Result<(), Status> {
        if !(200..300).contains(&code) {
            return Ok(());
        }
        let (api_version, text) = (target.served.api_version(), String::from_utf8_lossy(told));
        let (resource, group) = (target.served.resource.key(), &target.served.resource.group);
        let Ok(stored) = object::stored(&resource, group, &text) else { return Ok(()) };
        self.tables.keep(&api_version, &stored, unix_seconds()).await.map_err(|error| trouble(&error))
    }

    /// Writes down what is to be done later, and answers as if it were done.
    async fn take(
        &self,
        call: &Call<'_, Shared>,
        caller: &Caller,
        kind: Queued,
        body: &Bytes,
    ) -> Result<Answer, Status> {
        let _turn = self.queue.turn.lock().await;
        let target = &call.target;
        let media = media_of(call);
        let (act, parsed) = match call.parts.method {
            Method::PATCH => (Act::Patch(media), request::parse("application/json", body)?),
            Method::POST => (Act::Create, request::parse(&media, body)?),
            _ => (Act::Replace, request::parse(&media, body)?),
        };
        let name = match act {
            Act::Create => queue::name_of(&parsed)
                .ok_or_else(|| Status::bad_request("an object without a name cannot be made later"))?,
            _ => target.name.clone(),
        };
        if kind == Queued::Lease && name != self.users.node {
            return Err(cut_off("the lease of another node"));
        }
        let own = Target { name: name.clone(), subresource: String::new(), ..target.clone() };
        let newer = Write { author: author(caller), ..write(kind, act, target, name, path_of(call), parsed) };
        let waiting = self.tables.queued().await.map_err(|error| trouble(&error))?;
        let of_object = waiting.into_iter().filter(|(_, write)| {
            (write.kind, &write.author_name(), &write.resource)
                == (kind, &newer.author_name(), &newer.resource)
                && (&write.namespace, &write.name) == (&newer.namespace, &newer.name)
        });
        let (ids, of_object): (Vec<i64>, Vec<Write>) = of_object.unzip();
        let known = self.known(&own).await?;
        let base = self.base(kind, &newer, known.as_ref(), &of_object, &own)?;
        is_of_now(&newer, known.as_ref())?;
        let left = queue::superseded(&base, &of_object, &newer)?;
        if left >= OF_ONE {
            return Err(cut_off("another write to this object: too many wait"));
        }
        let stays = of_object.get(..left).unwrap_or_default();
        let before = stays.iter().try_fold(base, |object, write| write.apply(&object))?;
        let mut after = newer.apply(&before)?;
        if target.served.resource.group == kubeapi::events::GROUP {
            kubeapi::events::to_stored(&mut after);
        }
        let void = ids.get(left..).unwrap_or_default().to_vec();
        let code = if newer.act == Act::Create { 201 } else { 200 };
        if self.tables.enqueue(void, newer).await.map_err(|error| trouble(&error))? == Full::Yes {
            return Err(cut_off("another write: too many wait"));
        }
        self.look_at_queue().await.map_err(|error| trouble(&error))?;
        call.warnings.add("the cloud cannot be asked: this write waits until it can be".to_owned());
        let revision = known.map_or(0, |known| known.revision);
        call.answer(code, &Stored { key: own.key(), revision, body: after.to_string().into() })
    }

    /// The object without the writes that wait for it.
    fn base(
        &self,
        kind: Queued,
        newer: &Write,
        known: Option<&Stored>,
        waiting: &[Write],
        target: &Target,
    ) -> Result<Value, Status> {
        let is_made = waiting.first().is_some_and(|write| write.act == Act::Create);
        let base = known.map(Stored::value).transpose()?;
        match (kind, &newer.act, base) {
            (Queued::Event | Queued::Lease, Act::Create, base) if base.is_some() || is_made => {
                let resource = &target.served.resource;
                Err(Status::already_exists(&resource.group, &resource.plural, &target.name))
            }
            (_, Act::Create, _) => Ok(json!({})),
            (Queued::PodStatus, _, Some(base)) if base["spec"]["nodeName"] != self.users.node => {
                Err(cut_off("a pod of another node"))
            }
            (_, _, Some(base)) => Ok(base),
            (_, _, None) if is_made => Ok(json!({})),
            // A lease is replaced whole.
            (Queued::Lease, Act::Replace, None) => Ok(json!({ "metadata": {} })),
            (_, _, None) => {
                let text =
                    format!("this node is cut off from the cloud, and knows nothing of {:?}", target.name);
                Err(Status::unavailable(text))
            }
        }
    }

    /// The newest that this node knows of an object, whoever asked for it.
    async fn known(&self, target: &Target) -> Result<Option<Stored>, Status> {
        let scope = Scope::of_object(target);
        let best = self.newest(&scope, target, true).await?;
        Ok(best.and_then(|(_, found)| found))
    }

    pub(crate) async fn look_at_queue(&self) -> Result<(), StoreError> {
        let waiting = Arc::new(self.tables.queued().await?);
        self.queue.told.send_replace(waiting);
        self.show_writes().await
    }

    /// Carries out what waits. True if nothing is left.
    async fn carry_out(&self) -> bool {
        let mut turn = self.queue.turn.lock().await;
        match self.each(&mut turn).await {
            Ok(is_done) => is_done,
            Err(error) => {
                tracing::warn!(error = %daemon::errors::describe(&error), "writes that wait cannot be read");
                false
            }
        }
    }

    async fn each(&self, (stumbled, times): &mut (i64, u32)) -> Result<bool, StoreError> {
        self.queue.tidy();
        let mut is_done = true;
        for (id, write) in self.tables.queued().await? {
            let caller = match &write.author {
                None => Some(Caller::node(self.users.node_user())),
                Some(author) => self.queue.caller(author, unix_seconds()),
            };
            let Some(caller) = caller else {
                is_done = false;
                continue;
            };
            let (method, media) = match &write.act {
                Act::Create => (Method::POST, "application/json"),
                Act::Replace => (Method::PUT, "application/json"),
                Act::Patch(media) => (Method::PATCH, media.as_str()),
            };
            let body = Bytes::from(write.body.to_string());
            let Ok((code, told)) =
                ask::send(&*self.upstream, &caller, &method, &write.path, (media, body)).await
            else {
                return Ok(false);
            };
            if code == 500 {
                *times = if *stumbled == id { *times + 1 } else { 1 };
                *stumbled = id;
            }
            if matches!(code, 429 | 502..=504) || code == 500 && *times < STUMBLES {
                return Ok(false);
            }
            if code == 401 && !caller.is_node() {
                // He may show another one.
                self.queue.refuse(&caller);
                is_done = false;
                continue;
            }
            if (200..300).contains(&code) {
                let (group, _) = apimachinery::kinds::split_api_version(&write.api_version);
                let text = String::from_utf8_lossy(&told);
                if let Ok(stored) = object::stored(&write.resource, group, &text) {
                    self.tables.keep(&write.api_version, &stored, unix_seconds()).await?;
                }
            } else {
                let why =
                    serde_json::from_slice::<Status>(&told).map(|status| status.message).unwrap_or_default();
                tracing::warn!(
                    operation = %method, path = write.path, user = caller.name, code, why,
                    "the cloud refused a write that waited for it, and it is dropped"
                );
            }
            self.tables.dequeue(id).await?;
            self.look_at_queue().await?;
        }
        Ok(is_done)
    }

    /// A token for a pod: the cloud's; without it, the last one that it gave for the same.
    async fn token(&self, call: &Call<'_, Shared>, body: Incoming) -> Result<Answer, Status> {
        let body = request::body(&call.parts.headers, body).await?;
        let digest = ring::digest::digest(&ring::digest::SHA256, &body);
        let digest: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let place = format!("{}/{}/{digest}", call.target.namespace, call.target.name);
        let caller = Caller::node(self.users.node_user());
        let body = Bytes::from(request::parse(&media_of(call), &body)?.to_string());
        let sent = ask::send(&*self.upstream, &caller, &Method::POST, path_of(call), (JSON, body)).await;
        match sent {
            Ok((code, told)) if !matches!(code, 502..=504) => {
                if code == 201 {
                    let text = String::from_utf8_lossy(&told).into_owned();
                    let kept = self.tables.keep_token(place, text, unix_seconds()).await;
                    kept.map_err(|error| trouble(&error))?;
                }
                Ok(respond::bytes(code, "application/json", told))
            }
            _ => {
                let kept = self.tables.token(place).await.map_err(|error| trouble(&error))?;
                let kept = kept.ok_or_else(|| cut_off("a new token"))?;
                call.warnings
                    .add("the cloud cannot be asked: this is the last token that it gave".to_owned());
                Ok(respond::bytes(201, "application/json", kept))
            }
        }
    }
}

/// Carries out what waits whenever the cloud is there, for as long as it is polled.
pub(crate) async fn run(shared: &Shared) {
    let (mut connected, mut waiting) = (shared.upstream.connected(), shared.queue.waiting());
    loop {
        if connected.wait_for(|connected| *connected).await.is_err() {
            return std::future::pending().await;
        }
        let is_done = waiting.borrow_and_update().is_empty() || shared.carry_out().await;
        tokio::select! {
            _ = connected.changed() => {}
            _ = waiting.changed(), if is_done => {}
            () = sleep(AGAIN), if !is_done => {}
        }
    }
}
