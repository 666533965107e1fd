use http::HeaderValue;
use kubeapi::stored::Key;
use serde_json::json;

use super::facts::{ENDPOINTS, SLICES, Sources};
use super::*;

fn stored(resource: &str, namespace: &str, name: &str, body: &Value) -> Stored {
    Stored { key: Key::new(resource, namespace, name), revision: 7, body: body.to_string().into() }
}

fn node(name: &str, labels: &Value) -> Stored {
    stored("nodes", "", name, &json!({ "metadata": { "name": name, "labels": labels } }))
}

fn service(name: &str, annotations: &Value, spec: &Value) -> Stored {
    let body = json!({ "metadata": { "name": name, "annotations": annotations }, "spec": spec });
    stored("services", "shop", name, &body)
}

/// Endpoints as (name of the pod, node, zone, ready).
fn slice(service: &str, endpoints: &[(&str, &str, &str, bool)]) -> Stored {
    let endpoints = endpoints.iter().map(|(pod, node, zone, ready)| {
        json!({ "addresses": ["10.0.0.1"], "nodeName": node, "zone": zone, "conditions": { "ready": ready },
            "targetRef": { "kind": "Pod", "name": pod } })
    });
    let body = json!({ "metadata": { "name": format!("{service}-x"),
        "labels": { "kubernetes.io/service-name": service } },
        "addressType": "IPv4", "endpoints": endpoints.collect::<Value>(), "ports": [{ "name": "https", "port": 6443 }] });
    stored(SLICES, "shop", &format!("{service}-x"), &body)
}

fn seen(component: &str, facts: &Facts, object: &Stored) -> Option<Stored> {
    seen_through(&Filters::default(), component, facts, object)
}

fn seen_through(filters: &Filters, component: &str, facts: &Facts, object: &Stored) -> Option<Stored> {
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, HeaderValue::from_str(&format!("{component}/v1.36.0 (linux)")).unwrap());
    filters.of(&headers, &object.key.resource).show(facts, object)
}

/// The pods that a component sees, of a slice.
fn pods(component: &str, facts: &Facts, object: &Stored) -> Vec<String> {
    let shown = seen(component, facts, object).unwrap().value().unwrap();
    let endpoints = shown["endpoints"].as_array().unwrap().iter();
    endpoints.map(|one| one["targetRef"]["name"].as_str().unwrap().to_owned()).collect()
}

/// Three pools of three nodes, each a zone; this is the first node of the first pool. One node is in none.
fn sources() -> Sources {
    let pool = |number: usize| {
        let name = format!("pool-{number}");
        json!({ "apps.openyurt.io/nodepool": name, "topology.kubernetes.io/zone": name,
            "apps.kubeedge.io/belonging-to": name })
    };
    let nodes = (0..3).flat_map(|p| (0..3).map(move |n| node(&format!("n{p}{n}"), &pool(p))));
    let services = [
        ("near", json!({ "openyurt.io/topologyKeys": "kubernetes.io/hostname" }), json!({})),
        ("pooled", json!({ "openyurt.io/topologyKeys": "openyurt.io/nodepool" }), json!({})),
        ("grouped", json!({ "apps.kubeedge.io/service-topology": "range-nodegroup" }), json!({})),
        ("close", json!({}), json!({ "trafficDistribution": "PreferClose" })),
        ("own", json!({}), json!({ "trafficDistribution": "PreferSameNode" })),
        ("plain", json!({}), json!({})),
    ];
    Sources {
        node: "n00".into(),
        address: Some("169.254.30.10:10550".parse().unwrap()),
        nodes: Some(nodes.chain([node("alone", &json!({}))]).collect()),
        services: Some(services.iter().map(|(name, notes, spec)| service(name, notes, spec)).collect()),
        ..Sources::default()
    }
}

const ALL: [(&str, &str, &str, bool); 5] = [
    ("a", "n00", "pool-0", true),
    ("b", "n01", "pool-0", true),
    ("c", "n11", "pool-1", true),
    ("d", "n22", "pool-2", true),
    ("e", "alone", "", true),
];

#[test]
fn a_service_is_reached_on_the_node_or_in_its_pool_as_its_annotation_says() {
    let facts = Facts::of(&sources());
    assert_eq!(pods("kube-proxy", &facts, &slice("near", &ALL)), ["a"]);
    for service in ["pooled", "grouped"] {
        // As it calls itself with a kubeconfig, and in a pod.
        for name in ["coredns", "CoreDNS"] {
            assert_eq!(pods(name, &facts, &slice(service, &ALL)), ["a", "b"], "{service}");
        }
    }
    assert_eq!(pods("kube-proxy", &facts, &slice("plain", &ALL)).len(), 5);
    assert_eq!(pods("kubelet", &facts, &slice("near", &ALL)).len(), 5, "this component sees all");
    assert!(pods("kube-proxy", &facts, &slice("pooled", &ALL[2..])).is_empty(), "no traffic leaves the pool");
    // Another pool, and none.
    let of = |name: &str| Facts::of(&Sources { node: name.into(), ..sources() });
    assert_eq!(pods("kube-proxy", &of("n22"), &slice("pooled", &ALL)), ["d"]);
    assert_eq!(pods("kube-proxy", &of("alone"), &slice("pooled", &ALL)), ["e"]);
    // A node changes its pool.
    let mut moved = sources();
    let nodes = moved.nodes.as_mut().unwrap();
    nodes.retain(|node| node.key.name != "n11");
    nodes.push(node("n11", &json!({ "apps.openyurt.io/nodepool": "pool-0" })));
    assert_eq!(pods("kube-proxy", &Facts::of(&moved), &slice("pooled", &ALL)), ["a", "b", "c"]);
}

