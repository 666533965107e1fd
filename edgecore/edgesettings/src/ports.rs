//! `modules.edged.nodeAPI.forwardedPorts` -> which ports of the node are reached through the Node API.

use std::ops::RangeInclusive;

use nodeapi::ForwardedPorts;

use super::Checker;

const KEY: &str = "modules.edged.nodeAPI.forwardedPorts";

/// Where EdgeCore listens itself.
pub(super) struct Own {
    /// The Node API's, which give all rights of it.
    pub node_api: Vec<u16>,
    /// Others, which trust programs of the machine.
    pub others: Vec<u16>,
}

pub(super) fn forwarded(entries: &[String], own: Own, checker: &mut Checker) -> ForwardedPorts {
    let mut ranges = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        let key = format!("{KEY}[{at}]");
        match range(entry) {
            Some(range) if range.start() == range.end() && own.node_api.contains(range.start()) => {
                checker
                    .problem(&key, format!("{entry:?} is the Node API's own port, which is not forwarded"));
            }
            Some(range) => ranges.push(range),
            None => {
                let text = "is not a port or a range of ports, such as 9100 or 8000-8100";
                checker.problem(&key, format!("{entry:?} {text}"));
            }
        }
    }
    ForwardedPorts::new(ranges, [own.node_api, own.others].concat())
}

fn range(entry: &str) -> Option<RangeInclusive<u16>> {
    let port = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse::<u16>().ok().filter(|port| *port > 0),
        false => None,
    };
    let (first, last) = entry.split_once('-').unwrap_or((entry, entry));
    let range = port(first)?..=port(last)?;
    (!range.is_empty()).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(entries: &[&str]) -> (ForwardedPorts, Vec<String>) {
        let mut checker = Checker { problems: Vec::new() };
        let entries: Vec<String> = entries.iter().map(|entry| (*entry).to_owned()).collect();
        let own = Own { node_api: vec![10250], others: vec![1883] };
        (forwarded(&entries, own, &mut checker), checker.problems)
    }

    #[test]
    fn ports_and_ranges_are_read_and_the_node_api_is_in_none() {
        let (ports, problems) = check(&["9100", "1000-20000", "1883"]);
        assert_eq!(problems, Vec::<String>::new());
        assert!(ports.check(9100).is_ok() && ports.check(1000).is_ok() && ports.check(20000).is_ok());
        assert!(ports.check(1883).is_ok(), "named alone");
        assert!(ports.check(10250).is_err() && ports.check(999).is_err() && ports.check(20001).is_err());
        assert!(check(&[]).0.is_empty());
    }

    #[test]
    fn bad_entries_are_named_with_the_key_and_their_place() {
        let wrong = ["", "0", "65536", "90-80", "http", "80-", "-80", "1-2-3", "+80", " 80", "80,81"];
        let (ports, problems) = check(&wrong);
        assert!(ports.is_empty());
        assert_eq!(problems.len(), wrong.len(), "{problems:?}");
        assert_eq!(
            problems[3],
            "modules.edged.nodeAPI.forwardedPorts[3]: \"90-80\" is not a port or a range of ports, such as 9100 or \
             8000-8100"
        );
        let (_, problems) = check(&["10250", "10250-10250", "10249-10250"]);
        assert_eq!(problems.len(), 2, "{problems:?}");
    }
}
