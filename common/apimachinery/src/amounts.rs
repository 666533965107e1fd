//! Lists of resources with their amounts (`ResourceList`), to be added and compared, and what a pod asks for
//! (`k8s.io/component-helpers/resource`, `apiserver/pkg/quota/v1`).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::object::list;
use crate::quantity;

/// Thousandths, and whether it is written with powers of 1024.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    pub milli: i128,
    is_binary: bool,
}

impl Amount {
    pub fn of(count: i64) -> Amount {
        Amount { milli: i128::from(count) * 1000, is_binary: false }
    }

    /// `None` if it is not a quantity.
    pub fn read(value: &Value) -> Option<Amount> {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Some(Amount { milli: quantity::milli(&text)?, is_binary: text.ends_with('i') })
    }

    /// As Kubernetes writes it.
    pub fn text(self) -> String {
        quantity::written(self.milli, self.is_binary)
    }

    /// The sum, written as the first of the two that is not zero.
    #[must_use]
    pub fn plus(self, other: Amount) -> Amount {
        let is_binary = if self.milli == 0 { other.is_binary } else { self.is_binary };
        Amount { milli: self.milli.saturating_add(other.milli), is_binary }
    }
}

/// By the name of the resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts(pub BTreeMap<String, Amount>);

impl Amounts {
    /// What reads of a `ResourceList`.
    pub fn read(list: &Value) -> Amounts {
        let all = list.as_object().into_iter().flatten();
        Amounts(all.filter_map(|(name, value)| Some((name.clone(), Amount::read(value)?))).collect())
    }

    pub fn value(&self) -> Value {
        let all = self.0.iter().map(|(name, amount)| (name.clone(), json!(amount.text())));
        Value::Object(all.collect::<Map<_, _>>())
    }

    pub fn add(&mut self, more: &Amounts) {
        for (name, amount) in &more.0 {
            let entry = self.0.entry(name.clone()).or_default();
            *entry = entry.plus(*amount);
        }
    }

    fn at_least(&mut self, other: &Amounts) {
        for (name, amount) in &other.0 {
            let entry = self.0.entry(name.clone()).or_insert(*amount);
            if entry.milli < amount.milli {
                *entry = *amount;
            }
        }
    }

    /// Those of `names`.
    #[must_use]
    pub fn only(&self, names: impl Fn(&str) -> bool) -> Amounts {
        let all = self.0.iter().filter(|(name, _)| names(name));
        Amounts(all.map(|(name, amount)| (name.clone(), *amount)).collect())
    }

    /// `a=1,b=2`, as quotas tell it.
    pub fn told(&self) -> String {
        let all: Vec<String> =
            self.0.iter().map(|(name, amount)| format!("{name}={}", amount.text())).collect();
        all.join(",")
    }
}

/// What a pod asks for by its `requests` or `limits`: its containers together, or the largest step of its start if that is more,
/// what the pod itself says in their place, and the overhead.
pub fn of_pod(spec: &Value, field: &str) -> Amounts {
    let of = |container: &Value| Amounts::read(&container["resources"][field]);
    let (mut sum, mut sidecars, mut start) = (Amounts::default(), Amounts::default(), Amounts::default());
    list(spec, "/containers").iter().for_each(|container| sum.add(&of(container)));
    for container in list(spec, "/initContainers") {
        let mut step = of(container);
        if container["restartPolicy"] == "Always" {
            sidecars.add(&step);
            step = sidecars.clone();
        } else {
            step.add(&sidecars);
        }
        start.at_least(&step);
    }
    sum.add(&sidecars);
    sum.at_least(&start);
    let own = Amounts::read(&spec["resources"][field]);
    sum.0.extend(own.0);
    let overhead = Amounts::read(&spec["overhead"]);
    match field {
        "limits" => sum.add(&overhead.only(|name| sum.0.get(name).is_some_and(|amount| amount.milli != 0))),
        _ => sum.add(&overhead),
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_add_up_and_keep_the_way_they_are_written() {
        let mut all = Amounts::default();
        for amounts in [json!({"memory": "512Mi", "cpu": "100m"}), json!({"memory": "1Gi", "cpu": 1})] {
            all.add(&Amounts::read(&amounts));
        }
        assert_eq!(all.value(), json!({"cpu": "1100m", "memory": "1536Mi"}));
        assert_eq!(all.told(), "cpu=1100m,memory=1536Mi");
        assert_eq!(Amount::of(3).text(), "3");
    }

    #[test]
    fn a_pod_asks_for_its_containers_or_a_larger_step_of_its_start() {
        let container = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let mut sidecar = container("100m");
        sidecar["restartPolicy"] = json!("Always");
        let spec = json!({"containers": [container("200m"), container("300m")],
            "initContainers": [sidecar, container("2")], "overhead": {"cpu": "10m"}});
        assert_eq!(of_pod(&spec, "requests").told(), "cpu=2110m");
        assert_eq!(of_pod(&spec, "limits").told(), "");
    }
}
