//! LimitRanges: what containers get that ask for nothing, and what nobody gets (`plugin/pkg/admission/limitranger`,
//! `pkg/apis/core/v1/defaults.go`).

use serde_json::{Map, Value, json};

use crate::amounts::{self, Amount, Amounts};
use crate::object::{as_map, list, map_in, maps_in, metadata, text};

const NOTED: &str = "kubernetes.io/limit-ranger";

/// Completes a LimitRange: a maximum is the default limit, that is the default request, and a minimum is one as well.
pub fn complete(range: &mut Value) {
    let spec = map_in(as_map(range), "spec");
    for item in maps_in(spec, "limits").filter(|item| item.get("type").is_some_and(|of| of == "Container")) {
        let of =
            |item: &Map<String, Value>, field: &str| item.get(field).cloned().unwrap_or_else(|| json!({}));
        let fill = |to: &mut Value, from: &Value| {
            for (name, amount) in from.as_object().into_iter().flatten() {
                as_map(to).entry(name.clone()).or_insert_with(|| amount.clone());
            }
        };
        let mut limits = of(item, "default");
        fill(&mut limits, &of(item, "max"));
        let mut requests = of(item, "defaultRequest");
        fill(&mut requests, &limits);
        fill(&mut requests, &of(item, "min"));
        for (field, amounts) in [("default", limits), ("defaultRequest", requests)] {
            if !amounts.as_object().is_none_or(Map::is_empty) {
                item.insert(field.to_owned(), amounts);
            }
        }
    }
}

fn items<'a>(ranges: &'a [&Value], kind: &str) -> impl Iterator<Item = &'a Value> {
    ranges.iter().flat_map(|range| list(range, "/spec/limits")).filter(move |item| item["type"] == *kind)
}

/// Gives the containers of a new pod what its namespace gives by default.
pub fn default_pod(ranges: &[&Value], pod: &mut Value) {
    let mut set = Vec::new();
    for range in ranges {
        let merged = |field: &str| {
            let mut all = Map::new();
            for item in items(&[*range], "Container") {
                all.extend(item[field].as_object().cloned().unwrap_or_default());
            }
            all
        };
        let (requests, limits) = (merged("defaultRequest"), merged("default"));
        for (field, prefix) in [("containers", "container"), ("initContainers", "init container")] {
            for container in maps_in(map_in(as_map(pod), "spec"), field) {
                let name = container.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
                for (kind, word, defaults) in
                    [("requests", "request", &requests), ("limits", "limit", &limits)]
                {
                    let given = given(container, kind, defaults);
                    if !given.is_empty() {
                        set.push(format!("{} {word} for {prefix} {name}", given.join(", ")));
                    }
                }
            }
        }
    }
    if !set.is_empty() {
        let said = format!("LimitRanger plugin set: {}", set.join("; "));
        map_in(metadata(pod), "annotations").insert(NOTED.to_owned(), json!(said));
    }
}

/// The names of what a container was given.
fn given(container: &mut Map<String, Value>, kind: &str, defaults: &Map<String, Value>) -> Vec<String> {
    if defaults.is_empty() {
        return vec![];
    }
    let amounts = map_in(map_in(container, "resources"), kind);
    let missing: Vec<String> = defaults.keys().filter(|name| !amounts.contains_key(*name)).cloned().collect();
    for name in &missing {
        amounts.insert(name.clone(), defaults[name].clone());
    }
    missing
}

/// Why a pod is beyond what its namespace allows; `None` if it is not.
pub fn pod_refused(ranges: &[&Value], pod: &Value) -> Option<String> {
    let mut why = Vec::new();
    for range in ranges {
        for item in list(range, "/spec/limits") {
            match text(item, "/type") {
                "Container" => {
                    let containers = list(pod, "/spec/containers").iter();
                    for container in containers.chain(list(pod, "/spec/initContainers")) {
                        let of = |kind: &str| Amounts::read(&container["resources"][kind]);
                        check(item, &of("requests"), &of("limits"), &mut why);
                    }
                }
                "Pod" => {
                    let of = |field: &str| amounts::of_pod(&pod["spec"], field);
                    check(item, &of("requests"), &of("limits"), &mut why);
                }
                _ => {}
            }
        }
    }
    aggregate(why)
}

/// Why a claim is beyond what its namespace allows; `None` if it is not.
pub fn claim_refused(ranges: &[&Value], claim: &Value) -> Option<String> {
    let mut why = Vec::new();
    let requests = Amounts::read(&claim["spec"]["resources"]["requests"]);
    for item in items(ranges, "PersistentVolumeClaim") {
        least(item, &requests, &Amounts::default(), &mut why);
        for (name, most, told) in bounds(item, "max") {
            match requests.0.get(&name) {
                None => why.push(format!(
                    "maximum {name} usage per {KIND_OF_CLAIM} is {told}.  No request is specified"
                )),
                Some(asked) if asked.milli > most.milli => {
                    let asked = asked.text();
                    why.push(format!(
                        "maximum {name} usage per {KIND_OF_CLAIM} is {told}, but request is {asked}"
                    ));
                }
                Some(_) => {}
            }
        }
    }
    aggregate(why)
}

const KIND_OF_CLAIM: &str = "PersistentVolumeClaim";

