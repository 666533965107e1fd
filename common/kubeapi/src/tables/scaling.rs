//! Horizontal pod autoscalers, priority classes, quotas, limit ranges, revisions and runtime classes.

use apimachinery::object::{integer, list, text};
use serde_json::{Value, json};

use super::parts::created;
use super::{age, own_name};

/// Targets that are shown one by one.
const SHOWN: usize = 2;

pub(super) fn autoscaler(object: &Value, now: i64) -> Vec<Value> {
    let reference = format!(
        "{}/{}",
        text(object, "/spec/scaleTargetRef/kind"),
        text(object, "/spec/scaleTargetRef/name")
    );
    let current = list(object, "/status/currentMetrics");
    let metrics = list(object, "/spec/metrics").iter().enumerate();
    let targets: Vec<String> = metrics.map(|(index, metric)| target(metric, current.get(index))).collect();
    let targets = match targets.len() {
        0 => "<none>".to_owned(),
        few if few <= SHOWN => targets.join(", "),
        more => format!("{} + {} more...", targets[..SHOWN].join(", "), more - SHOWN),
    };
    let least = integer(object, "/spec/minReplicas").map_or("<unset>".to_owned(), |least| least.to_string());
    vec![
        own_name(object),
        json!(reference),
        json!(targets),
        json!(least),
        json!(integer(object, "/spec/maxReplicas").unwrap_or(0)),
        json!(integer(object, "/status/currentReplicas").unwrap_or(0)),
        age(object, now),
    ]
}

/// `cpu: 12%/80%`: what there is, and what is wanted.
fn target(metric: &Value, current: Option<&Value>) -> String {
    let kind = text(metric, "/type");
    let field = match kind {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".to_owned(),
    };
    let wanted = &metric[field]["target"];
    let now = current.map_or(&Value::Null, |current| &current[field]["current"]);
    let shown = |value: &Value, field: &str| match &value[field] {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(format!("{number}%")),
        _ => None,
    };
    let unknown = || "<unknown>".to_owned();
    let pair = |field: &str, mark: &str| {
        let (now, wanted) = (shown(now, field).unwrap_or_else(unknown), shown(wanted, field)?);
        Some(format!("{now}/{wanted}{mark}"))
    };
    match kind {
        "Resource" | "ContainerResource" => {
            let name = text(&metric[field], "/name");
            let told = pair("averageValue", "").or_else(|| pair("averageUtilization", ""));
            format!("{name}: {}", told.unwrap_or_else(|| "<unknown>/<auto>".to_owned()))
        }
        "Pods" => pair("averageValue", "").unwrap_or_else(unknown),
        _ => pair("averageValue", " (avg)").or_else(|| pair("value", "")).unwrap_or_else(unknown),
    }
}

pub(super) fn priority_class_columns() -> Vec<super::Column> {
    let mut columns = super::cluster::columns(&["Value", "Global-Default"]);
    columns.push(super::Column::text("PreemptionPolicy"));
    columns
}

pub(super) fn priority_class(object: &Value, now: i64) -> Vec<Value> {
    vec![
        own_name(object),
        json!(integer(object, "/value").unwrap_or(0)),
        json!(object["globalDefault"] == true),
        age(object, now),
        json!(text(object, "/preemptionPolicy")),
    ]
}

pub(super) fn quota(object: &Value, now: i64) -> Vec<Value> {
    let hard = object["status"]["hard"].as_object();
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (name, most) in hard.into_iter().flatten() {
        let used =
            text(&object["status"]["used"], &format!("/{}", name.replace('~', "~0").replace('/', "~1")));
        let told = format!(
            "{name}: {}/{}",
            if used.is_empty() { "0" } else { used },
            most.as_str().unwrap_or_default()
        );
        match name.starts_with("limits.") {
            true => limits.push(told),
            false => requests.push(told),
        }
    }
    vec![own_name(object), json!(requests.join(", ")), json!(limits.join(", ")), age(object, now)]
}

pub(super) fn limit_range(object: &Value, _: i64) -> Vec<Value> {
    vec![own_name(object), created(object)]
}

pub(super) fn revision(object: &Value, now: i64) -> Vec<Value> {
    let owners = list(object, "/metadata/ownerReferences");
    let owner = owners.iter().find(|owner| owner["controller"] == true).map(|owner| {
        let kind = text(owner, "/kind").to_lowercase();
        match text(owner, "/apiVersion").split_once('/') {
            Some((group, _)) => format!("{kind}.{group}/{}", text(owner, "/name")),
            None => format!("{kind}/{}", text(owner, "/name")),
        }
    });
    let number = integer(object, "/revision").unwrap_or(0);
    vec![
        own_name(object),
        json!(owner.unwrap_or_else(|| "<none>".to_owned())),
        json!(number),
        age(object, now),
    ]
}

pub(super) fn runtime_class(object: &Value, now: i64) -> Vec<Value> {
    vec![own_name(object), json!(text(object, "/handler")), age(object, now)]
}
