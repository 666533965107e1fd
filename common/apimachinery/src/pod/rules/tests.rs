use super::*;

/// The fields that are wrong with a pod of one container with `container` and the other fields of `spec`.
fn wrong(container: Value, spec: Value) -> Vec<String> {
    let mut pod = json!({"restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "containers":
        [{"name": "a", "image": "b", "imagePullPolicy": "Always"}]});
    let merge = |into: &mut Value, from: Value| {
        let Value::Object(fields) = from else { return };
        fields.into_iter().for_each(|(key, value)| into[key] = value);
    };
    merge(&mut pod["containers"][0], container);
    merge(&mut pod, spec);
    problems("spec", &pod).into_iter().map(|cause| cause.field).collect()
}

#[test]
fn paths_of_volumes_stay_where_they_belong() {
    let volume = |source: Value| {
        let mut volume = json!({"name": "v"});
        let Value::Object(fields) = source else { return Vec::new() };
        fields.into_iter().for_each(|(key, value)| volume[key] = value);
        wrong(json!({}), json!({"volumes": [volume]}))
    };
    let none: [&str; 0] = [];
    assert_eq!(volume(json!({"hostPath": {"path": "/a/../../etc"}})), ["spec.volumes[0].hostPath.path"]);
    assert_eq!(volume(json!({"hostPath": {"path": ""}})), ["spec.volumes[0].hostPath.path"]);
    assert_eq!(
        volume(json!({"hostPath": {"path": "/a", "type": "Door"}})),
        ["spec.volumes[0].hostPath.type"]
    );
    // A real API server takes it too; the node refuses it.
    assert_eq!(volume(json!({"hostPath": {"path": "relative/..path"}})), none);
    assert_eq!(volume(json!({"hostPath": {"path": "/a"}, "emptyDir": {}})), ["spec.volumes[0].hostPath"]);
    let items = |path: &str| json!({"configMap": {"name": "c", "items": [{"key": "k", "path": path}]}});
    for bad in ["/a", "../a", "a/../b", "..a", ""] {
        assert_eq!(volume(items(bad)), ["spec.volumes[0].configMap.items[0].path"], "{bad}");
    }
    assert_eq!(volume(items("a/..b")), none);
    let twice = json!({"projected": {"sources": [
        {"configMap": {"name": "c", "items": [{"key": "k", "path": "p"}]}},
        {"secret": {"name": "s", "items": [{"key": "k", "path": "p"}]}}]}});
    assert_eq!(volume(twice), ["spec.volumes[0].projected.sources[1].secret.items[0].path"]);
}

#[test]
fn mounts_ports_and_variables_are_checked_as_kubernetes_does() {
    let volumes = json!({"volumes": [{"name": "v", "emptyDir": {}}]});
    let mount = |more: Value| {
        let mut mount = json!({"name": "v", "mountPath": "/v"});
        let Value::Object(fields) = more else { return Vec::new() };
        fields.into_iter().for_each(|(key, value)| mount[key] = value);
        wrong(json!({"volumeMounts": [mount]}), volumes.clone())
    };
    for bad in ["/etc", "../x", "a/../b"] {
        assert_eq!(mount(json!({"subPath": bad})), ["spec.containers[0].volumeMounts[0].subPath"], "{bad}");
    }
    let both = json!({"subPath": "a", "subPathExpr": "b"});
    assert_eq!(mount(both), ["spec.containers[0].volumeMounts[0].subPathExpr"]);
    let how = json!({"mountPropagation": "Always"});
    assert_eq!(mount(how), ["spec.containers[0].volumeMounts[0].mountPropagation"]);
    let ports = json!({"ports": [{"containerPort": 1, "protocol": "X"}, {"containerPort": 2, "hostPort": 99999,
        "protocol": "TCP", "name": "Not_A_Name"}]});
    assert_eq!(
        wrong(ports, json!({})),
        ["protocol", "name", "hostPort"].map(|field| {
            let index = usize::from(field != "protocol");
            format!("spec.containers[0].ports[{index}].{field}")
        })
    );
    let env = json!({"env": [{"name": "a=b", "value": "x"}, {"name": "GOOD.one-2", "value": "x"}]});
    assert_eq!(wrong(env, json!({})), ["spec.containers[0].env[0].name"]);
}
