//! get and list, with the link and without.

use message::ObjectKind;
use serde_json::json;

use crate::client::Who;
use crate::cloud::{Cloud, NODE};
use crate::node::Node;

const MAPS: &str = "/api/v1/namespaces/shop/configmaps";

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_rights_reads_nothing_on_or_offline_and_does_not_profit_from_others() {
    let cloud = Cloud::start().await;
    cloud.config_map("a", "1").await;
    let node = Node::start(&cloud).await;
    let (reader, stranger) = (cloud.token("reader"), cloud.token("stranger"));
    let (reader, stranger) = (Who::Token(&reader), Who::Token(&stranger));
    let one = format!("{MAPS}/a");
    let watch = format!("{MAPS}?watch=1");
    for path in [&one, MAPS] {
        assert_eq!(node.get(&reader, path).await.code, 200);
    }
    let mut lines = node.watch(&reader, &watch).await;
    assert_eq!(lines.brief().await, "ADDED a");
    for cut in [false, true] {
        if cut {
            cloud.cut();
        }
        for path in
            [one.as_str(), MAPS, &watch, &format!("{MAPS}?labelSelector=app%3Da"), "/api/v1/configmaps"]
        {
            let told = node.get(&stranger, path).await;
            assert_eq!(
                (told.code, told.body["reason"].as_str()),
                (403, Some("Forbidden")),
                "{path}, cut: {cut}"
            );
            assert!(told.body.get("items").is_none() && told.body.get("data").is_none(), "{}", told.body);
        }
        let others = node.get(&reader, "/api/v1/namespaces/default/configmaps").await;
        assert_eq!(others.code, 403, "another namespace, cut: {cut}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offline_a_client_gets_what_it_got_and_is_told_that_it_is_stale() {
    let cloud = Cloud::start().await;
    for name in ["a", "b"] {
        cloud.config_map(name, "1").await;
    }
    let mut node = Node::start(&cloud).await;
    let token = cloud.token("reader");
    let who = Who::Token(&token);
    let online = node.get(&who, MAPS).await;
    assert_eq!((online.names(), online.warnings.len()), (vec!["a", "b"], 0));
    let one = node.get(&who, &format!("{MAPS}/a")).await;
    assert_eq!(one.body["kind"], "ConfigMap");
    cloud.cut();
    for started_again in [false, true] {
        if started_again {
            node.stop().await;
            node.begin().await;
        }
        let offline = node.get(&who, MAPS).await;
        assert_eq!(offline.body, online.body, "the same, to the byte");
        assert!(offline.warnings[0].contains("cannot be asked"), "{:?}", offline.warnings);
        assert_eq!(node.get(&who, &format!("{MAPS}/a")).await.body, one.body);
        // Not got by itself, but in the list.
        assert_eq!(node.get(&who, &format!("{MAPS}/b")).await.code, 200);
        assert_eq!(node.get(&who, &format!("{MAPS}/c")).await.code, 404);
        assert_eq!(node.get(&who, &format!("{MAPS}?labelSelector=app%3Db")).await.names(), ["b"]);
        let first = node.get(&who, &format!("{MAPS}?limit=1")).await;
        let token = first.body["metadata"]["continue"].as_str().unwrap();
        let second = node.get(&who, &format!("{MAPS}?limit=1&continue={token}")).await;
        assert_eq!((first.names(), second.names()), (vec!["a"], vec!["b"]));
    }
    cloud.mend();
    cloud.config_map("c", "1").await;
    let online = node.get(&who, MAPS).await;
    assert_eq!((online.names(), online.warnings.len()), (vec!["a", "b", "c"], 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_not_served_unless_it_is_known_complete() {
    let cloud = Cloud::start().await;
    for number in 0..5 {
        cloud.config_map(&format!("m{number}"), "1").await;
    }
    let node = Node::start(&cloud).await;
    let token = cloud.token("reader");
    let who = Who::Token(&token);
    assert_eq!(node.get(&who, &format!("{MAPS}?limit=2")).await.names().len(), 2);
    assert_eq!(node.get(&who, &format!("{MAPS}?labelSelector=app%3Dm1")).await.names(), ["m1"]);
    assert_eq!(node.get(&who, &format!("{MAPS}/m2")).await.code, 200);
    cloud.cut();
    let whole = node.get(&who, MAPS).await;
    assert_eq!((whole.code, whole.body["reason"].as_str()), (503, Some("ServiceUnavailable")));
    assert!(whole.body["message"].as_str().unwrap().contains("cut off"), "{}", whole.body);
    assert_eq!(node.get(&who, &format!("{MAPS}?labelSelector=app%3Dm1")).await.names(), ["m1"]);
    assert_eq!(node.get(&who, &format!("{MAPS}?labelSelector=app%3Dm2")).await.code, 503);
    assert_eq!(node.get(&who, &format!("{MAPS}?watch=1")).await.code, 503);
    assert_eq!(node.get(&who, &format!("{MAPS}/m2")).await.code, 200);
    assert_eq!(node.get(&who, &format!("{MAPS}/m3")).await.code, 503, "whether there is one is not known");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_the_cloud_takes_back_is_gone_offline_as_well() {
    let cloud = Cloud::start().await;
    cloud.config_map("a", "1").await;
    let node = Node::start(&cloud).await;
    let token = cloud.token("reader");
    let who = Who::Token(&token);
    assert_eq!(node.get(&who, MAPS).await.code, 200);
    cloud.unbind("reader").await;
    assert_eq!(node.get(&who, MAPS).await.code, 403);
    cloud.cut();
    assert_eq!(node.get(&who, MAPS).await.code, 403);
    assert_eq!(node.get(&who, &format!("{MAPS}/a")).await.code, 403, "the list covered it");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_itself_reads_what_it_holds_and_nothing_else_when_cut_off() {
    let cloud = Cloud::start().await;
    let node = Node::start(&cloud).await;
    let pod = json!({ "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "web", "namespace": "shop", "uid": "p", "resourceVersion": "5" },
        "spec": { "nodeName": NODE, "containers": [{ "name": "c", "image": "i" }] } });
    node.hold(ObjectKind::Pod, &pod).await;
    let map = json!({ "metadata": { "name": "cfg", "namespace": "shop", "uid": "m", "resourceVersion": "6" },
        "data": { "k": "v" } });
    node.hold(ObjectKind::ConfigMap, &map).await;
    cloud.cut();
    let own = node.own();
    let (operator, token) = (Who::Certificate(&own), cloud.token("reader"));
    let got = node.get(&operator, "/api/v1/namespaces/shop/pods/web").await;
    assert_eq!(
        (got.code, &got.body["kind"], &got.body["metadata"]["uid"]),
        (200, &json!("Pod"), &json!("p"))
    );
    assert!(got.warnings[0].contains("node holds"), "{:?}", got.warnings);
    assert_eq!(node.get(&operator, &format!("{MAPS}/cfg")).await.body["data"]["k"], "v");
    let mine = format!("?fieldSelector=spec.nodeName%3D{NODE}");
    assert_eq!(node.get(&operator, &format!("/api/v1/pods{mine}")).await.names(), ["web"]);
    assert_eq!(node.get(&operator, &format!("/api/v1/namespaces/other/pods{mine}")).await.names(), [""; 0]);
    for path in
        ["/api/v1/pods", "/api/v1/namespaces/shop/pods/other", MAPS, "/api/v1/namespaces/shop/secrets/s"]
    {
        assert_eq!(node.get(&operator, path).await.code, 403, "{path}");
    }
    assert_eq!(
        node.get(&Who::Token(&token), "/api/v1/namespaces/shop/pods/web").await.code,
        401,
        "no keys yet"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn custom_resources_are_served_as_discovery_tells_also_after_a_start_without_the_cloud() {
    let cloud = Cloud::start().await;
    let mut node = Node::start(&cloud).await;
    let token = cloud.token("reader");
    let who = Who::Token(&token);
    let valves = "/apis/x.io/v1/namespaces/shop/valves";
    assert_eq!(node.get(&who, valves).await.code, 404);
    let definition = json!({ "metadata": { "name": "valves.x.io" }, "spec": { "group": "x.io", "scope": "Namespaced",
        "names": { "plural": "valves", "kind": "Valve" }, "versions": [{ "name": "v1", "served": true, "storage": true,
            "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } } }] } });
    cloud.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition).await;
    cloud
        .create(valves, json!({ "apiVersion": "x.io/v1", "kind": "Valve", "metadata": { "name": "v" } }))
        .await;
    // Unknown resources are asked for every few seconds at most.
    let mut list = node.get(&who, valves).await;
    while list.code == 404 {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        list = node.get(&who, valves).await;
    }
    assert_eq!((list.names(), &list.body["kind"]), (vec!["v"], &json!("ValveList")));
    cloud.cut();
    node.stop().await;
    node.begin().await;
    assert_eq!(node.get(&who, valves).await.body["items"], list.body["items"]);
    let request = http::Request::get("/apis").header(
        "accept",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json",
    );
    let answer = node.send(&who, request.body(Default::default()).unwrap()).await;
    assert!(answer.headers()["content-type"].to_str().unwrap().contains("apidiscovery"));
    let resources = node.get(&who, "/apis/x.io/v1").await;
    assert_eq!(resources.body["resources"][0]["name"], "valves");
    assert_eq!(node.get(&who, "/openapi/v3").await.code, 200);
    assert_eq!(node.get(&Who::Nobody, "/version").await.code, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_sealed_on_the_disk() {
    let cloud = Cloud::start().await;
    let secrets = "/api/v1/namespaces/shop/secrets";
    let secret = json!({ "metadata": { "name": "s" }, "stringData": { "k": "word-of-the-secret" } });
    cloud.create(secrets, secret).await;
    let role = json!({ "metadata": { "name": "secrets" }, "rules": [
        { "apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch"] }] });
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/shop";
    cloud.create(&format!("{rbac}/roles"), role).await;
    let binding = json!({ "metadata": { "name": "secrets" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "secrets" },
        "subjects": [{ "kind": "ServiceAccount", "name": "reader", "namespace": "shop" }] });
    cloud.create(&format!("{rbac}/rolebindings"), binding).await;
    let mut node = Node::start(&cloud).await;
    let token = cloud.token("reader");
    let who = Who::Token(&token);
    let one = node.get(&who, &format!("{secrets}/s")).await;
    let value = one.body["data"]["k"].as_str().unwrap().to_owned();
    assert_eq!(node.get(&who, secrets).await.names(), ["s"]);
    cloud.cut();
    node.stop().await;
    for name in ["metaserver.db", "metaserver.db-wal"] {
        let bytes = std::fs::read(node.folder.path().join(name)).unwrap_or_default();
        assert!(!bytes.windows(value.len()).any(|window| window == value.as_bytes()), "{name}");
    }
    node.begin().await;
    assert_eq!(node.get(&who, &format!("{secrets}/s")).await.body, one.body);
    assert_eq!(node.get(&who, secrets).await.names(), ["s"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_of_any_age_is_answered_from_a_view_in_step_and_nothing_else_is() {
    let cloud = Cloud::start().await;
    for name in ["a", "b"] {
        cloud.config_map(name, "1").await;
    }
    let node = Node::start(&cloud).await;
    let (reader, stranger) = (cloud.token("reader"), cloud.token("stranger"));
    let (who, stranger) = (Who::Token(&reader), Who::Token(&stranger));
    let (list, one) = (format!("{MAPS}?resourceVersion=0"), format!("{MAPS}/a?resourceVersion=0"));
    let gone = format!("{MAPS}/none?resourceVersion=0");
    let asked = || cloud.count("configmaps");
    // Without a view the cloud answers.
    assert_eq!(node.get(&who, &list).await.names(), ["a", "b"]);
    let before = asked();
    assert_eq!(node.get(&who, &one).await.code, 200);
    assert_eq!(asked(), before + 1);

    let mut lines = node.watch(&who, &format!("{MAPS}?watch=1")).await;
    assert_eq!([lines.brief().await, lines.brief().await], ["ADDED a", "ADDED b"]);
    cloud.config_map("c", "1").await;
    assert_eq!(lines.brief().await, "ADDED c");
    let before = asked();
    let listed = node.get(&who, &list).await;
    assert_eq!(listed.names(), ["a", "b", "c"]);
    assert_eq!(node.get(&who, &format!("{list}&labelSelector=app%3Db")).await.names(), ["b"]);
    assert_eq!(node.get(&who, &one).await.body["metadata"]["name"], "a");
    assert_eq!(node.get(&who, &gone).await.code, 404);
    let reached = format!("{MAPS}?resourceVersion={}", listed.revision());
    assert_eq!(node.get(&who, &reached).await.names(), ["a", "b", "c"]);
    assert_eq!(asked(), before, "the view is in step");

    // The newest is wanted, or the caller is another.
    assert_eq!(node.get(&who, MAPS).await.names(), ["a", "b", "c"]);
    let exact = format!("{reached}&resourceVersionMatch=Exact");
    assert_eq!(node.get(&who, &exact).await.names(), ["a", "b", "c"]);
    assert_eq!(node.get(&stranger, &list).await.code, 403);
    assert_eq!(node.get(&stranger, &one).await.code, 403);
    assert_eq!(asked(), before + 4);

    // A right that the cloud refuses does not count any more.
    cloud.unbind("reader").await;
    while node.get(&who, MAPS).await.code != 403 {
        tokio::task::yield_now().await;
    }
    assert_eq!(node.get(&who, &list).await.code, 403);
    assert_eq!(node.get(&who, &one).await.code, 403);
}
