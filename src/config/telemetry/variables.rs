//! Reads the variables of OpenTelemetry, for a build that can export.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::config::environment::COLLECTOR_URL_VARIABLES;
use crate::config::reader::Reader;
use crate::config::settings;
use crate::config::values;
use crate::http::route_url;
use crate::telemetry::{Destination, Settings, Temporality};

/// The time limit of a request, as the standard says.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads the variables, if one of them names a collector.
pub fn read(reader: &mut Reader) -> Settings {
    let mut variables = Variables {
        reader,
        warnings: Vec::new(),
    };
    let settings = variables.settings();
    // Traces and metrics both read the variables for all signals, so the same warning may be there twice.
    let mut known = HashSet::new();
    let mut warnings = variables.warnings;
    warnings.retain(|warning| known.insert(warning.clone()));
    reader.warnings.extend(warnings);
    settings
}

/// Reads the variables, and collects warnings.
struct Variables<'r, 'f> {
    reader: &'r mut Reader<'f>,
    warnings: Vec<String>,
}

impl Variables<'_, '_> {
    fn settings(&mut self) -> Settings {
        let parent = self
            .reader
            .environment
            .get(settings::TRACEPARENT.variable)
            .and_then(|text| values::traceparent(text.to_str()?).ok())
            .and_then(|header| header.to_str().ok().map(str::to_owned));
        let authorities = self.reader.environment.get("SSL_CERT_FILE");
        Settings {
            authorities: authorities.map(PathBuf::from),
            traces: self.destination("TRACES"),
            metrics: self.destination("METRICS"),
            service_name: self.text("OTEL_SERVICE_NAME"),
            resource: self.resource(),
            temporality: self.temporality(),
            parent,
        }
    }

    /// The value of a variable without white space around it, if it is set and UTF-8.
    fn text(&self, name: &str) -> Option<String> {
        let value = self.reader.environment.get(name)?.to_str()?.trim();
        (!value.is_empty()).then(|| value.to_owned())
    }

    /// The name and the value of the variable for one signal; else those of the variable for all signals.
    fn signal_variable(&self, signal: &str, word: &str) -> Option<(String, String)> {
        let names = [
            format!("OTEL_EXPORTER_OTLP_{signal}_{word}"),
            format!("OTEL_EXPORTER_OTLP_{word}"),
        ];
        names
            .into_iter()
            .find_map(|name| Some((name.clone(), self.text(&name)?)))
    }

    /// The collector for a signal; `None` if it is not exported.
    fn destination(&mut self, signal: &str) -> Option<Destination> {
        let name = format!("OTEL_{signal}_EXPORTER");
        let exporters = self.text(&name).unwrap_or_else(|| "otlp".to_owned());
        if !exporters.split(',').any(|word| word.trim() == "otlp") {
            if exporters != "none" {
                self.warnings.push(format!(
                    "{name}: {exporters:?} is not supported, so nothing is exported; set it to otlp or none"
                ));
            }
            return None;
        }
        let (name, text) = self.signal_variable(signal, "ENDPOINT")?;
        let url = match parse_endpoint(&text) {
            // Only the URL for all signals gets the path of the signal.
            Ok(url) if name == COLLECTOR_URL_VARIABLES[0] => {
                route_url(&url, &format!("v1/{}", signal.to_ascii_lowercase()))
            }
            Ok(url) => url,
            Err(why) => {
                self.warnings
                    .push(format!("{name}: {why}, so nothing is exported"));
                return None;
            }
        };
        if let Some((name, protocol)) = self.signal_variable(signal, "PROTOCOL")
            && protocol != "http/protobuf"
        {
            self.warnings.push(format!(
                "{name}: {protocol:?} is not supported, so nothing is exported; set it to http/protobuf, and use the collector's port for HTTP, which is usually 4318"
            ));
            return None;
        }
        Some(Destination {
            url,
            headers: self.headers(signal),
            timeout: self.timeout(signal),
        })
    }

    /// The time limit of a request for one signal.
    fn timeout(&mut self, signal: &str) -> Duration {
        let Some((name, text)) = self.signal_variable(signal, "TIMEOUT") else {
            return DEFAULT_TIMEOUT;
        };
        if let Ok(milliseconds @ 1..) = text.parse() {
            return Duration::from_millis(milliseconds);
        }
        self.warnings.push(format!(
            "{name}: {text:?} is not a number of milliseconds, so 10000 is used"
        ));
        DEFAULT_TIMEOUT
    }

    /// The headers for the collector. Warnings do not show the values, which are secrets.
    fn headers(&mut self, signal: &str) -> HeaderMap {
        let Some((name, text)) = self.signal_variable(signal, "HEADERS") else {
            return HeaderMap::new();
        };
        let mut headers = HeaderMap::new();
        for pair in entries(&text) {
            match parse_header(pair) {
                Some((key, value)) => drop(headers.insert(key, value)),
                None => self.warnings.push(format!(
                    "{name}: an entry is not a header, so it is ignored; write the headers like name=value,other=value"
                )),
            }
        }
        headers
    }

    /// The attributes in `OTEL_RESOURCE_ATTRIBUTES`, as keys and values.
    fn resource(&mut self) -> Vec<(String, String)> {
        let name = "OTEL_RESOURCE_ATTRIBUTES";
        let text = self.text(name).unwrap_or_default();
        let mut attributes = Vec::new();
        for pair in entries(&text) {
            match decode_pair(pair) {
                Some(pair) => attributes.push(pair),
                None => self.warnings.push(format!(
                    "{name}: {pair:?} is not an attribute, so it is ignored; write the attributes like name=value,other=value"
                )),
            }
        }
        attributes
    }

    fn temporality(&mut self) -> Temporality {
        let name = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
        let text = self.text(name).unwrap_or_default();
        match text.to_ascii_lowercase().as_str() {
            "" | "cumulative" => Temporality::Cumulative,
            // The worker has no asynchronous instruments, which are the difference between these two.
            "delta" | "lowmemory" => Temporality::Delta,
            _ => {
                self.warnings.push(format!(
                    "{name}: {text:?} is not known, so it is ignored; set it to cumulative, delta or lowmemory"
                ));
                Temporality::Cumulative
            }
        }
    }
}

fn parse_endpoint(text: &str) -> Result<Url, String> {
    let url = values::http_url(text, "http://collector.example:4318")?;
    if values::has_credentials(&url) {
        return Err(
            "contains credentials, which would appear in logs; put them into OTEL_EXPORTER_OTLP_HEADERS"
                .to_owned(),
        );
    }
    Ok(url)
}

/// The entries of a list that are separated by commas.
fn entries(text: &str) -> impl Iterator<Item = &str> {
    let entries = text.split(',').map(str::trim);
    entries.filter(|entry| !entry.is_empty())
}

/// Splits `name=value`, and decodes the percent-encoded value.
fn decode_pair(pair: &str) -> Option<(String, String)> {
    let (name, value) = pair.split_once('=')?;
    let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
    let name = name.trim();
    (!name.is_empty()).then(|| (name.to_owned(), value.into_owned()))
}

fn parse_header(pair: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = decode_pair(pair)?;
    let mut value = HeaderValue::from_str(&value).ok()?;
    value.set_sensitive(true);
    Some((name.parse().ok()?, value))
}
