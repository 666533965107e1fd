//! Numbers that may be given as a share: `3`, `"25%"` (`k8s.io/apimachinery/pkg/util/intstr`).

use serde_json::Value;

/// The number that `value` is of `total`; what cannot be read is 0.
pub fn of(value: &Value, total: i64, round_up: bool) -> i64 {
    let share = match value {
        Value::String(text) => text.strip_suffix('%').and_then(|text| text.parse::<i64>().ok()),
        other => return other.as_i64().unwrap_or(0),
    };
    let product = share.unwrap_or(0).saturating_mul(total);
    let up = i64::from(round_up && product % 100 != 0);
    product / 100 + up
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn shares_are_rounded_as_asked() {
        assert_eq!((of(&json!("25%"), 3, true), of(&json!("25%"), 3, false)), (1, 0));
        assert_eq!(
            (of(&json!(2), 3, true), of(&json!("100%"), 3, true), of(&json!("x"), 3, true)),
            (2, 3, 0)
        );
    }
}
