//! Admission webhooks: who is asked, what, and what becomes of the answer.

use http_body_util::Full;
use serde_json::{Value, json};

use crate::client::{MAPS, Server, Who, config_map};
use crate::hook::{Hook, MUTATING, Said, VALIDATING, configure, patched, rules};

const PODS: &str = "/api/v1/namespaces/default/pods";

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "x"}]}})
}

fn at<'a>(asked: &'a [(String, Value)], field: &str) -> Vec<&'a str> {
    asked.iter().map(|(_, request)| request[field].as_str().unwrap_or_default()).collect()
}

#[tokio::test]
async fn a_webhook_is_told_what_is_asked_for_by_whom_and_about_which_object() {
    let (server, hook) = (Server::start().await, Hook::lenient().await);
    let all = json!({"rules": rules(&["*"], &["configmaps", "pods", "pods/*"])});
    configure(&server, VALIDATING, "all", &[hook.at("all", "/v", all)]).await;
    server.create(MAPS, config_map("a")).await;
    let asked = hook.asked();
    assert_eq!(asked.len(), 1);
    let (path, request) = &asked[0];
    assert_eq!(path, "/v?timeout=5s");
    let kind = json!({"group": "", "version": "v1", "kind": "ConfigMap"});
    let resource = json!({"group": "", "version": "v1", "resource": "configmaps"});
    assert_eq!((&request["kind"], &request["requestKind"]), (&kind, &kind));
    assert_eq!((&request["resource"], &request["requestResource"]), (&resource, &resource));
    assert_eq!((&request["name"], &request["namespace"]), (&json!("a"), &json!("default")));
    assert_eq!((&request["operation"], &request["dryRun"]), (&json!("CREATE"), &json!(false)));
    assert_eq!(request["userInfo"]["username"], "kubernetes-admin");
    assert!(request["userInfo"]["groups"].as_array().unwrap().contains(&json!("system:masters")));
    assert_eq!(
        (&request["object"]["kind"], &request["object"]["data"]["k"]),
        (&json!("ConfigMap"), &json!("v"))
    );
    assert!(request["oldObject"].is_null() && request["subResource"].is_null());
    assert_eq!(request["options"]["kind"], "CreateOptions");

    let path = format!("{MAPS}/a");
    server.patch(&path, "merge-patch+json", &json!({"data": {"k": "w"}})).await;
    server.delete(&path, &json!({"gracePeriodSeconds": 0})).await;
    let asked = hook.asked();
    assert_eq!(at(&asked, "operation"), ["UPDATE", "DELETE"]);
    let (update, delete) = (&asked[0].1, &asked[1].1);
    assert_eq!(
        (&update["oldObject"]["data"]["k"], &update["object"]["data"]["k"]),
        (&json!("v"), &json!("w"))
    );
    assert_eq!((&delete["object"], &delete["oldObject"]["data"]["k"]), (&Value::Null, &json!("w")));
    assert_eq!(
        (&update["options"]["kind"], &delete["options"]["gracePeriodSeconds"]),
        (&json!("UpdateOptions"), &json!(0))
    );

    server.create(PODS, pod("p")).await;
    let status = json!({"status": {"phase": "Running"}});
    server.patch(&format!("{PODS}/p/status"), "merge-patch+json", &status).await;
    let binding = json!({"target": {"name": "n1"}});
    assert_eq!(server.post(&format!("{PODS}/p/binding"), &binding).await.0, 201);
    let exec = format!("{PODS}/p/exec?command=ls&command=-l&stdout=true&container=c");
    assert_eq!(server.get(&exec).await.0, 503, "there is no such node");
    assert_eq!(server.post(&format!("{PODS}/p/eviction"), &json!({"metadata": {"name": "p"}})).await.0, 201);
    let asked = hook.asked();
    assert_eq!(at(&asked, "operation"), ["CREATE", "UPDATE", "CREATE", "CONNECT", "CREATE"]);
    assert_eq!(at(&asked, "subResource"), ["", "status", "binding", "exec", "eviction"]);
    let kinds: Vec<&Value> = asked.iter().map(|(_, request)| &request["kind"]["kind"]).collect();
    assert_eq!(kinds, ["Pod", "Pod", "Binding", "PodExecOptions", "Eviction"]);
    assert_eq!(asked[3].1["object"]["command"], json!(["ls", "-l"]));
    assert_eq!(asked[4].1["kind"]["group"], "policy");
    server.stop().await;
}

