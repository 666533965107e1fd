//! Rights by roles and bindings.

use http_body_util::{BodyExt as _, Full};
use pki::{Authority, Identity, Profile, Usage};
use serde_json::{Value, json};

use crate::client::{MAPS, Server, Who, config_map};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const REVIEWS: &str = "/apis/authorization.k8s.io/v1";
const JSON: &str = "application/json";

/// The token of a new service account of `default`.
async fn robot(server: &Server, name: &str) -> String {
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    server.create(accounts, json!({"metadata": {"name": name}})).await;
    let answer = server.create(&format!("{accounts}/{name}/token"), json!({"spec": {}})).await;
    answer["status"]["token"].as_str().unwrap().to_owned()
}

fn subject(name: &str) -> Value {
    json!([{"kind": "ServiceAccount", "name": name, "namespace": "default"}])
}

fn reference(kind: &str, name: &str) -> Value {
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name})
}

async fn bind(server: &Server, namespace: Option<&str>, role: (&str, &str), name: &str) -> Value {
    let path = match namespace {
        Some(namespace) => format!("{RBAC}/namespaces/{namespace}/rolebindings"),
        None => format!("{RBAC}/clusterrolebindings"),
    };
    let metadata = json!({"name": format!("{}-{name}", role.1.replace(':', "."))});
    let binding =
        json!({"metadata": metadata, "roleRef": reference(role.0, role.1), "subjects": subject(name)});
    server.create(&path, binding).await
}

async fn role(server: &Server, name: &str, rules: Value) {
    server.create(&format!("{RBAC}/clusterroles"), json!({"metadata": {"name": name}, "rules": rules})).await;
}

#[tokio::test]
async fn a_binding_gives_rights_at_once_and_its_end_takes_them_at_once() {
    let server = Server::start().await;
    let token = robot(&server, "robot").await;
    let list = async |path: &str| server.call(Who::Token(&token), "GET", path, "", "").await;
    let (code, status) = list(MAPS).await;
    let message = "configmaps is forbidden: User \"system:serviceaccount:default:robot\" cannot list resource \"configmaps\" in API group \"\" in the namespace \"default\"";
    assert_eq!((code, status["message"].as_str().unwrap()), (403, message));
    bind(&server, Some("default"), ("ClusterRole", "view"), "robot").await;
    assert_eq!(list(MAPS).await.0, 200);
    assert_eq!(list("/api/v1/namespaces/default").await.0, 200, "a namespace is in itself");
    for path in ["/api/v1/configmaps", "/api/v1/namespaces/kube-system/configmaps", "/api/v1/namespaces"] {
        assert_eq!(list(path).await.0, 403, "{path}");
    }
    assert_eq!(list("/api/v1/namespaces/default/secrets").await.0, 403, "view does not show secrets");
    let body = config_map("a").to_string();
    assert_eq!(server.call(Who::Token(&token), "POST", MAPS, JSON, &body).await.0, 403);
    server.delete(&format!("{RBAC}/namespaces/default/rolebindings/view-robot"), &Value::Null).await;
    assert_eq!(list(MAPS).await.0, 403);
    server.stop().await;
}

#[tokio::test]
async fn rights_hold_after_a_restart() {
    let server = Server::start().await;
    let token = robot(&server, "robot").await;
    bind(&server, None, ("ClusterRole", "view"), "robot").await;
    let server = server.restart().await;
    assert_eq!(server.call(Who::Token(&token), "GET", MAPS, "", "").await.0, 200);
    assert_eq!(server.call(Who::Token(&token), "DELETE", MAPS, "", "").await.0, 403);
    server.stop().await;
}

#[tokio::test]
async fn rights_about_names_cover_that_object_and_lists_of_it_alone() {
    let server = Server::start().await;
    let token = robot(&server, "robot").await;
    for name in ["a", "b"] {
        server.create(MAPS, config_map(name)).await;
    }
    let rules = json!([{"verbs": ["get", "list", "watch", "patch"], "apiGroups": [""], "resources": ["configmaps"],
        "resourceNames": ["a"]}]);
    role(&server, "one", rules).await;
    bind(&server, Some("default"), ("ClusterRole", "one"), "robot").await;
    let get = async |path: &str| server.call(Who::Token(&token), "GET", path, "", "").await.0;
    assert_eq!(get(&format!("{MAPS}/a")).await, 200);
    assert_eq!(get(&format!("{MAPS}/b")).await, 403);
    assert_eq!(get(MAPS).await, 403);
    assert_eq!(get(&format!("{MAPS}?fieldSelector=metadata.name%3Da")).await, 200);
    assert_eq!(get(&format!("{MAPS}?fieldSelector=metadata.name%3Db")).await, 403);
    // To apply what is not there is to make it.
    let apply = async |name: &str| {
        let path = format!("{MAPS}/{name}?fieldManager=t");
        let kind = "application/apply-patch+yaml";
        server.call(Who::Token(&token), "PATCH", &path, kind, &config_map(name).to_string()).await.0
    };
    assert_eq!(apply("a").await, 200);
    server.delete(&format!("{MAPS}/a"), &Value::Null).await;
    assert_eq!(apply("a").await, 403);
    server.stop().await;
}

