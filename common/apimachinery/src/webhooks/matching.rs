//! What webhooks and policies look at: rules, and selectors of objects and their namespaces.

use serde_json::Value;

use super::rules::{Asked, Rule};
use crate::LabelSelector;
use crate::object::{list, text};

/// Which requests are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matching {
    pub rules: Vec<Rule>,
    /// What is not looked at, though rules match.
    pub excluded: Vec<Rule>,
    pub namespaces: LabelSelector,
    pub objects: LabelSelector,
    /// `matchPolicy: Equivalent`: rules are also matched by other versions of the resource.
    pub equivalent: bool,
}

impl Matching {
    /// Of a webhook.
    pub(super) fn of_webhook(hook: &Value) -> Option<Matching> {
        Matching::read(hook, "/rules")
    }

    /// `matchConstraints` or `matchResources` of a policy or a binding that was checked. Without rules, all are matched.
    pub fn of_policy(matches: &Value) -> Option<Matching> {
        Matching::read(matches, "/resourceRules")
    }

    fn read(matches: &Value, rules: &str) -> Option<Matching> {
        let read = |field: &str| list(matches, field).iter().map(Rule::read).collect();
        Some(Matching {
            rules: read(rules),
            excluded: read("/excludeResourceRules"),
            namespaces: LabelSelector::of_object(&matches["namespaceSelector"], "").ok()?,
            objects: LabelSelector::of_object(&matches["objectSelector"], "").ok()?,
            equivalent: text(matches, "/matchPolicy") != "Exact",
        })
    }

    pub fn matches(&self, asked: &Asked<'_>) -> bool {
        self.rules.iter().any(|rule| rule.matches(asked))
    }

    pub fn excludes(&self, asked: &Asked<'_>) -> bool {
        self.excluded.iter().any(|rule| rule.matches(asked))
    }
}
