//! Where the container runtime is: one key of today, two of KubeEdge 1.12 to 1.15.

use api::config::edgecore::{Edged, KubeletConfig};

use super::Checker;

const NEW: &str = "modules.edged.tailoredKubeletConfig.containerRuntimeEndpoint";
const OLD: &str = "modules.edged.remoteRuntimeEndpoint";

/// The endpoint. The old key counts where the new one was left as it is by default.
pub(super) fn endpoint(edged: &Edged, checker: &mut Checker) -> String {
    let new = &edged.tailored_kubelet_config.container_runtime_endpoint;
    let old = &edged.remote_runtime_endpoint;
    let is_default = *new == KubeletConfig::default().container_runtime_endpoint;
    let (key, endpoint) = match (old.is_empty(), is_default) {
        (true, _) => (NEW, new),
        (false, true) => (OLD, old),
        (false, false) => {
            if old != new {
                checker.problem(OLD, format!("{old:?} differs from {NEW}: {new:?}; leave one of them out"));
            }
            (NEW, new)
        }
    };
    if !endpoint.starts_with("unix://") {
        checker.problem(key, format!("{endpoint:?} is not a unix:// socket"));
    }
    let images = [
        ("modules.edged.remoteImageEndpoint", &edged.remote_image_endpoint),
        (
            "modules.edged.tailoredKubeletConfig.imageServiceEndpoint",
            &edged.tailored_kubelet_config.image_service_endpoint,
        ),
    ];
    for (key, images) in images.iter().filter(|(_, images)| !images.is_empty() && *images != endpoint) {
        let text =
            format!("{images:?} is not the runtime's {endpoint:?}, which images are pulled by; leave it out");
        checker.problem(key, text);
    }
    endpoint.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut Edged)) -> (String, Vec<String>) {
        let mut edged = Edged::default();
        change(&mut edged);
        let mut checker = Checker { problems: Vec::new() };
        let endpoint = endpoint(&edged, &mut checker);
        (endpoint, checker.problems)
    }

    #[test]
    fn the_old_place_counts_where_the_new_one_says_nothing() {
        let docker = "unix:///run/cri-dockerd.sock";
        let (endpoint, problems) = check(|edged| {
            edged.remote_runtime_endpoint = docker.into();
            edged.remote_image_endpoint = docker.into();
        });
        assert_eq!((endpoint.as_str(), problems.len()), (docker, 0));
    }

    #[test]
    fn endpoints_that_contradict_each_other_are_refused() {
        let (_, problems) = check(|edged| {
            edged.remote_runtime_endpoint = "unix:///run/a.sock".into();
            edged.tailored_kubelet_config.container_runtime_endpoint = "unix:///run/b.sock".into();
            edged.tailored_kubelet_config.image_service_endpoint = "unix:///run/c.sock".into();
        });
        assert_eq!(problems.len(), 2, "{problems:?}");
    }
}
