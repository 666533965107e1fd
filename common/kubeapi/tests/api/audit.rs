//! The audit log.

use http::Method;
use kubeapi::audit::{self, Writer};
use kubeapi::{Api, Settings};
use serde_json::{Value, json};

use crate::asking::{api, get, request, send, text};
use crate::double::Double;

struct Audited {
    api: Api<Double>,
    folder: tempfile::TempDir,
    writer: Writer,
}

impl Audited {
    fn new() -> Audited {
        let folder = tempfile::tempdir().unwrap();
        let settings = audit::Settings::at(folder.path().join("audit.log"));
        let (log, writer) = audit::open(settings).unwrap();
        Audited { api: api(Settings { audit: Some(log), ..Settings::default() }), folder, writer }
    }

    /// The log as text, and its lines.
    async fn end(self) -> (String, Vec<Value>) {
        self.writer.end().await;
        let text = std::fs::read_to_string(self.folder.path().join("audit.log")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (text, lines)
    }
}

const MAPS: &str = "/api/v1/namespaces/n/configmaps";

#[tokio::test]
async fn a_change_is_told_with_who_what_and_how_it_ended_and_without_what_was_sent() {
    let audited = Audited::new();
    let object = r#"{"metadata": {"name": "a", "namespace": "n"}, "data": {"k": "s3cret"}}"#;
    let asked = request(Method::POST, &format!("{MAPS}?dryRun="))
        .header("user-agent", "a test")
        .header("authorization", "Bearer t0ken");
    let answer = send(&audited.api, asked, object).await;
    let id = answer.headers()["audit-id"].to_str().unwrap().to_owned();
    assert!(text(answer).await.contains("s3cret"));
    let (text, lines) = audited.end().await;
    assert!(!text.contains("s3cret") && !text.contains("t0ken"), "{text}");
    let mut event = lines[0].clone();
    for time in ["requestReceivedTimestamp", "stageTimestamp"] {
        let time = event.as_object_mut().unwrap().remove(time).unwrap();
        assert!(time.as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{time}");
    }
    let user = json!({"username": "ann", "extra": {"door": ["the test"]}});
    assert_eq!(
        event,
        json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "stage": "ResponseComplete",
            "auditID": id, "requestURI": format!("{MAPS}?dryRun="), "verb": "create", "user": user,
            "sourceIPs": ["192.0.2.7"], "userAgent": "a test",
            "objectRef": {"apiVersion": "v1", "resource": "configmaps", "namespace": "n", "name": "a"},
            "responseStatus": {"metadata": {}, "code": 201},
            "annotations": {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": "because it is a test"},
        })
    );
}

#[tokio::test]
async fn refusals_are_told_and_health_is_not() {
    let audited = Audited::new();
    let refused = http::Request::builder().method(Method::GET).uri(MAPS).header("x-user", "nobody");
    assert_eq!(send(&audited.api, refused, "").await.status(), 403);
    let unknown = http::Request::builder().method(Method::DELETE).uri(format!("{MAPS}/a"));
    assert_eq!(send(&audited.api, unknown, "").await.status(), 401);
    assert_eq!(get(&audited.api, "/readyz").await.status(), 200);
    let (_, lines) = audited.end().await;
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["annotations"]["authorization.k8s.io/decision"], "forbid");
    assert_eq!(
        (&lines[0]["responseStatus"]["reason"], &lines[0]["verb"]),
        (&"Forbidden".into(), &"list".into())
    );
    assert_eq!((&lines[1]["responseStatus"]["code"], &lines[1]["user"]), (&401.into(), &json!({})));
    assert_eq!((&lines[1]["verb"], &lines[1]["objectRef"]["name"]), (&"delete".into(), &"a".into()));
}

#[tokio::test]
async fn a_watch_is_told_when_it_ends_and_a_client_that_leaves_early_is_told_too() {
    let audited = Audited::new();
    let watch = get(&audited.api, &format!("{MAPS}?watch=true")).await;
    let left = {
        let api = audited.api.clone();
        tokio::spawn(async move { get(&api, &format!("{MAPS}/slow")).await.status() })
    };
    audited.api.backend().arrived.acquire().await.unwrap().forget();
    left.abort();
    assert!(left.await.unwrap_err().is_cancelled());
    drop(watch);
    let (_, lines) = audited.end().await;
    assert_eq!((&lines[0]["verb"], &lines[0]["responseStatus"]), (&"get".into(), &Value::Null));
    assert_eq!((&lines[1]["verb"], &lines[1]["responseStatus"]["code"]), (&"watch".into(), &200.into()));
}

#[tokio::test]
async fn the_query_of_a_proxied_request_is_not_told() {
    let audited = Audited::new();
    let paths = ["/api/v1/namespaces/n/pods/p/proxy/login", "/api/v1/namespaces/n/pods/p/prox%79/a%2fb"];
    for path in paths {
        get(&audited.api, &format!("{path}?password=s3cret")).await;
    }
    let (text, lines) = audited.end().await;
    assert_eq!(lines.iter().map(|line| &line["requestURI"]).collect::<Vec<_>>(), paths);
    assert!(!text.contains("s3cret"));
}
