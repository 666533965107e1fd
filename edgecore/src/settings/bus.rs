//! `modules.eventBus` -> the brokers to use.

use std::net::SocketAddr;

use api::config::edgecore::EventBus;
use message::NodeName;

use super::Checker;
use crate::edgehub::Secret;
use crate::eventbus;

pub(super) fn settings(config: &EventBus, node: &NodeName, checker: &mut Checker) -> eventbus::Settings {
    if !config.enable {
        return eventbus::Settings::default();
    }
    if config.mqtt_mode > 2 {
        checker.problem("modules.eventBus.mqttMode", format!("{} is none of 0, 1, 2", config.mqtt_mode));
    }
    let internal = matches!(config.mqtt_mode, 0 | 1).then(|| {
        let url = config.mqtt_server_internal.as_str();
        let parsed = url.trim_start_matches("tcp://").parse::<SocketAddr>();
        parsed.unwrap_or_else(|_| {
            checker
                .problem("modules.eventBus.mqttServerInternal", format!("{url:?} is not tcp://address:port"));
            SocketAddr::from(([127, 0, 0, 1], 0))
        })
    });
    if matches!(config.mqtt_mode, 1 | 2)
        && let Err(error) = config.mqtt_server_external.parse::<mqtt::client::Address>()
    {
        checker.problem("modules.eventBus.mqttServerExternal", error);
    }
    let external = matches!(config.mqtt_mode, 1 | 2).then(|| eventbus::External {
        url: config.mqtt_server_external.clone(),
        // The same after a restart, and another one on every node.
        client_id: format!("hub-client-{}", node.as_str()),
        username: config.mqtt_username.clone(),
        password: Secret(config.mqtt_password.clone()),
    });
    let granted = &config.limits;
    for (key, value) in
        [("clients", granted.clients), ("subscriptionsPerClient", granted.subscriptions_per_client)]
    {
        if value == 0 {
            checker.problem(&format!("modules.eventBus.limits.{key}"), "must be greater than 0");
        }
    }
    let (clients, filters) = (granted.clients as usize, granted.subscriptions_per_client as usize);
    eventbus::Settings { internal, external, limits: mqtt::broker::Limits::granting(clients, filters) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_the_start_would_refuse_is_refused_when_the_file_is_checked() {
        let check = |mode, url: &str| {
            let mut checker = Checker { problems: Vec::new() };
            let bus = EventBus { mqtt_mode: mode, mqtt_server_external: url.into(), ..EventBus::default() };
            settings(&bus, &NodeName::new("e1").unwrap(), &mut checker);
            checker.problems
        };
        assert!(check(2, "tcp://10.0.0.9:1883").is_empty());
        assert!(check(0, "ssl://10.0.0.9:8883").is_empty(), "not used in this mode");
        let problems = check(1, "ssl://10.0.0.9:8883");
        assert!(problems[0].starts_with("modules.eventBus.mqttServerExternal: "), "{problems:?}");
    }
}
