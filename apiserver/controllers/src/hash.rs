//! Short hashes of templates, for names and labels. Values differ from kube-controller-manager's, which hashes a Go value: whoever
//! takes over compares templates, not hashes.

use serde_json::Value;

/// Letters and digits that spell no words (`k8s.io/apimachinery/pkg/util/rand`).
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// FNV-1a over the JSON with keys in order, and the count of collisions so far.
pub(crate) fn of(value: &Value, collisions: i64) -> String {
    let text = value.to_string();
    let suffix = if collisions > 0 { collisions.to_string() } else { String::new() };
    let hash = text
        .bytes()
        .chain(suffix.bytes())
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash.to_string().bytes().map(|digit| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn equal_values_have_equal_hashes_and_a_collision_another() {
        let (one, same) = (json!({"a": 1, "b": 2}), json!({"b": 2, "a": 1}));
        assert_eq!(of(&one, 0), of(&same, 0));
        assert_ne!(of(&one, 0), of(&one, 1));
        assert_ne!(of(&one, 0), of(&json!({"a": 1, "b": 3}), 0));
    }
}
