//! The subresource `scale` of workloads: how many pods there are to be, without the rest (`autoscaling/v1`).

use apimachinery::object::{self, integer, list, text};
use apimachinery::patch::{self, PatchKind};
use apimachinery::schemas::Type;
use apimachinery::{Cause, Status};
use http::Method;
use kubeapi::registry::ScalePaths;
use kubeapi::request::{self, Incoming};
use kubeapi::respond::{self, Answer};
use kubeapi::target::Target;
use serde_json::{Value, json};

use super::ownership::Ownership;
use super::{Call, update};
use crate::conversion;

pub(crate) fn is_one(call: &Call<'_>) -> bool {
    let resource = &call.target.served.resource;
    let is_scaled = match resource.custom {
        true => call.target.served.version().scale.is_some(),
        false => resource.subresources.contains(&"scale"),
    };
    call.target.subresource == "scale" && is_scaled
}

pub(crate) async fn answer(call: Call<'_>, body: Incoming) -> Result<Answer, Status> {
    let paths = paths(&call.target);
    let ownership = Ownership::of_request(&call, "UpdateOptions", false)?;
    let main = Call { target: Target { subresource: String::new(), ..call.target.clone() }, ..call };
    let served = main.target.served.clone();
    // As if its client had sent the whole object.
    let of_target = |mut workload: Value| {
        workload["apiVersion"] = json!(served.api_version());
        workload["kind"] = json!(served.resource.kind);
        Ok(workload)
    };
    let stored = match main.parts.method {
        Method::GET => {
            let found = main.backend.storage.get(&main.target.key()).await?;
            let found = found.ok_or_else(|| main.target.not_found())?;
            conversion::one(main.backend, &main.target.served, found).await?
        }
        Method::PUT => {
            let scale = main.body(body).await?;
            update::modify(&main, &ownership, |current| of_target(resized(&paths, current, &scale)?)).await?
        }
        Method::PATCH => {
            let content_type = request::content_type(&main.parts.headers).to_owned();
            let unsupported = || {
                let accepted = "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json";
                Status::unsupported_media_type(accepted)
            };
            let kind = PatchKind::of(&content_type)
                .filter(|kind| *kind != PatchKind::Apply)
                .ok_or_else(unsupported)?;
            let with = request::parse(&content_type, &request::body(&main.parts.headers, body).await?)?;
            update::modify(&main, &ownership, |current| {
                let of = Type::of_kind("autoscaling", "v1", "Scale");
                let scale = patch::apply(kind, &scale(&paths, current), &with, of)?;
                of_target(resized(&paths, current, &scale)?)
            })
            .await?
        }
        _ => return Err(Status::method_not_allowed()),
    };
    Ok(respond::json(200, &scale(&paths, &stored.value()?)))
}

/// Where the parts of the scale are.
fn paths(target: &Target) -> ScalePaths {
    let built_in = || ScalePaths {
        wanted: "/spec/replicas".to_owned(),
        status: "/status/replicas".to_owned(),
        selector: None,
    };
    target.served.version().scale.clone().unwrap_or_else(built_in)
}

/// The scale of a workload.
fn scale(paths: &ScalePaths, workload: &Value) -> Value {
    let metadata = &workload["metadata"];
    let mut scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"], "creationTimestamp": metadata["creationTimestamp"]},
        "spec": {},
        "status": {"replicas": integer(workload, &paths.status).unwrap_or(0)},
    });
    if let Some(replicas) = integer(workload, &paths.wanted).filter(|replicas| *replicas != 0) {
        scale["spec"]["replicas"] = json!(replicas);
    }
    let selector = match &paths.selector {
        Some(path) => text(workload, path).to_owned(),
        None => selector(&workload["spec"]["selector"]),
    };
    if !selector.is_empty() {
        scale["status"]["selector"] = json!(selector);
    }
    scale
}

/// A workload as a scale wants it.
fn resized(paths: &ScalePaths, current: &Value, scale: &Value) -> Result<Value, Status> {
    let replicas = integer(scale, "/spec/replicas").unwrap_or(0);
    if replicas < 0 {
        let why = "must be greater than or equal to 0";
        let cause = Cause::invalid("spec.replicas", &json!(replicas), why);
        return Err(Status::invalid("autoscaling", "Scale", object::name(current), vec![cause]));
    }
    let mut workload = current.clone();
    let mut place = &mut workload;
    for part in paths.wanted.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        place = object::as_map(place).entry(part).or_insert(Value::Null);
    }
    *place = json!(replicas);
    let metadata = object::metadata(&mut workload);
    for field in ["resourceVersion", "uid"] {
        let named = text(scale, &format!("/metadata/{field}"));
        if !named.is_empty() {
            metadata.insert(field.to_owned(), json!(named));
        }
    }
    Ok(workload)
}

/// A selector as text, as the scale tells it.
fn selector(selector: &Value) -> String {
    // ReplicationControllers have the labels only.
    let labels = selector.get("matchLabels").unwrap_or(selector).as_object().into_iter().flatten();
    let labels = labels.filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)));
    let expressions = list(selector, "/matchExpressions").iter().map(|one| {
        let key = text(one, "/key");
        let values: Vec<&str> = list(one, "/values").iter().filter_map(Value::as_str).collect();
        match text(one, "/operator") {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        }
    });
    labels.chain(expressions).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_tells_the_size_and_the_selector_and_changes_only_the_size() {
        let workload = json!({"metadata": {"name": "d", "resourceVersion": "7"}, "status": {"replicas": 2}, "spec": {"replicas": 3,
            "selector": {"matchLabels": {"app": "a"}, "matchExpressions": [{"key": "b", "operator": "In", "values": ["c", "d"]}]}}});
        let paths =
            ScalePaths { wanted: "/spec/replicas".into(), status: "/status/replicas".into(), selector: None };
        let told = scale(&paths, &workload);
        assert_eq!((&told["spec"]["replicas"], &told["status"]["replicas"]), (&json!(3), &json!(2)));
        assert_eq!(told["status"]["selector"], "app=a,b in (c,d)");
        let resized = resized(&paths, &workload, &json!({"spec": {"replicas": 5}})).unwrap();
        assert_eq!(resized["spec"]["replicas"], 5);
        assert_eq!(
            (&resized["spec"]["selector"], &resized["metadata"]),
            (&workload["spec"]["selector"], &workload["metadata"])
        );
    }

    #[test]
    fn a_custom_resource_is_scaled_where_its_definition_says() {
        let paths = ScalePaths {
            wanted: "/spec/size/of".into(),
            status: "/status/is".into(),
            selector: Some("/status/by".into()),
        };
        let current = json!({"metadata": {"name": "g"}, "spec": {}, "status": {"is": 2, "by": "a=b"}});
        let told = scale(&paths, &current);
        assert_eq!(told["status"], json!({"replicas": 2, "selector": "a=b"}));
        let resized = resized(&paths, &current, &json!({"spec": {"replicas": 4}})).unwrap();
        assert_eq!(resized["spec"], json!({"size": {"of": 4}}));
    }
}
