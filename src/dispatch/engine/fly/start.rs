//! Starts machines. After a request without a clear answer, the engine searches for the machine before it repeats the
//! request.

use std::time::Duration;

use reqwest::Method;
use tokio::time::{Instant, sleep};

use super::body::{MachineRequest, Variables, machine_body};
use super::client::{ApiError, RequestKind};
use super::machine::{DISPATCH_KEY, Machine, RUN_KEY};
use super::secrets::StoredSecrets;
use super::{CapacityPause, Fly, SECOND_LIST_PAUSE, unusable_answer};
use crate::dispatch::engine::answers::StartFailure;
use crate::dispatch::engine::spec::RunSpec;
use crate::dispatch::journal::Handle;

/// The first pause if no region has capacity. It doubles up to [`MAX_CAPACITY_PAUSE`].
const FIRST_CAPACITY_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause if no region has capacity.
const MAX_CAPACITY_PAUSE: Duration = Duration::from_secs(60);

/// Why a request has not created a machine.
enum CreateError {
    /// The region has no capacity, for the reason in the text. Another region may have capacity.
    NoCapacity(String),
    /// The start of the run has failed, and another region does not help.
    StartFailed(StartFailure),
}

impl From<StartFailure> for CreateError {
    fn from(failure: StartFailure) -> Self {
        Self::StartFailed(failure)
    }
}

impl Fly {
    /// Creates the machine of a run, which also starts the worker. If an earlier request may have created the machine,
    /// searches for it first.
    pub async fn start(&self, run: &str, spec: &RunSpec) -> Result<Handle, StartFailure> {
        // The search comes before the check of the pause: an existing machine needs no capacity.
        if self.unclear_runs.borrow().contains(run)
            && let Some(handle) = self.find_machine(run).await?
        {
            return Ok(handle);
        }
        if let Some(pause) = self.capacity_pause.get()
            && Instant::now() < pause.end
        {
            return Err(StartFailure::NoCapacity("no region has room".to_owned()));
        }
        let variables = Variables::of(run, spec);
        let stored = self.secrets.store(&self.client, run, &variables.secret);
        let stored = stored.await.map_err(start_failure)?;
        let regions = self.settings.regions.len().max(1);
        // The starts of other runs may change `next_region` meanwhile. This loop still tries each region only once.
        let first = self.next_region.get();
        let mut last_error = String::new();
        for step in 0..regions {
            let region = (first + step) % regions;
            let created = self.create_machine(run, spec, region, &variables.plain, &stored);
            match created.await {
                Ok(handle) => {
                    self.capacity_pause.set(None);
                    return Ok(handle);
                }
                Err(CreateError::StartFailed(failure)) => return Err(failure),
                Err(CreateError::NoCapacity(why)) => last_error = why,
            }
            if self.next_region.get() == region {
                self.next_region.set((region + 1) % regions);
            }
            // The machine may exist in this region. A request for another region could create a second one.
            if self.unclear_runs.borrow().contains(run) {
                break;
            }
        }
        self.begin_capacity_pause();
        Err(StartFailure::NoCapacity(last_error))
    }

    /// Begins a pause in the requests for machines, twice as long as the last one. If the last pause has not ended, the
    /// start of another run has begun it at the same time, so nothing changes.
    fn begin_capacity_pause(&self) {
        let now = Instant::now();
        let length = match self.capacity_pause.get() {
            Some(pause) if now < pause.end => return,
            Some(pause) => (pause.length * 2).min(MAX_CAPACITY_PAUSE),
            None => FIRST_CAPACITY_PAUSE,
        };
        let end = now + length;
        self.capacity_pause.set(Some(CapacityPause { end, length }));
    }

    /// Requests a machine in the region with this index. `plain` are the variables that are not secret.
    async fn create_machine(
        &self,
        run: &str,
        spec: &RunSpec,
        region: usize,
        plain: &[(String, String)],
        stored: &StoredSecrets,
    ) -> Result<Handle, CreateError> {
        let image = self.pinned_image.borrow().clone();
        let request = MachineRequest {
            dispatch: &self.dispatch,
            settings: &self.settings,
            stop_window: self.stop_window,
            image: image.as_deref().unwrap_or(&self.settings.image),
            region: self.settings.regions.get(region).map(String::as_str),
            secrets: &stored.names,
            secrets_version: stored.version,
        };
        let body = machine_body(run, spec, plain, &request);
        let answer = self.client.call(
            RequestKind::Create,
            Method::POST,
            "machines",
            &[],
            Some(&body),
        );
        let error = match answer.await {
            Ok(machine) => match Machine(&machine).id() {
                Some(id) => {
                    if spec.needs.image.is_none() {
                        self.pin_image(Machine(&machine));
                    }
                    return Ok(self.adopt(run, id));
                }
                None => unusable_answer("the answer has no id of a machine"),
            },
            Err(error) => error,
        };
        let has_name_conflict = is_name_conflict(&error);
        if let Some(id) = id_in_name_conflict(&error).filter(|_| has_name_conflict) {
            return Ok(self.adopt_by_name(run, &id).await?);
        }
        if error.is_ambiguous() || has_name_conflict {
            self.unclear_runs.borrow_mut().insert(run.to_owned());
        }
        if has_name_conflict {
            return Err(StartFailure::Unknown(error.why).into());
        }
        // All regions together have one rate limit, so another region does not help.
        let is_rate_limited = error.code == Some(429);
        Err(match start_failure(error) {
            StartFailure::NoCapacity(why) if !is_rate_limited => CreateError::NoCapacity(why),
            failure => CreateError::StartFailed(failure),
        })
    }

