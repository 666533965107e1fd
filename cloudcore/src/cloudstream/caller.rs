//! Who asks, and whether it may.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemon::rate::{Debt, Debts, Rate};
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use message::{Json, NodeName};
use pki::Subject;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Refusal;
use super::route::Access;
use crate::kubernetes::Cluster;

/// How long an answer of the API server counts: rights that were taken away end within it.
const REMEMBERED: Duration = Duration::from_secs(10);
/// Answers remembered; then all are forgotten.
const ANSWERS: usize = 4096;

/// Tokens from one address that turn out to be nobody's: each costs the API server a question.
const STRANGERS: Rate = Rate::per_second(1, 20);

const TOKEN_REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const ACCESS_REVIEWS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

/// A user, as the API server knows users.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Caller {
    name: String,
    groups: Vec<String>,
}

impl Caller {
    /// Of a verified certificate: the common name and the organisations. `None`: it names nobody.
    pub(super) fn of_certificate(certificate: &[u8]) -> Option<Caller> {
        let subject = Subject::of(certificate).ok()?;
        let groups = [subject.organizations, vec!["system:authenticated".to_owned()]].concat();
        (!subject.common_name.is_empty()).then_some(Caller { name: subject.common_name, groups })
    }
}

/// Asks the API server, and remembers for a moment.
pub(super) struct Callers {
    cluster: Cluster,
    /// By the fingerprint of a token.
    tokens: Remembered<String, Option<Caller>>,
    /// By the address they came from.
    strangers: Mutex<Debts<IpAddr>>,
    rights: Remembered<(Caller, String, Access), bool>,
}

impl Callers {
    pub(super) fn new(cluster: Cluster) -> Callers {
        Callers {
            cluster,
            tokens: Remembered::default(),
            strangers: Mutex::default(),
            rights: Remembered::default(),
        }
    }

    /// `known` is who the certificate is of, `from` where the request came from.
    pub(super) async fn who(
        &self,
        known: Option<Caller>,
        headers: &HeaderMap,
        from: IpAddr,
    ) -> Result<Caller, Refusal> {
        let unauthorized = |text: &str| Refusal(StatusCode::UNAUTHORIZED, text.to_owned());
        if let Some(caller) = known {
            return Ok(caller);
        }
        let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = token.and_then(|value| value.strip_prefix("Bearer ")).map(str::trim);
        let Some(token) = token.filter(|token| !token.is_empty()) else {
            return Err(unauthorized(
                "Unauthorized: show a client certificate of the cluster's CA, or a token",
            ));
        };
        let key = pki::fingerprint(token.as_bytes());
        let caller = match self.tokens.get(&key) {
            Some(caller) => caller,
            None => {
                self.strangers(from, |debt, now| match debt.wait(&STRANGERS, now).is_zero() {
                    true => Ok(()),
                    false => {
                        let text = "too many tokens that nobody has came from this address";
                        Err(Refusal(StatusCode::TOO_MANY_REQUESTS, text.to_owned()))
                    }
                })?;
                let caller = self.owner(token).await?;
                if caller.is_none() {
                    self.strangers(from, |debt, now| debt.owe(&STRANGERS, 1, now));
                }
                self.tokens.put(key, caller.clone());
                caller
            }
        };
        caller.ok_or_else(|| unauthorized("Unauthorized: the API server does not know this token"))
    }

    fn strangers<T>(&self, from: IpAddr, act: impl FnOnce(&mut Debt, Instant) -> T) -> T {
        let now = Instant::now();
        act(self.strangers.lock().unwrap_or_else(PoisonError::into_inner).of(&from, now), now)
    }

