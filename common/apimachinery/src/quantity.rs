//! Resource quantities (`500m`, `1Gi`, `2e3`), compared by value.

/// The value in thousandths, or `None` if it is not a quantity.
pub fn milli(text: &str) -> Option<i128> {
    let split =
        text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let factor = factor(suffix)?;
    let (sign, digits) = match number.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if (whole.is_empty() && fraction.is_empty())
        || fraction.contains(['+', '-'])
        || whole.contains(['+', '-'])
    {
        return None;
    }
    let places = u32::try_from(fraction.len()).ok().filter(|places| *places <= 12)?;
    let digits: i128 =
        if whole.len() > 20 { return None } else { format!("{whole}{fraction}").parse().ok()? };
    let scaled = digits.checked_mul(factor)? / 10_i128.pow(places);
    Some(sign * scaled)
}

fn factor(suffix: &str) -> Option<i128> {
    let binary = |power: u32| 1000 * 1024_i128.pow(power);
    Some(match suffix {
        "n" | "u" => return Some(0),
        "m" => 1,
        "" => 1000,
        "k" => 1_000_000,
        "M" => 1_000_000_000,
        "G" => 1_000_000_000_000,
        "T" => 1_000_000_000_000_000,
        "P" => 1_000_000_000_000_000_000,
        "E" => 1_000_000_000_000_000_000_000,
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        other => {
            let exponent: u32 = other.strip_prefix(['e', 'E'])?.parse().ok()?;
            1000 * 10_i128.checked_pow(exponent.min(30))?
        }
    })
}

#[cfg(test)]
mod tests {
    use super::milli;

    #[test]
    fn equal_amounts_written_differently_are_equal() {
        assert_eq!(milli("0.5"), milli("500m"));
        assert_eq!(milli("1Ki"), milli("1024"));
        assert_eq!(milli("1e3"), milli("1k"));
        for bad in ["", "x", "1x", "--1", "1.2.3", "Mi"] {
            assert_eq!(milli(bad), None, "{bad}");
        }
    }
}
