//! Resource quantities (`500m`, `1Gi`, `2e3`) as integers, rounded up as the scheduler does.

/// The value in thousandths (CPU: millicores), or `None` if it is not a quantity.
pub fn milli(text: &str) -> Option<i128> {
    scaled(text, 1_000)
}

/// The value in whole units (bytes, pods), or `None` if it is not a quantity.
pub fn units(text: &str) -> Option<i128> {
    scaled(text, 1)
}

/// Digits a quantity may have, before and behind the point together.
const DIGITS: usize = 24;

fn scaled(text: &str, scale: i128) -> Option<i128> {
    let end =
        text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (numerator, denominator) = multiplier(suffix)?;
    let (is_negative, unsigned) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > DIGITS || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let value: i128 = digits.parse().ok()?;
    let above = value.checked_mul(numerator)?.checked_mul(scale)?;
    let below = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?.checked_mul(denominator)?;
    // Up is towards zero for what is negative.
    Some(if is_negative { -(above / below) } else { above.checked_add(below - 1)? / below })
}

fn multiplier(suffix: &str) -> Option<(i128, i128)> {
    let binary = |power: u32| Some((1 << (10 * power), 1));
    let decimal = |power: u32| Some((10_i128.pow(power), 1));
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
                -18..0 => Some((1, 10_i128.pow(exponent.unsigned_abs()))),
                _ => None,
            }
        }
    }
}

/// The form in which Kubernetes writes an amount (`Quantity.CanonicalizeBytes`): no fraction, and the largest suffix of its sort
/// that needs none. `None` if it is not a quantity, or beyond what fits.
pub fn canonical(text: &str) -> Option<String> {
    const NANO: i128 = 1_000_000_000;
    let nano = scaled(text, NANO)?;
    let suffix = text.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '+' | '-'));
    let is_binary = suffix.ends_with('i') && nano % NANO == 0 && nano.abs() >= 1024 * NANO;
    if nano == 0 {
        return Some("0".to_owned());
    }
    if is_binary {
        let (mut value, mut power) = (nano / NANO, 0);
        while value % 1024 == 0 && power < 6 {
            (value, power) = (value / 1024, power + 1);
        }
        return Some(format!("{value}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power]));
    }
    let (mut value, mut power) = (nano, 0);
    while value % 1000 == 0 && power < 9 {
        (value, power) = (value / 1000, power + 1);
    }
    let is_exponent = suffix.starts_with('e') || (suffix.starts_with('E') && suffix.len() > 1);
    let exponent = 3 * i32::try_from(power).ok()? - 9;
    Some(match (is_exponent, exponent) {
        (_, 0) => value.to_string(),
        (true, exponent) => format!("{value}e{exponent}"),
        (false, _) => format!("{value}{}", ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][power]),
    })
}

/// The form in which Kubernetes writes an amount of thousandths; with powers of 1024 if it `is_binary` and a whole number.
pub fn written(milli: i128, is_binary: bool) -> String {
    let units = milli / 1000;
    if !is_binary || milli % 1000 != 0 || units.abs() < 1024 {
        return canonical(&format!("{milli}m")).unwrap_or_else(|| units.to_string());
    }
    let (mut value, mut power) = (units, 0);
    while value % 1024 == 0 && power < 6 {
        (value, power) = (value / 1024, power + 1);
    }
    format!("{value}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power])
}

/// [`canonical`] of what it is rounded up to thousandths, as amounts of resources are (`SetDefaults_ResourceList`).
pub fn rounded(text: &str) -> Option<String> {
    let is_exact = || Some(milli(text)?.checked_mul(1_000_000)? == scaled(text, 1_000_000_000)?);
    if is_exact().unwrap_or(true) {
        return canonical(text);
    }
    let thousandths = milli(text)?;
    let suffix = text.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '+' | '-'));
    let is_exponent = suffix.starts_with(['e', 'E']) && suffix.len() > 1;
    canonical(&format!("{thousandths}{}", if is_exponent { "e-3" } else { "m" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_as_kubernetes_writes_them() {
        for (given, written) in [
            ("1", "1"),
            ("1.5", "1500m"),
            ("0.5Gi", "512Mi"),
            ("1024Ki", "1Mi"),
            ("1000m", "1"),
            ("1536", "1536"),
            ("100Ki", "100Ki"),
            ("1000", "1k"),
            ("0.1Ki", "102400m"),
            ("1.5e-3", "1500e-6"),
            ("2e3", "2e3"),
            ("1E", "1E"),
            ("-0.5", "-500m"),
            ("0", "0"),
            ("00.0", "0"),
        ] {
            assert_eq!(canonical(given).as_deref(), Some(written), "{given}");
        }
        assert_eq!(canonical("much"), None);
    }

    #[test]
    fn amounts_of_resources_are_rounded_up_to_thousandths() {
        for (given, written) in [
            ("1.5e-3", "2e-3"),
            ("1500u", "2m"),
            ("0.0001", "1m"),
            ("-1500u", "-1m"),
            ("1.5", "1500m"),
            ("0.5Gi", "512Mi"),
        ] {
            assert_eq!(rounded(given).as_deref(), Some(written), "{given}");
        }
        assert_eq!(rounded("much"), None);
    }

    #[test]
    fn equal_amounts_written_differently_are_equal() {
        assert_eq!(milli("0.5"), milli("500m"));
        assert_eq!(milli("1Ki"), milli("1024"));
        assert_eq!(milli("1e3"), milli("1k"));
        for bad in ["", "x", "1x", "--1", "1.2.3", "Mi", "1 ", "+", "99999999999999999999Ei.", "1+1"] {
            assert_eq!(milli(bad), None, "{bad}");
        }
    }

    #[test]
    fn quantities_read_as_the_scheduler_reads_them() {
        for (text, in_milli, in_units) in [
            ("100m", 100, 1),
            ("1", 1_000, 1),
            ("0.5", 500, 1),
            ("1.5Gi", 1_610_612_736_000, 1_610_612_736),
            ("64Mi", 67_108_864_000, 67_108_864),
            ("2e3", 2_000_000, 2_000),
            ("1M", 1_000_000_000, 1_000_000),
            ("100u", 1, 1),
            ("-1500m", -1_500, -1),
        ] {
            assert_eq!((milli(text), units(text)), (Some(in_milli), Some(in_units)), "{text}");
        }
    }
}
