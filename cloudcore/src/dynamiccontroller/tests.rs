mod applications;

use std::sync::Mutex;

use kube::client::Body as KubeBody;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::devicecontroller::Devices;
use crate::edgecontroller::Downstream;

type Seen = Arc<Mutex<Vec<(String, HeaderMap, String)>>>;

/// An API server that notes what it is asked, says its keys, and answers everything else with two pieces of text.
fn requests() -> (Requests, Seen) {
    requests_with(false)
}

fn requests_with(node_identity: bool) -> (Requests, Seen) {
    let seen = Seen::default();
    let notes = seen.clone();
    let service = tower::service_fn(move |request: Request<KubeBody>| {
        let notes = notes.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let path = parts.uri.path().to_owned();
            let note = (
                format!("{} {}", parts.method, parts.uri),
                parts.headers,
                String::from_utf8_lossy(&body).into(),
            );
            notes.lock().unwrap().push(note);
            let text = match path.as_str() {
                "/.well-known/openid-configuration" => "{\"issuer\": \"https://here\", \"jwks_uri\": \"x\"}",
                "/openid/v1/jwks" => "{\"keys\": [{\"kid\": \"k\"}]}",
                _ => "the answer",
            };
            let answer =
                Response::builder().status(203).header("X-Kept", "yes").header("Connection", "close");
            let ok = matches!(path.as_str(), "/.well-known/openid-configuration" | "/openid/v1/jwks");
            let answer = if ok { Response::builder() } else { answer };
            Ok::<_, Infallible>(answer.body(KubeBody::from(text.as_bytes().to_vec())).unwrap())
        }
    });
    let cluster = Cluster::with_client(kube::Client::new(service, "default"));
    let rights =
        node_identity.then(|| Rights::new(Downstream::default(), Devices::default(), cluster.clone()));
    (Requests::new(cluster, rights), seen)
}

