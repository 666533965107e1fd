//! Resources that are answered, and never stored.

use apimachinery::path::ResourcePath;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Computed {
    pub group: &'static str,
    pub version: &'static str,
    pub plural: &'static str,
    /// May be empty.
    pub singular: &'static str,
    pub kind: &'static str,
    pub namespaced: bool,
    pub verbs: &'static [&'static str],
}

impl Computed {
    /// True if `path` is of this.
    pub(crate) fn is_at(&self, path: &ResourcePath) -> bool {
        (self.group, self.version, self.plural) == (&*path.group, &*path.version, &*path.resource)
    }
}

/// Questions that are created and answered.
pub const REVIEWS: [Computed; 6] = [
    review(
        "authorization.k8s.io",
        "selfsubjectaccessreviews",
        "selfsubjectaccessreview",
        "SelfSubjectAccessReview",
    ),
    review(
        "authorization.k8s.io",
        "selfsubjectrulesreviews",
        "selfsubjectrulesreview",
        "SelfSubjectRulesReview",
    ),
    review("authorization.k8s.io", "subjectaccessreviews", "subjectaccessreview", "SubjectAccessReview"),
    review(
        "authorization.k8s.io",
        "localsubjectaccessreviews",
        "localsubjectaccessreview",
        "LocalSubjectAccessReview",
    ),
    review("authentication.k8s.io", "tokenreviews", "tokenreview", "TokenReview"),
    review("authentication.k8s.io", "selfsubjectreviews", "selfsubjectreview", "SelfSubjectReview"),
];

const fn review(
    group: &'static str,
    plural: &'static str,
    singular: &'static str,
    kind: &'static str,
) -> Computed {
    Computed { group, version: "v1", plural, singular, kind, namespaced: false, verbs: &["create"] }
}