#[tokio::test]
async fn a_denial_is_told_in_kubernetes_words_and_nothing_is_stored() {
    let server = Server::start().await;
    let hook = Hook::start(|path, _| {
        let status = match path {
            "/no" => json!({"code": 403, "reason": "Forbidden", "message": "not on a Friday"}),
            _ => Value::Null,
        };
        Said::Response(json!({"allowed": false, "status": status, "warnings": ["it is Friday"]}))
    })
    .await;
    configure(&server, VALIDATING, "no", &[hook.at("no", "/no", json!({}))]).await;
    let (code, status) = server.post(MAPS, &config_map("a")).await;
    let told = "admission webhook \"no.example.com\" denied the request: not on a Friday";
    assert_eq!((code, &status["message"], &status["reason"]), (403, &json!(told), &json!("Forbidden")));
    assert_eq!(server.get(&format!("{MAPS}/a")).await.0, 404);
    let root = format!("{MAPS}/kube-root-ca.crt");
    assert_eq!(server.patch(&root, "merge-patch+json", &json!({"data": {"x": "y"}})).await.0, 403);
    assert_eq!(server.delete(&root, &Value::Null).await.0, 403);
    let (code, answer) = server.get(&root).await;
    assert_eq!((code, &answer["data"]["x"]), (200, &Value::Null));

    // A mutating webhook refuses as well; without words of its own it is 400.
    configure(&server, MUTATING, "silent", &[hook.at("silent", "/silent", json!({}))]).await;
    let (code, status) = server.post(MAPS, &config_map("a")).await;
    let told = "admission webhook \"silent.example.com\" denied the request without explanation";
    assert_eq!((code, &status["message"]), (400, &json!(told)));

    // What the server makes itself is not asked about.
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}});
    server.create("/api/v1/namespaces", namespace).await;
    assert_eq!(server.get("/api/v1/namespaces/other/configmaps/kube-root-ca.crt").await.0, 200);
    for (path, name) in [(MUTATING, "silent"), (VALIDATING, "no")] {
        assert_eq!(server.delete(&format!("{path}/{name}"), &Value::Null).await.0, 200);
    }
    assert_eq!(server.post(MAPS, &config_map("a")).await.0, 201, "nobody is asked any more");
    server.stop().await;
}

