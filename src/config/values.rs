//! Parses the values of settings.
//!
//! Every function gets a value that is not empty. Each error message continues a sentence that begins with the
//! value: `"soon" is not a duration; …`.

mod git;
mod text;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;
use reqwest::Url;
use reqwest::header::HeaderValue;
use secrecy::SecretString;
use tracing_subscriber::filter::{LevelFilter, Targets};

use crate::callback::{self, credentials::is_visible_ascii};
use crate::dispatch::engine::{EngineChoice, EngineKind, parse_image_name};
use crate::environment::{Variables, VariablesFile, value_of};
use crate::gateway;
use crate::isolation::{Mode, User};
use crate::runner::agent::{KINDS, Kind};
use crate::terminal::LogFormat;
use crate::webhook::SigningKey;

use text::ParseResult;

pub use git::{branch, branch_part, git_reference, repository};
pub use text::{line, text};

/// The longest duration that a setting may have. It is longer than any task, and adding it to a point in time cannot
/// overflow.
const MAX_DURATION: Duration = Duration::from_secs(30 * 24 * 60 * 60);

pub fn path(text: &str) -> ParseResult<PathBuf> {
    self::text(text).map(PathBuf::from)
}

pub fn boolean(text: &str) -> ParseResult<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "1" | "on" => Ok(true),
        "false" | "no" | "0" | "off" => Ok(false),
        _ => Err("is neither true nor false".to_owned()),
    }
}

/// A number from 0 to 100.
pub fn count(text: &str) -> ParseResult<u32> {
    let count = text.parse().ok().filter(|count| *count <= 100);
    count.ok_or_else(|| "is not a number from 0 to 100".to_owned())
}

/// A duration longer than zero: `250ms`, `90s`, `15m`, `1h30m`.
pub fn duration(text: &str) -> ParseResult<Duration> {
    match duration_or_off(text)? {
        Some(duration) => Ok(duration),
        None => Err("must be longer than zero; write it like 90s, 15m or 1h30m".to_owned()),
    }
}

/// A duration; `None` (off) if it is zero. Zero needs no unit.
pub fn duration_or_off(text: &str) -> ParseResult<Option<Duration>> {
    let not_a_duration = || "is not a duration; write it like 250ms, 90s, 15m or 1h30m".to_owned();
    if text == "0" {
        return Ok(None);
    }
    // jiff accepts more formats (ISO 8601, 01:30:00); one format is enough here.
    if !text
        .chars()
        .all(|c| c.is_ascii_digit() || matches!(c, 'h' | 'm' | 's'))
    {
        return Err(not_a_duration());
    }
    let duration: SignedDuration = text.parse().map_err(|_| not_a_duration())?;
    let duration = Duration::try_from(duration).map_err(|_| not_a_duration())?;
    if duration > MAX_DURATION {
        return Err("is too long; at most 720h are allowed".to_owned());
    }
    Ok((!duration.is_zero()).then_some(duration))
}

/// An http or https URL. A message shows `example`.
pub fn http_url(text: &str, example: &str) -> ParseResult<Url> {
    let url: Url = text
        .parse()
        .map_err(|error| format!("is not a URL ({error}); write it like {example}"))?;
    if matches!(url.scheme(), "http" | "https") && url.host().is_some() {
        Ok(url)
    } else {
        Err(format!(
            "is not an http or https URL; write it like {example}"
        ))
    }
}

