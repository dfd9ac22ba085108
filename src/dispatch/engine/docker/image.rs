//! Asks for the configuration of images, and pulls images that the engine does not have.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::client::{ApiClient, ApiError};
use crate::line_splitter::{LineEnd, LineSplitter};

/// A pull fails if the engine sends nothing for this time.
const PULL_IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// The time between two messages about the progress of a pull.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
/// The longest line of progress, in bytes.
const MAX_PROGRESS_LINE: usize = 64 * 1024;

/// The user in the configuration of each image, by the image's name. There can be several images, because a task may
/// need another one than the settings name.
#[derive(Debug, Default)]
pub struct ImageUsers(pub(super) Mutex<HashMap<String, String>>);

impl ImageUsers {
    /// The user of the image. Asks the engine only if the user is not known yet.
    pub async fn user_of(&self, client: &ApiClient, image: &str) -> Result<String, ApiError> {
        let known = self.lock().get(image).cloned();
        match known {
            Some(user) => Ok(user),
            None => self.look_up(client, image, &|_| {}).await,
        }
    }

    /// Asks the engine for the user of the image. Pulls the image if the engine does not have it; `say` shows the
    /// progress to the user.
    pub async fn look_up(
        &self,
        client: &ApiClient,
        image: &str,
        say: &dyn Fn(&str),
    ) -> Result<String, ApiError> {
        let configuration = inspect_or_pull(client, image, say).await?;
        let user = configuration
            .pointer("/Config/User")
            .and_then(Value::as_str);
        let user = user.unwrap_or_default().to_owned();
        self.lock().insert(image.to_owned(), user.clone());
        Ok(user)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks the engine for the description of an image. Pulls the image first if the engine does not have it.
pub async fn inspect_or_pull(
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

/// Asks the engine for the description of an image.
async fn inspect(client: &ApiClient, image: &str) -> Result<Value, ApiError> {
    let path = format!("images/{image}/json");
    client.call(client.request(Method::GET, &path, &[])).await
}

/// Pulls an image, and shows the progress every few seconds with `say`.
async fn pull(client: &ApiClient, image: &str, say: &dyn Fn(&str)) -> Result<(), ApiError> {
    say(&format!("pulling the image {image}"));
    let (name, tag) = split_reference(image);
    let mut query = vec![("fromImage", name)];
    query.extend(tag.map(|tag| ("tag", tag)));
    let request = client.request(Method::POST, "images/create", &query);
    let sent = client.send_within(request, PULL_IDLE_TIMEOUT).await;
    // The engine passes on the registry's message, which does not name the image.
    let mut response = sent.map_err(|error| match error {
        ApiError::Status { code, message } => ApiError::Status {
            code,
            message: format!("the image {image} cannot be pulled: {message}"),
        },
        ApiError::Unknown(why) => {
            ApiError::Unknown(format!("the image {image} cannot be pulled: {why}"))
        }
    })?;
    let (mut lines, mut progress) = (
        LineSplitter::new(LineEnd::Newline, MAX_PROGRESS_LINE),
        Progress::default(),
    );
    let mut next_message = Instant::now() + PROGRESS_INTERVAL;
    loop {
        let chunk = timeout(PULL_IDLE_TIMEOUT, response.chunk()).await;
        let timeout_error = |_| {
            let seconds = PULL_IDLE_TIMEOUT.as_secs();
            ApiError::Unknown(format!(
                "the pull of {image} made no progress for {seconds} s"
            ))
        };
        let chunk = chunk.map_err(timeout_error)?;
        let Some(chunk) = chunk.map_err(|error| client.connection_error(&error))? else {
            break;
        };
        let mut input = &chunk[..];
        while let Some(line) = lines.next_line(&mut input) {
            progress
                .read_line(&line.bytes)
                .map_err(|why| pull_error(image, &why))?;
        }
        if Instant::now() >= next_message {
            next_message = Instant::now() + PROGRESS_INTERVAL;
            say(&format!("pulling the image {image}: {}", progress.text()));
        }
    }
    if let Some(line) = lines.take_unfinished() {
        progress
            .read_line(&line.bytes)
            .map_err(|why| pull_error(image, &why))?;
    }
    say(&format!("pulled the image {image}"));
    Ok(())
}

/// The error after a failed pull. The status is 404, which is not retried: the image is missing, or forbidden, and a
/// registry gives the same message for both.
fn pull_error(image: &str, why: &str) -> ApiError {
    ApiError::Status {
        code: 404,
        message: format!("the image {image} cannot be pulled: {why}"),
    }
}

/// Splits the reference of an image into the name and the tag. A reference with a digest stays whole. The default tag
/// is `latest`: without a tag, the engine would pull all tags.
fn split_reference(image: &str) -> (&str, Option<&str>) {
    if image.contains('@') {
        return (image, None);
    }
    // A colon before the last slash belongs to the registry's port.
    let last_part = image.rfind('/').map_or(0, |slash| slash + 1);
    match image[last_part..].find(':') {
        Some(colon) => {
            let (name, tag) = image.split_at(last_part + colon);
            (name, Some(&tag[1..]))
        }
        None => (image, Some("latest")),
    }
}

/// The progress of a pull.
#[derive(Debug, Default)]
struct Progress {
    /// The layers, by their id.
    layers: HashMap<String, LayerProgress>,
}

/// How many bytes of a layer are downloaded.
#[derive(Debug)]
struct LayerProgress {
    current: u64,
    total: u64,
}

impl Progress {
    /// Reads one line of the engine's answer; an error if the engine says that the pull has failed.
    fn read_line(&mut self, line: &[u8]) -> Result<(), String> {
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
            self.layers
                .insert(layer.to_owned(), LayerProgress { current, total });
        }
        Ok(())
    }

    /// The progress of all layers together.
    fn text(&self) -> String {
        let sum = |part: fn(&LayerProgress) -> u64| self.layers.values().map(part).sum::<u64>();
        let (current, total) = (
            sum(|layer| layer.current) >> 20,
            sum(|layer| layer.total) >> 20,
        );
        format!("{current} of {total} MiB")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_split_at_the_colon_before_the_tag_and_not_at_other_colons() {
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
            assert_eq!(split_reference(image), (name, tag));
        }
    }

    #[test]
    fn progress_is_the_sum_of_all_layers_and_an_error_line_is_an_error() {
        let mut progress = Progress::default();
        for (layer, current) in [("a", 1 << 20), ("b", 2 << 20), ("a", 3 << 20)] {
            let line = serde_json::json!({
                "status": "Downloading", "id": layer,
                "progressDetail": { "current": current, "total": 4 << 20 },
            });
            progress.read_line(line.to_string().as_bytes()).unwrap();
        }
        progress.read_line(b"garbage").unwrap();
        assert_eq!(progress.text(), "5 of 8 MiB");
        let error_line = br#"{"error":"manifest unknown"}"#;
        assert_eq!(
            progress.read_line(error_line),
            Err("manifest unknown".to_owned())
        );
    }
}
