//! What a case stands on: its namespace, its accounts, its objects; and that all of it goes away again.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};

use crate::case::{Account, Case};
use crate::client::{Answer, Client, DEADLINE, Who};
use crate::words::Words;

/// Between two looks at something that takes a while.
const PAUSE: Duration = Duration::from_millis(50);

/// Kinds without namespaces.
const CLUSTER: [&str; 19] = [
    "Namespace",
    "Node",
    "PersistentVolume",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "PriorityClass",
    "StorageClass",
    "CSIDriver",
    "RuntimeClass",
    "IngressClass",
    "CertificateSigningRequest",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
    "MutatingWebhookConfiguration",
    "APIService",
];

pub(crate) struct Ground {
    pub client: Client,
    pub words: Words,
    /// Nothing is waited for long.
    pub hurry: bool,
    /// Paths of what was made, in that order.
    made: Vec<String>,
    finalizers: bool,
    /// There is a namespace.
    namespace: bool,
}

impl Ground {
    pub(crate) fn new(client: Client, case: &Case) -> Ground {
        let mut words = Words::default();
        let id = uuid::Uuid::new_v4().simple().to_string();
        words.set("id", format!("c{}", &id[..10]));
        words.set("ns", format!("conformance-{}", &id[..10]));
        let finalizers = told(case).contains("finalizers");
        Ground { client, words, hurry: false, made: Vec::new(), finalizers, namespace: false }
    }

    /// Makes the namespace, the accounts and the given objects, as far as the case has any.
    pub(crate) async fn prepare(&mut self, case: &Case) -> Result<()> {
        let told = told(case);
        let needs = ["$ns", "${ns}"].iter().any(|word| told.contains(word));
        if needs || !case.accounts.is_empty() || case.given.iter().any(namespaced) {
            let name = self.fill("$ns");
            self.create("/api/v1/namespaces", &json!({ "metadata": { "name": name } })).await?;
            self.namespace = true;
            if told.contains("/pods") || told.contains("\"Pod\"") || told.contains("/serviceaccounts/default")
            {
                let path = self.fill("/api/v1/namespaces/$ns/serviceaccounts/default");
                self.until(&path, |answer| answer.code == 200).await?;
            }
        }
        for (name, account) in &case.accounts {
            self.account(name, account).await.with_context(|| format!("account {name}"))?;
        }
        for object in &case.given {
            let object = self.words.fill_value(object);
            self.give(&object).await?;
        }
        Ok(())
    }

    fn fill(&self, text: &str) -> String {
        self.words.fill(text)
    }

    async fn give(&mut self, object: &Value) -> Result<()> {
        let path = collection(object, &self.fill("$ns"));
        self.create(&path, object).await?;
        if object["kind"] == "CustomResourceDefinition" {
            self.established(object).await?;
        }
        Ok(())
    }

