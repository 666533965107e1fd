//! The topics of KubeEdge's device and upload protocol (docs/protocol/devices.md 4.2 and 4.3). These words live only here.
//!
//! Topics are read by their segments, so that namespaces such as `device`, `event` and `hw` work (upstream finds the
//! namespace by substring and fails for those).

/// Filters that EdgeCore subscribes.
pub const SUBSCRIPTIONS: &[&str] = &[
    "$hw/events/upload/#",
    "$hw/events/device/+/+/state/update",
    "$hw/events/device/+/+/twin/+",
    "$hw/events/node/+/membership/get",
    "SYS/dis/upload_records",
    "+/user/#",
];

/// What a message to EdgeCore asks for, by its topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inbound {
    /// Report twin values of a device.
    TwinUpdate { namespace: String, name: String },
    /// Ask for all twins of a device.
    TwinGet { namespace: String, name: String },
    /// Say that a device is online, offline or else.
    StateUpdate { namespace: String, name: String },
    /// Ask which devices a node has.
    MembershipGet { node: String },
    /// Anything for the cloud's router; `topic` is the whole topic.
    Upload { topic: String },
}

impl Inbound {
    /// `None` for what is not addressed to EdgeCore: its own answers, `twin/cloud_updated`, other `$` topics, and
    /// device topics with an empty namespace, name or node.
    ///
    /// ```
    /// use mqtt::topics::Inbound;
    ///
    /// let asked = Inbound::parse("$hw/events/device/plant/boiler-7/twin/get");
    /// assert_eq!(asked, Some(Inbound::TwinGet { namespace: "plant".into(), name: "boiler-7".into() }));
    /// assert_eq!(Inbound::parse("$SYS/uptime"), None);
    /// ```
    pub fn parse(topic: &str) -> Option<Inbound> {
        let segments: Vec<&str> = topic.split('/').collect();
        match segments.as_slice() {
            ["$hw", "events", "device", namespace, name, action @ ..] => device(namespace, name, action),
            ["$hw", "events", "node", node, "membership", "get"] if !node.is_empty() => {
                Some(Inbound::MembershipGet { node: (*node).to_owned() })
            }
            ["$hw", "events", "upload", ..] => Some(Inbound::Upload { topic: topic.to_owned() }),
            [first, ..] if first.starts_with('$') => None,
            [""] => None,
            _ => Some(Inbound::Upload { topic: topic.to_owned() }),
        }
    }
}

fn device(namespace: &str, name: &str, action: &[&str]) -> Option<Inbound> {
    if namespace.is_empty() || name.is_empty() {
        return None;
    }
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    match action {
        ["twin", "update"] => Some(Inbound::TwinUpdate { namespace, name }),
        ["twin", "get"] => Some(Inbound::TwinGet { namespace, name }),
        ["state", "update"] => Some(Inbound::StateUpdate { namespace, name }),
        _ => None,
    }
}

/// True for what only EdgeCore says: its answers, documents, deltas and notices. A client that published them would put
/// words into its mouth. `twin/cloud_updated` is the cloud's.
pub fn is_ours(topic: &str) -> bool {
    let segments: Vec<&str> = topic.split('/').collect();
    match segments.as_slice() {
        ["$hw", "events", "device", _, _, action @ ..] => matches!(
            action,
            ["twin", "update", "result" | "document" | "delta"]
                | ["twin", "get", "result"]
                | ["twin", "cloud_updated"]
                | ["state", "update", "result"]
        ),
        ["$hw", "events", "node", _, "membership", action @ ..] => {
            matches!(action, ["updated"] | ["get", "result"])
        }
        _ => false,
    }
}

fn of_device(namespace: &str, name: &str, action: &str) -> String {
    format!("$hw/events/device/{namespace}/{name}/{action}")
}

fn of_node(node: &str, action: &str) -> String {
    format!("$hw/events/node/{node}/{action}")
}

/// Answer to [`Inbound::TwinUpdate`].
pub fn twin_update_result(namespace: &str, name: &str) -> String {
    of_device(namespace, name, "twin/update/result")
}

/// Last and current value of each twin that changed.
pub fn twin_update_document(namespace: &str, name: &str) -> String {
    of_device(namespace, name, "twin/update/document")
}

