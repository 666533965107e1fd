//! What the kubelet asks its API server about who shows such a token. Pure but for the time.

use serde_json::{Value, json};

use crate::passes::{self, Passes, USER};

/// Which question it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Who shows this token?
    TokenReview,
    /// May this user do that?
    SubjectAccessReview,
}

/// What of a node the user may ask, as kubelets name it (`pkg/kubelet/server/auth.go`): first what is fine-grained since 1.33, then what
/// stands for all else.
const SUBRESOURCES: [&str; 7] = ["pods", "healthz", "configz", "stats", "metrics", "log", "proxy"];

impl Question {
    /// The question that is created in this resource of `authentication.k8s.io` or `authorization.k8s.io`.
    pub fn of(resource: &str) -> Option<Question> {
        match resource {
            "tokenreviews" => Some(Question::TokenReview),
            "subjectaccessreviews" => Some(Question::SubjectAccessReview),
            _ => None,
        }
    }
}

impl Passes {
    /// The answer to a review, if it is about a token or the user of this room; `None`: the cloud knows. `is_kubelet`: who asks has
    /// shown the node's certificate; nobody else is told anything good.
    pub fn answer(&self, question: Question, review: &Value, is_kubelet: bool) -> Option<Value> {
        let spec = &review["spec"];
        match question {
            Question::TokenReview => {
                let token = spec["token"].as_str().filter(|token| passes::is_one(token))?;
                // They are meant for the kubelet, which names no audience.
                let is_for_any = spec["audiences"].as_array().is_none_or(Vec::is_empty);
                let is_known = is_kubelet && is_for_any && self.is_good(token);
                let status = match is_known {
                    true => json!({"authenticated": true, "user": {"username": USER, "uid": self.uid()}}),
                    false => {
                        json!({"authenticated": false, "error": "the token is not good, or not any more"})
                    }
                };
                Some(told("authentication.k8s.io/v1", "TokenReview", &status))
            }
            Question::SubjectAccessReview => {
                if spec["user"] != USER {
                    return None;
                }
                let is_allowed = is_kubelet && self.allows(spec);
                let status = match is_allowed {
                    true => json!({"allowed": true, "reason": "the cloud asks this node's kubelet"}),
                    false => json!({"allowed": false, "denied": true,
                        "reason": "this user asks the kubelet of its own node, and nothing else"}),
                };
                Some(told("authorization.k8s.io/v1", "SubjectAccessReview", &status))
            }
        }
    }

    fn allows(&self, spec: &Value) -> bool {
        let asked = &spec["resourceAttributes"];
        let text = |name: &str| asked[name].as_str().unwrap_or_default();
        spec["uid"] == self.uid()
            && spec["nonResourceAttributes"].is_null()
            && matches!(text("verb"), "get" | "create")
            && (text("group"), text("resource"), text("namespace")) == ("", "nodes", "")
            && text("name") == self.node()
            && SUBRESOURCES.contains(&text("subresource"))
    }
}

/// The token is not told back.
fn told(api_version: &str, kind: &str, status: &Value) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "metadata": {}, "spec": {}, "status": status})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes() -> Passes {
        Passes::new("edge-1").unwrap()
    }

    fn tells(passes: &Passes, spec: &Value, is_kubelet: bool) -> Option<bool> {
        let review = json!({"spec": spec});
        let answer = passes.answer(Question::TokenReview, &review, is_kubelet)?;
        answer["status"]["authenticated"].as_bool()
    }

    #[tokio::test]
    async fn a_good_token_is_told_to_who_shows_the_nodes_certificate_and_every_such_token_stays_here() {
        let passes = passes();
        let pass = passes.issue().unwrap();
        let spec = json!({"token": pass.text()});
        assert_eq!(tells(&passes, &spec, true), Some(true));
        assert_eq!(tells(&passes, &spec, false), Some(false));
        let audiences = json!({"token": pass.text(), "audiences": ["https://kubernetes.default.svc"]});
        assert_eq!(tells(&passes, &audiences, true), Some(false));
        drop(pass);
        assert_eq!(tells(&passes, &spec, true), Some(false), "over, and the cloud is not asked");
        assert_eq!(tells(&passes, &json!({"token": "e30.e30.x"}), true), None);
        assert_eq!(tells(&passes, &json!({"token": 7}), true), None);
    }

    #[tokio::test]
    async fn the_answer_does_not_tell_the_token_back() {
        let passes = passes();
        let pass = passes.issue().unwrap();
        let answer = passes.answer(Question::TokenReview, &json!({"spec": {"token": pass.text()}}), true);
        assert!(!answer.unwrap().to_string().contains(pass.text()));
    }

    #[test]
    fn the_user_asks_the_kubelet_of_its_node_and_nothing_else() {
        let passes = passes();
        let allowed = |spec: &Value, is_kubelet| {
            let review = json!({"spec": spec});
            let answer = passes.answer(Question::SubjectAccessReview, &review, is_kubelet);
            answer.map(|answer| answer["status"]["allowed"] == true)
        };
        let spec = |change: &[(&str, &str)]| {
            let mut spec = json!({"user": USER, "uid": passes.uid(), "groups": ["system:authenticated"],
                "resourceAttributes": {"verb": "get", "version": "v1", "resource": "nodes", "subresource": "proxy", "name": "edge-1"}});
            change.iter().for_each(|(at, value)| *spec.pointer_mut(at).unwrap() = json!(value));
            spec
        };
        assert_eq!(allowed(&spec(&[]), true), Some(true));
        for subresource in SUBRESOURCES {
            let one = spec(&[
                ("/resourceAttributes/subresource", subresource),
                ("/resourceAttributes/verb", "create"),
            ]);
            assert_eq!(allowed(&one, true), Some(true), "{subresource}");
        }
        assert_eq!(allowed(&spec(&[]), false), Some(false));
        for (at, value) in [
            ("/uid", ""),
            ("/uid", "another"),
            ("/resourceAttributes/subresource", "checkpoint"),
            ("/resourceAttributes/subresource", ""),
            ("/resourceAttributes/subresource", "*"),
            ("/resourceAttributes/resource", "secrets"),
            ("/resourceAttributes/name", "edge-2"),
            ("/resourceAttributes/name", ""),
            ("/resourceAttributes/verb", "delete"),
            ("/resourceAttributes/verb", "*"),
        ] {
            assert_eq!(allowed(&spec(&[(at, value)]), true), Some(false), "{at} {value:?}");
        }
        let mut path = spec(&[]);
        path["nonResourceAttributes"] = json!({"path": "/metrics", "verb": "get"});
        assert_eq!(allowed(&path, true), Some(false));
        assert_eq!(allowed(&spec(&[("/user", "system:node:edge-1")]), true), None, "the cloud knows others");
    }
}
