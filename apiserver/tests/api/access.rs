//! Who gets in.

use http_body_util::Full;
use pki::{Authority, Identity, Profile, Usage};
use serde_json::{Value, json};

use crate::client::{MAPS, Server, Who};

const NOW: i64 = 1_800_000_000;

fn stranger(authority: &Authority) -> Identity {
    let profile = Profile {
        common_name: "eve".to_owned(),
        organizations: vec!["system:masters".to_owned()],
        names: vec![],
        usage: Usage::Client,
        lifetime: 3650 * pki::DAY,
    };
    authority.issue(&profile, NOW - 1000 * pki::DAY).unwrap()
}

#[tokio::test]
async fn anonymous_clients_see_health_and_version_only() {
    let server = Server::start().await;
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        assert_eq!(server.call(Who::Anonymous, "GET", path, "", "").await.0, 200, "{path}");
    }
    for path in ["/api", "/apis", "/openapi/v3", MAPS, "/nonsense", "/healthzz"] {
        let (code, status) = server.call(Who::Anonymous, "GET", path, "", "").await;
        assert_eq!((code, &status["reason"]), (403, &json!("Forbidden")), "{path}");
        let told = status["message"].as_str().unwrap();
        assert!(told.contains("User \"system:anonymous\" cannot"), "{told}");
    }
    server.stop().await;
}

#[tokio::test]
async fn foreign_certificates_and_tokens_are_unauthorised() {
    pki::install_provider();
    let server = Server::start().await;
    let foreign = stranger(&Authority::generate(None, NOW - 1000 * pki::DAY).unwrap());
    assert_eq!(server.call(Who::Certificate(&foreign), "GET", MAPS, "", "").await.0, 401);
    for token in ["nonsense", "a.b.c", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0."] {
        assert_eq!(server.call(Who::Token(token), "GET", MAPS, "", "").await.0, 401, "{token}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_service_account_token_works_until_its_account_is_gone() {
    let server = Server::start().await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    server.create(accounts, json!({"metadata": {"name": "robot"}})).await;
    let request = json!({"spec": {"audiences": [], "expirationSeconds": 600}});
    let answer = server.create(&format!("{accounts}/robot/token"), request).await;
    let token = answer["status"]["token"].as_str().unwrap();
    let review = json!({"spec": {"token": token}});
    let review = server.create("/apis/authentication.k8s.io/v1/tokenreviews", review).await;
    assert_eq!(review["status"]["user"]["username"], "system:serviceaccount:default:robot");
    assert_eq!(server.call(Who::Token(token), "GET", "/apis", "", "").await.0, 200);
    let (code, status) = server.call(Who::Token(token), "GET", MAPS, "", "").await;
    assert_eq!((code, &status["reason"]), (403, &json!("Forbidden")));
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let wish = json!({"spec": {"resourceAttributes": {"verb": "list", "resource": "pods"}}}).to_string();
    let (code, answer) = server.call(Who::Token(token), "POST", path, "application/json", &wish).await;
    assert_eq!((code, &answer["status"]["allowed"]), (201, &json!(false)));
    server.delete(&format!("{accounts}/robot"), &Value::Null).await;
    assert_eq!(server.call(Who::Token(token), "GET", "/apis", "", "").await.0, 401);
    server.stop().await;
}

#[tokio::test]
async fn impersonation_gives_up_rights_and_never_gains_them() {
    let server = Server::start().await;
    let request =
        http::Request::get(MAPS).header("impersonate-user", "nobody").body(Full::default()).unwrap();
    assert_eq!(server.send(Who::Admin, request).await.status(), 403);
    let account = server.create("/api/v1/namespaces/default/serviceaccounts/default/token", json!({})).await;
    let token = account["status"]["token"].as_str().unwrap();
    let request = http::Request::get(MAPS)
        .header("impersonate-user", "root")
        .header("impersonate-group", "system:masters")
        .body(Full::default())
        .unwrap();
    assert_eq!(server.send(Who::Token(token), request).await.status(), 403);
    server.stop().await;
}

#[tokio::test]
async fn a_token_counts_before_its_own_audiences_only() {
    let server = Server::start().await;
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let answer = server.create(path, json!({"spec": {"audiences": ["vault", "store"]}})).await;
    let token = answer["status"]["token"].as_str().unwrap();
    assert_eq!(server.call(Who::Token(token), "GET", "/apis", "", "").await.0, 401);
    let ask = async |audiences: Value| {
        let review = json!({"spec": {"token": token, "audiences": audiences}});
        server.create("/apis/authentication.k8s.io/v1/tokenreviews", review).await["status"].clone()
    };
    assert_eq!(ask(json!([])).await.get("authenticated"), None);
    assert_eq!(ask(json!(["elsewhere"])).await.get("authenticated"), None);
    assert_eq!(ask(json!(["elsewhere", "vault"])).await["audiences"], json!(["vault"]));
    server.stop().await;
}

#[tokio::test]
async fn impersonation_is_complete_or_refused() {
    let server = Server::start().await;
    const REVIEWS: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let ask = async |headers: &[(&str, &[u8])]| {
        let mut request = http::Request::post(REVIEWS).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, http::HeaderValue::from_bytes(value).unwrap());
        }
        let response = server.send(Who::Admin, request.body(Full::from("{}")).unwrap()).await;
        let code = response.status().as_u16();
        let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        (code, serde_json::from_slice::<Value>(&body).unwrap())
    };
    for header in ["impersonate-uid", "impersonate-group", "impersonate-extra-scopes"] {
        assert_eq!(ask(&[(header, b"x")]).await.0, 400, "{header}");
    }
    assert_eq!(ask(&[("impersonate-user", b"")]).await.0, 400);
    assert_eq!(ask(&[("impersonate-user", b"\xff")]).await.0, 400);
    let all: [(&str, &[u8]); 4] = [
        ("impersonate-user", b"nobody"),
        ("impersonate-uid", b"7"),
        ("impersonate-extra-acme.example%2fproject", b"a"),
        ("impersonate-extra-acme.example%2fproject", b"b"),
    ];
    let (code, review) = ask(&all).await;
    let wanted = json!({"username": "nobody", "uid": "7", "groups": ["system:authenticated"],
        "extra": {"acme.example/project": ["a", "b"]}});
    assert_eq!((code, &review["status"]["userInfo"]), (201, &wanted));
    server.stop().await;
}

#[tokio::test]
async fn a_signing_request_says_who_made_it_and_keeps_saying_it() {
    let server = Server::start().await;
    let requests = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let (_, pem) = pki::serving_request("e1", &["e1".to_owned()]).unwrap();
    let pem = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pem);
    let forged = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"name": "r"}, "spec": {"signerName": "example.com/x", "request": pem, "usages": ["client auth"],
        "username": "system:node:other", "groups": ["system:nodes"]}});
    let made = server.create(requests, forged.clone()).await;
    assert_ne!(made["spec"]["username"], "system:node:other");
    assert!(made["spec"]["groups"].as_array().unwrap().contains(&json!("system:masters")), "{made}");
    let path = format!("{requests}/r");
    let change = json!({"spec": forged["spec"]});
    let (code, changed) = server.patch(&path, "merge-patch+json", &change).await;
    assert_eq!((code, &changed["spec"]), (200, &made["spec"]));
    server.stop().await;
}
