//! Amounts of memory and of processors, as people write them. An error completes a sentence that begins with the text.

/// An amount of memory, in bytes: `512MiB`, `2GiB`, `2g`.
pub fn memory(text: &str) -> Result<u64, String> {
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

/// A number of processors such as `1.5`, in billionths.
pub fn nano_cpus(text: &str) -> Result<u64, String> {
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