/// What a stream answers to a request, to the end of the stream.
async fn ask(requests: &Requests, text: &str) -> String {
    let mut stream = requests.connect(&NodeName::new("edge-1").unwrap());
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_request_reaches_the_api_server_with_the_token_of_its_caller_and_what_proxies_say_does_not() {
    let (requests, seen) = requests();
    let text = "PUT /api/v1/namespaces/a/configmaps/b?dryRun=All HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\nUser-Agent: mine\r\n\
                X-Remote-User: admin\r\nTE: trailers\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
    let answer = ask(&requests, text).await;
    assert!(answer.starts_with("HTTP/1.1 203") && answer.ends_with("the answer"), "{answer}");
    assert!(answer.to_lowercase().contains("x-kept: yes"), "{answer}");
    let seen = seen.lock().unwrap();
    let (line, headers, body) = &seen[0];
    assert_eq!((line.as_str(), body.as_str()), ("PUT /api/v1/namespaces/a/configmaps/b?dryRun=All", "{}"));
    assert_eq!(headers["authorization"], "Bearer t");
    assert_eq!(headers["user-agent"], "mine");
    for name in ["x-remote-user", "te", "host", "connection"] {
        assert!(!headers.contains_key(name), "{name} was passed on");
    }
}

#[tokio::test]
async fn who_brings_no_token_is_refused_and_the_api_server_hears_nothing() {
    let (requests, seen) = requests();
    for header in ["", "Authorization: Basic eDp5\r\n", "Authorization: \r\n"] {
        let answer =
            ask(&requests, &format!("GET /api/v1/secrets HTTP/1.1\r\nHost: x\r\n{header}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
        assert!(answer.contains("\"reason\":\"Unauthorized\""), "{answer}");
    }
    let upgrade =
        |headers: &str| format!("GET /api/v1/x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n{headers}\r\n");
    for (headers, code) in [
        ("Upgrade: websocket\r\n", 401),
        ("Upgrade: websocket\r\nCauseway-Caller: node\r\n", 400),
        ("Upgrade: h2c\r\nAuthorization: Bearer t\r\n", 400),
    ] {
        let answer = ask(&requests, &upgrade(headers)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {code}")), "{headers}: {answer}");
    }
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn nodes_learn_by_which_keys_tokens_are_signed() {
    let (requests, _) = requests();
    let answer = ask(&requests, &format!("GET {KEYS} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let told: Value = serde_json::from_str(body).unwrap();
    assert_eq!(told, json!({"issuer": "https://here", "keys": [{"kid": "k"}]}));
}

#[tokio::test]
async fn a_node_itself_reads_discovery_and_nothing_else() {
    let (requests, seen) = requests();
    let of_node =
        |line: &str| format!("{line} HTTP/1.1\r\nHost: x\r\nCauseway-Caller: node\r\nAccept: a/b\r\n\r\n");
    for path in ["/api", "/apis", "/api/v1", "/apis/apps/v1", "/version", "/openapi/v3/api/v1"] {
        let answer = ask(&requests, &of_node(&format!("GET {path}"))).await;
        assert!(answer.starts_with("HTTP/1.1 203"), "{path}: {answer}");
    }
    let asked = seen.lock().unwrap().len();
    for line in [
        "GET /api/v1/secrets",
        "GET /apis/apps/v1/deployments",
        "GET /apis/../api/v1/secrets",
        "GET /api/v1%2fsecrets",
        "GET /openapi/..%2f..%2fapi/v1/secrets",
        "GET /openapi//api/v1",
        "POST /api",
        "GET /metrics",
    ] {
        let answer = ask(&requests, &of_node(line)).await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{line}: {answer}");
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), asked, "the API server heard of it: {seen:?}");
    assert_eq!(seen[0].1["accept"], "a/b");
}

#[tokio::test]
async fn a_node_that_may_ask_as_itself_is_the_node_of_its_session_whatever_it_says() {
    let (requests, seen) = requests_with(true);
    let text = "PATCH /api/v1/nodes/edge-1/status HTTP/1.1\r\nHost: x\r\nCauseway-Caller: node\r\nImpersonate-User: admin\r\n\
                Impersonate-Group: system:masters\r\nImpersonate-Uid: 1\r\nImpersonate-Extra-a: b\r\nAuthorization: Bearer t\r\n\
                X-Remote-User: admin\r\nContent-Length: 2\r\n\r\n{}";
    let answer = ask(&requests, text).await;
    assert!(answer.starts_with("HTTP/1.1 203"), "{answer}");
    let (line, headers, body) = seen.lock().unwrap()[0].clone();
    assert_eq!((line.as_str(), body.as_str()), ("PATCH /api/v1/nodes/edge-1/status", "{}"));
    let said =
        |name: &str| headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(
        (said("impersonate-user"), said("impersonate-group")),
        (vec!["system:node:edge-1"], vec!["system:nodes"])
    );
    for name in
        ["impersonate-uid", "impersonate-extra-a", "authorization", "x-remote-user", "causeway-caller"]
    {
        assert!(!headers.contains_key(name), "{name} was passed on");
    }
    // Callers with a token stay who they are, and say nothing of it.
    ask(&requests, "GET /api/v1/pods HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\n\r\n").await;
    assert!(!seen.lock().unwrap()[1].1.contains_key("impersonate-user"));
    // What is not its own is not asked for.
    let asked = seen.lock().unwrap().len();
    let other = "{\"metadata\": {\"name\": \"edge-2\"}}";
    for line in [
        "PATCH /api/v1/nodes/edge-2/status",
        "GET /api/v1/secrets",
        "GET /api/v1/namespaces/a/secrets/s",
        "POST /api/v1/nodes",
    ] {
        let head =
            format!("{line} HTTP/1.1\r\nHost: x\r\nCauseway-Caller: node\r\nContent-Length: {}", other.len());
        let answer = ask(&requests, &format!("{head}\r\n\r\n{other}")).await;
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("may not"), "{line}: {answer}");
    }
    let binary =
        "POST /api/v1/nodes HTTP/1.1\r\nHost: x\r\nCauseway-Caller: node\r\nContent-Length: 4\r\n\r\nk8s\0";
    assert!(ask(&requests, binary).await.starts_with("HTTP/1.1 415"));
    assert_eq!(seen.lock().unwrap().len(), asked);
    let upgrade = "GET /api/v1/x HTTP/1.1\r\nHost: x\r\nCauseway-Caller: node\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert!(ask(&requests, upgrade).await.starts_with("HTTP/1.1 400"));
}
