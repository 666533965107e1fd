//! Approves requests for the certificates that nodes show to the API, if who asks may ask for such
//! (`pkg/controller/certificates/approver`). Whom a role lets: `certificatesigningrequests/nodeclient` for bootstrap users,
//! `/selfnodeclient` for nodes that renew their own.

use apimachinery::Status;
use apimachinery::kinds::{Definition, KindInfo, Scope, lines};
use apimachinery::object::{list, text};
use controllers::api::{Key, Kind};
use controllers::cache::{Cache, Change};
use controllers::shell::{Again, Controller, Work};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use crate::certificates;

const KIND: Kind = &lines::CertificateSigningRequest;
static REVIEW: KindInfo = KindInfo {
    group: "authorization.k8s.io",
    version: "v1",
    resource: "subjectaccessreviews",
    kind: "SubjectAccessReview",
    word: None,
    scope: Scope::Cluster,
    definition: Definition::BuiltIn,
    subresources: &[],
    short_names: &[],
    synced: None,
};

/// The controller.
pub(crate) struct Approver;

impl Controller for Approver {
    fn name(&self) -> &'static str {
        "certificatesigningrequest-approving-controller"
    }

    fn user(&self) -> &'static str {
        "system:serviceaccount:kube-system:certificate-controller"
    }

    fn reads(&self) -> Vec<Kind> {
        vec![KIND]
    }

    fn touched(&self, _cache: &Cache, change: &Change) -> Vec<Key> {
        if change.kind == KIND { vec![change.key.clone()] } else { vec![] }
    }

    fn reconcile<'a>(&'a self, work: &'a Work, key: &'a Key) -> BoxFuture<'a, Result<Again, Status>> {
        async move {
            let Some(mut request) = work.cache.store(KIND).get(key) else { return Ok(None) };
            let is_decided = !list(&request, "/status/conditions").is_empty();
            if is_decided || request["status"]["certificate"].is_string() {
                return Ok(None);
            }
            for (subresource, message) in asked_for(&request) {
                if !may(work, &request, subresource).await? {
                    continue;
                }
                request["status"]["conditions"] = json!([
                    {"type": "Approved", "status": "True", "reason": "AutoApproved", "message": message}]);
                work.client.update_part(KIND, &request, "approval").await?;
                break;
            }
            Ok(None)
        }
        .boxed()
    }
}

/// What the request's maker has to have the right to, and what is said of the approval.
fn asked_for(request: &Value) -> Vec<(&'static str, &'static str)> {
    let Some(node) = certificates::client_of_node(request) else { return vec![] };
    let any = ("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview.");
    let own = ("selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview.");
    match text(request, "/spec/username") == node {
        true => vec![own, any],
        false => vec![any],
    }
}

async fn may(work: &Work, request: &Value, subresource: &str) -> Result<bool, Status> {
    let spec = &request["spec"];
    let review = json!({"spec": {
        "user": spec["username"], "uid": spec["uid"], "groups": spec["groups"], "extra": spec["extra"],
        "resourceAttributes": {"group": KIND.group, "resource": KIND.resource, "verb": "create", "version": "*",
            "subresource": subresource}}});
    Ok(work.client.create(&REVIEW, &review).await?["status"]["allowed"] == true)
}
