//! Running pods that the database does not have, while the cloud has not told yet what this node should run: the database
//! may be new, or older than they are. They are left alone, with their folders, until the cloud has told every pod. Those
//! it tells are taken over as they run; the others are stopped then.

use std::collections::{HashMap, HashSet};

use message::ObjectKey;

use super::Pods;
use podmodel::spec::PodId;

#[derive(Default)]
pub(super) struct Alone {
    /// By uid.
    pods: HashMap<String, PodId>,
    /// Uids of pods whose rows cannot be read.
    unreadable: HashSet<String>,
    is_over: bool,
}

impl Alone {
    /// The database has them, and cannot say what they are.
    pub(super) fn unreadable(&mut self, uids: Vec<String>) {
        if !uids.is_empty() {
            tracing::error!(
                uids = uids.join(" "),
                "rows of pods are damaged; the pods run on until the cloud has told them again"
            );
        }
        self.unreadable.extend(uids);
    }

    /// The cloud has told every pod.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    pub(super) fn leave(&mut self, id: PodId) {
        let (namespace, name, uid) = (id.namespace.clone(), id.name.clone(), id.uid.clone());
        if self.pods.insert(uid.clone(), id).is_none() {
            tracing::warn!(
                namespace,
                name,
                uid,
                "a running pod is not in the database, left alone until the cloud has told its pods"
            );
        }
    }

    /// Takes those out that an object of this key is about.
    pub(super) fn named(&mut self, key: &ObjectKey, uid: Option<&str>) -> Vec<PodId> {
        let is_meant = |id: &PodId| {
            key.namespace.as_deref() == Some(id.namespace.as_str())
                && key.name == id.name
                && uid.is_none_or(|uid| uid == id.uid)
        };
        self.pods.extract_if(|_, id| is_meant(id)).map(|(_, id)| id).collect()
    }
}

impl Pods {
    /// Whether a pod that is not known here may be one of this node all the same. What is noted of a pod outlives its
    /// removal: with a note it was here, and was taken away. Uids of pods from files have no dash, and files are all read.
    pub(super) fn may_be_missing(&self, uid: &str) -> bool {
        !self.alone.is_over
            && (!self.records.contains_key(uid) || self.alone.unreadable.contains(uid))
            && !self.workers.contains_key(uid)
            && uid.contains('-')
    }

    /// Every pod of this node is known: those that were left alone and are none of them go.
    pub(super) fn nobody_is_missing(&mut self) {
        self.alone.is_over = true;
        for (uid, id) in std::mem::take(&mut self.alone.pods) {
            if !self.workers.contains_key(&uid) && !self.unsure.contains(&uid) {
                self.stop_unknown(id);
            }
        }
    }
}