pub fn has_credentials(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// The base URL of the callbacks.
pub fn callback_url(text: &str) -> ParseResult<Url> {
    let url = http_url(text, "https://orchestrator.example/api/agents/callback")?;
    if has_credentials(&url) {
        return Err("contains credentials, which would appear in logs; remove them".to_owned());
    }
    if url.fragment().is_some() {
        return Err("has a fragment, which is never sent; remove it".to_owned());
    }
    Ok(url)
}

/// Secrets of Standard Webhooks, separated by white space.
pub fn signing_keys(text: &str) -> ParseResult<Vec<SigningKey>> {
    if text.trim().is_empty() {
        return Err("contains only white space, so nothing would be signed; set a secret, or remove the variable".to_owned());
    }
    text.split_whitespace().map(SigningKey::parse).collect()
}

/// A bearer token.
pub fn token(text: &str) -> ParseResult<SecretString> {
    let text = text.trim();
    if text.is_empty() || !is_visible_ascii(text) {
        return Err(
            "contains characters that a token cannot have; it must be visible ASCII".to_owned(),
        );
    }
    Ok(text.into())
}

/// A `traceparent` header as W3C Trace Context specifies it.
pub fn traceparent(text: &str) -> ParseResult<HeaderValue> {
    let message = "is not a traceparent as W3C Trace Context specifies it, so it is ignored";
    callback::traceparent::parse(text).ok_or_else(|| message.to_owned())
}

pub fn address(text: &str) -> ParseResult<SocketAddr> {
    text.parse()
        .map_err(|_| "is not an address; write it like 127.0.0.1:8080 or [::1]:8080".to_owned())
}

/// An engine, optionally with the maximum number of its runs at a time: `docker`, or `docker=20`.
pub fn engine(text: &str) -> ParseResult<EngineChoice> {
    let (word, limit) = match text.split_once('=') {
        Some((word, limit)) => (word, Some(limit)),
        None => (text, None),
    };
    let words = EngineKind::ALL.map(EngineKind::word);
    let not_an_engine = || format!("is not an engine; the engines are {}", words.join(", "));
    let engine = EngineKind::of_word(word);
    let limit = limit.map(|limit| limit.parse().ok().filter(|limit| *limit <= 10_000));
    Ok(EngineChoice {
        engine: engine.ok_or_else(not_an_engine)?,
        limit: match limit {
            Some(None) => return Err("needs a number up to 10000 after the equals sign".to_owned()),
            limit => limit.flatten(),
        },
    })
}

/// The name of a container image.
pub fn image(text: &str) -> ParseResult<String> {
    parse_image_name(&line(text)?)
}

/// The name of a container network.
pub fn network(text: &str) -> ParseResult<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if text.chars().all(allowed) && !text.starts_with('.') {
        Ok(text.to_owned())
    } else {
        Err("is not the name of a network; write it like bridge or host".to_owned())
    }
}

/// A kind of agent; `None` for `auto`.
pub fn agent_kind(text: &str) -> ParseResult<Option<&'static Kind>> {
    if text == "auto" {
        return Ok(None);
    }
    let kind = KINDS.into_iter().find(|kind| kind.word == text);
    kind.map(Some).ok_or_else(|| {
        let words: Vec<&str> = KINDS.iter().map(|kind| kind.word).collect();
        format!(
            "is not a kind of agent; the kinds are auto, {}",
            words.join(", ")
        )
    })
}

pub fn isolation(text: &str) -> ParseResult<Mode> {
    match text {
        "auto" => Ok(Mode::Auto),
        "strict" => Ok(Mode::Strict),
        "off" => Ok(Mode::Off),
        _ => Err("is none of auto, strict, off".to_owned()),
    }
}

/// The agent's user.
pub fn agent_user(text: &str) -> ParseResult<User> {
    User::find(text)
}

/// US dollars.
pub fn dollars(text: &str) -> ParseResult<f64> {
    let amount: Option<f64> = text.strip_prefix('$').unwrap_or(text).parse().ok();
    let amount = amount.filter(|amount| amount.is_finite() && *amount > 0.0);
    amount.ok_or_else(|| "is not an amount of US dollars; write it like 2.50".to_owned())
}

/// A number of tokens.
pub fn tokens(text: &str) -> ParseResult<u64> {
    let count = text.parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| "is not a number of tokens above zero; write it like 2000000".to_owned())
}

/// When the model gateway is used. `auto`: if there is a key or a token; `off`: never.
pub fn model_gateway(text: &str) -> ParseResult<gateway::Mode> {
    match text {
        "auto" => Ok(gateway::Mode::Auto),
        "off" => Ok(gateway::Mode::Off),
        _ => Err("is neither auto nor off".to_owned()),
    }
}

/// The URL of the model's service.
pub fn service_url(text: &str) -> ParseResult<Url> {
    http_url(text, "https://api.anthropic.com")
}