#[tokio::test]
async fn patches_are_applied_one_after_the_other_and_only_to_what_a_request_may_change() {
    let server = Server::start().await;
    let hook = Hook::start(|path, request| match path {
        "/first" => patched(&json!([{"op": "add", "path": "/data/first", "value": "1"}])),
        "/second" => {
            let seen = request["object"]["data"]["first"].clone();
            patched(&json!([{"op": "add", "path": "/data/second", "value": seen}]))
        }
        "/pod" => patched(&json!([
            {"op": "add", "path": "/metadata/labels", "value": {"by": "hook"}},
            {"op": "replace", "path": "/metadata/uid", "value": "mine"},
            {"op": "add", "path": "/status", "value": {"phase": "Running"}},
            {"op": "add", "path": "/spec/containers/-", "value": {"name": "side", "image": "y"}}
        ])),
        "/bad" => patched(&json!([{"op": "remove", "path": "/none"}])),
        _ => patched(&json!([{"op": "replace", "path": "/metadata/namespace", "value": "kube-system"}])),
    })
    .await;
    // Configurations are asked by name, not by age.
    configure(&server, MUTATING, "b", &[hook.at("b", "/second", json!({}))]).await;
    configure(&server, MUTATING, "a", &[hook.at("a", "/first", json!({}))]).await;
    let made = server.create(MAPS, config_map("a")).await;
    assert_eq!(made["data"], json!({"k": "v", "first": "1", "second": "1"}));
    let stored = server.get(&format!("{MAPS}/a")).await.1;
    assert_eq!(stored["data"], made["data"]);

    let pods = json!({"rules": rules(&["CREATE"], &["pods"])});
    configure(&server, MUTATING, "pods", &[hook.at("pods", "/pod", pods)]).await;
    let made = server.create(PODS, pod("p")).await;
    assert_eq!(
        (&made["metadata"]["labels"]["by"], &made["status"]["phase"]),
        (&json!("hook"), &json!("Pending"))
    );
    assert_ne!(made["metadata"]["uid"], "mine");
    let containers = made["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 2);
    assert_eq!(containers[1]["imagePullPolicy"], "Always", "defaults count for what a webhook adds");
    let token = &containers[0]["volumeMounts"];
    assert_eq!(
        (token, made["spec"]["volumes"].as_array().unwrap().len()),
        (&containers[1]["volumeMounts"], 1)
    );

    for (name, path, told) in [("c", "/bad", "operation '/0'"), ("d", "/moves", "namespace")] {
        configure(&server, MUTATING, name, &[hook.at(name, path, json!({}))]).await;
        let (code, status) = server.post(MAPS, &config_map("b")).await;
        assert!(code >= 400 && status["message"].as_str().unwrap().contains(told), "{status}");
        server.delete(&format!("{MUTATING}/{name}"), &Value::Null).await;
    }
    let delete = json!({"rules": rules(&["DELETE"], &["configmaps"])});
    configure(&server, MUTATING, "e", &[hook.at("e", "/first", delete)]).await;
    let (code, status) = server.delete(&format!("{MAPS}/a"), &Value::Null).await;
    assert_eq!(code, 500, "there is no object to change: {status}");
    server.stop().await;
}

#[tokio::test]
async fn a_webhook_that_fails_refuses_or_is_passed_over_as_its_configuration_says() {
    let server = Server::start().await;
    let hook = Hook::start(|path, _| match path {
        "/silent" => Said::Nothing,
        "/error" => Said::Text(500, "out of order".to_owned()),
        "/noise" => Said::Text(200, "noise".to_owned()),
        "/long" => Said::Text(200, " ".repeat(4 * 1024 * 1024)),
        "/other" => Said::Response(json!({"uid": "another", "allowed": true})),
        _ => patched(&json!([])),
    })
    .await;
    let stranger = Hook::lenient().await;
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let to = |url: String, ca: &str| json!({"clientConfig": {"url": url, "caBundle": ca}});
    let service =
        json!({"clientConfig": {"caBundle": hook.ca, "service": {"namespace": "system", "name": "none"}}});
    for (path, more, told) in [
        ("/silent", json!({"timeoutSeconds": 1}), "no answer within 1s"),
        ("/error", json!({}), "500 Internal Server Error: out of order"),
        ("/noise", json!({}), "not JSON"),
        ("/long", json!({}), "longer than 3145728 bytes"),
        ("/other", json!({}), "expected response.uid="),
        ("/patch", json!({}), "validating webhooks may not return response.patch"),
        ("/", to(format!("https://{gone}"), &hook.ca), "connecting to"),
        ("/", to(format!("https://{}", hook.address), &stranger.ca), "TLS with"),
        ("/", to(format!("https://localhost:{}", hook.address.port()), &hook.ca), "TLS with"),
        ("/", to(format!("https://{}", hook.address), ""), "caBundle is empty"),
        ("/", service, "services \"none\" not found"),
    ] {
        configure(&server, VALIDATING, "fails", &[hook.at("fails", path, more.clone())]).await;
        let (code, status) = server.post(MAPS, &config_map("a")).await;
        let message = status["message"].as_str().unwrap();
        assert_eq!((code, &status["reason"]), (500, &json!("InternalError")), "{message}");
        let begin = "Internal error occurred: failed calling webhook \"fails.example.com\": ";
        assert!(message.starts_with(begin) && message.contains(told), "{told}: {message}");
        server.delete(&format!("{VALIDATING}/fails"), &Value::Null).await;

        let mut open = hook.at("fails", path, more);
        open["failurePolicy"] = json!("Ignore");
        configure(&server, VALIDATING, "fails", &[open]).await;
        assert_eq!(server.post(MAPS, &config_map("a")).await.0, 201, "{told}");
        server.delete(&format!("{VALIDATING}/fails"), &Value::Null).await;
        server.delete(&format!("{MAPS}/a"), &Value::Null).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn selectors_say_which_namespaces_and_objects_are_asked_about() {
    let (server, hook) = (Server::start().await, Hook::lenient().await);
    let namespace = |name: &str, labels: Value| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    server.create("/api/v1/namespaces", namespace("watched", json!({"watch": "yes"}))).await;
    let watched = json!({"namespaceSelector": {"matchLabels": {"watch": "yes"}},
        "rules": rules(&["*"], &["configmaps", "namespaces", "nodes"])});
    configure(&server, VALIDATING, "namespaces", &[hook.at("namespaces", "/n", watched)]).await;
    server.create(MAPS, config_map("a")).await;
    server.create("/api/v1/namespaces/watched/configmaps", config_map("a")).await;
    // A Namespace counts by its own labels; what belongs to none is asked about.
    server.create("/api/v1/namespaces", namespace("plain", json!({}))).await;
    server.create("/api/v1/namespaces", namespace("new", json!({"watch": "yes"}))).await;
    server
        .create("/api/v1/nodes", json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}))
        .await;
    let asked = hook.asked();
    assert_eq!(at(&asked, "namespace"), ["watched", "new", ""]);
    server.delete(&format!("{VALIDATING}/namespaces"), &Value::Null).await;

    let labelled = json!({"objectSelector": {"matchExpressions": [{"key": "guard", "operator": "Exists"}]}});
    configure(&server, VALIDATING, "objects", &[hook.at("objects", "/o", labelled)]).await;
    let path = format!("{MAPS}/a");
    let label = |value: Value| json!({"metadata": {"labels": {"guard": value}}});
    for change in
        [json!({"data": {"k": "1"}}), label(json!("x")), json!({"data": {"k": "2"}}), label(Value::Null)]
    {
        assert_eq!(server.patch(&path, "merge-patch+json", &change).await.0, 200);
    }
    server.delete(&path, &Value::Null).await;
    assert_eq!(hook.asked().len(), 3, "the label is on the new object, on both, on the old one");
    server.delete(&format!("{VALIDATING}/objects"), &Value::Null).await;

    let everything = json!({"rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}]});
    configure(&server, VALIDATING, "everything", &[hook.at("everything", "/e", everything)]).await;
    assert_eq!(server.delete(&format!("{VALIDATING}/everything"), &Value::Null).await.0, 200);
    assert_eq!(hook.asked(), [], "configurations themselves are nobody's business");
    let cluster = json!({"rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"],
        "resources": ["*"], "scope": "Cluster"}]});
    configure(&server, VALIDATING, "cluster", &[hook.at("cluster", "/c", cluster)]).await;
    server.create(MAPS, config_map("b")).await;
    server.delete("/api/v1/nodes/n1", &Value::Null).await;
    assert_eq!(at(&hook.asked(), "name"), ["n1"]);
    server.stop().await;
}

