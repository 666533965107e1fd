//! Switches and files that mean something else here than in KubeEdge, and what is said of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use api::config::cloudcore::CloudCoreConfig;

/// Switches that cannot be off, and why.
pub(super) fn problems(config: &CloudCoreConfig) -> Vec<String> {
    let modules = &config.modules;
    let hub = &modules.cloud_hub;
    let always = [
        ("modules.cloudHub.enable", hub.enable, "edges have no other way in"),
        (
            "modules.cloudHub.websocket.enable",
            hub.websocket.enable,
            "it serves every edge; close the port in a firewall for QUIC alone",
        ),
        ("modules.edgeController.enable", modules.edge_controller.enable, "edges would be given nothing"),
        (
            "modules.deviceController.enable",
            modules.device_controller.enable,
            "devices are carried as soon as there are any",
        ),
        (
            "modules.syncController.enable",
            modules.sync_controller.enable,
            "edges would keep what was deleted while they were away",
        ),
    ];
    let off = always.iter().filter(|(_, is_on, _)| !is_on);
    off.map(|(key, _, why)| format!("{key}: cannot be false ({why}); write true or leave it out")).collect()
}

/// Keys that are not taken as KubeEdge takes them, and what happens instead.
pub fn warnings(config: &CloudCoreConfig) -> Vec<(String, String)> {
    let hub = &config.modules.cloud_hub;
    let mut warnings = Vec::new();
    let mut warn =
        |key: &str, text: &str| warnings.push((format!("modules.cloudHub.{key}"), text.to_owned()));
    if hub.authorization.allow_unauthorized {
        warn(
            "authorization.allowUnauthorized",
            "AUTHORIZATION IS OFF: any certificate may speak for any node and read what is that node's; take the key out as soon as the migration is over",
        );
    } else if !hub.authorization.enable {
        warn(
            "authorization.enable",
            "authorization stays on, although the file says false, as KubeEdge writes it for everybody; authorization.allowUnauthorized: true would turn it off",
        );
    }
    if hub.join_existing_nodes {
        warn(
            "joinExistingNodes",
            "ANY JOIN TOKEN IS GOOD FOR ANY NODE: who holds one can take the name of a node that exists and read what is that node's; take the key out and give such machines a token of keadm gettoken --existing-nodes",
        );
    }
    if !hub.refuse_deleted_nodes {
        warn(
            "refuseDeletedNodes",
            "a node whose object is deleted comes back by itself, with the certificate it has; keadm node remove puts it out",
        );
    }
    if !hub.https.enable {
        warn(
            "https.enable",
            "certificates are served all the same, as in KubeEdge: no node could join otherwise",
        );
    }
    for (key, file) in [("tlsCertFile", &hub.tls_cert_file), ("tlsPrivateKeyFile", &hub.tls_private_key_file)]
    {
        if Path::new(file).exists() {
            let text = format!(
                "{file} is not used: CloudCore makes its own certificate from the CA for advertiseAddress and dnsNames and keeps it in secret kubeedge/cloudcoresecret"
            );
            warn(key, &text);
        }
    }
    warnings
}

/// The address to listen on. KubeEdge's default, all of IPv4, becomes all of IPv6 and IPv4 where edges are told an IPv6
/// address.
pub(super) fn family(listen: IpAddr, advertised: &[String]) -> IpAddr {
    let has_v6 = advertised.iter().any(|name| name.parse::<Ipv6Addr>().is_ok());
    match listen {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) if has_v6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        listen => listen,
    }
}

#[cfg(test)]
mod tests {
    use api::config::keys;

    use super::*;
    use crate::settings::Settings;

    fn config() -> CloudCoreConfig {
        let mut config = CloudCoreConfig::default();
        config.modules.cloud_hub.advertise_address = vec!["10.0.0.5".into()];
        config.modules.cloud_hub.tls_cert_file = String::new();
        config.modules.cloud_hub.tls_private_key_file = String::new();
        config
    }

    #[test]
    fn only_a_key_of_our_own_turns_authorization_off_and_both_are_told() {
        let mut config = config();
        assert!(warnings(&config).is_empty());
        config.modules.cloud_hub.authorization.enable = false;
        assert!(Settings::check(&config).unwrap().hub.enforce);
        assert_eq!(warnings(&config)[0].0, "modules.cloudHub.authorization.enable");
        config.modules.cloud_hub.authorization.allow_unauthorized = true;
        assert!(!Settings::check(&config).unwrap().hub.enforce);
        assert_eq!(warnings(&config)[0].0, "modules.cloudHub.authorization.allowUnauthorized");
    }

    #[test]
    fn a_switch_that_cannot_be_off_is_refused_by_name() {
        let mut config = config();
        config.modules.cloud_hub.enable = false;
        config.modules.cloud_hub.websocket.enable = false;
        config.modules.edge_controller.enable = false;
        config.modules.device_controller.enable = false;
        config.modules.sync_controller.enable = false;
        config.modules.cloud_hub.https.enable = false;
        assert_eq!(Settings::check(&config).unwrap_err().0.len(), 5);
        assert_eq!(warnings(&config)[0].0, "modules.cloudHub.https.enable");
    }

    #[test]
    fn both_families_are_served_where_an_ipv6_address_is_advertised() {
        let mut config = config();
        assert_eq!(Settings::check(&config).unwrap().hub.listen.to_string(), "0.0.0.0:10000");
        config.modules.cloud_hub.advertise_address.push("fd00::1".into());
        config.modules.cloud_hub.https.address = "10.0.0.5".into();
        let settings = Settings::check(&config).unwrap();
        assert_eq!(settings.hub.listen.to_string(), "[::]:10000");
        assert_eq!(settings.register.to_string(), "10.0.0.5:10002");
    }

    #[test]
    fn of_what_kubeedge_writes_for_everybody_only_the_authorization_is_told() {
        let text = include_str!("fixtures/kubeedge-1.23.yaml");
        let (config, unused): (CloudCoreConfig, _) =
            daemon::config::parse_kind(text, Path::new("cloudcore.yaml")).unwrap();
        let review =
            keys::review(keys::CLOUDCORE, unused.iter().map(|unused| (unused.key.as_str(), &unused.value)));
        assert!(review.warnings.is_empty() && review.problems.is_empty(), "{review:?}");
        assert!(Settings::check(&config).unwrap().hub.enforce);
        let told: Vec<String> = warnings(&config).into_iter().map(|(key, _)| key).collect();
        assert_eq!(told, ["modules.cloudHub.authorization.enable"]);
    }
}
