//! A backend in memory. `x-user` says who asks, `x-groups` in which groups he is.

use std::sync::{Arc, Mutex};

use apimachinery::Status;
use apimachinery::object::{name, namespace};
use apimachinery::rbac::Attributes;
use apimachinery::traits::Traits;
use http::request::Parts;
use http::{HeaderMap, Method};
use kubeapi::registry::{Computed, Registry};
use kubeapi::request::{self, Incoming};
use kubeapi::respond::{self, Answer};
use kubeapi::stored::{Event, EventKind, Key, ListQuery, Page, Replay, Stored, Subscription};
use kubeapi::target::Target;
use kubeapi::user::{Asker, User};
use kubeapi::{Backend, Call, Peer, Question, Reader};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, broadcast};
use tokio_util::sync::CancellationToken;

pub(crate) struct Double {
    catalog: Registry,
    objects: Mutex<Vec<Stored>>,
    events: broadcast::Sender<Arc<Event>>,
    stop: CancellationToken,
    /// What is called `slow` is answered when there is a permit.
    pub gate: Semaphore,
    /// Requests that wait there.
    pub arrived: Semaphore,
    /// One clone for each watch that lives.
    pub watches: Arc<()>,
}

const ECHOES: [Computed; 1] = [Computed {
    group: "test.example",
    version: "v1",
    plural: "echoes",
    singular: "echo",
    kind: "Echo",
    namespaced: false,
    verbs: &["create"],
}];

impl Double {
    /// Serves config maps, secrets and pods.
    pub(crate) fn new() -> Double {
        Double {
            catalog: Registry::serving(|info| ["configmaps", "secrets", "pods"].contains(&info.resource)),
            objects: Mutex::default(),
            events: broadcast::Sender::new(16),
            stop: CancellationToken::new(),
            gate: Semaphore::new(0),
            arrived: Semaphore::new(0),
            watches: Arc::new(()),
        }
    }

    pub(crate) fn put(&self, resource: &str, mut object: Value) -> Stored {
        let mut objects = self.objects.lock().unwrap();
        let revision = objects.iter().map(|stored| stored.revision).max().unwrap_or(0) + 1;
        object["metadata"]["resourceVersion"] = json!(revision.to_string());
        let key = Key::new(resource, namespace(&object), name(&object));
        let traits = Traits::of(resource, &object);
        let stored = Stored { key, revision, body: object.to_string().into() };
        objects.push(stored.clone());
        let event = Event { kind: EventKind::Added, stored: stored.clone(), traits, previous: None };
        let _ = self.events.send(Arc::new(event));
        stored
    }

    async fn wait_if_slow(&self, name: &str) {
        if name == "slow" {
            self.arrived.add_permits(1);
            self.gate.acquire().await.unwrap().forget();
        }
    }
}

impl Backend for Double {
    fn catalog(&self) -> &Registry {
        &self.catalog
    }

    fn computed(&self) -> &[Computed] {
        &ECHOES
    }

    async fn authenticate(&self, peer: &Peer, headers: &HeaderMap) -> Result<Option<Asker>, Status> {
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let Some(name) = text("x-user") else { return Ok(None) };
        let groups = text("x-groups").into_iter().collect();
        let extra = [("door".to_owned(), vec![peer.door.unwrap_or_default().to_owned()])].into();
        Ok(Some(User { name, groups, extra, ..User::default() }.into()))
    }

    async fn authorise(&self, user: &User, asked: &Attributes<'_>) -> Result<String, Status> {
        match user.name.as_str() {
            "nobody" => Err(asked.forbidden(&user.name)),
            _ => Ok("because it is a test".to_owned()),
        }
    }

    async fn get(&self, _: Reader<'_>, target: &Target) -> Result<Option<Stored>, Status> {
        self.wait_if_slow(&target.name).await;
        let objects = self.objects.lock().unwrap();
        Ok(objects.iter().find(|stored| stored.key == target.key()).cloned())
    }

    async fn list(&self, reader: Reader<'_>, query: ListQuery) -> Result<Page, Status> {
        if query.resource == "secrets" {
            return Err(Status::new(504, "Timeout", "the cloud did not answer"));
        }
        reader.warnings.add("this is how it was an hour ago".to_owned());
        reader.warnings.add(format!("{} begins a watch: {}", query.api_version, query.begins_watch));
        let objects = self.objects.lock().unwrap();
        let of = |stored: &&Stored| stored.key.resource == query.resource && query.selects(stored);
        let items = objects.iter().filter(of).cloned().collect();
        Ok(Page { items, revision: objects.len() as i64, more: false, remaining: None })
    }

    async fn subscribe(&self, _: Reader<'_>, _: &ListQuery) -> Result<Subscription, Status> {
        Ok(Subscription::new(self.events.subscribe()).holding(self.watches.clone()))
    }

    async fn revision(&self, _: Reader<'_>, _: &ListQuery) -> Result<i64, Status> {
        Ok(self.objects.lock().unwrap().len() as i64)
    }

    async fn replay(&self, _: &ListQuery, _: i64) -> Result<Replay, Status> {
        Ok(Replay::Expired(self.objects.lock().unwrap().len() as i64))
    }

    fn announced(&self, _: &ListQuery) -> i64 {
        self.objects.lock().unwrap().len() as i64
    }

    async fn answer(call: Call<'_, Double>, body: Incoming) -> Result<Answer, Status> {
        match (call.parts.method.clone(), call.target.subresource.as_str()) {
            (Method::POST, "") => {
                let object = call.body(body).await?;
                call.backend.wait_if_slow(name(&object)).await;
                call.answer(201, &call.backend.put(&call.target.served.resource.key(), object))
            }
            (Method::GET, "log") => {
                call.backend.wait_if_slow(&call.target.name).await;
                Ok(respond::text(200, "a line"))
            }
            _ => Err(Status::method_not_allowed()),
        }
    }

    async fn compute(question: Question<'_, Double>, body: Incoming) -> Result<Answer, Status> {
        let bytes = request::body(&question.parts.headers, body).await?;
        Ok(respond::json(201, &request::parse("application/json", &bytes)?))
    }

    async fn plain(&self, user: &User, parts: &Parts) -> Result<Answer, Status> {
        match parts.uri.path() {
            "/door" => Ok(respond::text(200, &user.extra["door"][0])),
            _ => Err(Status::no_such_path()),
        }
    }

    async fn document(&self, user: Option<&User>, parts: &Parts) -> Result<Option<Answer>, Status> {
        Ok(match (parts.uri.path(), user) {
            ("/version", None) => Some(respond::text(200, "the backend's")),
            ("/apis/documented", Some(user)) => Some(respond::text(200, &user.name)),
            _ => None,
        })
    }

    fn stop(&self) -> &CancellationToken {
        &self.stop
    }
}
