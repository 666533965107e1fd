//! Who is let in, with the link and without.

use message::ObjectKind;
use serde_json::json;

use crate::client::Who;
use crate::cloud::{Cloud, ISSUER, claims, new_key, sign, sign_as};
use crate::node::Node;

const MAPS: &str = "/api/v1/namespaces/shop/configmaps";

#[tokio::test(flavor = "multi_thread")]
async fn forged_expired_and_misdirected_tokens_are_refused_on_and_offline() {
    let cloud = Cloud::start().await;
    let node = Node::start(&cloud).await;
    let good = cloud.token("reader");
    assert_eq!(node.get(&Who::Token(&good), MAPS).await.code, 200);
    let bad = [
        ("another key", sign(&new_key(), &claims("reader", ISSUER, ISSUER, 3600))),
        ("expired", sign(&cloud.key, &claims("reader", ISSUER, ISSUER, -5))),
        ("another audience", sign(&cloud.key, &claims("reader", "https://vault", ISSUER, 3600))),
        ("another issuer", sign(&cloud.key, &claims("reader", ISSUER, "https://evil", 3600))),
        ("no token", "x".to_owned()),
        ("another subject", {
            let mut claims = claims("stranger", ISSUER, ISSUER, 3600);
            claims["sub"] = json!("system:serviceaccount:shop:reader");
            sign(&cloud.key, &claims)
        }),
    ];
    for cut in [false, true] {
        if cut {
            cloud.cut();
            assert_eq!(node.get(&Who::Token(&good), MAPS).await.code, 200);
        }
        for (what, token) in &bad {
            let told = node.get(&Who::Token(token), MAPS).await;
            assert_eq!(
                (told.code, told.body["reason"].as_str()),
                (401, Some("Unauthorized")),
                "{what}, cut: {cut}"
            );
        }
        for path in [MAPS, "/api", "/apis", "/openapi/v2", "/.causeway/v1/keys", "/metrics"] {
            assert_eq!(node.get(&Who::Nobody, path).await.code, 401, "{path}");
        }
        assert_eq!(node.get(&Who::Nobody, "/healthz").await.code, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_this_nodes_own_certificate_is_known() {
    let cloud = Cloud::start().await;
    let node = Node::start(&cloud).await;
    let other = node.certificate("system:node:edge-2");
    let master = node.certificate("admin");
    let foreign = {
        let elsewhere = Node::start(&cloud).await;
        elsewhere.own()
    };
    for identity in [&other, &master, &foreign] {
        assert_eq!(node.get(&Who::Certificate(identity), "/api").await.code, 401);
    }
    let own = node.own();
    assert_eq!(node.get(&Who::Certificate(&own), "/apis/apps").await.code, 200);
    assert_eq!(cloud.askers("/apis/apps"), ["system:node:edge-1"], "the cloud is asked as the node");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_pod_that_was_replaced_here_is_refused() {
    let cloud = Cloud::start().await;
    let node = Node::start(&cloud).await;
    let token = |uid: &str| {
        let mut claims = claims("reader", ISSUER, ISSUER, 3600);
        claims["kubernetes.io"]["pod"] = json!({ "name": "web", "uid": uid });
        sign(&cloud.key, &claims)
    };
    let pod =
        json!({ "metadata": { "name": "web", "namespace": "shop", "uid": "new", "resourceVersion": "5" } });
    node.hold(ObjectKind::Pod, &pod).await;
    assert_eq!(node.get(&Who::Token(&token("old")), "/metrics").await.code, 401);
    assert_eq!(node.get(&Who::Token(&token("new")), "/metrics").await.code, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_taken_for_another_and_no_path_leads_astray() {
    let cloud = Cloud::start().await;
    let node = Node::start(&cloud).await;
    let (token, own) = (cloud.token("reader"), node.own());
    for who in [Who::Token(&token), Who::Certificate(&own)] {
        let request =
            http::Request::get(MAPS).header("impersonate-user", "admin").body(Default::default()).unwrap();
        assert_eq!(node.send(&who, request).await.status(), 403);
    }
    let request = http::Request::get("/api/v1/namespaces/shop/secrets")
        .header("causeway-caller", "node")
        .header("x-remote-user", "admin")
        .body(Default::default())
        .unwrap();
    assert_eq!(node.send(&Who::Token(&token), request).await.status(), 403);
    assert_eq!(cloud.askers("/secrets"), ["system:serviceaccount:shop:reader"]);
    for path in [
        "/api/v1/namespaces/shop/configmaps/..%2f..%2fkube-system%2fsecrets",
        "/api/v1/namespaces/..%2Fshop/configmaps",
        "/.causeway/v1/keys",
        "/api/v1/namespaces/shop/configmaps/%2e%2e",
    ] {
        let code = node.get(&Who::Token(&token), path).await.code;
        assert_eq!(code, 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_keys_are_asked_for_rarely_and_known_ones_outlive_a_restart_without_the_cloud() {
    let cloud = Cloud::start().await;
    let mut node = Node::start(&cloud).await;
    let token = cloud.token("reader");
    assert_eq!(node.get(&Who::Token(&token), MAPS).await.code, 200);
    for kid in 0..20 {
        let forged = sign_as(&new_key(), &format!("x{kid}"), &claims("reader", ISSUER, ISSUER, 3600));
        assert_eq!(node.get(&Who::Token(&forged), MAPS).await.code, 401);
    }
    assert_eq!(cloud.count("/.causeway/v1/keys"), 1);
    cloud.cut();
    node.stop().await;
    node.begin().await;
    assert_eq!(node.get(&Who::Token(&token), MAPS).await.code, 200);
    assert_eq!(cloud.count("/.causeway/v1/keys"), 1);
}
