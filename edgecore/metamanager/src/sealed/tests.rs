use proptest::prelude::*;

use super::*;

fn sealer(byte: u8) -> Sealer {
    let mut bytes = [byte; 32];
    bytes[0] = !byte;
    Sealer::new(&Key::parse(STANDARD.encode(bytes).as_bytes()).unwrap())
}

proptest! {
    #[test]
    fn what_was_sealed_opens_again_for_its_row_and_with_its_key_only(row in ".*", other in ".*", text in ".*", byte: u8) {
        let value = sealer(byte).seal(&row, &text).unwrap();
        prop_assert_eq!(sealer(byte).open(&row, &value), Some(text));
        prop_assert_eq!(sealer(!byte).open(&row, &value), None);
        prop_assert_eq!(sealer(byte).open(&other, &value).is_some(), row == other);
    }

    #[test]
    fn noise_and_damage_never_open(noise in ".*", at: prop::sample::Index, flip in 1u8..128) {
        let sealer = sealer(7);
        prop_assert_eq!(sealer.open("r", &noise), None);
        prop_assert_eq!(sealer.open("r", &format!("{V1}{}:{noise}\"", sealer.id)), None);
        let mut value = sealer.seal("r", "{\"data\":{}}").unwrap().into_bytes();
        let at = at.index(value.len());
        value[at] ^= flip;
        prop_assert_eq!(String::from_utf8(value).ok().and_then(|value| sealer.open("r", &value)), None);
    }
}

#[test]
fn a_sealed_value_is_json_names_its_key_and_is_never_the_same_twice() {
    let (one, other) = (sealer(1), sealer(2));
    let value = one.seal("d/secret/s", "{\"data\":{\"k\":\"dG9w\"}}").unwrap();
    let text: String = serde_json::from_str(&value).unwrap();
    let parts: Vec<&str> = text.split(':').collect();
    assert_eq!((parts.len(), parts[0], parts[1], parts[2].len()), (4, "sealed", "v1", 2 * ID));
    assert_ne!(one.id, other.id);
    assert!(is_sealed(&value) && !is_sealed("{\"sealed:\":1}"));
    assert_ne!(value, one.seal("d/secret/s", "{\"data\":{\"k\":\"dG9w\"}}").unwrap());
}

#[test]
fn only_secrets_and_tokens_are_sealed_and_only_with_a_key() {
    let seals = Seals::with(sealer(1));
    for kind in KINDS {
        let value = seals.stored(kind, "r", "{}").unwrap().into_owned();
        assert!(is_sealed(&value), "{kind}");
        assert_eq!(seals.text("r", value.clone()).as_deref(), Some("{}"));
        assert_eq!(Seals::default().text("r", value), None);
        assert_eq!(Seals::default().stored(kind, "r", "{}").unwrap(), "{}");
    }
    assert_eq!(seals.stored("configmap", "r", "{}").unwrap(), "{}");
    assert_eq!(seals.text("r", "{}".to_owned()).as_deref(), Some("{}"));
    assert_eq!(KINDS[0], message::ObjectKind::Secret.to_string());
}
