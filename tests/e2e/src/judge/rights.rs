//! The rights of CloudCore's roles, one by one, and which of them a request needs.

use std::fmt;

use apimachinery::path::RequestPath;
use http::{Method, Uri};
use manifests::{CLUSTER, LEASES, OWN, Part, Rule};

/// The rules, and in which namespace they count; empty: everywhere.
const SCOPES: [(&str, &[Rule]); 3] = [("", CLUSTER), ("kubeedge", OWN), ("kube-node-lease", LEASES)];

/// One verb for one resource, of a rule. Written as `delete coordination.k8s.io/leases in kubeedge`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Right {
    /// Empty: everywhere.
    namespace: &'static str,
    /// Empty: the core group.
    group: &'static str,
    /// With its subresource.
    resource: &'static str,
    /// Empty: every object.
    name: &'static str,
    verb: &'static str,
}

impl fmt::Display for Right {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        told(out, [self.verb, self.group, self.resource, self.name, self.namespace])
    }
}

/// What a request asks for; written as a right is.
#[derive(Debug)]
pub(super) struct Asked {
    namespace: String,
    group: String,
    resource: String,
    name: String,
    verb: String,
}

impl fmt::Display for Asked {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        told(out, [&self.verb, &self.group, &self.resource, &self.name, &self.namespace])
    }
}

fn told(out: &mut fmt::Formatter<'_>, [verb, group, resource, name, namespace]: [&str; 5]) -> fmt::Result {
    write!(out, "{verb} {group}/{resource}")?;
    if !name.is_empty() {
        write!(out, " {name}")?;
    }
    if !namespace.is_empty() {
        write!(out, " in {namespace}")?;
    }
    Ok(())
}

/// Every right of the roles as the chart gives them if nobody says otherwise; one for each object where a rule names objects.
pub(super) fn all() -> Vec<Right> {
    let rules = SCOPES.iter().flat_map(|(namespace, rules)| rules.iter().map(move |rule| (namespace, rule)));
    let rules = rules.filter(|(_, rule)| rule.part != Part::NodeIdentity);
    let resources = rules
        .flat_map(|(namespace, rule)| rule.resources.iter().map(move |resource| (namespace, rule, resource)));
    let verbs = resources.flat_map(|(namespace, rule, resource)| {
        rule.verbs.iter().map(move |verb| (namespace, rule, resource, verb))
    });
    let rights = verbs.flat_map(|(namespace, rule, resource, verb)| {
        let names = if rule.names.is_empty() { &[""] } else { rule.names };
        names.iter().map(move |name| Right { namespace, group: rule.group, resource, name, verb })
    });
    rights.collect()
}

/// The one of `rights` that gives what is asked for.
pub(super) fn that_gives<'a>(rights: &'a [Right], asked: &Asked) -> Option<&'a Right> {
    rights.iter().find(|right| {
        right.group == asked.group
            && right.resource == asked.resource
            && right.verb == asked.verb
            && (right.namespace.is_empty() || right.namespace == asked.namespace)
            && (right.name.is_empty() || right.name == asked.name)
    })
}

/// What the API server itself asks about a request: that to approve a signing request takes the right to approve for its signer, of
/// which the roles have one.
pub(super) fn asked_beside<'a>(rights: &'a [Right], asked: &Asked) -> Option<&'a Right> {
    let approves = asked.resource == "certificatesigningrequests/approval";
    rights.iter().find(|right| approves && right.resource == "signers" && right.verb == "approve")
}

impl Asked {
    /// `None`: it is about no resource.
    pub(super) fn read(method: &Method, uri: &Uri) -> Option<Asked> {
        let Some(RequestPath::Resource(path)) = RequestPath::parse(uri.path()) else { return None };
        let mut query = uri.query().into_iter().flat_map(|query| query.split('&'));
        let watches = query.any(|part| part == "watch=true" || part == "watch=1");
        let verb = match (method.as_str(), path.name.is_empty()) {
            ("GET", true) if watches => "watch",
            ("GET", true) => "list",
            ("GET", false) => "get",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", false) => "delete",
            ("DELETE", true) => "deletecollection",
            (other, _) => other,
        };
        let resource = match path.subresource.as_str() {
            "" => path.resource,
            subresource => format!("{}/{subresource}", path.resource),
        };
        Some(Asked {
            namespace: path.namespace,
            group: path.group,
            resource,
            name: path.name,
            verb: verb.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request that needs this right.
    fn request(right: &Right) -> Asked {
        let Right { namespace, group, resource, name, verb } = right;
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let root = if group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{group}/v1") };
        let within = if namespace.is_empty() { String::new() } else { format!("/namespaces/{namespace}") };
        let (method, is_of_one, query) = match *verb {
            "list" => ("GET", false, ""),
            "watch" => ("GET", false, "?watch=true"),
            "get" => ("GET", true, ""),
            "create" => ("POST", !subresource.is_empty(), ""),
            "update" => ("PUT", true, ""),
            "patch" => ("PATCH", true, ""),
            "delete" => ("DELETE", true, ""),
            other => panic!("{other} is not asked for by a request"),
        };
        let one = match (is_of_one, name.is_empty()) {
            (false, _) => String::new(),
            (true, true) => "/any".to_owned(),
            (true, false) => format!("/{name}"),
        };
        let below = if subresource.is_empty() { String::new() } else { format!("/{subresource}") };
        let uri = format!("{root}{within}/{resource}{one}{below}{query}");
        Asked::read(&method.parse().unwrap(), &uri.parse().unwrap()).unwrap()
    }

    #[test]
    fn a_request_is_refused_without_the_one_right_that_it_needs() {
        let rights = all();
        // No request has this verb: the API server itself asks for it.
        for right in rights.iter().filter(|right| right.verb != "approve") {
            let asked = request(right);
            assert_eq!(that_gives(&rights, &asked), Some(right), "{asked}");
            let others: Vec<Right> = rights.iter().filter(|other| *other != right).cloned().collect();
            assert_eq!(that_gives(&others, &asked), None, "{asked}");
        }
    }

    #[test]
    fn a_right_in_a_namespace_or_to_an_object_is_none_elsewhere() {
        let rights = all();
        let asked = |method: &str, uri: &str| Asked::read(&method.parse().unwrap(), &uri.parse().unwrap());
        for (method, uri, given) in [
            ("PUT", "/api/v1/namespaces/kubeedge/secrets/casecret", "update /secrets casecret in kubeedge"),
            ("PUT", "/api/v1/namespaces/kubeedge/secrets/other", ""),
            ("PUT", "/api/v1/namespaces/default/secrets/casecret", ""),
            ("GET", "/api/v1/namespaces/default/pods?watch=true", "watch /pods"),
            ("DELETE", "/api/v1/namespaces/default/pods", ""),
        ] {
            let right = that_gives(&rights, &asked(method, uri).unwrap()).map(Right::to_string);
            assert_eq!(right.unwrap_or_default(), given, "{method} {uri}");
        }
        assert!(asked("GET", "/version").is_none());
    }
}
