//! The messages behind `kubectl create deployment`, `job`, `cronjob`, `service` and `poddisruptionbudget`. Of pods only what these
//! commands say; the rest is refused as everywhere.

use super::Kind::{Count, Flag, Ignored, IntOrText, Integer, Mark, Message, Messages, Text, TextMap, Texts};
use super::{Field, META};

pub(super) fn fields(message: &str) -> Option<&'static [Field]> {
    Some(match message {
        "apps/v1/Deployment" => {
            &[(1, "metadata", META), (2, "spec", Message("DeploymentSpec")), (3, "status", Ignored)]
        }
        "DeploymentSpec" => &[
            (1, "replicas", Integer),
            (2, "selector", Message("LabelSelector")),
            (3, "template", Message("PodTemplateSpec")),
            (4, "strategy", Message("DeploymentStrategy")),
            (5, "minReadySeconds", Count),
            (6, "revisionHistoryLimit", Integer),
            (7, "paused", Mark),
            (9, "progressDeadlineSeconds", Integer),
        ],
        "DeploymentStrategy" => &[(1, "type", Text), (2, "rollingUpdate", Message("RollingUpdate"))],
        "RollingUpdate" => &[(1, "maxUnavailable", IntOrText), (2, "maxSurge", IntOrText)],
        "LabelSelector" => {
            &[(1, "matchLabels", TextMap), (2, "matchExpressions", Messages("LabelRequirement"))]
        }
        "LabelRequirement" => &[(1, "key", Text), (2, "operator", Text), (3, "values", Texts)],
        "batch/v1/Job" => &[(1, "metadata", META), (2, "spec", Message("JobSpec")), (3, "status", Ignored)],
        "JobSpec" => &[
            (1, "parallelism", Integer),
            (2, "completions", Integer),
            (3, "activeDeadlineSeconds", Integer),
            (4, "selector", Message("LabelSelector")),
            (5, "manualSelector", Flag),
            (6, "template", Message("PodTemplateSpec")),
            (7, "backoffLimit", Integer),
            (8, "ttlSecondsAfterFinished", Integer),
            (9, "completionMode", Text),
            (10, "suspend", Flag),
            (12, "backoffLimitPerIndex", Integer),
            (13, "maxFailedIndexes", Integer),
            (14, "podReplacementPolicy", Text),
            (15, "managedBy", Text),
        ],
        "batch/v1/CronJob" => {
            &[(1, "metadata", META), (2, "spec", Message("CronJobSpec")), (3, "status", Ignored)]
        }
        "CronJobSpec" => &[
            (1, "schedule", Text),
            (2, "startingDeadlineSeconds", Integer),
            (3, "concurrencyPolicy", Text),
            (4, "suspend", Flag),
            (5, "jobTemplate", Message("JobTemplateSpec")),
            (6, "successfulJobsHistoryLimit", Integer),
            (7, "failedJobsHistoryLimit", Integer),
            (8, "timeZone", Text),
        ],
        "JobTemplateSpec" => &[(1, "metadata", META), (2, "spec", Message("JobSpec"))],
        "policy/v1/PodDisruptionBudget" => {
            &[(1, "metadata", META), (2, "spec", Message("BudgetSpec")), (3, "status", Ignored)]
        }
        "BudgetSpec" => &[
            (1, "minAvailable", IntOrText),
            (2, "selector", Message("LabelSelector")),
            (3, "maxUnavailable", IntOrText),
            (4, "unhealthyPodEvictionPolicy", Text),
        ],
        "v1/Service" => &[(1, "metadata", META), (2, "spec", Message("ServiceSpec")), (3, "status", Ignored)],
        "ServiceSpec" => &[
            (1, "ports", Messages("ServicePort")),
            (2, "selector", TextMap),
            (3, "clusterIP", Text),
            (4, "type", Text),
            (5, "externalIPs", Texts),
            (7, "sessionAffinity", Text),
            (8, "loadBalancerIP", Text),
            (9, "loadBalancerSourceRanges", Texts),
            (10, "externalName", Text),
            (11, "externalTrafficPolicy", Text),
            (12, "healthCheckNodePort", Count),
            (13, "publishNotReadyAddresses", Mark),
            (17, "ipFamilyPolicy", Text),
            (18, "clusterIPs", Texts),
            (19, "ipFamilies", Texts),
            (20, "allocateLoadBalancerNodePorts", Flag),
            (21, "loadBalancerClass", Text),
            (22, "internalTrafficPolicy", Text),
        ],
        "ServicePort" => &[
            (1, "name", Text),
            (2, "protocol", Text),
            (3, "port", Count),
            (4, "targetPort", IntOrText),
            (5, "nodePort", Count),
            (6, "appProtocol", Text),
        ],
        "PodTemplateSpec" => &[(1, "metadata", META), (2, "spec", Message("PodSpec"))],
        "PodSpec" => &[
            (2, "containers", Messages("Container")),
            (3, "restartPolicy", Text),
            (4, "terminationGracePeriodSeconds", Integer),
            (5, "activeDeadlineSeconds", Integer),
            (6, "dnsPolicy", Text),
            (7, "nodeSelector", TextMap),
            (8, "serviceAccountName", Text),
            (9, "serviceAccount", Text),
            (10, "nodeName", Text),
            (11, "hostNetwork", Mark),
            (12, "hostPID", Mark),
            (13, "hostIPC", Mark),
            (14, "securityContext", Message("SecurityContext")),
            (15, "imagePullSecrets", Messages("LocalObjectReference")),
            (16, "hostname", Text),
            (17, "subdomain", Text),
            (19, "schedulerName", Text),
            (20, "initContainers", Messages("Container")),
            (21, "automountServiceAccountToken", Flag),
            (24, "priorityClassName", Text),
            (25, "priority", Integer),
            (29, "runtimeClassName", Text),
            (30, "enableServiceLinks", Flag),
        ],
        "Container" => &[
            (1, "name", Text),
            (2, "image", Text),
            (3, "command", Texts),
            (4, "args", Texts),
            (5, "workingDir", Text),
            (6, "ports", Messages("ContainerPort")),
            (7, "env", Messages("EnvVar")),
            (8, "resources", Message("ResourceRequirements")),
            (13, "terminationMessagePath", Text),
            (14, "imagePullPolicy", Text),
            (16, "stdin", Mark),
            (17, "stdinOnce", Mark),
            (18, "tty", Mark),
            (20, "terminationMessagePolicy", Text),
            (24, "restartPolicy", Text),
        ],
        "ContainerPort" => &[
            (1, "name", Text),
            (2, "hostPort", Count),
            (3, "containerPort", Count),
            (4, "protocol", Text),
            (5, "hostIP", Text),
        ],
        "EnvVar" => &[(1, "name", Text), (2, "value", Text)],
        // What is in them is refused: no command of kubectl sends it so.
        "ResourceRequirements" | "SecurityContext" => &[],
        _ => return None,
    })
}
