//! Flags of KubeEdge's keadm that ask for what is not done here: refused with what to do instead.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Command, flag, and why and what instead.
const FLAGS: &[(&str, &str, &str)] = &[
    ("init", "--external-helm-root", CHART),
    ("init", "--skip-preflight-checks", HEALTH),
    ("join", "--image-repository", PROGRAMS),
    (
        "join",
        "--tarballpath",
        "nothing is downloaded: put keadm and edgecore of a release into one folder, for a machine without a network as well",
    ),
    ("manifest", "--kube-config", "nothing is asked of a cluster: kubectl apply -f - takes what is printed"),
    ("manifest", "--external-helm-root", CHART),
    ("manifest", "--profile", "there is one profile: --set changes values of the chart"),
    ("manifest", "--files", MORE),
    ("manifest", "-f", MORE),
];

const CHART: &str = "there is one chart, manifests/charts/cloudcore: helm install takes it";
const HEALTH: &str = "nodes and DNS of the cluster are not looked at, so nothing is left to skip. Ports that are taken on this machine are found in any case: --set chooses others";
const MORE: &str = "only CloudCore's own objects are printed: apply others beside them";
const PROGRAMS: &str = "EdgeCore is started as a program of keadm's folder. Images of pods come from the registries they name; mirrors are a setting of the container runtime";

/// The error as the parser tells it, or with what to do instead if KubeEdge has the flag. `command` is the word after
/// `keadm`.
pub(crate) fn explain(error: clap::Error, command: &str) -> clap::Error {
    let flag = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(flag)) if error.kind() == ErrorKind::UnknownArgument => flag,
        _ => return error,
    };
    match sentence(command, flag) {
        None => error,
        Some(sentence) => {
            let text = format!("{command} has no {flag} here: {sentence}\n");
            clap::Error::raw(ErrorKind::UnknownArgument, text)
        }
    }
}

fn sentence(command: &str, flag: &str) -> Option<&'static str> {
    FLAGS.iter().find(|(of, name, _)| *of == command && *name == flag).map(|(_, _, sentence)| *sentence)
}