#[test]
fn who_is_in_the_pool_is_not_guessed() {
    let own = json!({ "metadata": { "labels": { "apps.openyurt.io/nodepool": "pool-0" } } });
    let facts = Facts::of(&Sources { nodes: None, own: Some(own), ..sources() });
    assert_eq!(pods("kube-proxy", &facts, &slice("pooled", &ALL)).len(), 5);
    assert_eq!(pods("kube-proxy", &facts, &slice("near", &ALL)), ["a"], "that needs no other node");
    let unknown = Facts::of(&Sources { services: None, ..sources() });
    assert_eq!(pods("kube-proxy", &unknown, &slice("near", &ALL)).len(), 5);
}

#[test]
fn traffic_prefers_what_is_near_and_goes_further_when_nothing_is_there() {
    let with = |slices: Vec<Stored>| Facts::of(&Sources { slices: Some(slices), ..sources() });
    let near = |service: &str, endpoints: &[(&str, &str, &str, bool)]| {
        let slice = slice(service, endpoints);
        pods("coredns", &with(vec![slice.clone()]), &slice)
    };
    assert_eq!(near("own", &ALL), ["a"]);
    assert_eq!(near("close", &ALL), ["a", "b"]);
    assert_eq!(near("own", &ALL[1..]), ["b"], "the zone before the rest");
    assert_eq!(near("close", &ALL[2..]).len(), 3);
    let unready = [("a", "n00", "pool-0", false), ALL[2]];
    assert_eq!(near("own", &unready), ["a", "c"], "what is not ready is not near");
    // What is near may be in another slice.
    let (far, close) = (slice("own", &ALL[2..]), slice("own", &ALL[..1]));
    let facts = with(vec![far.clone(), close]);
    assert!(pods("coredns", &facts, &far).is_empty());
}

#[test]
fn endpoints_of_the_old_kind_are_filtered_as_well() {
    let address = |node: &str| {
        json!({ "ip": "10.0.0.1", "nodeName": node,
        "targetRef": { "kind": "Pod", "name": format!("on-{node}") } })
    };
    let body = json!({ "metadata": { "name": "near" }, "subsets": [{ "addresses": [address("n00"), address("n01")] }] });
    let endpoints = stored(ENDPOINTS, "shop", "near", &body);
    let mut sources = sources();
    let shown = seen("kube-proxy", &Facts::of(&sources), &endpoints).unwrap().value().unwrap();
    assert_eq!(shown["subsets"], json!([{ "addresses": [address("n00")] }]));
    sources.ready.insert(("shop".into(), "on-n00".into()), false);
    let shown = seen("any", &Facts::of(&sources), &endpoints).unwrap().value().unwrap();
    assert_eq!(shown["subsets"][0]["addresses"], json!([address("n01")]));
    assert_eq!(shown["subsets"][0]["notReadyAddresses"], json!([address("n00")]));
}

#[test]
fn a_pod_of_this_node_is_as_ready_as_the_node_knows() {
    let mut sources = sources();
    let slice = slice("plain", &[("a", "n00", "", true), ("b", "n00", "", false), ("a", "n01", "", true)]);
    sources.ready = [(("shop".into(), "a".into()), false), (("shop".into(), "b".into()), true)].into();
    let conditions = |facts: &Facts| {
        let shown = seen("any", facts, &slice).unwrap().value().unwrap();
        let ready = |at: usize| shown["endpoints"][at]["conditions"]["ready"].as_bool().unwrap();
        [ready(0), ready(1), ready(2)]
    };
    assert_eq!(conditions(&Facts::of(&sources)), [false, true, true], "of other nodes the cloud knows more");
    let not = service("plain", &json!({}), &json!({ "publishNotReadyAddresses": true }));
    sources.services = Some(vec![not]);
    assert_eq!(conditions(&Facts::of(&sources)), [true, false, true], "this service does not care");
}

