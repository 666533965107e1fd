use apimachinery::yaml;
use serde_json::{Value, json};

use super::*;

fn installation() -> Installation {
    let mut installation = Installation::default();
    installation.cloud_core.modules.cloud_hub.advertise_address = vec!["203.0.113.5".to_owned()];
    installation
}

/// Every part that can be there.
fn full() -> Installation {
    let mut full = installation();
    let core = &mut full.cloud_core;
    core.modules.cloud_hub.quic.enable = true;
    core.modules.cloud_hub.common_port = 8443;
    core.service_monitor.enable = true;
    core.service_monitor.labels = json!({"release": "prometheus"});
    core.priority_class_name = "system-cluster-critical".to_owned();
    full
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    objects.iter().find(|object| object["kind"] == kind).unwrap()
}

/// The rules of a role, one line for each resource.
fn told(role: &Value) -> Vec<String> {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let mut lines = Vec::new();
    for rule in role["rules"].as_array().unwrap() {
        for resource in texts(&rule["resources"]) {
            let group = match texts(&rule["apiGroups"])[0].as_str() {
                "" => String::new(),
                group => format!("{group}/"),
            };
            let names = match texts(&rule["resourceNames"]).join(",") {
                names if names.is_empty() => String::new(),
                names => format!(" [{names}]"),
            };
            lines.push(format!("{group}{resource}{names}: {}", texts(&rule["verbs"]).join(" ")));
        }
    }
    lines
}

#[test]
fn the_roles_name_these_verbs_and_no_other() {
    let objects = objects(&installation());
    let roles: Vec<&Value> = objects.iter().filter(|object| object["kind"] == "Role").collect();
    assert_eq!(
        told(of_kind(&objects, "ClusterRole")),
        [
            "pods: create delete get list patch watch",
            "pods/status: patch update",
            "configmaps: get list watch",
            "secrets: get list watch",
            "nodes: create get list patch watch",
            "nodes/status: patch update",
            "serviceaccounts/token: create",
            "events: create get patch update",
            "persistentvolumeclaims: get",
            "persistentvolumes: get",
            "storage.k8s.io/volumeattachments: get",
            "node.k8s.io/runtimeclasses: get",
            "certificates.k8s.io/certificatesigningrequests: create get list watch",
            "certificates.k8s.io/certificatesigningrequests/approval: update",
            "certificates.k8s.io/signers [kubernetes.io/kubelet-serving]: approve",
            "authentication.k8s.io/selfsubjectreviews: create",
            "authentication.k8s.io/tokenreviews: create",
            "authorization.k8s.io/subjectaccessreviews: create",
            "devices.kubeedge.io/devicemodels: get list watch",
            "devices.kubeedge.io/devices: get list watch",
            "devices.kubeedge.io/devicestatuses: create get list patch",
            "reliablesyncs.kubeedge.io/clusterobjectsyncs: create delete list watch",
            "reliablesyncs.kubeedge.io/objectsyncs: create delete list watch",
            "reliablesyncs.kubeedge.io/clusterobjectsyncs/status: patch",
            "reliablesyncs.kubeedge.io/objectsyncs/status: patch",
            "apiextensions.k8s.io/customresourcedefinitions [clusterobjectsyncs.reliablesyncs.kubeedge.io,\
             devicemodels.devices.kubeedge.io,devices.devices.kubeedge.io,devicestatuses.devices.kubeedge.io,\
             objectsyncs.reliablesyncs.kubeedge.io]: get",
            "admissionregistration.k8s.io/mutatingwebhookconfigurations [cloudcore-webhooks]: get update",
            "admissionregistration.k8s.io/validatingwebhookconfigurations [cloudcore-webhooks]: get update",
            "namespaces [kubeedge]: get",
        ]
    );
    assert_eq!(roles.len(), 2);
    assert_eq!(roles[0]["metadata"]["namespace"], NAMESPACE);
    assert_eq!(
        told(roles[0]),
        [
            "secrets: create",
            "secrets [casecret,cloudcoresecret,tokensecret]: update",
            "configmaps: create delete",
            "configmaps [refused-nodes]: patch",
            "coordination.k8s.io/leases: create delete get list update",
        ]
    );
    assert_eq!(roles[1]["metadata"]["namespace"], "kube-node-lease");
    assert_eq!(told(roles[1]), ["coordination.k8s.io/leases: create get list update"]);
}