#[tokio::test]
async fn a_webhook_is_asked_again_if_it_wants_that_and_another_changed_the_object_after_it() {
    let server = Server::start().await;
    let hook = Hook::start(|path, request| {
        let count = request["object"]["data"]["count"].as_str().unwrap_or("0").parse::<u32>().unwrap();
        match path {
            "/reads" => Said::Response(json!({"allowed": true})),
            _ if count < 5 => {
                let next = (count + 1).to_string();
                patched(&json!([{"op": "add", "path": "/data/count", "value": next}]))
            }
            _ => Said::Response(json!({"allowed": true})),
        }
    })
    .await;
    let again = json!({"reinvocationPolicy": "IfNeeded"});
    let hooks = [
        hook.at("one", "/reads", again.clone()),
        hook.at("two", "/reads", json!({})),
        hook.at("three", "/counts", again.clone()),
        hook.at("four", "/counts", json!({})),
    ];
    configure(&server, MUTATING, "a", &hooks).await;
    let made = server.create(MAPS, config_map("a")).await;
    let asked = hook.asked();
    let asked: Vec<&str> = asked.iter().map(|(path, _)| path.split('?').next().unwrap()).collect();
    assert_eq!(asked, ["/reads", "/reads", "/counts", "/counts", "/reads", "/counts"]);
    assert_eq!(made["data"]["count"], "3");
    server.stop().await;
}