/// A number from 1 to 10000.
pub fn positive_count(text: &str) -> ParseResult<u32> {
    let count = text
        .parse()
        .ok()
        .filter(|count| (1..=10_000).contains(count));
    count.ok_or_else(|| "is not a number from 1 to 10000".to_owned())
}

/// Names of environment variables, separated by commas or white space.
pub fn names(text: &str) -> ParseResult<Vec<String>> {
    let names = text
        .split(|c: char| c == ',' || c.is_whitespace())
        .filter(|name| !name.is_empty());
    names
        .map(|name| {
            if name.contains(['=', '\0']) {
                return Err(format!("contains {name:?}, which is not a name of a variable"));
            }
            if name.starts_with("DESCARTES_") {
                return Err(format!(
                    "names {name}, but variables that begin with DESCARTES_ are never passed to the agent"
                ));
            }
            Ok(name.to_owned())
        })
        .collect()
}

/// A JSON object of variables, in the file at `path`. `base` is the worker's environment. A variable of `base` that the
/// settings pass on (`names`) has its value from there and not from the file.
pub fn variables_file(
    path: &str,
    names: &[String],
    base: &Variables,
) -> ParseResult<VariablesFile> {
    let text = fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    let variables: BTreeMap<String, String> = serde_json::from_slice(&text).map_err(|error| {
        format!("is not a JSON object whose values are strings, such as {{\"NAME\": \"value\"}}: {error}")
    })?;
    for (name, value) in &variables {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(format!(
                "contains {name:?}, which is not a name of a variable"
            ));
        }
        if value.contains('\0') {
            return Err(format!("contains a NUL character in the value of {name}"));
        }
        if name.starts_with("DESCARTES_") {
            return Err(format!(
                "contains {name}, but variables that begin with DESCARTES_ are never passed to the agent"
            ));
        }
    }
    let is_ignored = |name: &String| names.contains(name) && value_of(base, name).is_some();
    let variables = variables.into_iter().filter(|(name, _)| !is_ignored(name));
    let path = std::path::absolute(path).map_err(|error| format!("cannot be read: {error}"))?;
    Ok(VariablesFile {
        path,
        variables: variables
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        names_from_settings: names.to_vec(),
    })
}

/// Commands, one per line; `none` for no commands.
pub fn checks(text: &str) -> ParseResult<Vec<String>> {
    if text.trim() == "none" {
        return Ok(Vec::new());
    }
    let commands = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let commands: Vec<String> = commands.map(str::to_owned).collect();
    if commands.is_empty() {
        return Err("contains no command; write none to run no checks".to_owned());
    }
    Ok(commands)
}

/// A log filter. A bare word must be a level: `tracing` would read `inof` as the name of a target, and
/// then log nothing else. A filter without a bare level still logs errors.
pub fn log_filter(text: &str) -> ParseResult<Targets> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_bare_word = |part: &&str| !part.is_empty() && !part.contains(['=', '[', ']', '{', '}']);
    let mut has_level = false;
    for word in text.split(',').map(str::trim).filter(is_bare_word) {
        if word.parse::<LevelFilter>().is_err() {
            let closest = LEVELS
                .into_iter()
                .map(|level| {
                    (
                        strsim::osa_distance(&word.to_ascii_lowercase(), level),
                        level,
                    )
                })
                .filter(|(distance, level)| *distance <= 2 && *distance < level.len())
                .min();
            let suggestion = closest.map(|(_, level)| format!("; did you mean {level}?"));
            return Err(format!(
                "has the word {word:?}, which is not a level (off, error, warn, info, debug, trace){}; for a \
                 target write {word}=debug",
                suggestion.unwrap_or_default()
            ));
        }
        has_level = true;
    }
    let filter: Targets = text.parse().map_err(|error| {
        format!("is not a log filter ({error}); write it like info or debug,hyper=warn")
    })?;
    Ok(if has_level {
        filter
    } else {
        filter.with_default(LevelFilter::ERROR)
    })
}

pub fn log_format(text: &str) -> ParseResult<LogFormat> {
    match text {
        "auto" => Ok(LogFormat::Auto),
        "pretty" => Ok(LogFormat::Pretty),
        "json" => Ok(LogFormat::Json),
        _ => Err("is not a log format; the formats are auto, pretty and json".to_owned()),
    }
}
