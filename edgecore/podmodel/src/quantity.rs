//! Quantities of pods as the integers the node counts in.

use apimachinery::quantity;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// In thousandths: CPU cores as millicores. `None` if it is no quantity, or more than can be counted.
pub fn milli(quantity: &Quantity) -> Option<i64> {
    quantity::milli(quantity.0.trim())?.try_into().ok()
}

/// In whole units: bytes, pods. `None` as for [`milli`].
pub fn units(quantity: &Quantity) -> Option<i64> {
    quantity::units(quantity.0.trim())?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_can_be_counted_is_no_amount() {
        assert_eq!(units(&Quantity("7Ei".to_owned())), Some(7 << 60));
        assert_eq!(units(&Quantity("8Ei".to_owned())), None);
        assert_eq!(units(&Quantity("99999999999999999999Ei".to_owned())), None);
    }
}
