//! Looks up images, and pulls an image that the engine does not have.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::client::{ApiClient, ApiError};
use crate::line_splitter::{LineEnd, LineSplitter};

/// How long a pull may make no progress.
const PULL_SILENCE: Duration = Duration::from_secs(120);
/// How often the progress of a pull is shown.
const SHOW: Duration = Duration::from_secs(5);
/// The longest line of progress, in bytes.
const MAX_LINE: usize = 64 * 1024;

/// The user that each image names. There can be several images, because a task may need another one than the settings
/// name.
#[derive(Debug, Default)]
pub struct Users(pub(super) Mutex<HashMap<String, String>>);

impl Users {
    /// The user of the image, which the engine is asked for at most once. Pulls the image if the engine does not have
    /// it.
    pub async fn of(&self, client: &ApiClient, image: &str) -> Result<String, ApiError> {
        let known = self.known().get(image).cloned();
        match known {
            Some(user) => Ok(user),
            None => self.look_up(client, image, &|_| {}).await,
        }
    }

    /// Asks the engine for the user of the image. Pulls the image if the engine does not have it.
    pub async fn look_up(
        &self,
        client: &ApiClient,
        image: &str,
        say: &dyn Fn(&str),
    ) -> Result<String, ApiError> {
        let found = require(client, image, say).await?;
        let user = found.pointer("/Config/User").and_then(Value::as_str);
        let user = user.unwrap_or_default().to_owned();
        self.known().insert(image.to_owned(), user.clone());
        Ok(user)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The image's configuration; pulls the image if the engine does not have it.
pub async fn require(
    client: &ApiClient,
    image: &str,
    say: &dyn Fn(&str),
) -> Result<Value, ApiError> {
    match inspect(client, image).await {
        Err(error) if error.code() == Some(404) => pull(client, image, say).await?,
        result => return result,
    }
    inspect(client, image).await
}

/// Asks the engine for the configuration of an image.
async fn inspect(client: &ApiClient, image: &str) -> Result<Value, ApiError> {
    let path = format!("images/{image}/json");
    client.call(client.request(Method::GET, &path, &[])).await
}

/// Pulls an image, and shows the progress every few seconds.
async fn pull(client: &ApiClient, image: &str, say: &dyn Fn(&str)) -> Result<(), ApiError> {
    say(&format!("pulling the image {image}"));
    let (name, tag) = reference(image);
    let mut query = vec![("fromImage", name)];
    query.extend(tag.map(|tag| ("tag", tag)));
    let request = client.request(Method::POST, "images/create", &query);
    let opened = client.open_within(request, PULL_SILENCE).await;
    // The registry's message does not name the image.
    let mut response = opened.map_err(|error| match error {
        ApiError::Status { code, message } => ApiError::Status {
            code,
            message: format!("the image {image} cannot be pulled: {message}"),
        },
        ApiError::Unknown(why) => {
            ApiError::Unknown(format!("the image {image} cannot be pulled: {why}"))
        }
    })?;
    let (mut lines, mut progress) = (
        LineSplitter::new(LineEnd::Newline, MAX_LINE),
        Progress::default(),
    );
    let mut next_show = Instant::now() + SHOW;
    loop {
        let chunk = timeout(PULL_SILENCE, response.chunk()).await;
        let silent = |_| {
            let seconds = PULL_SILENCE.as_secs();
            ApiError::Unknown(format!(
                "the pull of {image} made no progress for {seconds} s"
            ))
        };
        let chunk = chunk.map_err(silent)?;
        let Some(chunk) = chunk.map_err(|error| client.broken(&error))? else {
            break;
        };
        let mut input = &chunk[..];
        while let Some(line) = lines.next_line(&mut input) {
            progress
                .note(&line.bytes)
                .map_err(|why| not_pulled(image, &why))?;
        }
        if Instant::now() >= next_show {
            next_show = Instant::now() + SHOW;
            say(&format!("pulling the image {image}: {}", progress.text()));
        }
    }
    if let Some(line) = lines.take_unfinished() {
        progress
            .note(&line.bytes)
            .map_err(|why| not_pulled(image, &why))?;
    }
    say(&format!("pulled the image {image}"));
    Ok(())
}

/// The error after a failed pull. A registry gives the same message for a missing image and for a forbidden one, so no
/// further attempt is made.
fn not_pulled(image: &str, why: &str) -> ApiError {
    ApiError::Status {
        code: 404,
        message: format!("the image {image} cannot be pulled: {why}"),
    }
}

/// The name, and the tag if there is no digest. Without a tag the engine would pull all tags.
fn reference(image: &str) -> (&str, Option<&str>) {
    if image.contains('@') {
        return (image, None);
    }
    // A colon before the last slash belongs to the registry's port.
    let name_begins = image.rfind('/').map_or(0, |slash| slash + 1);
    match image[name_begins..].find(':') {
        Some(colon) => {
            let (name, tag) = image.split_at(name_begins + colon);
            (name, Some(&tag[1..]))
        }
        None => (image, Some("latest")),
    }
}

/// The progress of a pull: for each layer, its current and its total bytes.
#[derive(Debug, Default)]
struct Progress {
    layers: std::collections::BTreeMap<String, (u64, u64)>,
}

impl Progress {
    /// Reads one line; an error if the engine says that the pull has failed.
    fn note(&mut self, line: &[u8]) -> Result<(), String> {
        let Ok(line) = serde_json::from_slice::<Value>(line) else {
            return Ok(());
        };
        if let Some(error) = line.get("error").and_then(Value::as_str) {
            return Err(error.to_owned());
        }
        let number = |name: &str| line.pointer(&format!("/progressDetail/{name}"))?.as_u64();
        let layer = line.get("id").and_then(Value::as_str);
        if line.get("status").and_then(Value::as_str) == Some("Downloading")
            && let (Some(layer), Some(current), Some(total)) =
                (layer, number("current"), number("total"))
        {
            self.layers.insert(layer.to_owned(), (current, total));
        }
        Ok(())
    }

    fn text(&self) -> String {
        let sum = |part: fn(&(u64, u64)) -> u64| self.layers.values().map(part).sum::<u64>();
        let (current, total) = (sum(|layer| layer.0) >> 20, sum(|layer| layer.1) >> 20);
        format!("{current} of {total} MiB")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images_are_split_at_the_tag_only() {
        for (image, name, tag) in [
            ("worker", "worker", Some("latest")),
            ("worker:1.2", "worker", Some("1.2")),
            (
                "localhost:5000/a/worker",
                "localhost:5000/a/worker",
                Some("latest"),
            ),
            (
                "localhost:5000/a/worker:2",
                "localhost:5000/a/worker",
                Some("2"),
            ),
            ("a/worker@sha256:12", "a/worker@sha256:12", None),
        ] {
            assert_eq!(reference(image), (name, tag));
        }
    }

    #[test]
    fn progress_sums_the_layers_and_an_error_ends_the_pull() {
        let mut progress = Progress::default();
        for (layer, current) in [("a", 1 << 20), ("b", 2 << 20), ("a", 3 << 20)] {
            let line = serde_json::json!({
                "status": "Downloading", "id": layer,
                "progressDetail": { "current": current, "total": 4 << 20 },
            });
            progress.note(line.to_string().as_bytes()).unwrap();
        }
        progress.note(b"garbage").unwrap();
        assert_eq!(progress.text(), "5 of 8 MiB");
        let refused = br#"{"error":"manifest unknown"}"#;
        assert_eq!(progress.note(refused), Err("manifest unknown".to_owned()));
    }
}
