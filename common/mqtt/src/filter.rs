//! Topic names and topic filters (MQTT 3.1.1 section 4.7).

/// Longest topic or filter MQTT can carry, in bytes.
const MAX_BYTES: usize = 65_535;

/// True if messages may be published to `topic`: not empty, no wildcards, no NUL.
pub fn is_topic(topic: &str) -> bool {
    !topic.is_empty() && topic.len() <= MAX_BYTES && !topic.contains(['+', '#', '\0'])
}

/// True if `filter` may be subscribed: `+` stands for a whole level, `#` for the last ones.
pub fn is_filter(filter: &str) -> bool {
    if filter.is_empty() || filter.len() > MAX_BYTES || filter.contains('\0') {
        return false;
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let is_last = levels.peek().is_none();
        let is_valid = match level {
            "+" => true,
            "#" => is_last,
            text => !text.contains(['+', '#']),
        };
        if !is_valid {
            return false;
        }
    }
    true
}

/// True for a shared subscription (`$share/group/filter`), where each message goes to one member of the group. MQTT 3.1.1
/// has none; brokers that also speak MQTT 5 serve them.
pub fn is_shared(filter: &str) -> bool {
    filter.starts_with("$share/")
}

/// True if a message on `topic` belongs to a subscription of `filter`. A leading wildcard never matches a topic that
/// starts with `$`.
///
/// ```
/// use mqtt::filter::matches;
///
/// assert!(matches("site/+/temp", "site/boiler/temp"));
/// assert!(matches("site/#", "site"));
/// assert!(!matches("#", "$hw/events/upload/x"));
/// ```
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut wanted = filter.split('/');
    let mut levels = topic.split('/');
    loop {
        match (wanted.next(), levels.next()) {
            // "a/#" includes "a" itself.
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(text), Some(level)) if text == level => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_the_standard_hold() {
        for (filter, topic) in [
            ("sport/tennis/player1/#", "sport/tennis/player1"),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
            ("#", "a"),
            ("sport/tennis/+", "sport/tennis/player1"),
            ("sport/+", "sport/"),
            ("+/+", "/finance"),
            ("/+", "/finance"),
            ("$SYS/#", "$SYS/x"),
            ("$hw/events/device/+/+/twin/+", "$hw/events/device/a/b/twin/update"),
        ] {
            assert!(matches(filter, topic), "{filter} {topic}");
        }
        for (filter, topic) in [
            ("sport/tennis/+", "sport/tennis/player1/ranking"),
            ("sport/+", "sport"),
            ("+", "/finance"),
            ("#", "$SYS/x"),
            ("+/monitor/Clients", "$SYS/monitor/Clients"),
            ("$hw/events/device/+/+/twin/+", "$hw/events/device/a/b/twin/update/result"),
        ] {
            assert!(!matches(filter, topic), "{filter} {topic}");
        }
    }

    #[test]
    fn wildcards_stand_alone_in_their_level() {
        for filter in ["#", "+", "a/+/b", "a/#", "/", "+/user/#"] {
            assert!(is_filter(filter), "{filter}");
        }
        for filter in ["", "a#", "a/#/b", "a+", "+a/b", "a\0"] {
            assert!(!is_filter(filter), "{filter}");
        }
        assert!(is_topic("$hw/x") && !is_topic("a/+") && !is_topic(""));
    }

    fn levels() -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec("[a-z]{0,3}", 1..6)
    }

    proptest! {
        #[test]
        fn a_topic_matches_itself_with_any_levels_replaced(levels in levels(), plus in any::<u8>(), cut in 0usize..6) {
            let topic = levels.join("/");
            prop_assert!(matches(&topic, &topic));
            let replaced: Vec<&str> = levels.iter().enumerate()
                .map(|(at, level)| if plus >> at & 1 == 1 { "+" } else { level }).collect();
            prop_assert!(matches(&replaced.join("/"), &topic));
            let mut prefix = replaced[..cut.min(levels.len())].to_vec();
            prefix.push("#");
            prop_assert!(matches(&prefix.join("/"), &topic));
            prop_assert!(is_filter(&prefix.join("/")));
        }

        #[test]
        fn without_wildcards_only_the_same_topic_matches(a in levels(), b in levels()) {
            prop_assert_eq!(matches(&a.join("/"), &b.join("/")), a == b);
        }

        #[test]
        fn noise_never_panics(filter in "\\PC{0,12}", topic in "\\PC{0,12}") {
            let _ = (matches(&filter, &topic), is_filter(&filter), is_topic(&topic));
        }
    }
}
