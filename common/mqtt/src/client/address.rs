//! Where a broker is, as KubeEdge's configuration writes it.

use std::str::FromStr;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    #[error("{0:?} asks for TLS, which this client cannot do; use tcp://host:port")]
    Tls(String),
    #[error("{0:?} is not a broker's address such as tcp://127.0.0.1:1883")]
    Form(String),
}

/// Port of MQTT without TLS.
const PORT: u16 = 1883;

impl FromStr for Address {
    type Err = BadAddress;

    /// `tcp://host:port`, `mqtt://host:port` or `host:port`; the port may be missing.
    fn from_str(text: &str) -> Result<Address, BadAddress> {
        let form = || BadAddress::Form(text.to_owned());
        let rest = match text.split_once("://") {
            None => text,
            Some(("tcp" | "mqtt", rest)) => rest,
            Some(("ssl" | "tls" | "mqtts", _)) => return Err(BadAddress::Tls(text.to_owned())),
            Some(_) => return Err(form()),
        };
        let rest = rest.trim_end_matches('/');
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') && !port.ends_with(']') => {
                (host, port.parse().map_err(|_| form())?)
            }
            _ => (rest, PORT),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || host.contains(['/', '@', ' ']) {
            return Err(form());
        }
        Ok(Address { host: host.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_kubeedge_writes_are_read() {
        for (text, host, port) in [
            ("tcp://127.0.0.1:1883", "127.0.0.1", 1883),
            ("mqtt://broker.local/", "broker.local", 1883),
            ("broker:1884", "broker", 1884),
            ("tcp://[::1]:7", "::1", 7),
            ("tcp://[::1]", "::1", 1883),
        ] {
            assert_eq!(text.parse(), Ok(Address { host: host.into(), port }), "{text}");
        }
        assert!(matches!("ssl://a:8883".parse::<Address>(), Err(BadAddress::Tls(_))));
        for text in ["", "tcp://", "http://a", "a:port", "a:70000", "u@a:1"] {
            assert!(matches!(text.parse::<Address>(), Err(BadAddress::Form(_))), "{text}");
        }
    }
}