#[test]
fn no_rule_is_about_everything_and_each_says_why() {
    for rule in CLUSTER.iter().chain(OWN).chain(LEASES) {
        let words = rule.resources.iter().chain(rule.verbs).chain(rule.names).chain([&rule.group]);
        assert!(words.clone().all(|word| !word.contains('*')), "{rule:?}");
        let is_sorted = |words: &[&str]| words.windows(2).all(|pair| pair[0] < pair[1]);
        assert!(is_sorted(rule.verbs) && is_sorted(rule.resources), "{rule:?}");
        assert!(rule.why.ends_with('.') && !rule.verbs.is_empty() && !rule.resources.is_empty(), "{rule:?}");
    }
    let definitions: Vec<&str> = api::crds::ALL.iter().map(|(name, _)| *name).collect();
    let known = CLUSTER.iter().find(|rule| rule.resources == ["customresourcedefinitions"]).unwrap();
    assert_eq!(known.names.len(), definitions.len());
    assert!(definitions.iter().all(|name| known.names.contains(name)));
    let mut without = installation();
    without.cloud_core.modules.cloud_stream.enable = false;
    without.cloud_core.modules.webhooks.enable = false;
    let objects = objects(&without);
    let rules = told(of_kind(&objects, "ClusterRole"));
    let words = ["tokenreviews", "subjectaccess", "webhookconfigurations"];
    assert!(!rules.iter().any(|rule| words.iter().any(|word| rule.contains(word))));
    let names = objects.iter().map(|object| &object["metadata"]["name"]);
    assert!(names.into_iter().all(|name| *name != "cloudcore-webhooks"));
}

