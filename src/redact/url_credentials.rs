//! Users and passwords in URLs.

/// `https://user:password@host` becomes `https://***@host`, if `***` is the mask. A user without a password is masked
/// for http and https only, because such a user is a token; the user in `ssh://git@host` is not secret.
pub fn without_url_credentials(text: &str, mask: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(scheme_end) = rest.find("://") {
        let (before, after) = rest.split_at(scheme_end + 3);
        clean.push_str(before);
        let authority_end = after
            .find(|c: char| c.is_whitespace() || "/?#\"'<>`".contains(c))
            .unwrap_or(after.len());
        let is_http = before.ends_with("http://") || before.ends_with("https://");
        match after[..authority_end].rfind('@') {
            Some(at_sign) if is_http || after[..at_sign].contains(':') => {
                clean.push_str(mask);
                rest = &after[at_sign..];
            }
            _ => rest = after,
        }
    }
    clean.push_str(rest);
    clean
}