    async fn owner(&self, token: &str) -> Result<Option<Caller>, Refusal> {
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token}});
        let status = self.ask(TOKEN_REVIEWS, &review).await?;
        if status["authenticated"] != true {
            return Ok(None);
        }
        let groups = status["user"]["groups"].as_array().into_iter().flatten();
        let groups = groups.filter_map(|group| group.as_str().map(str::to_owned)).collect();
        let name = status["user"]["username"].as_str().unwrap_or_default().to_owned();
        Ok((!name.is_empty()).then_some(Caller { name, groups }))
    }

    /// An error unless the caller has this right on the node; on all nodes where it is `None`.
    pub(super) async fn check(
        &self,
        caller: &Caller,
        node: Option<&NodeName>,
        access: &Access,
    ) -> Result<(), Refusal> {
        let node = node.map_or("", NodeName::as_str);
        let key = (caller.clone(), node.to_owned(), access.clone());
        let allowed = match self.rights.get(&key) {
            Some(allowed) => allowed,
            None => {
                let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
                "spec": {"user": caller.name, "groups": caller.groups, "resourceAttributes": {
                    "verb": access.verb, "group": "", "version": "v1", "resource": "nodes",
                    "subresource": access.subresource, "name": node}}});
                let allowed = self.ask(ACCESS_REVIEWS, &review).await?["allowed"] == true;
                self.rights.put(key, allowed);
                allowed
            }
        };
        if allowed {
            return Ok(());
        }
        let Access { verb, subresource } = access;
        Err(Refusal(
            StatusCode::FORBIDDEN,
            format!(
                "Forbidden (user={}, verb={verb}, resource=nodes, subresource={subresource}, name={node})",
                caller.name,
            ),
        ))
    }

    /// The status of a review.
    async fn ask(&self, path: &str, review: &Value) -> Result<Value, Refusal> {
        let failed = |what: &dyn std::fmt::Display| {
            Refusal(StatusCode::SERVICE_UNAVAILABLE, format!("asking the API server who may do this: {what}"))
        };
        let answer = self.cluster.create(path, &Json::of(review)).await.map_err(|status| failed(&status))?;
        let answer: Value = answer.parse().map_err(|error| failed(&error))?;
        Ok(answer.get("status").cloned().unwrap_or_default())
    }
}

/// Answers of a moment ago.
struct Remembered<K, V>(Arc<Mutex<HashMap<K, (V, Instant)>>>);

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Remembered<K, V> {
        Remembered(Arc::default())
    }
}

impl<K: std::hash::Hash + Eq, V: Clone> Remembered<K, V> {
    fn get(&self, key: &K) -> Option<V> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (value, since) = known.get(key)?;
        (since.elapsed() < REMEMBERED).then(|| value.clone())
    }

    fn put(&self, key: K, value: V) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= ANSWERS {
            known.retain(|_, (_, since)| since.elapsed() < REMEMBERED);
        }
        if known.len() >= ANSWERS {
            known.clear();
        }
        known.insert(key, (value, Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::Full;
    use hyper::body::Bytes;

    /// Everybody's token is `good`.
    #[tokio::test(start_paused = true)]
    async fn who_guesses_tokens_is_stopped_and_nobody_else_is() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counting = asked.clone();
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            counting.fetch_add(1, Ordering::Relaxed);
            async move {
                let body = request.into_body().collect_bytes().await.unwrap_or_default();
                let known = String::from_utf8_lossy(&body).contains("\"good\"");
                let answer = json!({"status": {"authenticated": known, "user": {"username": "u"}}});
                Ok::<_, Infallible>(http::Response::new(Full::<Bytes>::from(answer.to_string())))
            }
        });
        let callers = Callers::new(Cluster::with_client(kube::Client::new(service, "default")));
        let (guesser, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let who = async |token: String, from: IpAddr| {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, format!("Bearer {token}").parse().unwrap())]);
            callers.who(None, &headers, from).await.map_err(|Refusal(status, _)| status.as_u16())
        };
        let mut refused = Vec::new();
        for guess in 0..1000 {
            refused.extend(who(format!("guess-{guess}"), guesser).await.err());
        }
        assert_eq!(
            refused.iter().filter(|status| **status == 429).count() + asked.load(Ordering::Relaxed),
            1000
        );
        assert!(asked.load(Ordering::Relaxed) < 50, "{asked:?}");
        assert_eq!(who("good".to_owned(), other).await.unwrap().name, "u");
        assert_eq!(who("good".to_owned(), guesser).await.unwrap().name, "u", "what is known costs nothing");
        assert_eq!(who("guess".to_owned(), other).await, Err(401));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(who("guess-again".to_owned(), guesser).await, Err(401));
    }

    #[tokio::test(start_paused = true)]
    async fn answers_count_for_a_moment_and_are_bounded() {
        let remembered = Remembered::default();
        remembered.put(0, true);
        assert_eq!(remembered.get(&0), Some(true));
        tokio::time::advance(REMEMBERED).await;
        assert_eq!(remembered.get(&0), None);
        (0..2 * ANSWERS).for_each(|key| remembered.put(key, true));
        assert!(remembered.0.lock().unwrap().len() <= ANSWERS);
    }
}
