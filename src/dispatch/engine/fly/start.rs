//! Starts machines. After a request without a clear answer, the machine is searched for before the request is repeated.

use std::time::Duration;

use reqwest::Method;
use tokio::time::{Instant, sleep};

use super::body::{Request, Variables, machine};
use super::client::{ApiError, Kind};
use super::machine::{DISPATCH, Machine, RUN};
use super::secrets::Stored;
use super::{Fly, SECOND_LOOK, garbage};
use crate::dispatch::engine::calls::StartFailure;
use crate::dispatch::engine::spec::Spec;
use crate::dispatch::journal::Handle;

/// The pause after all regions were full; it doubles up to [`MAX_FULL_PAUSE`].
const FULL_PAUSE: Duration = Duration::from_secs(1);
const MAX_FULL_PAUSE: Duration = Duration::from_secs(60);

impl Fly {
    pub async fn start(&self, run: &str, spec: &Spec) -> Result<Handle, StartFailure> {
        if let Some((until, _)) = self.full.get()
            && Instant::now() < until
        {
            return Err(StartFailure::Full("no region has room".to_owned()));
        }
        if self.doubtful.borrow().contains(run)
            && let Some(handle) = self.find(run).await?
        {
            return Ok(handle);
        }
        let variables = Variables::of(run, spec);
        let stored = self.secrets.store(&self.client, run, &variables.secret);
        let stored = stored.await.map_err(failure)?;
        let regions = self.settings.regions.len().max(1);
        let mut last = String::new();
        for _ in 0..regions {
            match self.create(run, spec, &variables.plain, &stored).await {
                Err(StartFailure::Full(why)) => last = why,
                result => {
                    self.full.set(None);
                    return result;
                }
            }
            self.region.set((self.region.get() + 1) % regions);
            // The machine may exist, so the next attempt searches for it first.
            if self.doubtful.borrow().contains(run) {
                break;
            }
        }
        let pause = self.full.get().map_or(FULL_PAUSE, |(_, pause)| pause * 2);
        let pause = pause.min(MAX_FULL_PAUSE);
        self.full.set(Some((Instant::now() + pause, pause)));
        Err(StartFailure::Full(last))
    }

    /// Asks for a machine in the present region.
    async fn create(
        &self,
        run: &str,
        spec: &Spec,
        plain: &[(String, String)],
        stored: &Stored,
    ) -> Result<Handle, StartFailure> {
        let image = self.pinned_image.borrow().clone();
        let request = Request {
            dispatch: &self.dispatch,
            settings: &self.settings,
            stop_window: self.stop_window,
            image: image.as_deref().unwrap_or(&self.settings.image),
            region: self
                .settings
                .regions
                .get(self.region.get())
                .map(String::as_str),
            secrets: &stored.names,
            secrets_version: stored.version,
        };
        let body = machine(run, spec, plain, &request);
        let made = self
            .client
            .call(Kind::Create, Method::POST, "machines", &[], Some(&body));
        let error = match made.await {
            Ok(made) => match Machine(&made).id() {
                Some(id) => {
                    if spec.needs.image.is_none() {
                        self.pin_image(Machine(&made));
                    }
                    return Ok(self.adopt(run, id));
                }
                None => garbage("the answer has no id of a machine"),
            },
            Err(error) => error,
        };
        if let Some(id) = taken_by(&error) {
            return self.adopt_by_name(run, &id).await;
        }
        if error.is_ambiguous() {
            self.doubtful.borrow_mut().insert(run.to_owned());
        }
        Err(failure(error))
    }

    /// The name is taken: by this run, unless the machine belongs to somebody else.
    async fn adopt_by_name(&self, run: &str, id: &str) -> Result<Handle, StartFailure> {
        let found = match self.get(&format!("machines/{id}")).await {
            Ok(found) => found,
            Err(error) => {
                let why = format!("the name {run} is taken by the machine {id}: {}", error.why);
                return Err(StartFailure::Unknown(why));
            }
        };
        let found = Machine(&found);
        if found.metadata(DISPATCH) != Some(&self.dispatch) || found.metadata(RUN) != Some(run) {
            return Err(StartFailure::Failed(format!(
                "there is a machine {id} called {run} that is not of this dispatch; remove it"
            )));
        }
        Ok(self.adopt(run, id))
    }

    pub(super) fn adopt(&self, run: &str, id: &str) -> Handle {
        self.doubtful.borrow_mut().remove(run);
        self.runs.borrow_mut().insert(id.to_owned(), run.to_owned());
        Handle::Fly {
            machine: id.to_owned(),
        }
    }

    /// Searches for the machine of a run whose request had no clear answer. A list can lack machines, so two lists are
    /// read before the machine counts as missing. Destroyed machines are found too: their runs must not run again.
    async fn find(&self, run: &str) -> Result<Option<Handle>, StartFailure> {
        for look in 0..2 {
            if look > 0 {
                sleep(SECOND_LOOK).await;
            }
            let list = self.list(true).await.map_err(failure)?;
            let mut machines = list.iter().map(Machine);
            let found = machines.find(|machine| machine.metadata(RUN) == Some(run));
            if let Some(id) = found.and_then(Machine::id) {
                return Ok(Some(self.adopt(run, id)));
            }
        }
        self.doubtful.borrow_mut().remove(run);
        Ok(None)
    }

    /// All later machines get the image that the first one has.
    fn pin_image(&self, machine: Machine) {
        let image = &self.settings.image;
        let mut pinned = self.pinned_image.borrow_mut();
        if let (None, Some(digest), false) = (&*pinned, machine.image_digest(), image.contains('@'))
        {
            let last = image.rfind('/').map_or(0, |at| at + 1);
            let end = image[last..].find(':').map_or(image.len(), |at| last + at);
            *pinned = Some(format!("{}@{digest}", &image[..end]));
        }
    }
}

/// What an error of the API means for a start.
fn failure(error: ApiError) -> StartFailure {
    let why = error.why;
    let says = |words: &[&str]| words.iter().any(|word| why.contains(word));
    match error.code {
        _ if error.word == "insufficient_capacity" => StartFailure::Full(why),
        Some(429 | 412 | 503) => StartFailure::Full(why),
        Some(403 | 409 | 422)
            if says(&["no capacity", "insufficient ", "over the allowed quota"]) =>
        {
            StartFailure::Full(why)
        }
        None | Some(408 | 409 | 500..) => StartFailure::Unknown(why),
        // The request is wrong, or forbidden, or the image does not exist: also for the next run.
        Some(_) => StartFailure::Refused(why),
    }
}

/// The id of the machine that has the name already.
fn taken_by(error: &ApiError) -> Option<String> {
    let is_clash = matches!(error.code, Some(409 | 422))
        && ["unique machine name violation", "already_exists"]
            .iter()
            .any(|words| error.why.contains(words));
    let rest = error.why.split("machine ID ").nth(1).filter(|_| is_clash)?;
    let id: String = rest
        .chars()
        .take_while(char::is_ascii_alphanumeric)
        .collect();
    (!id.is_empty()).then_some(id)
}
