//! The address of the LFS server. By default git-lfs derives it from the project's URL; the `.lfsconfig` of the base
//! can name another address on the same host.
//!
//! The agent's `.lfsconfig` and its git configuration do not count: they could send the upload elsewhere.

use reqwest::Url;

use super::upload_input::UploadInput;
use crate::git::Git;
use crate::runner::product::records::Records;

/// The keys of the address in `.lfsconfig`, in the order in which git-lfs prefers them.
const KEYS: [&str; 4] = [
    "lfs.pushurl",
    "lfs.url",
    "remote.origin.lfspushurl",
    "remote.origin.lfsurl",
];

/// The address that the base names; `None` if it names none.
///
/// # Errors
/// If the address is on another host; the error is the name of that host.
pub async fn address_of_base(
    git: &Git<'_>,
    input: &UploadInput<'_>,
) -> Result<Option<String>, String> {
    let call = input.repository.call(["config", "--null", "--blob"]);
    let call = call.arg(format!("{}:.lfsconfig", input.base));
    let call = call
        .arg("--get-regexp")
        .arg("^(lfs\\.(push)?url|remote\\.origin\\.lfs(push)?url)$");
    let (mut records, mut values) = (Records::new(0), Vec::new());
    let mut on_output = |bytes: &[u8]| {
        records.push(bytes, |record| {
            let text = String::from_utf8_lossy(record);
            if let Some((key, value)) = text.split_once('\n') {
                values.push((key.to_owned(), value.to_owned()));
            }
        });
    };
    // Fails if the base has no such file.
    let _ = git.stream(call, &mut on_output).await;
    let value = KEYS.iter().find_map(|key| {
        let found = values.iter().rev().find(|(name, _)| name == key);
        found.map(|(_, value)| value.clone())
    });
    match value {
        Some(address) => on_same_host(input.url, &address).map(|()| Some(address)),
        None => Ok(None),
    }
}

/// Checks that `address` is on the host of the URL `project`.
///
/// # Errors
/// The name of the other host, or an address without a host.
fn on_same_host(project: &str, address: &str) -> Result<(), String> {
    let Ok(parsed) = Url::parse(address) else {
        return Err(address.escape_debug().to_string());
    };
    let host = host_of(project);
    let is_same = match parsed.scheme() {
        "http" | "https" | "ssh" => host.is_some() && host.as_deref() == parsed.host_str(),
        "file" => project.starts_with("file://"),
        _ => false,
    };
    if is_same {
        return Ok(());
    }
    Err(parsed.host_str().unwrap_or(address).to_owned())
}

/// The host of a URL, or of `user@host:path`.
fn host_of(project: &str) -> Option<String> {
    if project.contains("://") {
        let url = Url::parse(project).ok()?;
        return url.host_str().map(str::to_owned);
    }
    let (host, _) = project.split_once(':')?;
    let host = host.rsplit('@').next()?;
    Some(host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_on_another_host_is_rejected() {
        for (project, address, is_same) in [
            ("https://h.example/o/app.git", "https://h.example/lfs", true),
            ("git@h.example:o/app.git", "https://h.example/lfs", true),
            ("file:///srv/app", "file:///srv/lfs", true),
            (
                "https://h.example/o/app.git",
                "https://evil.example/",
                false,
            ),
            (
                "https://h.example/o/app.git",
                "https://h.example.evil/",
                false,
            ),
            (
                "https://h.example/o/app.git",
                "https://h.example@evil/",
                false,
            ),
            ("https://h.example/o/app.git", "file:///etc", false),
            ("https://h.example/o/app.git", "../lfs", false),
            ("file:///srv/app", "https://h.example/", false),
        ] {
            assert_eq!(on_same_host(project, address).is_ok(), is_same, "{address}");
        }
    }
}
