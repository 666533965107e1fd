//! Naming rules (RFC 1123 and friends). Each check returns what is wrong, in the words of Kubernetes.

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
'[a-z0-9]([-a-z0-9]*[a-z0-9])?')";

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// A DNS label: namespaces, containers, volumes, services.
pub fn label(text: &str) -> Option<String> {
    match text {
        _ if text.len() > 63 => Some("must be no more than 63 characters".to_owned()),
        _ if is_label(text) => None,
        _ if text.contains('.') => Some("must not contain dots".to_owned()),
        _ => Some(LABEL.to_owned()),
    }
}

/// A DNS subdomain: most object names.
pub fn subdomain(text: &str) -> Option<String> {
    match text {
        _ if text.len() > 253 => Some("must be no more than 253 characters".to_owned()),
        _ if text.split('.').all(is_label) => None,
        _ => Some(SUBDOMAIN.to_owned()),
    }
}

/// A name that is safe as one URL path segment: RBAC objects and the like.
pub fn path_segment(text: &str) -> Option<String> {
    match text {
        "." | ".." => Some(format!("may not be '{text}'")),
        _ if text.contains('/') => Some("may not contain '/'".to_owned()),
        _ if text.contains('%') => Some("may not contain '%'".to_owned()),
        _ => None,
    }
}

fn is_name_part(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    text.len() <= 63
        && text.starts_with(edge)
        && text.ends_with(edge)
        && text.chars().all(|c| edge(c) || matches!(c, '-' | '_' | '.'))
}

/// A label or annotation key: optional prefix, slash, name.
pub fn qualified(text: &str) -> Option<String> {
    let (prefix, name) = text.rsplit_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    if prefix.is_some_and(|prefix| subdomain(prefix).is_some()) {
        return Some(format!("prefix part {SUBDOMAIN}"));
    }
    if is_name_part(name) {
        return None;
    }
    Some(
        "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
         alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
         '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
            .to_owned(),
    )
}

pub fn label_value(text: &str) -> Option<String> {
    if text.is_empty() || is_name_part(text) {
        return None;
    }
    Some(
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start \
         and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for \
         validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
            .to_owned(),
    )
}

/// A key of a ConfigMap or Secret.
pub fn config_key(text: &str) -> Option<String> {
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match text {
        _ if text.len() > 253 => Some("must be no more than 253 characters".to_owned()),
        "." | ".." => Some(format!("must not be '{text}'")),
        _ if !text.is_empty() && text.chars().all(valid) => None,
        _ => Some(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
             'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_dns_rules() {
        for good in ["a", "a-b", "a.b", "1", "node-1.example"] {
            assert_eq!(subdomain(good), None, "{good}");
        }
        for bad in ["", "A", "-a", "a-", "a..b", "a_b", ".", "a/b", &"x".repeat(254)] {
            assert!(subdomain(bad).is_some(), "{bad}");
        }
        assert!(label("a.b").is_some());
        assert_eq!(qualified("kubernetes.io/os"), None);
        assert!(qualified("UP/x").is_some() && qualified("a/").is_some() && qualified("-a").is_some());
        assert!(config_key("a b").is_some() && config_key("..").is_some() && config_key("a..b").is_none());
        assert!(label_value("-").is_some() && label_value("").is_none());
    }
}
