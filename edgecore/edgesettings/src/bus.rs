//! `modules.eventBus` -> the brokers to use.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::config::edgecore::{EventBus, EventBusAccess};
use devices::eventbus;
use message::NodeName;
use mqtt::Login;
use mqtt::broker::Limits;
use mqtt::broker::access::Users;

use super::Checker;

/// The largest packet, and what holds it.
const LEAST_QUEUED: u32 = 2 * mqtt::MAX_PACKET as u32;

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
    let external = matches!(config.mqtt_mode, 1 | 2).then(|| external(config, node, checker)).flatten();
    let granted = &config.limits;
    for (key, value) in [
        ("clients", granted.clients),
        ("subscriptionsPerClient", granted.subscriptions_per_client),
        ("keptSessionSeconds", granted.kept_session_seconds),
    ] {
        if value == 0 {
            checker.problem(&format!("modules.eventBus.limits.{key}"), "must be greater than 0");
        }
    }
    if granted.queued_bytes < LEAST_QUEUED {
        let text = format!("{} is less than {LEAST_QUEUED}, what one message may take", granted.queued_bytes);
        checker.problem("modules.eventBus.limits.queuedBytes", text);
    }
    let limits = Limits {
        all_queues_bytes: granted.queued_bytes as usize,
        kept_for: Duration::from_secs(granted.kept_session_seconds.into()),
        ..Limits::granting(granted.clients as usize, granted.subscriptions_per_client as usize)
    };
    let users = internal.and_then(|_| users(&config.access, checker));
    eventbus::Settings { internal, external, users, limits }
}

/// The client of a broker that somebody else runs.
fn external(config: &EventBus, node: &NodeName, checker: &mut Checker) -> Option<mqtt::client::Settings> {
    let address = config.mqtt_server_external.parse();
    let address =
        address.map_err(|error| checker.problem("modules.eventBus.mqttServerExternal", error)).ok()?;
    let login = Login { username: config.mqtt_username.clone(), password: config.mqtt_password.clone() };
    Some(mqtt::client::Settings {
        address,
        // The same after a restart, and another one on every node.
        client_id: format!("hub-client-{}", node.as_str()),
        login: (!login.username.is_empty()).then_some(login),
    })
}

/// Who may use the embedded broker; `None`: everybody.
#[expect(clippy::disallowed_methods, reason = "runs at the start, before anything waits")]
fn users(access: &EventBusAccess, checker: &mut Checker) -> Option<Arc<Users>> {
    let key = |name: &str| format!("modules.eventBus.access.{name}");
    let mut read = |name: &str, path: &str| {
        let text = std::fs::read_to_string(path);
        text.map_err(|error| checker.problem(&key(name), format!("reading {path}: {error}"))).ok()
    };
    if access.password_file.is_empty() {
        if !access.acl_file.is_empty() {
            checker.problem(&key("aclFile"), "needs passwordFile: without logins nobody is anybody");
        }
        return None;
    }
    let passwords = read("passwordFile", &access.password_file)?;
    let acl = match access.acl_file.as_str() {
        "" => None,
        path => Some(read("aclFile", path)?),
    };
    match Users::read(&passwords, acl.as_deref()) {
        Ok(users) => Some(Arc::new(users)),
        Err((is_acl, error)) => {
            let (name, path) = match is_acl {
                true => ("aclFile", &access.acl_file),
                false => ("passwordFile", &access.password_file),
            };
            checker.problem(&key(name), format!("{path}: {error}"));
            None
        }
    }
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

    #[test]
    fn files_of_users_are_read_when_the_file_is_checked_and_trouble_names_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_string_lossy().into_owned()
        };
        let check = |password_file: &str, acl_file: &str| {
            let mut checker = Checker { problems: Vec::new() };
            let (password_file, acl_file) = (password_file.to_owned(), acl_file.to_owned());
            let access = EventBusAccess { password_file, acl_file };
            let bus = EventBus { access, ..EventBus::default() };
            let settings = settings(&bus, &NodeName::new("e1").unwrap(), &mut checker);
            (settings.users.is_some(), checker.problems.join(" "))
        };
        assert_eq!(check("", ""), (false, String::new()));
        // "right", as mosquitto_passwd writes it.
        let hashed = "app:$7$101$dHdlbHZlIGJ5dGVz$f8VrrwO0Ks1mpUavZk8KugXJu81tlU87PHyGGlA/ktEUwoPAyoESwoghFoH26JVARp2PUrL46OYKR0Gq8fp+4A==";
        let (users, acl) = (file("users", hashed), file("acl", "user app\ntopic read a/#\n"));
        assert_eq!(check(&users, &acl), (true, String::new()));
        assert!(check("", &acl).1.contains("access.aclFile: needs passwordFile"));
        assert!(check("/nowhere", "").1.contains("access.passwordFile: reading /nowhere"));
        let (is_open, problem) = check(&file("plain", "app:s3cret"), "");
        assert!(!is_open && problem.contains("line 1") && !problem.contains("s3cret"), "{problem}");
        assert!(check(&users, &file("bad", "user nobody\n")).1.contains("access.aclFile"));
    }
}