/// Twins whose expected and actual values differ.
pub fn twin_update_delta(namespace: &str, name: &str) -> String {
    of_device(namespace, name, "twin/update/delta")
}

/// Answer to [`Inbound::TwinGet`].
pub fn twin_get_result(namespace: &str, name: &str) -> String {
    of_device(namespace, name, "twin/get/result")
}

/// Echo of [`Inbound::StateUpdate`].
pub fn state_update_result(namespace: &str, name: &str) -> String {
    of_device(namespace, name, "state/update/result")
}

/// Devices added to or removed from a node.
pub fn membership_updated(node: &str) -> String {
    of_node(node, "membership/updated")
}

/// Answer to [`Inbound::MembershipGet`].
pub fn membership_get_result(node: &str) -> String {
    of_node(node, "membership/get/result")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter;
    use proptest::prelude::*;

    fn is_subscribed(topic: &str) -> bool {
        SUBSCRIPTIONS.iter().any(|wanted| filter::matches(wanted, topic))
    }

    #[test]
    fn requests_are_read_by_segments_whatever_the_namespace() {
        for namespace in ["default", "device", "dev", "event", "events", "hw", "node", "twin", "update"] {
            let (ns, name) = (namespace.to_owned(), "device".to_owned());
            let topic = |action| format!("$hw/events/device/{namespace}/device/{action}");
            let expected = Inbound::TwinUpdate { namespace: ns.clone(), name: name.clone() };
            assert_eq!(Inbound::parse(&topic("twin/update")), Some(expected));
            let expected = Inbound::TwinGet { namespace: ns.clone(), name: name.clone() };
            assert_eq!(Inbound::parse(&topic("twin/get")), Some(expected));
            let expected = Inbound::StateUpdate { namespace: ns, name };
            assert_eq!(Inbound::parse(&topic("state/update")), Some(expected));
        }
        let expected = Inbound::MembershipGet { node: "node".to_owned() };
        assert_eq!(Inbound::parse("$hw/events/node/node/membership/get"), Some(expected));
    }

    #[test]
    fn everything_else_goes_up_unless_it_starts_with_a_dollar() {
        for topic in ["$hw/events/upload/a/b", "SYS/dis/upload_records", "app/user/x", "default/up"] {
            assert_eq!(Inbound::parse(topic), Some(Inbound::Upload { topic: topic.to_owned() }), "{topic}");
        }
        for topic in
            ["$hw/events/device//twin/update/result", "$SYS/x", "$ke/events/device/d/data/update", ""]
        {
            assert_eq!(Inbound::parse(topic), None, "{topic}");
        }
    }

    #[test]
    fn answers_are_not_requests_and_have_the_captured_form() {
        let topics = [
            twin_update_result("default", "therm1"),
            twin_update_document("default", "therm1"),
            twin_update_delta("default", "therm1"),
            twin_get_result("default", "therm1"),
            state_update_result("default", "therm1"),
            membership_updated("edge1"),
            membership_get_result("edge1"),
            "$hw/events/device/default/therm1/twin/cloud_updated".to_owned(),
        ];
        for topic in &topics {
            assert_eq!(Inbound::parse(topic), None, "{topic}");
            assert!(is_ours(topic), "{topic}");
        }
        for topic in &topics[..topics.len() - 1] {
            assert!(!is_subscribed(topic), "{topic}");
        }
        assert_eq!(topics[0], "$hw/events/device/default/therm1/twin/update/result");
        assert_eq!(topics[5], "$hw/events/node/edge1/membership/updated");
    }

    proptest! {
        #[test]
        fn every_request_is_subscribed(ns in "[a-z0-9.-]{1,12}", name in "[a-z0-9.-]{1,12}") {
            for action in ["twin/update", "twin/get", "state/update"] {
                let topic = of_device(&ns, &name, action);
                prop_assert!(is_subscribed(&topic));
                prop_assert!(Inbound::parse(&topic).is_some() && !is_ours(&topic));
            }
        }

        #[test]
        fn noise_never_panics(topic in "\\PC{0,40}") {
            let _ = Inbound::parse(&topic);
        }
    }
}
