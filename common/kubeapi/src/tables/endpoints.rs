//! Endpoints and EndpointSlices: the first few addresses, and how many more.

use apimachinery::object::{list, text};
use serde_json::{Value, json};

use super::{age, own_name};

const SHOWN: usize = 3;

fn few(all: &[String]) -> Value {
    match all.len() {
        0 => json!("<unset>"),
        count if count > SHOWN => json!(format!("{} + {} more...", all[..SHOWN].join(","), count - SHOWN)),
        _ => json!(all.join(",")),
    }
}

pub(super) fn slice(object: &Value, now: i64) -> Vec<Value> {
    let ports: Vec<String> = list(object, "/ports").iter().map(|port| port["port"].to_string()).collect();
    let addresses = list(object, "/endpoints").iter().flat_map(|endpoint| list(endpoint, "/addresses"));
    let addresses: Vec<String> = addresses.filter_map(Value::as_str).map(str::to_owned).collect();
    vec![
        own_name(object),
        json!(text(object, "/addressType")),
        few(&ports),
        few(&addresses),
        age(object, now),
    ]
}

fn list_of(object: &Value) -> Vec<String> {
    let subsets = list(object, "/subsets").iter();
    let pairs = |subset: &Value| -> Vec<String> {
        let ports = list(subset, "/ports");
        let addresses = list(subset, "/addresses").iter().map(|address| text(address, "/ip").to_owned());
        let with_ports = |ip: String| match ports.is_empty() {
            true => vec![ip],
            false => ports.iter().map(|port| format!("{ip}:{}", port["port"])).collect(),
        };
        addresses.flat_map(with_ports).collect()
    };
    subsets.flat_map(pairs).collect()
}

pub(super) fn list_cells(object: &Value, now: i64) -> Vec<Value> {
    let all = list_of(object);
    let shown = if all.is_empty() { json!("<none>") } else { few(&all) };
    vec![own_name(object), shown, age(object, now)]
}
