//! Which volume fits a claim; pure.

use apimachinery::object::{self, list, text};
use apimachinery::{LabelSelector, quantity};
use serde_json::Value;

/// The storage class of a claim or volume, also by the annotation of old.
pub(super) fn class(object: &Value) -> &str {
    let old = object["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"].as_str();
    old.unwrap_or_else(|| text(object, "/spec/storageClassName"))
}

/// True for a volume that is nobody's, or was set aside for this claim.
pub(super) fn is_free(volume: &Value, claim: &Value) -> bool {
    let named = &volume["spec"]["claimRef"];
    let is_its = || {
        let uid = text(named, "/uid");
        text(named, "/namespace") == object::namespace(claim)
            && text(named, "/name") == object::name(claim)
            && (uid.is_empty() || uid == object::uid(claim))
    };
    !object::deleting(volume) && (named.is_null() || is_its())
}

fn amount(value: &Value) -> i128 {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    quantity::units(&text).unwrap_or(0)
}

fn mode(object: &Value) -> &str {
    match text(object, "/spec/volumeMode") {
        "" => "Filesystem",
        mode => mode,
    }
}

fn fits(volume: &Value, claim: &Value) -> bool {
    let modes = list(volume, "/spec/accessModes");
    let selector = LabelSelector::of_object(&claim["spec"]["selector"], "spec.selector");
    is_free(volume, claim)
        && class(volume) == class(claim)
        && mode(volume) == mode(claim)
        && list(claim, "/spec/accessModes").iter().all(|wanted| modes.contains(wanted))
        && amount(&volume["spec"]["capacity"]["storage"])
            >= amount(&claim["spec"]["resources"]["requests"]["storage"])
        && selector.is_ok_and(|selector| selector.matches_object(volume))
}

/// The volume that was set aside for the claim, or else the smallest that fits.
pub(super) fn best(claim: &Value, volumes: &[Value]) -> Option<Value> {
    let fitting = volumes.iter().filter(|volume| fits(volume, claim));
    let rank = |volume: &&Value| {
        (
            volume["spec"]["claimRef"].is_null(),
            amount(&volume["spec"]["capacity"]["storage"]),
            object::name(volume).to_owned(),
        )
    };
    fitting.min_by_key(rank).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn volume(name: &str, size: &str) -> Value {
        json!({"metadata": {"name": name, "labels": {"disk": name}}, "spec": {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"]}})
    }

    fn claim(size: &str) -> Value {
        json!({"metadata": {"name": "c", "namespace": "n", "uid": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}})
    }

    fn chosen(claim: &Value, volumes: &[Value]) -> String {
        best(claim, volumes).map_or_else(String::new, |volume| object::name(&volume).to_owned())
    }

    #[test]
    fn the_smallest_volume_that_fits_is_taken() {
        let all = [volume("small", "1Gi"), volume("large", "10Gi"), volume("middle", "5Gi")];
        assert_eq!(chosen(&claim("2Gi"), &all), "middle");
        assert_eq!(chosen(&claim("20Gi"), &all), "");
    }

    #[test]
    fn class_access_selector_and_mode_have_to_agree() {
        let all = [volume("a", "1Gi"), volume("b", "1Gi")];
        let with = |field: &str, value: Value| {
            let mut claim = claim("1Gi");
            claim["spec"][field] = value;
            claim
        };
        assert_eq!(chosen(&with("storageClassName", json!("fast")), &all), "");
        assert_eq!(chosen(&with("accessModes", json!(["ReadWriteMany"])), &all), "");
        assert_eq!(chosen(&with("volumeMode", json!("Block")), &all), "");
        assert_eq!(chosen(&with("selector", json!({"matchLabels": {"disk": "b"}})), &all), "b");
    }

    #[test]
    fn a_volume_set_aside_is_for_its_claim_only() {
        let mut aside = volume("aside", "9Gi");
        aside["spec"]["claimRef"] = json!({"namespace": "n", "name": "c"});
        assert_eq!(chosen(&claim("1Gi"), &[volume("a", "1Gi"), aside.clone()]), "aside");
        let mut other = claim("1Gi");
        other["metadata"]["name"] = json!("other");
        assert_eq!(chosen(&other, &[aside]), "");
    }
}
