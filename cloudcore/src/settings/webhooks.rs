//! `modules.webhooks`, checked.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use api::config::cloudcore::CloudCoreConfig;
use apimachinery::webhooks::Url;

use super::switches;
use crate::webhooks::{Offline, Reached, Settings};

/// `None`: there are none. What is wrong is added to `problems`.
pub(super) fn check(config: &CloudCoreConfig, problems: &mut Vec<String>) -> Option<Settings> {
    let webhooks = &config.modules.webhooks;
    if !webhooks.enable {
        return None;
    }
    let mut wrong = |key: &str, value: &str, why: &str| {
        problems.push(format!("modules.webhooks.{key}: {value:?} {why}"));
    };
    let is_standalone = config.modules.standalone.enable;
    let everywhere =
        switches::family(IpAddr::V4(Ipv4Addr::UNSPECIFIED), &config.modules.cloud_hub.advertise_address);
    let own = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let ip = match webhooks.address.as_str() {
        "" if is_standalone => own,
        "" => everywhere,
        text => text.parse().unwrap_or_else(|_| {
            wrong("address", text, "is not an IP address");
            own
        }),
    };
    let listen = SocketAddr::new(ip, webhooks.port);
    let url = match webhooks.url.as_str() {
        "" if is_standalone => {
            let host = if ip.is_unspecified() { own } else { ip };
            Some(Url { host: host.to_string(), port: webhooks.port, path: "/".to_owned() })
        }
        "" => None,
        text => match Url::parse(text) {
            Ok(url) if url.path == "/" => Some(url),
            Ok(_) => {
                wrong("url", text, "has a path, which each webhook brings itself");
                None
            }
            Err(error) => {
                wrong("url", text, &format!("cannot be used: {error}"));
                None
            }
        },
    };
    let offline = Offline::parse(&webhooks.offline_changes).unwrap_or_else(|| {
        wrong("offlineChanges", &webhooks.offline_changes, "is none of ignore, warn and deny");
        Offline::Ignore
    });
    Some(Settings { listen, reached: url.map_or(Reached::Service, Reached::Url), offline })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(change: impl FnOnce(&mut CloudCoreConfig)) -> Result<Option<Settings>, Vec<String>> {
        let mut config = CloudCoreConfig::default();
        config.modules.webhooks.enable = true;
        change(&mut config);
        let mut problems = Vec::new();
        let settings = check(&config, &mut problems);
        if problems.is_empty() { Ok(settings) } else { Err(problems) }
    }

    #[test]
    fn the_embedded_server_asks_on_this_machine_and_a_cluster_by_its_service() {
        let cluster = checked(|_| {}).unwrap().unwrap();
        assert_eq!(
            (cluster.listen.to_string().as_str(), cluster.reached),
            ("0.0.0.0:10005", Reached::Service)
        );
        let own = checked(|config| config.modules.standalone.enable = true).unwrap().unwrap();
        let Reached::Url(url) = own.reached else { panic!() };
        assert_eq!(
            (own.listen.to_string().as_str(), url.host.as_str(), url.port),
            ("127.0.0.1:10005", "127.0.0.1", 10005)
        );
        let outside =
            checked(|config| config.modules.webhooks.url = "https://cloud.example:10005".to_owned());
        let Reached::Url(url) = outside.unwrap().unwrap().reached else { panic!() };
        assert_eq!(url.host, "cloud.example");
        assert!(checked(|config| config.modules.webhooks.enable = false).unwrap().is_none());
    }

    #[test]
    fn every_wrong_key_is_told() {
        let problems = checked(|config| {
            config.modules.webhooks.address = "here".to_owned();
            config.modules.webhooks.url = "http://cloud.example".to_owned();
            config.modules.webhooks.offline_changes = "perhaps".to_owned();
        });
        let problems = problems.unwrap_err();
        for (problem, key) in problems.iter().zip(["address", "url", "offlineChanges"]) {
            assert!(problem.starts_with(&format!("modules.webhooks.{key}: ")), "{problem}");
        }
        assert_eq!(problems.len(), 3);
        let path = checked(|config| config.modules.webhooks.url = "https://cloud.example/x".to_owned());
        assert_eq!(path.unwrap_err().len(), 1);
    }
}
