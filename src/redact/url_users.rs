//! Users and passwords in URLs.

/// `https://user:password@host` becomes `https://***@host`, if `***` is the mask. A user without password is masked for http
/// and https only, because it is a token there; the user in `ssh://git@host` is not secret.
pub fn without_url_users(text: &str, mask: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        clean.push_str(before);
        let authority = after
            .find(|c: char| c.is_whitespace() || "/?#\"'<>`".contains(c))
            .unwrap_or(after.len());
        let http = before.ends_with("http://") || before.ends_with("https://");
        match after[..authority].rfind('@') {
            Some(user) if http || after[..user].contains(':') => {
                clean.push_str(mask);
                rest = &after[user..];
            }
            _ => rest = after,
        }
    }
    clean.push_str(rest);
    clean
}