#[tokio::test]
async fn a_dry_run_is_told_to_webhooks_and_warnings_are_told_to_the_client() {
    let server = Server::start().await;
    let hook =
        Hook::start(|_, _| Said::Response(json!({"allowed": true, "warnings": ["mind the \"gap\""]}))).await;
    configure(&server, VALIDATING, "warns", &[hook.at("warns", "/", json!({}))]).await;
    let request =
        http::Request::post(format!("{MAPS}?dryRun=All")).header("content-type", "application/json");
    let request = request.body(Full::from(config_map("a").to_string())).unwrap();
    let answer = server.send(Who::Admin, request).await;
    assert_eq!(answer.status(), 201);
    assert_eq!(answer.headers()["warning"], "299 - \"mind the \\\"gap\\\"\"");
    let asked = hook.asked();
    assert_eq!((&asked[0].1["dryRun"], &asked[0].1["options"]["dryRun"]), (&json!(true), &json!(["All"])));
    assert_eq!(server.get(&format!("{MAPS}/a")).await.0, 404);
    server.create(MAPS, config_map("a")).await;
    server.delete(&format!("{MAPS}/a"), &json!({"dryRun": ["All"]})).await;
    assert_eq!(hook.asked()[1].1["dryRun"], true);
    server.stop().await;
}

#[tokio::test]
async fn a_service_is_asked_under_its_name_and_configurations_outlive_a_restart() {
    let (server, hook) = (Server::start().await, Hook::lenient().await);
    let service = json!({"clientConfig": {"caBundle": hook.ca,
        "service": {"namespace": "system", "name": "hooks", "path": "/s"}}});
    let made = configure(&server, VALIDATING, "service", &[hook.at("service", "", service)]).await;
    assert_eq!(made["webhooks"][0]["clientConfig"]["service"]["port"], 443);
    assert_eq!(made["metadata"]["generation"], 1);
    let (code, status) = server.post(MAPS, &config_map("a")).await;
    assert!(code == 500 && status["message"].as_str().unwrap().contains("\"hooks\" not found"), "{status}");
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "system"}});
    server.create("/api/v1/namespaces", namespace).await;
    let of = |kind: &str, more: Value| {
        let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "hooks"}});
        object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        object
    };
    let spec = json!({"spec": {"ports": [{"port": 443}]}});
    server.create("/api/v1/namespaces/system/services", of("Service", spec)).await;
    let subsets =
        json!({"subsets": [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"port": hook.address.port()}]}]});
    server.create("/api/v1/namespaces/system/endpoints", of("Endpoints", subsets)).await;
    let server = server.restart().await;
    server.create(MAPS, config_map("a")).await;
    assert_eq!(hook.asked()[0].0, "/s?timeout=5s");
    server.stop().await;
}

