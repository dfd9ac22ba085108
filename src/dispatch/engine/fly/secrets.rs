//! The secret variables of workers, stored as secrets of the app, so that only the workers can read them.
//! The API never returns the values of secrets, and a machine gets only the secrets that its configuration names.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::body::Secret;
use super::client::{ApiClient, ApiError, Kind};

/// The secrets of one dispatch that are stored in the app.
#[derive(Debug)]
pub struct AppSecrets {
    /// The prefix of the names of all secrets of this dispatch.
    prefix: String,
    /// The values of the secrets that are stored, by the secret's name.
    stored: RefCell<BTreeMap<String, String>>,
    /// For each run, the names of the secrets that only this run has.
    of_runs: RefCell<BTreeMap<String, Vec<String>>>,
    /// The names of the secrets of runs that have ended.
    unneeded: RefCell<BTreeSet<String>>,
    /// The version of the app's secrets after the last change. Machines must start with it or a later one.
    version: Cell<Option<u64>>,
}

/// The stored secrets of a run.
#[derive(Debug)]
pub struct Stored {
    /// Names of variables, each with the name of the secret that has its value.
    pub names: Vec<(String, String)>,
    /// A version of the app's secrets that contains all these secrets.
    pub version: Option<u64>,
}

impl AppSecrets {
    pub fn new(dispatch: &str) -> Self {
        Self {
            prefix: prefix(dispatch),
            stored: RefCell::default(),
            of_runs: RefCell::default(),
            unneeded: RefCell::default(),
            version: Cell::default(),
        }
    }

    /// Stores the secrets of a run. The same request also removes the secrets of runs that have ended, because the API
    /// limits the number of requests.
    pub async fn store(
        &self,
        client: &ApiClient,
        run: &str,
        secrets: &[Secret],
    ) -> Result<Stored, ApiError> {
        let mut names = Vec::new();
        let mut values = BTreeMap::new();
        let mut of_run = Vec::new();
        for secret in secrets {
            let Secret {
                variable, value, ..
            } = secret;
            let name = if secret.is_of_run {
                name_of_run(run, variable)
            } else {
                format!("{}_{variable}", self.prefix)
            };
            names.push((variable.clone(), name.clone()));
            if secret.is_of_run {
                of_run.push(name.clone());
            }
            if self.stored.borrow().get(&name) != Some(value) {
                values.insert(name, value.clone());
            }
        }
        self.of_runs.borrow_mut().insert(run.to_owned(), of_run);
        if !values.is_empty() {
            let unneeded = self.unneeded.take();
            let kept = |name: &&String| !values.contains_key(*name);
            let removed = unneeded.iter().filter(kept).cloned();
            let mut changes: Map<String, Value> = removed.map(|name| (name, Value::Null)).collect();
            let set = values.iter();
            changes.extend(set.map(|(name, value)| (name.clone(), value.clone().into())));
            if let Err(error) = self.update(client, changes).await {
                self.unneeded.borrow_mut().extend(unneeded);
                return Err(error);
            }
            self.stored.borrow_mut().extend(values);
        }
        Ok(Stored {
            names,
            version: self.version.get(),
        })
    }

    /// Marks the secrets of an ended run as not needed. They are removed with the next request, or at the end.
    pub fn release(&self, run: &str) {
        let names = self.of_runs.borrow_mut().remove(run).unwrap_or_default();
        let mut stored = self.stored.borrow_mut();
        for name in &names {
            stored.remove(name);
        }
        self.unneeded.borrow_mut().extend(names);
    }

    /// Removes everything of this dispatch.
    pub async fn clear(&self, client: &ApiClient) -> Result<(), ApiError> {
        let list = client.call(Kind::Secrets, Method::GET, "secrets", &[], None);
        let list = list.await?;
        let list = list.get("secrets").and_then(Value::as_array);
        let names = list
            .into_iter()
            .flatten()
            .filter_map(|secret| secret.get("name")?.as_str())
            .filter(|name| name.starts_with(&self.prefix));
        let values: Map<String, Value> = names.map(|name| (name.to_owned(), Value::Null)).collect();
        if !values.is_empty() {
            self.update(client, values).await?;
        }
        self.stored.borrow_mut().clear();
        self.unneeded.borrow_mut().clear();
        Ok(())
    }

    /// Sets values, and removes secrets whose value is null.
    async fn update(&self, client: &ApiClient, values: Map<String, Value>) -> Result<(), ApiError> {
        let body = json!({ "values": values });
        let answer = client.call(Kind::Secrets, Method::POST, "secrets", &[], Some(&body));
        let answer = answer.await?;
        let version = ["version", "Version"];
        let mut version = version.iter().filter_map(|name| answer.get(name)?.as_u64());
        self.version.set(version.next().max(self.version.get()));
        Ok(())
    }
}

fn name_of_run(run: &str, variable: &str) -> String {
    format!("DESCARTES_RUN_{}__{variable}", word(run))
}

/// The prefix of the names of all secrets of a dispatch.
pub fn prefix(dispatch: &str) -> String {
    format!("DESCARTES_RUN_{}_", word(dispatch))
}

/// A name of a run or a dispatch, as a part of the name of a variable.
fn word(name: &str) -> String {
    name.to_ascii_uppercase().replace('-', "_")
}
