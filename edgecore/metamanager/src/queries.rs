//! Reads for pods that are being started: the stored object first, the cloud when there is none.
//!
//! One question per object is under way at a time (`asked`), and an object that is pushed meanwhile is an answer too.
//! Better than KubeEdge (docs/protocol/edge-runtime.md 2.4): an error is never stored as an object, and a token is replaced only
//! when its successor has arrived, so a pod restarted offline keeps the last one.

mod asked;

use std::sync::Arc;

use jiff::Timestamp;
use message::{Json, ObjectKey, ObjectKind, Reply, Request, ResourceVersion, Status};
use serde::{Deserialize, Serialize};
use store::StoreError;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use super::objects::Arrivals;
use super::{Change, Cloud, CloudCallError, KnownServices, ObjectChange, Objects, Reach};

use asked::Asked;

/// Handle for reads.
#[derive(Clone)]
pub struct Queries {
    objects: Objects,
    cloud: Cloud,
    asked: Asked,
    /// `None`: there is no Kubernetes API on this node.
    reach: Option<watch::Receiver<Option<Reach>>>,
    /// `None`: nobody on this node knows Services.
    services: Option<watch::Receiver<KnownServices>>,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum QueryError {
    #[error("the cloud refused to give {path}")]
    Refused { path: String, source: Status },
    #[error("{path} is not stored here and the cloud cannot be asked")]
    Unreachable { path: String, source: CloudCallError },
    #[error("reading {path} from the database")]
    Store { path: String, source: Arc<StoreError> },
    #[error("the cloud's answer for {path} is not readable")]
    Unreadable { path: String },
}

impl QueryError {
    fn store(path: &str, source: StoreError) -> QueryError {
        QueryError::Store { path: path.to_owned(), source: Arc::new(source) }
    }

    /// True if the object does not exist; a pod that marks its source optional goes on without it.
    pub fn is_not_found(&self) -> bool {
        matches!(self, QueryError::Refused { source, .. } if source.is_not_found())
    }
}

/// A service-account token and its end.
#[derive(Clone, Serialize, Deserialize)]
pub struct Token {
    pub token: String,
    pub expires: Timestamp,
    pub issued: Timestamp,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token(expires {})", self.expires)
    }
}

impl Token {
    /// When a successor should be fetched: at 80 % of its life, at most 24 h after it was issued.
    pub fn refresh_at(&self) -> Timestamp {
        let life = self.expires.as_second() - self.issued.as_second();
        let wait = (life * 8 / 10).min(24 * 3600);
        Timestamp::from_second(self.issued.as_second() + wait).unwrap_or(self.expires)
    }
}

/// What a projected token volume asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenWanted {
    pub namespace: String,
    pub service_account: String,
    pub pod_name: String,
    pub pod_uid: String,
    /// Empty: the API server's own.
    pub audience: String,
    pub expiration_seconds: i64,
}

const TOKEN_ROWS: &str = "serviceaccounttoken";

impl Queries {
    pub fn new(objects: Objects, cloud: Cloud) -> Queries {
        Queries { objects, cloud, asked: Asked::default(), reach: None, services: None }
    }

    /// Pods are told how they reach the Kubernetes API on this node.
    #[must_use]
    pub fn reaching(self, reach: watch::Receiver<Option<Reach>>) -> Queries {
        Queries { reach: Some(reach), ..self }
    }

    /// Pods are told of Services in their environment.
    #[must_use]
    pub fn knowing(self, services: watch::Receiver<KnownServices>) -> Queries {
        Queries { services: Some(services), ..self }
    }

    /// The Services that this node knows of now.
    pub fn services(&self) -> KnownServices {
        self.services.as_ref().map(|services| services.borrow().clone()).unwrap_or_default()
    }

    /// How pods reach the Kubernetes API on this node now.
    pub fn reach(&self) -> Option<Reach> {
        self.reach.as_ref().and_then(|reach| reach.borrow().clone())
    }

    pub async fn config_map(&self, namespace: &str, name: &str) -> Result<Json, QueryError> {
        self.object(ObjectKey::new(Some(namespace), ObjectKind::ConfigMap, name)).await
    }

    pub async fn secret(&self, namespace: &str, name: &str) -> Result<Json, QueryError> {
        self.object(ObjectKey::new(Some(namespace), ObjectKind::Secret, name)).await
    }

    /// The stored object, or the cloud's, which is then stored.
    pub async fn object(&self, key: ObjectKey) -> Result<Json, QueryError> {
        let path = key.to_string();
        let arrivals = self.objects.arrivals();
        let stored = self.objects.get(&key).await.map_err(|source| QueryError::store(&path, source))?;
        match stored {
            Some(stored) => Ok(stored.object),
            None => self.fetch(key, arrivals).await,
        }
    }

    /// The cloud's object, which is then stored; an error where the cloud cannot be asked.
    pub async fn fresh(&self, key: ObjectKey) -> Result<Json, QueryError> {
        let arrivals = self.objects.arrivals();
        self.fetch(key, arrivals).await
    }

    /// What the cloud answers, or sends by itself meanwhile.
    async fn fetch(&self, key: ObjectKey, arrivals: Arrivals) -> Result<Json, QueryError> {
        let path = key.to_string();
        let mut awaited = self.asked.join(&path, || self.clone().ask_for(key.clone()));
        tokio::select! {
            answer = awaited.wait_for(Option::is_some) => match answer.map(|answer| answer.clone()) {
                Ok(Some(answer)) => answer,
                _ => Err(QueryError::Unreachable { path, source: CloudCallError::Disconnected }),
            },
            object = self.arrived(&key, arrivals) => Ok(object),
        }
    }

