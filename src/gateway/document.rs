//! Extracts a few members from the bytes of a JSON object, without storing the other members. No I/O; needs
//! bounded memory.

/// The longest member that is extracted, in bytes with its name. A longer member counts as absent.
const MAX_MEMBER_SIZE: usize = 64 * 1024;
/// The maximum size of all extracted members together, in bytes.
const MAX_EXTRACTED_SIZE: usize = 256 * 1024;

/// Reads one JSON document in chunks of any size. Does not check that the document is valid.
#[derive(Debug)]
pub struct Document {
    names: &'static [&'static str],
    /// The number of objects and arrays that are open.
    depth: usize,
    string: StringState,
    /// The bytes of the current member of the outermost object, unless it is skipped.
    member: Vec<u8>,
    part: Part,
    /// The members that were extracted, separated by commas.
    extracted_members: Vec<u8>,
}

/// Whether the current byte is in a string.
#[derive(Debug, PartialEq)]
enum StringState {
    Outside,
    Inside,
    /// Inside, after a backslash.
    Escaped,
}

/// The part of the outermost object that the current byte belongs to.
#[derive(Debug, PartialEq)]
enum Part {
    /// The name of a member. It decides whether the member is extracted.
    Name,
    /// The value of a member that is extracted.
    ExtractedValue,
    /// Anything else.
    Skipped,
}

impl Document {
    /// Extracts the members of the outermost object that have one of these names.
    pub fn new(names: &'static [&'static str]) -> Self {
        Self {
            names,
            depth: 0,
            string: StringState::Outside,
            member: Vec::new(),
            part: Part::Skipped,
            extracted_members: Vec::new(),
        }
    }

    /// Reads the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some((byte, after)) = rest.split_first() {
            self.push_byte(*byte);
            rest = after;
            // In a skipped part, go straight to the next byte that can end it.
            let next = match (&self.part, &self.string) {
                (Part::Skipped, StringState::Inside) => memchr::memchr2(b'"', b'\\', rest),
                (Part::Skipped, StringState::Outside) => {
                    rest.iter().copied().position(is_structural)
                }
                _ => continue,
            };
            rest = &rest[next.unwrap_or(rest.len())..];
        }
    }

    /// An object with the members that were extracted.
    pub fn object(&self) -> Vec<u8> {
        [b"{", self.extracted_members.as_slice(), b"}"].concat()
    }

    /// Reads one byte. The part changes before the depth: the braces and commas at depth 1 separate the members.
    fn push_byte(&mut self, byte: u8) {
        if self.string != StringState::Outside {
            self.add_to_member(byte);
            self.string = match (byte, &self.string) {
                (b'\\', StringState::Inside) => StringState::Escaped,
                (b'"', StringState::Inside) => StringState::Outside,
                _ => StringState::Inside,
            };
            return;
        }
        match (byte, self.depth) {
            (b'{', 0) => self.begin_member(),
            (b',', 1) => {
                self.end_member();
                self.begin_member();
            }
            (b'}', 1) => self.end_member(),
            (b':', 1) => {
                self.end_name();
                self.add_to_member(byte);
            }
            _ => self.add_to_member(byte),
        }
        match byte {
            b'"' => self.string = StringState::Inside,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }

    fn begin_member(&mut self) {
        self.member.clear();
        self.part = Part::Name;
    }

    fn end_name(&mut self) {
        if self.part == Part::Name {
            let name: Option<String> = serde_json::from_slice(&self.member).ok();
            let is_extracted = name.is_some_and(|name| self.names.contains(&name.as_str()));
            self.part = if is_extracted {
                Part::ExtractedValue
            } else {
                Part::Skipped
            };
        }
    }

    fn end_member(&mut self) {
        let size = self.member.len();
        if self.part == Part::ExtractedValue
            && self.extracted_members.len() + size < MAX_EXTRACTED_SIZE
        {
            if !self.extracted_members.is_empty() {
                self.extracted_members.push(b',');
            }
            self.extracted_members.append(&mut self.member);
        }
        self.part = Part::Skipped;
    }

    /// Adds a byte to the current member; skips the member if it is too long.
    fn add_to_member(&mut self, byte: u8) {
        if self.part == Part::Skipped || self.member.len() == MAX_MEMBER_SIZE {
            self.part = Part::Skipped;
        } else {
            self.member.push(byte);
        }
    }
}

/// Whether a byte outside of strings belongs to the structure of JSON: it begins or ends a string, a value or a
/// name.
fn is_structural(byte: u8) -> bool {
    matches!(byte, b'"' | b'{' | b'}' | b'[' | b']' | b',' | b':')
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;

    const NAMES: &[&str] = &["usage", "model"];

    fn members(chunks: &[&[u8]]) -> Value {
        let mut document = Document::new(NAMES);
        for chunk in chunks {
            document.push(chunk);
        }
        serde_json::from_slice(&document.object()).unwrap()
    }

    #[test]
    fn members_of_the_outermost_object_are_extracted_from_chunks_of_any_size() {
        let text = r#" { "content":[{"usage":1,"text":"\"},\"usage\":2,"}], "usage" : {"a":[1,{"b":"}"}]},"us\u0061ge2":3,"model":"m\\" }"#;
        for at in 0..=text.len() {
            let (one, other) = text.as_bytes().split_at(at);
            let expected = json!({ "usage": { "a": [1, { "b": "}" }] }, "model": "m\\" });
            assert_eq!(members(&[one, other]), expected, "cut at {at}");
        }
    }

    #[test]
    fn a_document_that_is_not_an_object_has_no_members() {
        for text in [
            "",
            "[{\"usage\":1}]",
            "\"usage\":1",
            "}{",
            "]]]",
            "{\"usage\"",
        ] {
            assert_eq!(members(&[text.as_bytes()]), json!({}), "{text}");
        }
    }

    #[test]
    fn a_large_document_needs_little_memory_and_its_small_members_are_extracted() {
        let mut document = Document::new(NAMES);
        document.push(b"{\"model\":\"");
        for _ in 0..100 {
            document.push(&vec![b'x'; 100_000]);
        }
        document.push(b"\",\"content\":\"");
        for _ in 0..100 {
            document.push(&vec![b'x'; 100_000]);
        }
        document.push(b"\",\"usage\":{\"input_tokens\":7}}");
        assert_eq!(document.object(), b"{\"usage\":{\"input_tokens\":7}}");
        assert!(
            document.member.capacity() + document.extracted_members.capacity()
                <= 4 * MAX_MEMBER_SIZE
        );
    }

    proptest::proptest! {
        #[test]
        fn any_object_has_the_same_members_as_for_serde(
            names in proptest::collection::btree_set("usage|model|[a-z\"\\\\{},:]{0,3}", 0..5),
            text in ".{0,20}",
        ) {
            let value = |name: &String| json!({ "usage": [text, name], "rest": { "model": text } });
            let object: Map<String, Value> = names.iter().map(|name| (name.clone(), value(name))).collect();
            let bytes = serde_json::to_vec_pretty(&object).unwrap();
            let expected = object.into_iter().filter(|(name, _)| NAMES.contains(&name.as_str()));
            let expected: Map<String, Value> = expected.collect();
            proptest::prop_assert_eq!(members(&[&bytes]), Value::Object(expected));
        }
    }
}
