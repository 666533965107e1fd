use super::*;

fn key(name: &str) -> Key {
    Key::new(SERVICES, "n", name)
}

fn service(spec: Value) -> Value {
    json!({ "spec": spec })
}

fn web() -> Value {
    service(json!({"type": "ClusterIP", "ports": [{"port": 80, "protocol": "TCP"}]}))
}

fn small() -> Addresses {
    Addresses::new("10.96.0.0/29".parse().unwrap())
}

#[test]
fn every_address_is_given_once_until_there_are_no_more_and_again_when_it_is_free() {
    let addresses = small();
    let mut given = Vec::new();
    for at in 0..6 {
        let mut made = web();
        let _reserved = addresses.assign(None, &mut made).unwrap();
        addresses.set(&key(&at.to_string()), Some(&made));
        given.push(text(&made, "/spec/clusterIP").to_owned());
    }
    given.sort();
    assert_eq!(given, ["10.96.0.1", "10.96.0.2", "10.96.0.3", "10.96.0.4", "10.96.0.5", "10.96.0.6"]);
    let why = addresses.assign(None, &mut web()).err().unwrap();
    assert!(why[0].message.contains("range is full"), "{why:?}");
    addresses.set(&key("3"), None);
    assert!(addresses.assign(None, &mut web()).is_ok());
}

#[test]
fn what_is_on_its_way_is_nobody_elses_and_is_free_when_it_does_not_arrive() {
    let addresses = small();
    let mut first = web();
    let reserved = addresses.assign(None, &mut first).unwrap();
    let mut second = first.clone();
    let why = addresses.assign(None, &mut second).err().unwrap();
    assert!(why[0].message.contains("already allocated"), "{why:?}");
    drop(reserved);
    assert!(addresses.assign(None, &mut second).is_ok());
}

#[test]
fn an_address_that_is_asked_for_is_of_the_range() {
    let mut made = web();
    for (wanted, why) in [
        ("192.0.2.7", "does not match the current range"),
        ("10.96.0.7", "is not in the valid range"),
        ("x", "no IPv4"),
    ] {
        made["spec"]["clusterIP"] = json!(wanted);
        let refused = small().assign(None, &mut made).err().unwrap();
        assert!(refused[0].message.contains(why), "{refused:?}");
        assert_eq!(refused[0].field, "spec.clusterIPs");
    }
    made["spec"]["clusterIP"] = json!("None");
    assert!(small().assign(None, &mut made).is_ok());
    assert_eq!(made["spec"]["clusterIP"], "None");
}

#[test]
fn node_ports_come_and_go_with_the_type() {
    let addresses = small();
    let mut made = web();
    let _first = addresses.assign(None, &mut made).unwrap();
    addresses.set(&key("a"), Some(&made));
    let old = made.clone();
    made["spec"]["type"] = json!("NodePort");
    made["spec"]["externalTrafficPolicy"] = json!("Cluster");
    let _second = addresses.assign(Some(&old), &mut made).unwrap();
    addresses.set(&key("a"), Some(&made));
    let port = made["spec"]["ports"][0]["nodePort"].clone();
    assert!(NODE_PORTS.contains(&u16::try_from(port.as_i64().unwrap()).unwrap()));
    // An update that leaves it out keeps it; another service cannot have it.
    let old = made.clone();
    made["spec"]["ports"] =
        json!([{"port": 80, "protocol": "TCP"}, {"port": 80, "protocol": "UDP", "nodePort": port}]);
    let _third = addresses.assign(Some(&old), &mut made).unwrap();
    assert_eq!(made["spec"]["ports"][0]["nodePort"], port);
    let mut other = service(json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": port}]}));
    assert!(addresses.assign(None, &mut other).err().unwrap()[0].message.contains("already allocated"));
    let old = made.clone();
    made["spec"]["type"] = json!("ClusterIP");
    let _fourth = addresses.assign(Some(&old), &mut made).unwrap();
    assert!(
        made["spec"]["ports"][0].get("nodePort").is_none()
            && made["spec"].get("externalTrafficPolicy").is_none()
    );
    addresses.set(&key("a"), Some(&made));
    drop((_second, _third, _fourth));
    assert!(addresses.assign(None, &mut other).is_ok());
}

#[test]
fn an_external_name_gives_its_address_back() {
    let addresses = small();
    let mut made = web();
    let _reserved = addresses.assign(None, &mut made).unwrap();
    let old = made.clone();
    made["spec"]["type"] = json!("ExternalName");
    let _reserved = addresses.assign(Some(&old), &mut made).unwrap();
    assert!(made["spec"].get("clusterIP").is_none());
}

#[test]
fn ranges_are_read_and_shown() {
    for text in ["10.96.0.0/16", "192.168.7.0/24", "10.0.0.8/29"] {
        assert_eq!(text.parse::<ServiceRange>().unwrap().to_string(), text);
    }
    for text in ["", "10.96.0.0", "10.96.0.1/16", "10.0.0.0/8", "10.0.0.0/30", "fd00::/112", "x/16"] {
        assert!(text.parse::<ServiceRange>().is_err(), "{text}");
    }
}
