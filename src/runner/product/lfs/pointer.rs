//! Git LFS pointer files.

use ring::digest::Context;

/// The first line of every pointer.
const VERSION: &str = "version https://git-lfs.github.com/spec/v1";
/// A file of this size or more is not a pointer, in bytes; git-lfs has the same limit.
pub const MAX_POINTER_SIZE: u64 = 1024;

/// The content of a pointer file, which names an object on the LFS server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pointer {
    /// SHA-256, 64 hexadecimal digits.
    pub oid: String,
    /// The size of the object, in bytes.
    pub size: u64,
}

impl Pointer {
    /// Reads a pointer file; `None` if the text is something else.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(text).ok()?.lines();
        if lines.next()? != VERSION {
            return None;
        }
        let (mut oid, mut size) = (None, None);
        for line in lines {
            if let Some(digits) = line.strip_prefix("oid sha256:") {
                let is_hash =
                    digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
                oid = is_hash.then(|| digits.to_ascii_lowercase());
            } else if let Some(digits) = line.strip_prefix("size ") {
                size = digits.parse().ok();
            }
        }
        Some(Self {
            oid: oid?,
            size: size?,
        })
    }

    /// Whether `digest` is the SHA-256 of the object.
    pub fn has_digest(&self, digest: Context) -> bool {
        let digest = digest.finish();
        let digits = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
        digits.collect::<String>() == self.oid
    }

    /// The pointer as git-lfs writes it.
    pub fn text(&self) -> String {
        format!("{VERSION}\noid sha256:{}\nsize {}\n", self.oid, self.size)
    }
}

/// A new pointer in the commits that would be pushed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PointerFile {
    pub path: Vec<u8>,
    pub pointer: Pointer,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_complete_pointer_is_a_pointer() {
        let oid = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";
        let text = format!("{VERSION}\noid sha256:{oid}\nsize 12345\n");
        let pointer = Pointer::parse(text.as_bytes()).unwrap();
        assert_eq!((pointer.oid.as_str(), pointer.size), (oid, 12_345));
        assert_eq!(pointer.text(), text);
        for text in ["", "plain", VERSION, "size 3\n"] {
            assert_eq!(Pointer::parse(text.as_bytes()), None);
        }
    }
}