#[tokio::test]
async fn aggregated_roles_follow_the_roles_they_are_made_of() {
    let server = Server::start().await;
    let rules = json!([{"verbs": ["get"], "apiGroups": ["acme.example"], "resources": ["rockets"]}]);
    let label = json!({"rbac.authorization.k8s.io/aggregate-to-view": "true"});
    let made = json!({"metadata": {"name": "rockets", "labels": label}, "rules": rules});
    server.create(&format!("{RBAC}/clusterroles"), made).await;
    for name in ["view", "edit", "admin"] {
        let mut tries = 0;
        loop {
            let (_, role) = server.get(&format!("{RBAC}/clusterroles/{name}")).await;
            if role["rules"].as_array().unwrap().contains(&rules[0]) {
                break;
            }
            tries += 1;
            assert!(tries < 500, "{name}: {role}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn nobody_grants_what_he_has_not() {
    let server = Server::start().await;
    let token = robot(&server, "robot").await;
    let rules = json!([
        {"verbs": ["*"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings", "clusterroles"]},
        {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]},
    ]);
    // Every verb would be escalate and bind too.
    let mut rules = rules;
    rules[0]["verbs"] = json!(["get", "create", "update", "patch"]);
    role(&server, "manager", rules).await;
    bind(&server, None, ("ClusterRole", "manager"), "robot").await;
    let post = async |path: &str, body: Value| {
        server.call(Who::Token(&token), "POST", &format!("{RBAC}/{path}"), JSON, &body.to_string()).await
    };
    let wish = |name: &str, verb: &str| json!({"metadata": {"name": name}, "rules": [{"verbs": [verb], "apiGroups": [""], "resources": ["pods"]}]});
    let roles = "namespaces/default/roles";
    assert_eq!(post(roles, wish("reader", "get")).await.0, 201);
    let (code, status) = post(roles, wish("killer", "delete")).await;
    let message = status["message"].as_str().unwrap();
    assert!(
        code == 403 && message.contains("is attempting to grant RBAC permissions not currently held"),
        "{message}"
    );
    let path = format!("{RBAC}/{roles}/reader");
    let patch = json!({"rules": wish("", "*")["rules"]}).to_string();
    let kind = "application/merge-patch+json";
    assert_eq!(server.call(Who::Token(&token), "PATCH", &path, kind, &patch).await.0, 403);
    let labels = json!({"metadata": {"labels": {"a": "b"}}}).to_string();
    assert_eq!(server.call(Who::Token(&token), "PATCH", &path, kind, &labels).await.0, 200);
    let all = json!({"metadata": {"name": "sum"}, "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"x": "y"}}]}});
    assert_eq!(post("clusterroles", all).await.0, 403);
    let binding = |role: &str| json!({"metadata": {"name": role}, "roleRef": reference("ClusterRole", role), "subjects": subject("robot")});
    let bindings = "namespaces/default/rolebindings";
    assert_eq!(post(bindings, binding("cluster-admin")).await.0, 403);
    assert_eq!(post(bindings, binding("nowhere")).await.0, 404);
    assert_eq!(post(bindings, binding("manager")).await.0, 201, "he has all of that");
    // Who may bind this one role may, though he has less.
    let rules = json!([{"verbs": ["bind"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "resourceNames": ["edit"]}]);
    role(&server, "binder", rules).await;
    bind(&server, Some("default"), ("ClusterRole", "binder"), "robot").await;
    assert_eq!(post(bindings, binding("edit")).await.0, 201);
    assert_eq!(post(bindings, binding("admin")).await.0, 403);
    server.stop().await;
}

#[tokio::test]
async fn roles_and_bindings_are_checked_and_a_binding_keeps_its_role() {
    let server = Server::start().await;
    let (code, status) = server
        .post(&format!("{RBAC}/clusterroles"), &json!({"metadata": {"name": "x"}, "rules": [{}]}))
        .await;
    assert_eq!((code, &status["reason"]), (422, &json!("Invalid")), "{status}");
    robot(&server, "robot").await;
    let binding = bind(&server, Some("default"), ("ClusterRole", "view"), "robot").await;
    let path = format!("{RBAC}/namespaces/default/rolebindings/view-robot");
    let other = json!({"roleRef": reference("ClusterRole", "edit")});
    let (code, status) = server.patch(&path, "merge-patch+json", &other).await;
    assert_eq!(code, 422);
    assert!(status["message"].as_str().unwrap().contains("cannot change roleRef"), "{status}");
    assert_eq!(binding["roleRef"]["name"], "view");
    server.stop().await;
}

#[tokio::test]
async fn reviews_answer_by_the_roles() {
    let server = Server::start().await;
    let token = robot(&server, "robot").await;
    bind(&server, Some("default"), ("ClusterRole", "view"), "robot").await;
    let ask = |verb: &str, resource: &str, namespace: &str| json!({"verb": verb, "resource": resource, "namespace": namespace});
    let user = "system:serviceaccount:default:robot";
    for (verb, resource, namespace, wanted) in [
        ("get", "pods", "default", true),
        ("get", "pods", "kube-system", false),
        ("get", "pods", "", false),
        ("delete", "pods", "default", false),
        ("get", "secrets", "default", false),
    ] {
        let attributes = ask(verb, resource, namespace);
        let own = json!({"spec": {"resourceAttributes": attributes}}).to_string();
        let path = format!("{REVIEWS}/selfsubjectaccessreviews");
        let (code, answer) = server.call(Who::Token(&token), "POST", &path, JSON, &own).await;
        assert_eq!((code, &answer["status"]["allowed"]), (201, &json!(wanted)), "{attributes}");
        let review = json!({"spec": {"user": user, "resourceAttributes": attributes}});
        let (code, answer) = server.post(&format!("{REVIEWS}/subjectaccessreviews"), &review).await;
        assert_eq!((code, &answer["status"]["allowed"]), (201, &json!(wanted)), "{attributes}");
    }
    let review = json!({"spec": {"user": "x", "groups": ["system:authenticated"],
        "nonResourceAttributes": {"verb": "get", "path": "/apis/apps"}}});
    let answer = server.create(&format!("{REVIEWS}/subjectaccessreviews"), review).await;
    let reason = "RBAC: allowed by ClusterRoleBinding \"system:discovery\" of ClusterRole \"system:discovery\" to Group \"system:authenticated\"";
    assert_eq!(answer["status"], json!({"allowed": true, "reason": reason}));
    for wrong in
        [json!({"spec": {"user": "x"}}), json!({"spec": {"resourceAttributes": ask("get", "pods", "")}})]
    {
        assert_eq!(server.post(&format!("{REVIEWS}/subjectaccessreviews"), &wrong).await.0, 422, "{wrong}");
    }
    let local = json!({"spec": {"user": user, "resourceAttributes": ask("get", "pods", "default")}});
    let path = |namespace: &str| format!("{REVIEWS}/namespaces/{namespace}/localsubjectaccessreviews");
    assert_eq!(server.create(&path("default"), local.clone()).await["status"]["allowed"], true);
    assert_eq!(server.post(&path("kube-system"), &local).await.0, 422);
    let rules = json!({"spec": {"namespace": "default"}}).to_string();
    let path = format!("{REVIEWS}/selfsubjectrulesreviews");
    let (_, answer) = server.call(Who::Token(&token), "POST", &path, JSON, &rules).await;
    let resources = answer["status"]["resourceRules"].as_array().unwrap();
    assert!(resources.iter().any(|rule| rule["resources"].as_array().unwrap().contains(&json!("pods"))));
    assert!(!answer["status"]["nonResourceRules"].as_array().unwrap().is_empty());
    server.stop().await;
}

#[tokio::test]
async fn impersonation_takes_a_right_about_each_thing() {
    let server = Server::start().await;
    let token = robot(&server, "robot").await;
    let rules = json!([
        {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"], "resourceNames": ["ann"]},
        {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["serviceaccounts"]},
        {"verbs": ["impersonate"], "apiGroups": ["authentication.k8s.io"], "resources": ["userextras/scopes"], "resourceNames": ["view"]},
    ]);
    role(&server, "guise", rules).await;
    bind(&server, None, ("ClusterRole", "guise"), "robot").await;
    let ask = async |headers: &[(&str, &str)]| {
        let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        let mut request = http::Request::post(path).header("content-type", JSON);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = server.send(Who::Token(&token), request.body(Full::from("{}")).unwrap()).await;
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (code, serde_json::from_slice::<Value>(&body).unwrap())
    };
    let ann = ("impersonate-user", "ann");
    assert_eq!(ask(&[ann]).await.0, 201);
    assert_eq!(ask(&[ann, ("impersonate-extra-scopes", "view")]).await.0, 201);
    assert_eq!(ask(&[ann, ("impersonate-extra-scopes", "all")]).await.0, 403);
    assert_eq!(ask(&[ann, ("impersonate-group", "system:masters")]).await.0, 403);
    assert_eq!(ask(&[ann, ("impersonate-uid", "1")]).await.0, 403);
    assert_eq!(ask(&[("impersonate-user", "bob")]).await.0, 403);
    let (code, answer) = ask(&[("impersonate-user", "system:serviceaccount:a:b")]).await;
    let groups = ["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"];
    assert_eq!((code, &answer["status"]["userInfo"]["groups"]), (201, &json!(groups)));
    server.stop().await;
}

#[tokio::test]
async fn approving_and_signing_a_request_takes_rights_about_its_signer() {
    let server = Server::start().await;
    let token = robot(&server, "robot").await;
    let group = json!(["certificates.k8s.io"]);
    let rules = json!([
        {"verbs": ["get", "list"], "apiGroups": group, "resources": ["certificatesigningrequests"]},
        {"verbs": ["update"], "apiGroups": group, "resources": ["certificatesigningrequests/approval", "certificatesigningrequests/status"]},
        {"verbs": ["approve"], "apiGroups": group, "resources": ["signers"], "resourceNames": ["acme.example/*", "b.example/one"]},
        {"verbs": ["sign"], "apiGroups": group, "resources": ["signers"], "resourceNames": ["b.example/one"]},
    ]);
    role(&server, "approver", rules).await;
    bind(&server, None, ("ClusterRole", "approver"), "robot").await;
    let requests = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let (_, pem) = pki::serving_request("e1", &["e1".to_owned()]).unwrap();
    let pem = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pem);
    for (name, signer, may_approve, may_sign) in [
        ("a", "acme.example/any", 200, 403),
        ("b", "b.example/one", 200, 200),
        ("c", "b.example/two", 403, 403),
    ] {
        let spec = json!({"signerName": signer, "request": pem, "usages": ["client auth"]});
        let mut made = server.create(requests, json!({"metadata": {"name": name}, "spec": spec})).await;
        made["status"] =
            json!({"conditions": [{"type": "Approved", "status": "True", "reason": "x", "message": "x"}]});
        let put = async |part: &str, body: &Value| {
            let path = format!("{requests}/{name}/{part}");
            server.call(Who::Token(&token), "PUT", &path, JSON, &body.to_string()).await.0
        };
        assert_eq!(put("approval", &made).await, may_approve, "{signer}");
        let (_, mut now) = server.get(&format!("{requests}/{name}")).await;
        now["status"]["certificate"] = json!("eA==");
        assert_eq!(put("status", &now).await, may_sign, "{signer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_is_set_up_has_the_rights_of_its_roles() {
    pki::install_provider();
    let server = Server::start().await;
    let ca = pki::files::load_identity(
        &server.folder.path().join("data/pki/ca.crt"),
        &server.folder.path().join("data/pki/ca.key"),
    )
    .unwrap();
    let authority = Authority::from_der(ca.certificate(), &ca.key_sec1().unwrap()).unwrap();
    let profile = Profile {
        common_name: "ann".to_owned(),
        organizations: vec!["ops".to_owned()],
        names: vec![],
        usage: Usage::Client,
        lifetime: pki::DAY,
    };
    let ann: Identity = authority.issue(&profile, daemon::clock::unix_seconds()).unwrap();
    let get = async || server.call(Who::Certificate(&ann), "GET", MAPS, "", "").await.0;
    assert_eq!(get().await, 403);
    let subjects = json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "ops"}]);
    let binding = json!({"metadata": {"name": "ops"}, "roleRef": reference("ClusterRole", "view"), "subjects": subjects});
    server.create(&format!("{RBAC}/clusterrolebindings"), binding).await;
    assert_eq!(get().await, 200);
    server.stop().await;
}
