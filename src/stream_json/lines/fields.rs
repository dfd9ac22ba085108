//! Reads the fields of a JSON object independently of each other: a field with an unexpected type counts as absent.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

/// The largest list or table that is read, in bytes. Real lists and tables have a few hundred bytes.
const MAX_LIST_SIZE: usize = 64 * 1024;

/// The JSON text of a field; `None` if the field is absent.
pub type RawField<'a> = Option<&'a RawValue>;

/// The value of a field, if the field has the expected type.
pub fn value<T: DeserializeOwned>(raw: RawField<'_>) -> Option<T> {
    serde_json::from_str(raw?.get()).ok()
}

/// A field with a list or a table; `None` if it is too large.
pub fn unless_too_large(raw: RawField<'_>) -> RawField<'_> {
    raw.filter(|raw| raw.get().len() <= MAX_LIST_SIZE)
}

/// Reads some fields of an object. If the JSON is not an object, all fields are absent.
pub fn fields<'a, T: Deserialize<'a> + Default>(json: &'a [u8]) -> T {
    object(json).unwrap_or_default()
}

/// Reads an object. serde would also read a list as the fields of a struct, in their order.
pub fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    if json.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    serde_json::from_slice(json).ok()
}
