//! Requests that are under way at once.

use http::Method;
use kubeapi::{Api, Limits, Settings};

use crate::asking::{api, get, json, request, send};
use crate::double::Double;

fn limited() -> Api<Double> {
    api(Settings { limits: Limits { reads: 1, changes: 1 }, ..Settings::default() })
}

const MAPS: &str = "/api/v1/namespaces/n/configmaps";
const SLOW: &str = r#"{"metadata": {"name": "slow", "namespace": "n"}}"#;

/// A request that does not end before the gate opens, and has arrived there.
async fn hold(api: &Api<Double>, method: Method, path: &'static str) -> tokio::task::JoinHandle<u16> {
    let held = {
        let api = api.clone();
        let body = if method == Method::POST { SLOW } else { "" };
        tokio::spawn(async move { send(&api, request(method, path), body).await.status().as_u16() })
    };
    api.backend().arrived.acquire().await.unwrap().forget();
    held
}

#[tokio::test]
async fn a_read_too_many_is_refused_for_a_second_and_changes_have_places_of_their_own() {
    let api = limited();
    let held = hold(&api, Method::GET, "/api/v1/namespaces/n/configmaps/slow").await;
    let refused = get(&api, MAPS).await;
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (429, "1"));
    let status = json(refused).await;
    assert_eq!(
        (&status["reason"], &status["details"]["retryAfterSeconds"]),
        (&"TooManyRequests".into(), &1.into())
    );
    let made =
        send(&api, request(Method::POST, MAPS), r#"{"metadata": {"name": "a", "namespace": "n"}}"#).await;
    assert_eq!(made.status(), 201);
    let other = hold(&api, Method::POST, MAPS).await;
    assert_eq!(send(&api, request(Method::POST, MAPS), "{}").await.status(), 429);
    api.backend().gate.add_permits(2);
    assert_eq!((held.await.unwrap(), other.await.unwrap()), (404, 201));
    assert_eq!(get(&api, MAPS).await.status(), 200, "its place is free again");
}

#[tokio::test]
async fn requests_that_last_take_no_place_and_masters_are_always_answered() {
    let api = limited();
    let watch = get(&api, "/api/v1/namespaces/n/configmaps?watch=true").await;
    let log = hold(&api, Method::GET, "/api/v1/namespaces/n/pods/slow/log").await;
    let held = hold(&api, Method::GET, "/api/v1/namespaces/n/configmaps/slow").await;
    assert_eq!(get(&api, MAPS).await.status(), 429);
    let master = request(Method::GET, MAPS).header("x-groups", "system:masters");
    assert_eq!(send(&api, master, "").await.status(), 200);
    assert_eq!(get(&api, "/readyz").await.status(), 200);
    assert_eq!(get(&api, "/api/v1/namespaces/n/configmaps?watch=true").await.status(), 200);
    api.backend().gate.add_permits(2);
    assert_eq!((log.await.unwrap(), held.await.unwrap()), (200, 404));
    drop(watch);
}

#[tokio::test]
async fn without_a_limit_nothing_is_refused() {
    let api = api(Settings { limits: Limits { reads: 0, changes: 0 }, ..Settings::default() });
    let held = hold(&api, Method::GET, "/api/v1/namespaces/n/configmaps/slow").await;
    assert_eq!(get(&api, MAPS).await.status(), 200);
    api.backend().gate.add_permits(1);
    assert_eq!(held.await.unwrap(), 404);
}
