//! Flags of KubeEdge's keadm that ask for what is not done here: refused with what to do instead.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Command, flag, and why and what instead.
const FLAGS: &[(&str, &str, &str)] = &[
    ("init", "--manifests", MANIFESTS),
    ("init", "--files", MANIFESTS),
    ("init", "-f", MANIFESTS),
    ("init", "--dry-run", "--no-start writes the files and starts nothing"),
    ("init", "-d", "--no-start writes the files and starts nothing"),
    (
        "init",
        "--external-helm-root",
        "CloudCore is started as a process: --set changes cloudcore.yaml; keadm manifest generate has it as pods of a cluster",
    ),
    ("init", "--profile", "there is one profile: --set changes cloudcore.yaml"),
    ("init", "--image-repository", PROGRAMS),
    ("init", "--skip-preflight-checks", "ports that are taken are found in any case: --set chooses others"),
    ("join", "--image-repository", PROGRAMS),
    (
        "join",
        "--tarballpath",
        "nothing is downloaded: put keadm and edgecore of a release into one folder, for a machine without a network as well",
    ),
    ("manifest", "--kube-config", "nothing is asked of a cluster: kubectl apply -f - takes what is printed"),
    (
        "manifest",
        "--external-helm-root",
        "there is one chart, manifests/charts/cloudcore: helm install takes it",
    ),
    ("manifest", "--profile", "there is one profile: --set changes values of the chart"),
    ("manifest", "--files", MORE),
    ("manifest", "-f", MORE),
    (
        "reset",
        "--kube-config",
        "what a cluster holds is not touched: remove it with kubectl delete namespace kubeedge, and nodes with kubectl delete node",
    ),
];

const MANIFESTS: &str =
    "only CloudCore is set up, the resource definitions it needs it makes itself: apply others with kubectl";
const MORE: &str = "only CloudCore's own objects are printed: apply others beside them";
const PROGRAMS: &str = "CloudCore and EdgeCore are started as programs of keadm's folder; keadm manifest generate has CloudCore as pods of a \
                        cluster. Images of pods come from the registries they name; mirrors are a setting of the container runtime";

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
