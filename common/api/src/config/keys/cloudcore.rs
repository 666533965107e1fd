//! KubeEdge's keys of `cloudcore.yaml` that are not fields (docs/protocol/transport.md 7.1).

use super::{Rule, harmless, warn};

const OFF: &[&str] = &["false"];

/// `cloudcore.yaml`.
pub const CLOUDCORE: &[Rule] = &[
    harmless("commonConfig.tunnelPort", "there is no tunnel"),
    warn("commonConfig.monitorServer.enableProfiling", OFF, "there is no profiler to reach"),
    harmless("kubeAPIConfig.qps", "requests are limited by what is in flight"),
    harmless("kubeAPIConfig.burst", "requests are limited by what is in flight"),
    harmless("kubeAPIConfig.contentType", "both forms say the same"),
    harmless("featureGates.requireAuthorization", "authorization is always required"),
    harmless("featureGates.disableNodeTaskV1alpha2", "there are no node tasks"),
    warn("featureGates.*", &["false", "{}"], "this feature gate is not known here"),
    harmless("modules.cloudHub.writeTimeout", "KubeEdge does not use it either"),
    harmless("modules.cloudHub.quic.maxIncomingStreams", "the native dialect uses one stream"),
    harmless("modules.cloudHub.authorization.debug", "every refusal is logged"),
    harmless("modules.cloudHub.authorization.modes", "the certificate's node is the only mode"),
    harmless("modules.edgeController.nodeUpdateFrequency", "nodes are written when they change"),
    harmless("modules.edgeController.buffer.*", "queues have bounds of their own"),
    harmless("modules.edgeController.load.*", "work is spread by itself"),
    harmless("modules.deviceController.buffer.*", "queues have bounds of their own"),
    harmless("modules.deviceController.load.*", "work is spread by itself"),
    warn(
        "modules.taskManager.enable",
        OFF,
        "node tasks (upgrade, image pre-pull, config update) are not done by this CloudCore",
    ),
    harmless("modules.taskManager.*", "the module is not there"),
    warn(
        "modules.nodeUpgradeJobController.enable",
        OFF,
        "nodes are not upgraded by jobs of this CloudCore: upgrade them with keadm on the node",
    ),
    harmless("modules.nodeUpgradeJobController.*", "the module is not there"),
    harmless("modules.dynamicController.*", "requests have bounds of their own"),
    harmless("modules.cloudStream.tlsTunnelCAFile", "tunnels have the hub's own certificate and CA"),
    harmless("modules.cloudStream.tlsTunnelCertFile", "tunnels have the hub's own certificate and CA"),
    harmless("modules.cloudStream.tlsTunnelPrivateKeyFile", "tunnels have the hub's own certificate and CA"),
    warn("modules.router.enable", OFF, "rules and rule endpoints are not carried out by this CloudCore"),
    harmless("modules.router.*", "the module is not there"),
    harmless("modules.iptablesManager.*", "it serves the tunnel, which is not there"),
];
