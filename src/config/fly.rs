//! The settings of the engine `fly`.

use reqwest::Url;

use super::reader::Reader;
use super::{settings, values};
use crate::amounts;
use crate::dispatch::engine::{CpuKind, FlySettings};

/// Reads the settings of the engine `fly`. Fly's own variables replace some of them on a machine of Fly.
pub fn settings(reader: &mut Reader) -> FlySettings {
    // On a machine of Fly, this is the machine's own app.
    let own_app = reader.environment.get("FLY_APP_NAME");
    let own_app = own_app.and_then(|name| app(name.to_str()?).ok());
    let app = match own_app {
        Some(app) if !reader.is_set(&settings::DISPATCH_FLY_APP) => app,
        _ => reader.required(&settings::DISPATCH_FLY_APP, app),
    };
    let private_ip = reader.environment.get("FLY_PRIVATE_IP");
    let private_ip = private_ip.and_then(|ip| ip.to_str()?.parse().ok());
    let regions = reader.optional(&settings::DISPATCH_FLY_REGION, regions);
    FlySettings {
        api: reader.with_default(&settings::FLY_FLAPS_BASE_URL, api),
        token: reader
            .required(&settings::FLY_API_TOKEN, values::text)
            .into(),
        app,
        regions: regions.unwrap_or_default(),
        image: reader.required(&settings::DISPATCH_IMAGE, values::image),
        cpu_kind: reader.with_default(&settings::DISPATCH_FLY_CPU_KIND, cpu_kind),
        nano_cpus: reader.optional(&settings::DISPATCH_CPUS, amounts::parse_nano_cpus),
        rate: reader.with_default(&settings::DISPATCH_FLY_RATE, rate),
        has_configured_url: reader.is_set(&settings::DISPATCH_URL),
        private_ip,
    }
}

/// The name of an app: no character in it may change the path of a request.
fn app(text: &str) -> Result<String, String> {
    if is_word(text, 63) {
        Ok(text.to_owned())
    } else {
        Err(
            "is not the name of an app; an app's name has lower-case letters, digits and dashes"
                .to_owned(),
        )
    }
}

/// Names of regions, separated by commas.
fn regions(text: &str) -> Result<Vec<String>, String> {
    let regions: Vec<String> = text.split(',').map(|part| part.trim().to_owned()).collect();
    if regions.iter().all(|region| is_word(region, 20)) {
        Ok(regions)
    } else {
        Err("is not a list of regions; write it like fra,ams,any".to_owned())
    }
}

/// Whether a text has only characters that cannot change the path of a request.
fn is_word(text: &str, max_length: usize) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=max_length).contains(&text.len()) && text.chars().all(allowed)
}

fn cpu_kind(text: &str) -> Result<CpuKind, String> {
    let kinds = [CpuKind::Shared, CpuKind::Performance];
    let kind = kinds.into_iter().find(|kind| kind.word() == text);
    kind.ok_or_else(|| "is not a kind of CPUs; the kinds are shared and performance".to_owned())
}

/// How many requests of each kind may be sent per second.
fn rate(text: &str) -> Result<u32, String> {
    let rate = text.parse().ok().filter(|rate| (1..=1000).contains(rate));
    rate.ok_or_else(|| "is not a number from 1 to 1000".to_owned())
}

/// The address of the Machines API.
fn api(text: &str) -> Result<Url, String> {
    values::http_url(
        text,
        "https://api.machines.dev or http://_api.internal:4280",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_change_the_path_of_a_request_are_not_accepted() {
        assert_eq!(app("my-app-2").unwrap(), "my-app-2");
        for wrong in ["", "a/b", "..", "A", "a b", &"a".repeat(64)] {
            assert!(app(wrong).is_err(), "{wrong}");
        }
        assert_eq!(regions("fra, ams,any").unwrap(), ["fra", "ams", "any"]);
        for wrong in ["", "fra,", "fra;ams"] {
            assert!(regions(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_api_needs_an_http_or_https_url_which_may_be_inside_the_private_network() {
        assert!(api("http://_api.internal:4280").is_ok());
        for wrong in ["api.machines.dev", "unix:///s", "ftp://x"] {
            assert!(api(wrong).unwrap_err().contains("write it like"), "{wrong}");
        }
    }
}
