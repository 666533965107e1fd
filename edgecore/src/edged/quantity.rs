//! Kubernetes quantities ("100m", "64Mi", "1e3") as integers, rounded up as the scheduler does.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// In thousandths: CPU cores as millicores.
pub fn milli(quantity: &Quantity) -> Option<i64> {
    scaled(&quantity.0, 1_000)
}

/// In whole units: bytes, pods.
pub fn units(quantity: &Quantity) -> Option<i64> {
    scaled(&quantity.0, 1)
}

fn scaled(text: &str, scale: i128) -> Option<i64> {
    let text = text.trim();
    let end =
        text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (numerator, denominator) = multiplier(suffix)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let negative = whole.starts_with('-');
    let digits = format!("{}{fraction}", whole.trim_start_matches(['-', '+']));
    if digits.is_empty() || digits.len() > 24 {
        return None;
    }
    let value: i128 = digits.parse().ok()?;
    let below = 10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?.checked_mul(denominator)?;
    let above = value.checked_mul(numerator)?.checked_mul(scale)?;
    let rounded = above.checked_add(below - 1)? / below;
    i64::try_from(if negative { -(above / below) } else { rounded }).ok()
}

fn multiplier(suffix: &str) -> Option<(i128, i128)> {
    let binary = |power: u32| Some((1i128 << (10 * power), 1));
    let decimal = |power: u32| Some((10i128.pow(power), 1));
    match suffix {
        "" => Some((1, 1)),
        "n" => Some((1, 1_000_000_000)),
        "u" => Some((1, 1_000_000)),
        "m" => Some((1, 1_000)),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            match exponent {
                0..=18 => decimal(exponent.unsigned_abs()),
                -18..0 => Some((1, 10i128.pow(exponent.unsigned_abs()))),
                _ => None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_as_the_scheduler_reads_them() {
        let table: &[(&str, Option<i64>, Option<i64>)] = &[
            ("100m", Some(100), Some(1)),
            ("1", Some(1_000), Some(1)),
            ("0.5", Some(500), Some(1)),
            ("1.5Gi", Some(1_610_612_736_000), Some(1_610_612_736)),
            ("64Mi", Some(67_108_864_000), Some(67_108_864)),
            ("2e3", Some(2_000_000), Some(2_000)),
            ("1M", Some(1_000_000_000), Some(1_000_000)),
            ("100u", Some(1), Some(1)),
            ("", None, None),
            ("12x", None, None),
            ("99999999999999999999Ei", None, None),
        ];
        for (text, in_milli, in_units) in table {
            let quantity = Quantity((*text).to_owned());
            assert_eq!((milli(&quantity), units(&quantity)), (*in_milli, *in_units), "{text}");
        }
    }
}
