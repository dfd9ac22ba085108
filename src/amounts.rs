//! Reads and writes amounts of memory, processors and money in the form that people use. The error of a
//! function that parses completes a sentence that begins with the parsed text.

/// Parses an amount of memory such as `512MiB`, `2GiB` or `2g`; returns bytes.
pub fn parse_memory(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text[digits.len()..].trim().to_ascii_lowercase();
    let shift = match unit.as_str() {
        "k" | "kib" => Some(10),
        "m" | "mib" => Some(20),
        "g" | "gib" => Some(30),
        _ => None,
    };
    let bytes = shift.and_then(|shift| digits.parse::<u64>().ok()?.checked_mul(1 << shift));
    let bytes = bytes.filter(|bytes| *bytes > 0);
    bytes.ok_or_else(|| "is not an amount of memory; write it like 512MiB or 2GiB".to_owned())
}

/// Parses a number of processors such as `1.5`; returns billionths of a processor.
pub fn parse_nano_cpus(text: &str) -> Result<u64, String> {
    let number: Option<f64> = text.parse().ok();
    let number = number.filter(|number| (0.01..=10_000.0).contains(number));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at most 10^13"
    )]
    let nanos = number.map(|number| (number * 1e9).round() as u64);
    nanos.ok_or_else(|| "is not a number of processors; write it like 2 or 1.5".to_owned())
}

/// The highest cost that is accepted, in US dollars: a sum of larger costs might become infinite.
const MAX_COST_USD: f64 = 1e9;

/// A cost in US dollars that another program wrote; `None` if it is negative, too high or not a number.
pub fn possible_cost(usd: f64) -> Option<f64> {
    (0.0..=MAX_COST_USD).contains(&usd).then_some(usd)
}

/// A number of bytes for people: `9 B`, `1.50 KiB`.
pub fn bytes_in_words(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let power = bytes.checked_ilog2().unwrap_or_default() / 10;
    if power == 0 {
        return format!("{bytes} B");
    }
    let hundredths = (u128::from(bytes) * 100) >> (10 * power);
    let unit = UNITS[power as usize - 1];
    format!("{}.{:02} {unit}", hundredths / 100, hundredths % 100)
}

/// A number with a comma before each group of three digits: `12,345`.
pub fn with_commas(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// An amount of US dollars: `$1.50`. An amount below a cent has four decimals: `$0.0021`.
pub fn dollars(amount: f64) -> String {
    if amount > 0.0 && amount < 0.01 {
        format!("${amount:.4}")
    } else {
        format!("${amount:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_dollars_below_a_cent_have_four_decimals() {
        for (amount, text) in [
            (0.0, "$0.00"),
            (0.0021, "$0.0021"),
            (0.01, "$0.01"),
            (12.5, "$12.50"),
        ] {
            assert_eq!(dollars(amount), text);
        }
    }

    #[test]
    fn bytes_have_the_largest_unit_that_fits() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (1536, "1.50 KiB"),
            (1024 * 1024 - 1, "1023.99 KiB"),
            (2 << 30, "2.00 GiB"),
            (u64::MAX, "15.99 EiB"),
        ] {
            assert_eq!(bytes_in_words(bytes), text);
        }
    }

    #[test]
    fn digits_are_separated_into_groups_of_three() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(with_commas(number), text);
        }
    }
}