    /// Resolves when the object is stored.
    async fn arrived(&self, key: &ObjectKey, mut arrivals: Arrivals) -> Json {
        loop {
            match arrivals.recv().await {
                Ok(arrived) if arrived != *key => continue,
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return std::future::pending().await,
            }
            // What cannot be read now is left to the answer.
            if let Ok(Some(stored)) = self.objects.get(key).await {
                return stored.object;
            }
        }
    }

    async fn ask_for(self, key: ObjectKey) -> Result<Json, QueryError> {
        let path = key.to_string();
        let object = self.ask(&path, Request::Get { key: key.clone() }).await?;
        let Metadata { name, resource_version } = metadata_of(&object);
        if name != key.name {
            return Err(QueryError::Unreadable { path });
        }
        let version = ResourceVersion(resource_version);
        let change = ObjectChange { key, change: Change::Put { version, object: object.clone() } };
        self.objects.apply(vec![change]).await.map_err(|source| QueryError::store(&path, source))?;
        Ok(object)
    }

    /// The cloud's object, which is then stored; the stored one where the cloud cannot be asked.
    pub async fn newest(&self, key: ObjectKey) -> Result<Json, QueryError> {
        match self.fresh(key.clone()).await {
            Err(error @ QueryError::Unreachable { .. }) => {
                let stored = self.objects.get(&key).await;
                let stored = stored.map_err(|source| QueryError::store(&key.to_string(), source))?;
                stored.map(|stored| stored.object).ok_or(error)
            }
            other => other,
        }
    }

    /// A token that is not due for refresh; the last one, even if due, when the cloud cannot be asked.
    pub async fn token(&self, wanted: &TokenWanted) -> Result<Token, QueryError> {
        let path = format!(
            "{}/{TOKEN_ROWS}/{}/{}/{}/{}",
            wanted.namespace,
            wanted.service_account,
            wanted.pod_uid,
            wanted.expiration_seconds,
            wanted.audience
        );
        let store_error = |source| QueryError::store(&path, source);
        let kept = self.objects.get_local(path.clone()).await.map_err(store_error)?;
        let kept: Option<Token> = kept.and_then(|text| serde_json::from_str(&text).ok());
        let now = daemon::clock::now();
        if let Some(token) = kept.as_ref().filter(|token| now < token.refresh_at()) {
            return Ok(token.clone());
        }
        match (self.fresh_token(&path, wanted, now).await, kept) {
            (Ok(token), _) => {
                let row = serde_json::to_string(&token).unwrap_or_default();
                self.objects
                    .put_local(path.clone(), TOKEN_ROWS, wanted.pod_uid.clone(), row)
                    .await
                    .map_err(store_error)?;
                Ok(token)
            }
            (Err(QueryError::Unreachable { .. }), Some(last)) => Ok(last),
            (Err(error), _) => Err(error),
        }
    }

    /// Removes the tokens of a pod that is gone.
    pub async fn forget_tokens(&self, pod_uid: &str) -> Result<(), StoreError> {
        self.objects.delete_local(TOKEN_ROWS, pod_uid.to_owned()).await?;
        self.objects.wipe_soon();
        Ok(())
    }

    /// Removes KubeEdge's tokens of pods other than those of `uids`.
    pub async fn forget_foreign_tokens(&self, uids: Vec<String>) -> Result<(), StoreError> {
        self.objects.drop_foreign(TOKEN_ROWS, uids).await
    }

    /// Uids of the pods that tokens are kept of.
    pub async fn token_holders(&self) -> Result<Vec<String>, StoreError> {
        self.objects.local_owners(TOKEN_ROWS).await
    }

    async fn fresh_token(
        &self,
        path: &str,
        wanted: &TokenWanted,
        now: Timestamp,
    ) -> Result<Token, QueryError> {
        let audiences = (!wanted.audience.is_empty()).then(|| vec![wanted.audience.clone()]);
        let request = serde_json::json!({
            "metadata": {"creationTimestamp": null},
            "spec": {
                "audiences": audiences,
                "expirationSeconds": wanted.expiration_seconds,
                "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": wanted.pod_name, "uid": wanted.pod_uid},
            },
            "status": {"token": "", "expirationTimestamp": null},
        });
        let unreadable = || QueryError::Unreadable { path: path.to_owned() };
        let request = Request::Token {
            namespace: wanted.namespace.clone(),
            service_account: wanted.service_account.clone(),
            request: Json::encode(&request).map_err(|_| unreadable())?,
        };
        #[derive(Deserialize)]
        struct Issued {
            status: IssuedStatus,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct IssuedStatus {
            token: String,
            expiration_timestamp: Timestamp,
        }
        let answer = self.ask(path, request).await?;
        let status = answer.parse::<Issued>().map_err(|_| unreadable())?.status;
        Ok(Token { token: status.token, expires: status.expiration_timestamp, issued: now })
    }

    async fn ask(&self, path: &str, request: Request) -> Result<Json, QueryError> {
        match self.cloud.call(request).await {
            Ok(Reply::Object(object)) => Ok(object),
            Ok(Reply::Refused(source)) => Err(QueryError::Refused { path: path.to_owned(), source }),
            Ok(Reply::Done | Reply::Text(_)) => Err(QueryError::Unreadable { path: path.to_owned() }),
            Err(source) => Err(QueryError::Unreachable { path: path.to_owned(), source }),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    name: String,
    #[serde(rename = "resourceVersion")]
    resource_version: String,
}

fn metadata_of(object: &Json) -> Metadata {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Object {
        metadata: Metadata,
    }
    object.parse::<Object>().unwrap_or_default().metadata
}