#[tokio::test]
async fn a_configuration_that_cannot_work_is_refused() {
    let (server, hook) = (Server::start().await, Hook::lenient().await);
    let plain = json!({"clientConfig": {"url": "http://h"}});
    let noise = json!({"clientConfig": {"url": "https://h", "caBundle": "bm9pc2U="}});
    let conditions = json!({"matchConditions": [{"name": "a", "expression": "1"}]});
    for (more, field) in [
        (plain, "webhooks[0].clientConfig.url"),
        (noise, "webhooks[0].clientConfig.caBundle"),
        (conditions, "webhooks[0].matchConditions[0].expression"),
    ] {
        let configuration = json!({"apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration", "metadata": {"name": "a"},
            "webhooks": [hook.at("a", "/", more)]});
        let (code, status) = server.post(VALIDATING, &configuration).await;
        assert_eq!((code, &status["details"]["causes"][0]["field"]), (422, &json!(field)), "{status}");
    }
    server.stop().await;
}

#[tokio::test]
async fn another_version_of_a_resource_is_told_and_changed_in_the_version_the_rules_name() {
    let server = Server::start().await;
    let hook = Hook::start(|_, request| {
        let field = if request["kind"]["kind"] == "Event" { "/message" } else { "/spec/m" };
        patched(&json!([{"op": "add", "path": field, "value": "from the hook"}]))
    })
    .await;
    server
        .create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crate::objects::definition())
        .await;
    let rule = |group: &str, resource: &str| json!([{"operations": ["CREATE", "UPDATE"], "apiGroups": [group], "apiVersions": ["v1"], "resources": [resource]}]);
    let things = json!({"rules": rule("demo.io", "things")});
    let mut exact = things.clone();
    exact["matchPolicy"] = json!("Exact");
    let events = json!({"rules": rule("", "events")});
    let hooks =
        [hook.at("any", "/any", things), hook.at("exact", "/exact", exact), hook.at("events", "/e", events)];
    configure(&server, MUTATING, "a", &hooks).await;
    let thing = json!({"apiVersion": "demo.io/v1beta1", "kind": "Thing", "metadata": {"name": "t"}, "spec": {"n": 1}});
    let path = "/apis/demo.io/v1beta1/namespaces/default/things";
    let made = server.create(path, thing).await;
    assert_eq!(
        (&made["apiVersion"], &made["spec"]["m"]),
        (&json!("demo.io/v1beta1"), &json!("from the hook"))
    );
    let asked = hook.asked();
    assert_eq!(asked.len(), 1, "the exact one is about another version");
    let request = &asked[0].1;
    assert_eq!(
        (&request["kind"]["version"], &request["requestKind"]["version"], &request["object"]["apiVersion"]),
        (&json!("v1"), &json!("v1beta1"), &json!("demo.io/v1"))
    );
    let changed = json!({"spec": {"m": "mine"}});
    let (code, updated) = server.patch(&format!("{path}/t"), "merge-patch+json", &changed).await;
    assert_eq!((code, &updated["spec"]["m"]), (200, &json!("from the hook")));
    hook.asked();

    let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"}, "note": "mine",
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"}});
    let made = server.create("/apis/events.k8s.io/v1/namespaces/default/events", event).await;
    assert_eq!(made["note"], "from the hook");
    assert_eq!(hook.asked()[0].1["object"]["involvedObject"]["name"], "p");
    server.stop().await;
}

#[tokio::test]
async fn each_object_of_a_collection_that_is_deleted_is_asked_about() {
    let (server, hook) = (Server::start().await, Hook::lenient().await);
    for name in ["a", "b"] {
        let mut map = config_map(name);
        map["metadata"]["labels"] = json!({"of": "two"});
        server.create(MAPS, map).await;
    }
    configure(&server, VALIDATING, "all", &[hook.at("all", "/", json!({}))]).await;
    let (code, _) = server.delete(&format!("{MAPS}?labelSelector=of%3Dtwo"), &Value::Null).await;
    assert_eq!(code, 200);
    assert_eq!(at(&hook.asked(), "name"), ["a", "b"]);
    server.stop().await;
}
