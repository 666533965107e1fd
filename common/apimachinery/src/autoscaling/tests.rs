use super::*;

/// With metrics of every type, all that v1 has no field for.
fn full() -> Value {
    let metric = |kind: &str, field: &str, of: Value| json!({"type": kind, field: of});
    let scale = json!({"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"});
    json!({
        "metadata": {"name": "a", "annotations": {"mine": "kept"}},
        "spec": {
            "scaleTargetRef": scale, "minReplicas": 1, "maxReplicas": 3,
            "metrics": [
                metric("Resource", "resource", json!({"name": "memory",
                    "target": {"type": "AverageValue", "averageValue": "1Gi"}})),
                metric("ContainerResource", "containerResource", json!({"name": "cpu", "container": "c",
                    "target": {"type": "Utilization", "averageUtilization": 40}})),
                metric("Pods", "pods", json!({"metric": {"name": "p", "selector": {"matchLabels": {"a": "b"}}},
                    "target": {"type": "AverageValue", "averageValue": "5"}})),
                metric("Object", "object", json!({"metric": {"name": "o"}, "describedObject": scale,
                    "target": {"type": "AverageValue", "averageValue": "6"}})),
                metric("External", "external", json!({"metric": {"name": "e", "selector": {"matchLabels": {"c": "d"}}},
                    "target": {"type": "Value", "value": "7"}})),
                metrics::cpu(&json!(60)),
            ],
            "behavior": {"scaleUp": {"stabilizationWindowSeconds": 5, "selectPolicy": "Max",
                "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]}},
        },
        "status": {
            "currentReplicas": 2, "desiredReplicas": 3,
            "currentMetrics": [metric("Resource", "resource", json!({"name": "cpu",
                "current": {"averageValue": "10m", "averageUtilization": 50}}))],
            "conditions": [{"type": "AbleToScale", "status": "True", "reason": "R"}],
        },
    })
}

#[test]
fn nothing_is_lost_on_the_way_through_v1() {
    let mut autoscaler = full();
    to_v1(&mut autoscaler);
    assert_eq!(autoscaler["spec"]["targetCPUUtilizationPercentage"], 60);
    assert_eq!(autoscaler["status"]["currentCPUUtilizationPercentage"], 50);
    let mut spec: Vec<&String> = autoscaler["spec"].as_object().unwrap().keys().collect();
    spec.sort();
    assert_eq!(spec, ["maxReplicas", "minReplicas", "scaleTargetRef", "targetCPUUtilizationPercentage"]);
    let carried = autoscaler["metadata"]["annotations"].as_object().unwrap().clone();
    assert!(carried[METRICS].as_str().unwrap().contains(r#""targetAverageUtilization":40"#), "{carried:?}");
    assert!(
        carried[METRICS].as_str().unwrap().contains(r#""targetValue":"0""#),
        "v1 has no way to leave it out"
    );
    assert!(carried[BEHAVIOUR].as_str().unwrap().contains(r#""ScaleDown":null"#), "{carried:?}");
    to_v2(&mut autoscaler);
    assert_eq!(autoscaler, full());
}

#[test]
fn an_autoscaler_of_v1_wants_four_fifths_of_the_cpu_unless_it_says_otherwise() {
    for (said, wanted) in [(Value::Null, 80), (json!(30), 30)] {
        let mut autoscaler = json!({"metadata": {"name": "a"}, "spec": {"maxReplicas": 2, WANTED: said}});
        to_v2(&mut autoscaler);
        assert_eq!(autoscaler["spec"], json!({"maxReplicas": 2, "metrics": [metrics::cpu(&json!(wanted))]}));
    }
}

#[test]
fn annotations_that_do_not_read_are_passed_over() {
    for wrong in ["", "null", "7", "[", "{}"] {
        let annotations = json!({METRICS: wrong, CURRENT: wrong, CONDITIONS: wrong, BEHAVIOUR: "[]"});
        let mut autoscaler = json!({"metadata": {"annotations": annotations}, "spec": {}, "status": {}});
        to_v2(&mut autoscaler);
        let wanted = json!({"metadata": {}, "spec": {"metrics": [metrics::cpu(&json!(80))]},
            "status": {"currentMetrics": null}});
        assert_eq!(autoscaler, wanted, "{wrong}");
    }
}