    /// Until all versions of a definition are served.
    async fn established(&mut self, definition: &Value) -> Result<()> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (group, plural) =
            (text(&definition["spec"]["group"]), text(&definition["spec"]["names"]["plural"]));
        for version in definition["spec"]["versions"].as_array().into_iter().flatten() {
            if version["served"] == true {
                let path = format!("/apis/{group}/{}/{plural}", text(&version["name"]));
                self.until(&path, |answer| answer.code == 200).await?;
                let path = format!("/apis/{group}/{}", text(&version["name"]));
                self.until(&path, |answer| answer.code == 200).await?;
            }
        }
        Ok(())
    }

    /// A service account, what it may do, and a token of it; what it may do is known to the server when this returns.
    async fn account(&mut self, name: &str, account: &Account) -> Result<()> {
        let accounts = self.fill("/api/v1/namespaces/$ns/serviceaccounts");
        self.create(&accounts, &json!({ "metadata": { "name": name } })).await?;
        let subject = json!([{ "kind": "ServiceAccount", "name": name, "namespace": self.fill("$ns") }]);
        let rbac = "/apis/rbac.authorization.k8s.io/v1";
        for (rules, kind, path, own) in [
            (&account.rules, "Role", self.fill(&format!("{rbac}/namespaces/$ns/role")), name.to_owned()),
            (
                &account.cluster_rules,
                "ClusterRole",
                format!("{rbac}/clusterrole"),
                self.fill(&format!("$id-{name}")),
            ),
        ] {
            if rules.is_empty() {
                continue;
            }
            let rules: Vec<Value> = rules.iter().map(|rule| self.words.fill_value(rule)).collect();
            self.create(&format!("{path}s"), &json!({ "metadata": { "name": own }, "rules": rules })).await?;
            let role = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": own });
            let binding = json!({ "metadata": { "name": own }, "subjects": subject, "roleRef": role });
            self.create(&format!("{path}bindings"), &binding).await?;
            let namespace = if kind == "Role" { self.fill("$ns") } else { String::new() };
            for rule in &rules {
                self.allowed(name, &namespace, rule).await?;
            }
        }
        let path = format!("{accounts}/{name}/token");
        let answer = self.send("POST", &path, &json!({ "spec": { "audiences": [] } })).await?;
        let token = answer.value()["status"]["token"].as_str().unwrap_or_default().to_owned();
        if token.is_empty() {
            bail!("no token: {} {}", answer.code, answer.value());
        }
        self.words.set(&format!("token_{name}"), token);
        Ok(())
    }

    /// Until the server allows what a rule says.
    async fn allowed(&mut self, account: &str, namespace: &str, rule: &Value) -> Result<()> {
        let first = |key: &str| rule[key][0].as_str().unwrap_or_default().to_owned();
        let mut spec = json!({ "user": format!("system:serviceaccount:{}:{account}", self.fill("$ns")) });
        if rule["nonResourceURLs"].is_array() {
            spec["nonResourceAttributes"] =
                json!({ "verb": first("verbs"), "path": first("nonResourceURLs") });
        } else {
            let resource = first("resources");
            let (resource, subresource) = resource.split_once('/').unwrap_or((&resource, ""));
            spec["resourceAttributes"] = json!({
                "namespace": namespace, "verb": first("verbs"), "group": first("apiGroups"),
                "resource": resource, "subresource": subresource, "name": first("resourceNames"),
            });
        }
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let end = tokio::time::Instant::now() + DEADLINE;
        loop {
            let answer = self.send("POST", path, &json!({ "spec": spec })).await?;
            if answer.value()["status"]["allowed"] == true {
                return Ok(());
            }
            if tokio::time::Instant::now() > end {
                bail!("{spec} is not allowed: {}", answer.value());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn until(&mut self, path: &str, enough: impl Fn(&Answer) -> bool) -> Result<()> {
        let end = tokio::time::Instant::now() + DEADLINE;
        loop {
            let answer = self.send("GET", path, &Value::Null).await?;
            if enough(&answer) {
                return Ok(());
            }
            if tokio::time::Instant::now() > end {
                bail!("{path} still answers {} {}", answer.code, answer.value());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn create(&mut self, path: &str, object: &Value) -> Result<()> {
        let answer = self.send("POST", path, object).await?;
        if answer.code != 201 {
            bail!("POST {path} {object}: {} {}", answer.code, answer.value());
        }
        self.note("POST", path, &answer);
        Ok(())
    }

    async fn send(&mut self, method: &str, path: &str, body: &Value) -> Result<Answer> {
        self.send_as(method, path, "application/json", body).await
    }

    async fn send_as(&mut self, method: &str, path: &str, content: &str, body: &Value) -> Result<Answer> {
        let request = Request::builder().method(method).uri(path).header("content-type", content);
        let bytes = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        self.client.send(&Who::Admin, request.body(bytes)?, DEADLINE).await
    }

    /// Remembers what a request made.
    pub(crate) fn note(&mut self, method: &str, path: &str, answer: &Answer) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        if answer.code != 201 || query.contains("dryRun") {
            return;
        }
        let value = answer.value();
        let name = value["metadata"]["name"].as_str().unwrap_or_default();
        let path =
            if method == "POST" { format!("{}/{name}", path.trim_end_matches('/')) } else { path.to_owned() };
        if !name.is_empty() && !self.made.contains(&path) {
            self.made.push(path);
        }
    }

    /// Deletes what was made, but for the case's namespace. That it is gone is not waited for.
    pub(crate) async fn clear(&mut self) -> Result<()> {
        let own = self.fill("/namespaces/$ns");
        for path in std::mem::take(&mut self.made).into_iter().rev() {
            if self.finalizers {
                let none = json!({ "metadata": { "finalizers": null } });
                self.send_as("PATCH", &path, "application/merge-patch+json", &none).await?;
            }
            if !path.contains(&own) {
                self.send("DELETE", &path, &json!({ "propagationPolicy": "Background" })).await?;
            }
        }
        Ok(())
    }

    /// Deletes the case's namespace, if it has one. Controllers clear namespaces one by one: those of cases that are done would
    /// keep those waiting that cases look at.
    pub(crate) async fn leave(&mut self) -> Result<()> {
        if self.namespace {
            let path = self.fill("/api/v1/namespaces/$ns");
            self.send("DELETE", &path, &Value::Null).await?;
        }
        Ok(())
    }
}

/// The texts of a case that may name its namespace.
fn told(case: &Case) -> String {
    let mut told = String::new();
    for step in &case.steps {
        let texts = [&step.request, &step.watch, &step.who, &step.hex];
        texts.into_iter().flatten().for_each(|text| told.push_str(text));
        told.extend(step.headers.values().map(String::as_str));
        told.extend(step.body.iter().map(Value::to_string));
    }
    told.extend(case.given.iter().map(Value::to_string));
    told
}

fn namespaced(object: &Value) -> bool {
    object["kind"].as_str().is_some_and(|kind| !CLUSTER.contains(&kind))
}

/// The path to which an object is posted.
fn collection(object: &Value, namespace: &str) -> String {
    let version = object["apiVersion"].as_str().unwrap_or_default();
    let prefix = if version.contains('/') { "/apis/" } else { "/api/" };
    let kind = object["kind"].as_str().unwrap_or_default().to_ascii_lowercase();
    let plural = if kind == "endpoints" {
        kind
    } else if let Some(stem) = kind.strip_suffix('y').filter(|stem| !stem.ends_with(['a', 'e', 'o', 'u'])) {
        format!("{stem}ies")
    } else if kind.ends_with(['s', 'x', 'z']) || kind.ends_with("ch") {
        format!("{kind}es")
    } else {
        format!("{kind}s")
    };
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or(namespace);
    let within = if namespaced(object) { format!("/namespaces/{namespace}") } else { String::new() };
    format!("{prefix}{version}{within}/{plural}")
}
