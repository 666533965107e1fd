//! The environment variables by which containers find Services, in the order and the forms of the kubelet
//! (`pkg/kubelet/envvars`): `NAME_SERVICE_HOST`, `NAME_SERVICE_PORT`, and those that Docker made for links. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use metamanager::KnownService;

/// The Service of the API server.
const MASTER: (&str, &str) = ("default", "kubernetes");

/// The variables of a container. `api`: where its pod reaches the API server; without, it is told of none. `links`: it is told of
/// the Services of its namespace.
pub fn variables(
    services: &[KnownService],
    namespace: &str,
    links: bool,
    api: Option<SocketAddr>,
) -> Vec<(String, String)> {
    let mut by_name: BTreeMap<&str, KnownService> = BTreeMap::new();
    if let Some(api) = api {
        let port = metamanager::KnownPort { name: "https".into(), port: api.port(), protocol: "TCP".into() };
        let master = KnownService {
            namespace: MASTER.0.to_owned(),
            name: MASTER.1.to_owned(),
            ip: api.ip().to_string(),
            ports: vec![port],
        };
        by_name.insert(MASTER.1, master);
    }
    let linked = services.iter().filter(|service| {
        links
            && service.namespace == namespace
            && (service.namespace.as_str(), service.name.as_str()) != MASTER
    });
    // One of the pod's namespace goes before the API server's.
    by_name.extend(linked.map(|service| (service.name.as_str(), service.clone())));
    by_name.values().flat_map(of_service).collect()
}

fn of_service(service: &KnownService) -> Vec<(String, String)> {
    let Some(first) = service.ports.first() else { return Vec::new() };
    let name = word(&service.name);
    let mut all = vec![
        (format!("{name}_SERVICE_HOST"), service.ip.clone()),
        (format!("{name}_SERVICE_PORT"), first.port.to_string()),
    ];
    let named = service.ports.iter().filter(|port| !port.name.is_empty());
    all.extend(
        named.map(|port| (format!("{name}_SERVICE_PORT_{}", word(&port.name)), port.port.to_string())),
    );
    for (at, port) in service.ports.iter().enumerate() {
        let protocol = port.protocol.to_lowercase();
        let host = match service.ip.parse() {
            Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
            _ => service.ip.clone(),
        };
        let url = format!("{protocol}://{host}:{}", port.port);
        let prefix = format!("{name}_PORT_{}_{}", port.port, protocol.to_uppercase());
        if at == 0 {
            all.push((format!("{name}_PORT"), url.clone()));
        }
        all.push((prefix.clone(), url));
        all.push((format!("{prefix}_PROTO"), protocol));
        all.push((format!("{prefix}_PORT"), port.port.to_string()));
        all.push((format!("{prefix}_ADDR"), service.ip.clone()));
    }
    all
}

/// A name as part of a variable's.
fn word(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use metamanager::KnownPort;

    use super::*;

    fn service(namespace: &str, name: &str, ports: &[(&str, u16, &str)]) -> KnownService {
        let port = |(name, port, protocol): &(&str, u16, &str)| KnownPort {
            name: (*name).into(),
            port: *port,
            protocol: (*protocol).into(),
        };
        let ports = ports.iter().map(port).collect();
        KnownService { namespace: namespace.into(), name: name.into(), ip: "10.0.0.7".into(), ports }
    }

    fn told(services: &[KnownService], links: bool, api: Option<&str>) -> Vec<String> {
        let api = api.map(|api| api.parse().unwrap());
        let vars = variables(services, "shop", links, api);
        vars.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn a_container_is_told_of_the_services_of_its_namespace_as_the_kubelet_tells() {
        let services = [
            service("shop", "my-db", &[("sql", 5432, "TCP"), ("", 53, "UDP")]),
            service("other", "hidden", &[("", 80, "TCP")]),
            service("shop", "empty", &[]),
        ];
        let expected = [
            "MY_DB_SERVICE_HOST=10.0.0.7",
            "MY_DB_SERVICE_PORT=5432",
            "MY_DB_SERVICE_PORT_SQL=5432",
            "MY_DB_PORT=tcp://10.0.0.7:5432",
            "MY_DB_PORT_5432_TCP=tcp://10.0.0.7:5432",
            "MY_DB_PORT_5432_TCP_PROTO=tcp",
            "MY_DB_PORT_5432_TCP_PORT=5432",
            "MY_DB_PORT_5432_TCP_ADDR=10.0.0.7",
            "MY_DB_PORT_53_UDP=udp://10.0.0.7:53",
            "MY_DB_PORT_53_UDP_PROTO=udp",
            "MY_DB_PORT_53_UDP_PORT=53",
            "MY_DB_PORT_53_UDP_ADDR=10.0.0.7",
        ];
        assert_eq!(told(&services, true, None), expected);
        assert!(told(&services, false, None).is_empty());
    }

    #[test]
    fn the_api_server_is_metaserver_also_for_pods_without_links() {
        let services = [service("default", "kubernetes", &[("https", 443, "TCP")])];
        let vars = told(&services, false, Some("[fd00::1]:10550"));
        assert_eq!(
            vars[..3],
            [
                "KUBERNETES_SERVICE_HOST=fd00::1",
                "KUBERNETES_SERVICE_PORT=10550",
                "KUBERNETES_SERVICE_PORT_HTTPS=10550"
            ]
        );
        assert!(vars.contains(&"KUBERNETES_PORT=tcp://[fd00::1]:10550".to_owned()), "{vars:?}");
        assert!(told(&services, true, None).is_empty(), "it cannot be reached");
        let own = [service("shop", "kubernetes", &[("", 1, "TCP")])];
        assert_eq!(told(&own, true, Some("127.0.0.1:2"))[1], "KUBERNETES_SERVICE_PORT=1");
    }
}
