//! The names of secrets: which variables of the environment, and which keys inside a JSON secret.

/// A name with one of these endings, in any case, has a secret as its value.
pub const SECRET_ENDINGS: [&str; 7] = [
    "TOKEN",
    "KEY",
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "CREDENTIALS",
];

/// Whether a name has one of the [`SECRET_ENDINGS`].
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    SECRET_ENDINGS.iter().any(|ending| name.ends_with(ending))
}
