//! Stores the secret variables of workers as secrets of the app, so that only the workers can read them. The API never
//! returns the values of secrets, and a machine gets only the secrets that its configuration names.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::body::Secret;
use super::client::{ApiClient, ApiError, RequestKind};

/// The secrets of one dispatch that are stored in the app.
#[derive(Debug)]
pub struct AppSecrets {
    /// The prefix of the names of all secrets of this dispatch.
    prefix: String,
    /// The values of the stored secrets, by the secret's name.
    stored: RefCell<BTreeMap<String, String>>,
    /// The names of the secrets that only one run uses, by the id of the run.
    names_by_run: RefCell<BTreeMap<String, Vec<String>>>,
    /// The names of stored secrets of runs that have ended.
    unneeded_names: RefCell<BTreeSet<String>>,
    /// The version of the app's secrets after the last change. Machines must start with it or a later one.
    version: Cell<Option<u64>>,
}

/// The stored secrets of a run.
#[derive(Debug)]
pub struct StoredSecrets {
    /// Names of variables, each with the name of the secret that has the variable's value.
    pub names: Vec<(String, String)>,
    /// A version of the app's secrets that contains all these secrets.
    pub version: Option<u64>,
}

impl AppSecrets {
    pub fn new(dispatch: &str) -> Self {
        Self {
            prefix: secret_prefix(dispatch),
            stored: RefCell::default(),
            names_by_run: RefCell::default(),
            unneeded_names: RefCell::default(),
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
    ) -> Result<StoredSecrets, ApiError> {
        let mut names = Vec::new();
        let mut values = BTreeMap::new();
        let mut names_of_run = Vec::new();
        for secret in secrets {
            let Secret {
                variable, value, ..
            } = secret;
            let name = if secret.is_for_one_run {
                secret_of_run(run, variable)
            } else {
                format!("{}_{variable}", self.prefix)
            };
            names.push((variable.clone(), name.clone()));
            if secret.is_for_one_run {
                names_of_run.push(name.clone());
            }
            if self.stored.borrow().get(&name) != Some(value) {
                values.insert(name, value.clone());
            }
        }
        self.names_by_run
            .borrow_mut()
            .insert(run.to_owned(), names_of_run);
        if !values.is_empty() {
            let unneeded = self.unneeded_names.take();
            let is_not_set = |name: &&String| !values.contains_key(*name);
            let removed = unneeded.iter().filter(is_not_set).cloned();
            let mut changes: Map<String, Value> = removed.map(|name| (name, Value::Null)).collect();
            let set = values.iter();
            changes.extend(set.map(|(name, value)| (name.clone(), value.clone().into())));
            if let Err(error) = self.update(client, changes).await {
                self.unneeded_names.borrow_mut().extend(unneeded);
                return Err(error);
            }
            self.stored.borrow_mut().extend(values);
        }
        Ok(StoredSecrets {
            names,
            version: self.version.get(),
        })
    }

    /// Marks the secrets of an ended run as not needed. The next [`Self::store`] or [`Self::remove_all`] removes them.
    pub fn release(&self, run: &str) {
        let names = self
            .names_by_run
            .borrow_mut()
            .remove(run)
            .unwrap_or_default();
        let mut stored = self.stored.borrow_mut();
        for name in &names {
            stored.remove(name);
        }
        self.unneeded_names.borrow_mut().extend(names);
    }

    /// Removes all secrets of this dispatch from the app.
    pub async fn remove_all(&self, client: &ApiClient) -> Result<(), ApiError> {
        let list = client.call(RequestKind::Secrets, Method::GET, "secrets", &[], None);
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
        self.unneeded_names.borrow_mut().clear();
        Ok(())
    }

    /// Sets secrets to these values, and removes secrets whose value is null.
    async fn update(&self, client: &ApiClient, values: Map<String, Value>) -> Result<(), ApiError> {
        let body = json!({ "values": values });
        let answer = client.call(
            RequestKind::Secrets,
            Method::POST,
            "secrets",
            &[],
            Some(&body),
        );
        let answer = answer.await?;
        let names = ["version", "Version"];
        let mut version = names.iter().filter_map(|name| answer.get(name)?.as_u64());
        self.version.set(version.next().max(self.version.get()));
        Ok(())
    }
}

/// The name of a secret that only one run uses.
fn secret_of_run(run: &str, variable: &str) -> String {
    format!("DESCARTES_RUN_{}__{variable}", secret_name_part(run))
}

/// The prefix of the names of all secrets of a dispatch.
pub fn secret_prefix(dispatch: &str) -> String {
    format!("DESCARTES_RUN_{}_", secret_name_part(dispatch))
}

/// Converts the id of a run or a dispatch to a part of a secret's name.
fn secret_name_part(name: &str) -> String {
    name.to_ascii_uppercase().replace('-', "_")
}