#[test]
fn the_pods_have_no_rights_on_their_machine() {
    let objects = objects(&full());
    let pod = &of_kind(&objects, "Deployment")["spec"]["template"]["spec"];
    for field in ["hostNetwork", "hostPID", "hostIPC", "hostUsers"] {
        assert!(pod[field].is_null(), "{field}");
    }
    assert_eq!(
        (&pod["enableServiceLinks"], &pod["securityContext"]["runAsNonRoot"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    let [container] = &pod["containers"].as_array().unwrap()[..] else { panic!("{pod}") };
    let context = json!({"allowPrivilegeEscalation": false, "privileged": false, "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]}});
    assert_eq!(container["securityContext"], context);
    assert!(container["ports"].as_array().unwrap().iter().all(|port| port["hostPort"].is_null()));
    assert!(pod["volumes"].as_array().unwrap().iter().all(|volume| volume["configMap"].is_object()), "{pod}");
    let strategy = &of_kind(&objects, "Deployment")["spec"]["strategy"];
    assert_eq!(strategy["rollingUpdate"]["maxUnavailable"], 0);
}

#[test]
fn every_port_of_a_service_is_one_of_the_pod_and_is_let_in() {
    let objects = objects(&full());
    let container = &of_kind(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0];
    let mut ports: Vec<(String, u64)> = Vec::new();
    for port in container["ports"].as_array().unwrap() {
        ports.push((port["name"].as_str().unwrap().to_owned(), port["containerPort"].as_u64().unwrap()));
    }
    let named = |name: &str| ports.iter().find(|(of, _)| of == name).map(|(_, port)| *port).unwrap();
    let policy = &of_kind(&objects, "NetworkPolicy")["spec"]["ingress"];
    let open: Vec<u64> =
        policy[0]["ports"].as_array().unwrap().iter().map(|port| port["port"].as_u64().unwrap()).collect();
    let services = objects.iter().filter(|object| object["kind"] == "Service");
    let mut seen = 0;
    for port in services.flat_map(|service| service["spec"]["ports"].as_array().unwrap()) {
        let target = named(port["targetPort"].as_str().unwrap());
        assert!(open.contains(&target) || target == 9091, "{port}");
        assert!(target == port["port"].as_u64().unwrap() || port["name"] == "common", "{port}");
        assert!(port["name"].as_str().unwrap().len() <= 15, "{port}");
        seen += 1;
    }
    assert_eq!((seen, ports.len()), (8, 8));
    assert!(!open.contains(&9091));
}

#[test]
fn the_plain_text_is_the_objects_and_the_configuration_is_read() {
    for installation in [installation(), full()] {
        let parsed = yaml::parse_all(&plain(&installation, false)).unwrap();
        assert_eq!(parsed, objects(&installation));
        let all = yaml::parse_all(&plain(&installation, true)).unwrap();
        assert_eq!(all.len(), parsed.len() + api::crds::ALL.len());
        assert_eq!(
            (&all[0]["kind"], &all[1]["kind"]),
            (&json!("Namespace"), &json!("CustomResourceDefinition"))
        );
        let text = of_kind(&parsed, "ConfigMap")["data"]["cloudcore.yaml"].as_str().unwrap();
        let config = yaml::parse(text).unwrap();
        assert_eq!(config["modules"]["cloudHub"]["advertiseAddress"], json!(["203.0.113.5"]));
        assert_eq!(config["modules"]["cloudHub"]["quic"]["port"], 10001);
        assert_eq!(config["commonConfig"]["monitorServer"]["bindAddress"], "0.0.0.0:9091");
        assert!(config["kubeAPIConfig"].is_null(), "the service account of the pod is used");
        assert!(config["modules"]["standalone"].is_null());
    }
}

#[test]
fn what_is_no_default_is_told_to_the_program_and_what_cannot_work_is_refused() {
    let mut installation = installation();
    installation.cloud_core.modules.cloud_hub.refuse_deleted_nodes = false;
    let objects = objects(&installation);
    let text = of_kind(&objects, "ConfigMap")["data"]["cloudcore.yaml"].as_str().unwrap();
    assert_eq!(yaml::parse(text).unwrap()["modules"]["cloudHub"]["refuseDeletedNodes"], false);
    assert!(problems(&installation).is_empty());
    installation.cloud_core.modules.cloud_hub.advertise_address = vec![String::new()];
    installation.cloud_core.modules.standalone.enable = true;
    installation.cloud_core.replica_count = 0;
    assert_eq!(problems(&installation).len(), 3);
}

/// The object as Kubernetes' own type has it: a field that the type does not know is gone.
fn typed<T: serde::Serialize + serde::de::DeserializeOwned>(object: &Value) -> Value {
    json!(serde_json::from_value::<T>(object.clone()).unwrap())
}

/// Empty maps and lists are as good as absent.
fn filled(value: &Value) -> Value {
    let is_empty = |value: &Value| {
        value.as_object().is_some_and(serde_json::Map::is_empty)
            || value.as_array().is_some_and(Vec::is_empty)
    };
    match value {
        Value::Object(fields) => fields
            .iter()
            // Only a selector of everything is written as an empty map on purpose.
            .filter(|(key, value)| !is_empty(value) || *key == "namespaceSelector")
            .map(|(key, value)| (key.clone(), filled(value)))
            .collect(),
        Value::Array(items) => items.iter().map(filled).collect(),
        other => other.clone(),
    }
}

#[test]
fn every_field_is_one_that_kubernetes_has() {
    use k8s_openapi::api::{admissionregistration, apps, core, networking, policy, rbac};
    for object in objects(&full()) {
        let known = match object["kind"].as_str().unwrap() {
            "Namespace" => typed::<core::v1::Namespace>(&object),
            "ServiceAccount" => typed::<core::v1::ServiceAccount>(&object),
            "ConfigMap" => typed::<core::v1::ConfigMap>(&object),
            "Service" => typed::<core::v1::Service>(&object),
            "Deployment" => typed::<apps::v1::Deployment>(&object),
            "PodDisruptionBudget" => typed::<policy::v1::PodDisruptionBudget>(&object),
            "NetworkPolicy" => typed::<networking::v1::NetworkPolicy>(&object),
            "Role" => typed::<rbac::v1::Role>(&object),
            "RoleBinding" => typed::<rbac::v1::RoleBinding>(&object),
            "ClusterRole" => typed::<rbac::v1::ClusterRole>(&object),
            "ClusterRoleBinding" => typed::<rbac::v1::ClusterRoleBinding>(&object),
            "MutatingWebhookConfiguration" => {
                typed::<admissionregistration::v1::MutatingWebhookConfiguration>(&object)
            }
            "ValidatingWebhookConfiguration" => {
                typed::<admissionregistration::v1::ValidatingWebhookConfiguration>(&object)
            }
            // Of Prometheus' operator.
            "ServiceMonitor" => continue,
            other => panic!("{other}"),
        };
        assert_eq!(filled(&known), filled(&object));
    }
}

fn text_of(path: &str) -> String {
    chart().into_iter().find(|file| file.path == path).unwrap().text
}

/// Checks what the schema of the chart says, and no more of JSON Schema than that.
fn fault(value: &Value, schema: &Value, path: &str) -> Option<String> {
    let is_type = match schema["type"].as_str().unwrap_or_default() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64(),
        "boolean" => value.is_boolean(),
        other => panic!("{path}: type {other:?}"),
    };
    let is_allowed = schema["enum"].as_array().is_none_or(|all| all.contains(value));
    let number = value.as_u64().unwrap_or_default();
    let is_within = schema["minimum"].as_u64().unwrap_or_default() <= number
        && number <= schema["maximum"].as_u64().unwrap_or(u64::MAX);
    if !is_type || !is_allowed || !is_within {
        return Some(format!("{path}: {value}"));
    }
    value.as_object().into_iter().flatten().find_map(|(key, value)| {
        let path = format!("{path}.{key}");
        match schema["properties"].get(key) {
            Some(schema) => fault(value, schema, &path),
            None => (schema["additionalProperties"] == false).then_some(path),
        }
    })
}

#[test]
fn the_schema_takes_the_default_values_and_no_unknown_key() {
    let schema: Value = serde_json::from_str(&text_of("values.schema.json")).unwrap();
    let defaults = yaml::parse(&text_of("values.yaml")).unwrap();
    let with = |pointer: &str, key: &str, value: Value| {
        let mut changed = defaults.clone();
        changed.pointer_mut(pointer).unwrap()[key] = value;
        fault(&changed, &schema, "")
    };
    assert_eq!(fault(&defaults, &schema, ""), None);
    assert_eq!(with("/cloudCore", "resources", json!({"limits": {"memory": "2Gi"}})), None);
    assert_eq!(with("/cloudCore/modules/cloudHub", "refuseDeletedNodes", json!(false)), None);
    assert_eq!(with("/cloudCore", "hostNetWork", json!(true)).unwrap(), ".cloudCore.hostNetWork");
    assert_eq!(with("", "iptablesManager", json!({})).unwrap(), ".iptablesManager");
    for (pointer, key, value) in [
        ("/cloudCore/modules/cloudHub", "nodLimit", json!(1)),
        ("/cloudCore/modules", "standalone", json!({"enable": true})),
        ("/cloudCore/modules/cloudHub/websocket", "port", json!("10000")),
        ("/cloudCore/modules/cloudHub/websocket", "port", json!(0)),
        ("/cloudCore/service", "type", json!("Node")),
        ("/cloudCore", "replicaCount", json!(0)),
    ] {
        assert!(with(pointer, key, value).is_some(), "{key}");
    }
}

#[test]
fn the_default_values_are_those_of_the_plain_manifests() {
    let defaults = yaml::parse(&text_of("values.yaml")).unwrap();
    assert_eq!(defaults, words::defaults());
    let shown = &defaults["cloudCore"]["modules"];
    for path in words::SHOWN {
        assert!(path.split('.').try_fold(shown, |at, key| at.get(key)).is_some(), "{path}");
    }
}

#[test]
fn cloudcore_may_impersonate_only_where_nodes_ask_as_themselves() {
    let may = |parts: crate::Parts| {
        let rules = crate::rights(parts).into_iter().filter(|object| object["kind"] == "ClusterRole");
        rules.map(|role| role["rules"].to_string().matches("impersonate").count()).sum::<usize>()
    };
    let parts = crate::Parts { streams: true, webhooks: true, node_identity: false };
    assert_eq!(may(parts), 0);
    assert_eq!(may(crate::Parts { node_identity: true, ..parts }), 2);
}

#[test]
fn what_the_templates_ask_for_are_values_that_exist() {
    let defaults = yaml::parse(&text_of("values.yaml")).unwrap();
    let mut asked = 0;
    for file in chart().into_iter().filter(|file| file.path.starts_with("templates/")) {
        let (opened, closed) = (file.text.matches("{{").count(), file.text.matches("}}").count());
        assert_eq!(opened, closed, "{}", file.path);
        let blocks = file.text.matches("{{- if").count() + file.text.matches("{{- with").count();
        assert_eq!(blocks, file.text.matches("{{- end }}").count(), "{}", file.path);
        let wrapped = ["$then", "$if", "$why", "$more"];
        assert!(!wrapped.iter().any(|mark| file.text.contains(mark)), "{}", file.path);
        for path in file.text.split(".Values.").skip(1) {
            let path = path.split(|c: char| !c.is_ascii_alphanumeric() && c != '.').next().unwrap();
            let path = path.trim_end_matches('.');
            assert!(path.split('.').try_fold(&defaults, |at, key| at.get(key)).is_some(), "{path}");
            asked += 1;
        }
    }
    assert!(asked > 40, "{asked}");
}
