//! What a list or a watch is of: a resource in a version, a namespace or all, and selectors. Pure.

use std::fmt::Write as _;

use apimachinery::kinds::{api_path, split_api_version};
use kubeapi::stored::ListQuery;
use kubeapi::target::Target;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

/// What is written as it is in paths and queries.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b':');

/// The same for whoever asks for the same in other words.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Scope {
    /// `v1`, `apps/v1`
    pub api_version: String,
    /// As in [`kubeapi::stored::Key::resource`].
    pub resource: String,
    /// `None`: all, or those of the cluster.
    pub namespace: Option<String>,
    pub labels: String,
    pub fields: String,
}

impl Scope {
    pub(crate) fn of(query: &ListQuery) -> Scope {
        Scope {
            api_version: query.api_version.clone(),
            resource: query.resource.clone(),
            namespace: query.namespace.clone(),
            labels: query.labels.to_string(),
            fields: query.fields.to_string(),
        }
    }

    /// All objects of the resource in the namespace of one.
    pub(crate) fn of_object(target: &Target) -> Scope {
        Scope {
            api_version: target.served.api_version(),
            resource: target.served.resource.key(),
            namespace: Some(target.namespace.clone()).filter(|namespace| !namespace.is_empty()),
            labels: String::new(),
            fields: String::new(),
        }
    }

    pub(crate) fn group(&self) -> &str {
        split_api_version(&self.api_version).0
    }

    pub(crate) fn plural(&self) -> &str {
        self.resource.split_once('.').map_or(self.resource.as_str(), |(plural, _)| plural)
    }

    /// Its row in the database.
    pub(crate) fn text(&self) -> String {
        // Texts can be encoded.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Path and query of its list; `more` are further parameters.
    pub(crate) fn path(&self, more: &[(&str, &str)]) -> String {
        let (group, version) = split_api_version(&self.api_version);
        let namespace = self.namespace.as_deref().map(encoded);
        let mut path = api_path(group, version, &encoded(self.plural()), namespace.as_deref(), "");
        let selectors = [("labelSelector", self.labels.as_str()), ("fieldSelector", self.fields.as_str())];
        let pairs = selectors.iter().chain(more).filter(|(_, value)| !value.is_empty());
        for (at, (name, value)) in pairs.enumerate() {
            let mark = if at == 0 { '?' } else { '&' };
            let _ = write!(path, "{mark}{name}={}", encoded(value));
        }
        path
    }

    /// The scopes that hold all of this one, nearest first: itself, and those without its selectors or namespace.
    pub(crate) fn wider(&self) -> Vec<Scope> {
        let mut all = vec![self.clone()];
        let bare = Scope { labels: String::new(), fields: String::new(), ..self.clone() };
        for scope in
            [bare.clone(), Scope { namespace: None, ..self.clone() }, Scope { namespace: None, ..bare }]
        {
            if !all.contains(&scope) {
                all.push(scope);
            }
        }
        all
    }
}

/// A path segment or a value of a query.
fn encoded(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

/// The path of an object, with its subresource.
pub(crate) fn object_path(target: &Target) -> String {
    let (resource, version) = (&target.served.resource, &target.served.version().name);
    let namespace = Some(encoded(&target.namespace)).filter(|namespace| !namespace.is_empty());
    let mut path = api_path(
        &resource.group,
        version,
        &encoded(&resource.plural),
        namespace.as_deref(),
        &encoded(&target.name),
    );
    if !target.subresource.is_empty() {
        path.push('/');
        path.push_str(&encoded(&target.subresource));
    }
    path
}

#[cfg(test)]
mod tests {
    use apimachinery::{FieldSelector, LabelSelector};

    use super::*;

    fn query(namespace: Option<&str>, labels: &str, fields: &str) -> ListQuery {
        ListQuery {
            resource: "deployments.apps".into(),
            api_version: "apps/v1".into(),
            namespace: namespace.map(str::to_owned),
            labels: LabelSelector::parse(labels).unwrap(),
            fields: FieldSelector::parse(fields).unwrap(),
            ..ListQuery::default()
        }
    }

    #[test]
    fn the_same_question_has_one_scope_and_a_path_that_asks_for_it() {
        let scope = Scope::of(&query(Some("shop"), "b in (y,x),a=1", ""));
        assert_eq!(scope, Scope::of(&query(Some("shop"), "a==1,b in (x,y)", "")));
        let path = scope.path(&[("limit", "1"), ("continue", "")]);
        assert_eq!(
            path,
            "/apis/apps/v1/namespaces/shop/deployments?labelSelector=a%3D1%2Cb%20in%20%28x%2Cy%29&limit=1"
        );
        assert_eq!(serde_json::from_str::<Scope>(&scope.text()).unwrap(), scope);
    }

    #[test]
    fn what_is_wider_holds_all_of_it() {
        let scope = Scope::of(&query(Some("shop"), "a=1", ""));
        let wider: Vec<_> = scope.wider().into_iter().map(|one| (one.namespace, one.labels)).collect();
        let shop = || Some("shop".to_owned());
        let expected = [
            (shop(), "a=1".to_owned()),
            (shop(), String::new()),
            (None, "a=1".to_owned()),
            (None, String::new()),
        ];
        assert_eq!(wider, expected);
        assert_eq!(Scope::of(&query(None, "", "")).wider().len(), 1);
    }
}