fn aggregate(why: Vec<String>) -> Option<String> {
    match why.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        several => Some(format!("[{}]", several.join(", "))),
    }
}

/// Name, amount, and how it is written.
fn bounds(item: &Value, field: &str) -> Vec<(String, Amount, String)> {
    let all = Amounts::read(&item[field]).0.into_iter();
    all.map(|(name, amount)| (name, amount, amount.text())).collect()
}

fn least(item: &Value, requests: &Amounts, limits: &Amounts, why: &mut Vec<String>) {
    let kind = text(item, "/type");
    for (name, least, told) in bounds(item, "min") {
        let usage = format!("minimum {name} usage per {kind} is {told}");
        match (requests.0.get(&name), limits.0.get(&name)) {
            (None, _) => why.push(format!("{usage}.  No request is specified")),
            (Some(request), _) if request.milli < least.milli => {
                why.push(format!("{usage}, but request is {}", request.text()));
            }
            (_, Some(limit)) if limit.milli < least.milli => {
                why.push(format!("{usage}, but limit is {}", limit.text()));
            }
            _ => {}
        }
    }
}

fn check(item: &Value, requests: &Amounts, limits: &Amounts, why: &mut Vec<String>) {
    let kind = text(item, "/type");
    least(item, requests, limits, why);
    for (name, most, told) in bounds(item, "max") {
        let usage = format!("maximum {name} usage per {kind} is {told}");
        match (requests.0.get(&name), limits.0.get(&name)) {
            (_, None) => why.push(format!("{usage}.  No limit is specified")),
            (_, Some(limit)) if limit.milli > most.milli => {
                why.push(format!("{usage}, but limit is {}", limit.text()));
            }
            (Some(request), _) if request.milli > most.milli => {
                why.push(format!("{usage}, but request is {}", request.text()));
            }
            _ => {}
        }
    }
    for (name, ratio, told) in bounds(item, "maxLimitRequestRatio") {
        let usage = format!("{name} max limit to request ratio per {kind} is {told}");
        let of = |amounts: &Amounts| amounts.0.get(&name).filter(|amount| amount.milli != 0).copied();
        match (of(requests), of(limits)) {
            (None, _) => why.push(format!("{usage}, but no request is specified or request is 0")),
            (_, None) => why.push(format!("{usage}, but no limit is specified or limit is 0")),
            (Some(request), Some(limit)) => {
                #[allow(clippy::cast_precision_loss)] // It is told with six digits.
                let observed = limit.milli as f64 / request.milli as f64;
                if limit.milli.saturating_mul(1000) > ratio.milli.saturating_mul(request.milli) {
                    why.push(format!("{usage}, but provided ratio is {observed:.6}"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(item: Value) -> Value {
        let mut range = json!({"spec": {"limits": [item]}});
        complete(&mut range);
        range
    }

    #[test]
    fn containers_get_defaults_and_the_pod_says_so() {
        let range =
            range(json!({"type": "Container", "max": {"cpu": "1"}, "defaultRequest": {"cpu": "100m"}}));
        let mut pod = json!({"spec": {"containers": [{"name": "c"}, {"name": "d", "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}}]}});
        default_pod(&[&range], &mut pod);
        let wanted = json!({"limits": {"cpu": "1"}, "requests": {"cpu": "100m"}});
        assert_eq!(pod["spec"]["containers"][0]["resources"], wanted);
        let noted = "LimitRanger plugin set: cpu request for container c; cpu limit for container c";
        assert_eq!(pod["metadata"]["annotations"][NOTED], noted);
        let before = pod.clone();
        default_pod(&[&range], &mut pod);
        assert_eq!(pod, before);
    }

    #[test]
    fn what_is_too_much_too_little_or_out_of_proportion_is_refused() {
        let pod = |request: &str, limit: &str| {
            json!({"spec": {"containers": [{"name": "c", "resources": {
            "requests": {"memory": request}, "limits": {"memory": limit}}}]}})
        };
        let of = |item: Value, pod: &Value| pod_refused(&[&range(item)], pod);
        let max = json!({"type": "Container", "max": {"memory": "1Gi"}});
        assert_eq!(of(max.clone(), &pod("1Mi", "1Gi")), None);
        let why = "maximum memory usage per Container is 1Gi, but limit is 2Gi";
        assert_eq!(of(max, &pod("1Mi", "2Gi")).as_deref(), Some(why));
        let why = "minimum memory usage per Pod is 2Mi, but request is 1Mi";
        assert_eq!(
            of(json!({"type": "Pod", "min": {"memory": "2Mi"}}), &pod("1Mi", "4Mi")).as_deref(),
            Some(why)
        );
        let ratio = json!({"type": "Container", "maxLimitRequestRatio": {"memory": "2"}});
        assert_eq!(of(ratio.clone(), &pod("1Mi", "2Mi")), None);
        let why = "memory max limit to request ratio per Container is 2, but provided ratio is 4.000000";
        assert_eq!(of(ratio, &pod("1Mi", "4Mi")).as_deref(), Some(why));
        let claim = json!({"spec": {"resources": {"requests": {"storage": "5Gi"}}}});
        let range = range(json!({"type": "PersistentVolumeClaim", "max": {"storage": "2Gi"}}));
        let why = "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 5Gi";
        assert_eq!(claim_refused(&[&range], &claim).as_deref(), Some(why));
    }
}
