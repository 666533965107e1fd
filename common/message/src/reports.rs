//! Whole statuses, as edges sent them before they sent patches (docs/protocol/edge-runtime.md 1.4). Cloud side: edges of ours
//! send patches.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::upstream::ParseUpstreamError;
use crate::{Json, Message, NodeName, Request, check_name};

/// The whole status of one pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PodReport {
    /// Of the pod the edge means; another pod may have the name by now.
    #[serde(rename = "UID", default)]
    pub uid: String,
    pub name: String,
    pub status: Json,
}

/// The whole status of the node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NodeReport {
    pub status: Json,
    /// Kept as annotations of the node, by name of the resource.
    #[serde(default)]
    pub extend_resources: Option<BTreeMap<String, Json>>,
}

/// `<namespace>/podstatus[/<name>]` and `<namespace>/nodestatus/<node>`; `None` if the message is something else.
pub(crate) fn parse(message: &Message) -> Option<Result<Request, ParseUpstreamError>> {
    let mut parts = message.route.resource.split('/');
    let namespace = parts.next()?;
    match (parts.next()?, parts.next(), parts.next(), message.route.operation.as_str()) {
        ("podstatus", _, None, "update") => Some(pods(namespace, &message.content)),
        ("nodestatus", Some(node), None, "insert" | "update") => Some(of_node(node, message)),
        _ => None,
    }
}

/// Reports in one message; no node has more pods. Each costs requests to the API server.
const MOST: usize = 1000;

/// One report, or a list of them.
fn pods(namespace: &str, content: &Json) -> Result<Request, ParseUpstreamError> {
    let content = content.unwrapped().map_err(ParseUpstreamError::Content)?;
    let reports = if content.text().starts_with('[') {
        content.parse()
    } else {
        content.parse().map(|report| vec![report])
    };
    let reports: Vec<PodReport> = reports.map_err(ParseUpstreamError::Content)?;
    if reports.len() > MOST {
        return Err(ParseUpstreamError::TooMany(reports.len()));
    }
    for name in reports.iter().map(|report| report.name.as_str()).chain([namespace]) {
        check_name(name).map_err(ParseUpstreamError::Key)?;
    }
    Ok(Request::ReportPods { namespace: namespace.to_owned(), reports })
}

fn of_node(node: &str, message: &Message) -> Result<Request, ParseUpstreamError> {
    let node = NodeName::new(node).map_err(ParseUpstreamError::Key)?;
    let content = message.content.unwrapped().map_err(ParseUpstreamError::Content)?;
    if message.route.operation == "insert" {
        return Ok(Request::EnsureNode { node, object: content });
    }
    let report = content.parse().map_err(ParseUpstreamError::Content)?;
    Ok(Request::ReportNode { node, report })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Route, Upstream};
    use serde_json::json;

    fn read(operation: &str, resource: &str, content: &str) -> Upstream {
        let route = Route::new("edged", "meta", operation, resource);
        Upstream::parse(&Message::new(route, Json::from_text(content.into()).unwrap(), 0)).unwrap()
    }

    #[test]
    fn one_report_and_a_list_are_read_also_from_a_string() {
        let one = r#"{"UID":"u","Name":"a","Status":{"phase":"Running"}}"#;
        let text = Json::string(one);
        let list = format!("[{one},{{\"Name\":\"b\",\"Status\":{{}}}}]");
        let names = |upstream| match upstream {
            Upstream::Ask(Request::ReportPods { namespace, reports }) => {
                assert_eq!(namespace, "d");
                reports.into_iter().map(|report| (report.name, report.uid)).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        };
        let pair = |name: &str, uid: &str| (name.to_owned(), uid.to_owned());
        assert_eq!(names(read("update", "d/podstatus/a", one)), [pair("a", "u")]);
        assert_eq!(names(read("update", "d/podstatus/a", text.text())), [pair("a", "u")]);
        assert_eq!(names(read("update", "d/podstatus", &list)), [pair("a", "u"), pair("b", "")]);
    }

    #[test]
    fn a_name_that_would_lead_elsewhere_and_too_many_reports_are_refused() {
        let route = Route::new("edged", "meta", "update", "d/podstatus/a");
        let content = Json::from_text(r#"{"Name":"../secrets/s","Status":{}}"#.into()).unwrap();
        assert!(Upstream::parse(&Message::new(route, content, 0)).is_err());
        let many = vec![json!({"Name": "a", "Status": {}}); MOST + 1];
        let route = Route::new("edged", "meta", "update", "d/podstatus");
        let many = Message::new(route, Json::encode(&many).unwrap(), 0);
        assert!(matches!(Upstream::parse(&many), Err(ParseUpstreamError::TooMany(1001))));
    }

    #[test]
    fn a_node_is_registered_and_reported_by_its_old_resource() {
        let registered = read("insert", "default/nodestatus/e1", r#"{"metadata":{"name":"e1"}}"#);
        assert!(
            matches!(registered, Upstream::Ask(Request::EnsureNode { node, .. }) if node.as_str() == "e1")
        );
        let reported = read(
            "update",
            "default/nodestatus/e1",
            r#"{"UID":"u","Status":{"phase":"x"},"ExtendResources":{"a/b":[{"name":"g"}]}}"#,
        );
        let Upstream::Ask(Request::ReportNode { report, .. }) = reported else { panic!("{reported:?}") };
        assert_eq!(report.status.text(), r#"{"phase":"x"}"#);
        assert_eq!(report.extend_resources.unwrap()["a/b"].text(), r#"[{"name":"g"}]"#);
    }
}