#[test]
fn what_no_filter_is_about_stays_to_the_byte() {
    let facts = Facts::of(&sources());
    let body = r#"{"metadata":{"name":"x", "z":1.50,"labels":{"kubernetes.io/service-name":"plain"}},"endpoints":[ ]}"#;
    let raw = Stored { key: Key::new(SLICES, "shop", "x"), revision: 1, body: body.into() };
    assert_eq!(&*seen("kube-proxy", &facts, &raw).unwrap().body, body);
    let raw = Stored { key: Key::new("services", "shop", "x"), revision: 1, body: body.into() };
    assert_eq!(&*seen("kube-proxy", &facts, &raw).unwrap().body, body);
}

#[test]
fn the_kubelet_sees_metaserver_where_the_api_server_is_named() {
    let facts = Facts::of(&sources());
    let body = json!({ "metadata": { "name": "kubernetes" }, "spec": { "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"],
        "ports": [{ "name": "https", "port": 443 }, { "name": "other", "port": 1 }] } });
    let master = stored("services", "default", "kubernetes", &body);
    let shown = seen("kubelet", &facts, &master).unwrap().value().unwrap();
    assert_eq!(
        (&shown["spec"]["clusterIP"], &shown["spec"]["clusterIPs"][0]),
        (&json!("169.254.30.10"), &json!("169.254.30.10"))
    );
    assert_eq!(
        (&shown["spec"]["ports"][0]["port"], &shown["spec"]["ports"][1]["port"]),
        (&json!(10550), &json!(1))
    );
    assert_eq!(seen("kube-proxy", &facts, &master).unwrap().body, master.body);
    let nowhere = Facts { address: None, ..facts.clone() };
    assert_eq!(seen("kubelet", &nowhere, &master).unwrap().body, master.body);

    let pod = json!({ "spec": { "containers": [{ "env": [{ "name": "KUBERNETES_SERVICE_HOST", "value": "1.2.3.4" },
        { "name": "KUBERNETES_SERVICE_PORT", "valueFrom": {} }] }, {}] } });
    let shown = seen("kubelet", &facts, &stored("pods", "shop", "a", &pod)).unwrap().value().unwrap();
    let env = &shown["spec"]["containers"][0]["env"];
    assert_eq!(
        (&env[0]["value"], &env[1]),
        (&json!("169.254.30.10"), &json!({ "name": "KUBERNETES_SERVICE_PORT", "valueFrom": {} }))
    );
    assert!(shown["spec"].get("initContainers").is_none());

    let config = "clientConnection:\n  kubeconfig: /var/lib/x\n  qps: 0\n";
    let map = stored(
        "configmaps",
        "kube-system",
        "kube-proxy",
        &json!({ "data": { "config.conf": config, "kubeconfig.conf": "x" } }),
    );
    let shown = seen("kubelet", &facts, &map).unwrap().value().unwrap();
    assert_eq!(shown["data"]["config.conf"], "clientConnection:\n  #kubeconfig: /var/lib/x\n  qps: 0\n");
}

#[test]
fn kube_proxy_sees_no_service_of_the_cloud_or_of_other_pools_and_metaserver_for_the_api() {
    let facts = Facts::of(&sources());
    let balancer = |annotations: Value| service("lb", &annotations, &json!({ "type": "LoadBalancer" }));
    let discarded = balancer(json!({ "svc.openyurt.io/discard": "true" }));
    assert!(seen("kube-proxy", &facts, &discarded).is_none());
    assert!(seen("coredns", &facts, &discarded).is_some());
    let listens = |pools: &str, facts: &Facts| {
        seen("kube-proxy", facts, &balancer(json!({ "nodeport.openyurt.io/listen": pools }))).is_some()
    };
    for (pools, is_open) in
        [("pool-0", true), ("pool-1", false), ("*,-pool-0", false), ("-pool-1, *", true), ("-pool-1", false)]
    {
        assert_eq!(listens(pools, &facts), is_open, "{pools}");
    }
    let alone = Facts::of(&Sources { node: "alone".into(), ..sources() });
    assert!(listens("pool-1", &alone), "in no pool");

    let mut api = slice("kubernetes", &ALL[..1]);
    api.key.namespace = "default".into();
    let shown = seen("kube-proxy", &facts, &api).unwrap().value().unwrap();
    assert_eq!(shown["endpoints"][0]["addresses"], json!(["169.254.30.10"]));
    assert_eq!(shown["ports"][0]["port"], 10550);
}

#[test]
fn a_filter_can_be_turned_off_and_given_to_more_components() {
    let facts = Facts::of(&sources());
    let near = slice("near", &ALL);
    let off = Filters { off: [Filter::ServiceTopology].into(), ..Filters::default() };
    assert_eq!(seen_through(&off, "kube-proxy", &facts, &near).unwrap().body, near.body);
    for component in ["traefik", "*"] {
        let more = Filters {
            more: [(Filter::ServiceTopology, vec![component.to_owned()])].into(),
            ..Filters::default()
        };
        assert_ne!(seen_through(&more, "traefik", &facts, &near).unwrap().body, near.body);
    }
    assert!(Filter::ALL.iter().all(|filter| Filter::named(filter.name()) == Some(*filter)));
}
