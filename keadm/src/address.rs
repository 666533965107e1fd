//! Addresses as operators type them. Pure.

use std::net::{IpAddr, Ipv6Addr};

use anyhow::{Context, bail};

/// An IP address (IPv6 without brackets) or a DNS name.
pub(crate) fn host(text: &str) -> Result<String, String> {
    if text.parse::<IpAddr>().is_ok() || is_dns_name(text) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is neither an IP address nor a DNS name"))
}

fn is_dns_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A name of digits only is an address that was mistyped.
    let last_is_number = text.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    text.len() <= 253 && !last_is_number && text.split('.').all(is_label)
}

/// `host:port`, an IPv6 address in brackets. Gives the host without them.
pub(crate) fn host_port(text: &str) -> anyhow::Result<(String, u16)> {
    let (name, port) = text.rsplit_once(':').with_context(|| format!("{text:?}: wanted host:port"))?;
    let port = port.parse().with_context(|| format!("{text:?}: {port:?} is not a port"))?;
    let name = match name.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
        Some(inner) => {
            let _: Ipv6Addr =
                inner.parse().with_context(|| format!("{text:?}: {inner:?} is not an IPv6 address"))?;
            inner.to_owned()
        }
        None if name.contains(':') => {
            bail!("{text:?}: write an IPv6 address in brackets, as in [fd00::1]:10000")
        }
        None => host(name).map_err(anyhow::Error::msg)?,
    };
    Ok((name, port))
}

/// The host as it stands before a port and in a URL.
pub(crate) fn in_url(host: &str) -> String {
    if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_addresses_or_names() {
        for good in ["10.0.0.5", "fd00::1", "cloud.example.com", "cloud-1", "a_b"] {
            assert_eq!(host(good).as_deref(), Ok(good));
        }
        for wrong in ["", "10.0.0.256", "10.0.0", "a b", "-a", "a..b", "[fd00::1]", "a:1", "https://a", "é"]
        {
            assert!(host(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_ipv6_address_before_a_port_has_brackets() {
        assert_eq!(host_port("[fd00::1]:10000").unwrap(), ("fd00::1".to_owned(), 10000));
        assert_eq!(host_port("cloud:7").unwrap(), ("cloud".to_owned(), 7));
        for wrong in
            ["fd00::1:10000", "cloud", "cloud:", "cloud:x", "[cloud]:1", "[fd00::1]", ":1", "cloud:70000"]
        {
            assert!(host_port(wrong).is_err(), "{wrong}");
        }
        assert_eq!((in_url("fd00::1").as_str(), in_url("cloud").as_str()), ("[fd00::1]", "cloud"));
    }
}