    /// Returns the handle of the existing machine that has the name of a run, if the machine belongs to this run.
    async fn adopt_by_name(&self, run: &str, id: &str) -> Result<Handle, StartFailure> {
        let machine = match self.get(&format!("machines/{id}")).await {
            Ok(machine) => machine,
            Err(error) => {
                let why = format!("the name {run} is taken by the machine {id}: {}", error.why);
                return Err(StartFailure::Unknown(why));
            }
        };
        let machine = Machine(&machine);
        if machine.metadata(DISPATCH_KEY) != Some(&self.dispatch)
            || machine.metadata(RUN_KEY) != Some(run)
        {
            return Err(StartFailure::Failed(format!(
                "there is a machine {id} called {run} that is not of this dispatch; remove it"
            )));
        }
        Ok(self.adopt(run, id))
    }

    /// Notes that this machine belongs to the run. Returns the handle of the run.
    pub(super) fn adopt(&self, run: &str, id: &str) -> Handle {
        self.unclear_runs.borrow_mut().remove(run);
        self.runs_by_machine
            .borrow_mut()
            .insert(id.to_owned(), run.to_owned());
        Handle::Fly {
            machine: id.to_owned(),
        }
    }

    /// Searches for the machine of a run whose request had no clear answer. A list can lack machines, so the machine
    /// counts as missing only if two lists lack it. If the only machine is a destroyed one that has started, returns
    /// that one, because the run must not start a second time.
    pub(super) async fn find_machine(&self, run: &str) -> Result<Option<Handle>, StartFailure> {
        let mut destroyed = None;
        for attempt in 0..2 {
            if attempt > 0 {
                sleep(SECOND_LIST_PAUSE).await;
            }
            let list = self.list(true).await.map_err(start_failure)?;
            let machines = list.iter().map(Machine);
            let machines = machines.filter(|machine| machine.metadata(RUN_KEY) == Some(run));
            for machine in machines.filter(|machine| !machine.never_started()) {
                match machine.id() {
                    Some(id) if !machine.is_destroyed() => return Ok(Some(self.adopt(run, id))),
                    id => destroyed = id.map(str::to_owned).or(destroyed),
                }
            }
        }
        self.unclear_runs.borrow_mut().remove(run);
        Ok(destroyed.map(|id| self.adopt(run, &id)))
    }

    /// Makes all later machines use the image of the first one.
    fn pin_image(&self, machine: Machine) {
        let image = &self.settings.image;
        let mut pinned = self.pinned_image.borrow_mut();
        if let (None, Some(digest), false) = (&*pinned, machine.image_digest(), image.contains('@'))
        {
            let last_part = image.rfind('/').map_or(0, |slash| slash + 1);
            let colon = image[last_part..].find(':');
            let end = colon.map_or(image.len(), |colon| last_part + colon);
            *pinned = Some(format!("{}@{digest}", &image[..end]));
        }
    }
}

/// The failure of a start after an error of the API.
fn start_failure(error: ApiError) -> StartFailure {
    let why = error.why;
    let says = |words: &[&str]| words.iter().any(|word| why.contains(word));
    match error.code {
        _ if error.status_word == "insufficient_capacity" => StartFailure::NoCapacity(why),
        Some(429 | 412 | 503) => StartFailure::NoCapacity(why),
        Some(403 | 409 | 422)
            if says(&["no capacity", "insufficient ", "over the allowed quota"]) =>
        {
            StartFailure::NoCapacity(why)
        }
        None | Some(408 | 409 | 500..) => StartFailure::Unknown(why),
        // The request is wrong or forbidden, or the image does not exist. Every other run would fail in the same way.
        Some(_) => StartFailure::Refused(why),
    }
}

/// Whether the error says that a machine with this name exists already.
fn is_name_conflict(error: &ApiError) -> bool {
    let words = ["unique machine name violation", "already_exists"];
    matches!(error.code, Some(409 | 422)) && words.iter().any(|words| error.why.contains(words))
}

/// The id of the machine that has the name already, if the error contains the id.
fn id_in_name_conflict(error: &ApiError) -> Option<String> {
    let rest = error.why.split("machine ID ").nth(1)?;
    let id: String = rest
        .chars()
        .take_while(char::is_ascii_alphanumeric)
        .collect();
    (!id.is_empty()).then_some(id)
}
