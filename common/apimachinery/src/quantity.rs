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

#[cfg(test)]
mod tests {
    use super::*;

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
