//! Starts machines. After a request without a clear answer, the engine searches for the machine before it repeats the
//! request.

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

/// The first pause if all regions are full. It doubles up to [`MAX_FULL_PAUSE`].
const FULL_PAUSE: Duration = Duration::from_secs(1);
const MAX_FULL_PAUSE: Duration = Duration::from_secs(60);

/// Why a request has made no machine.
enum NotMade {
    /// The region has no room; another one may have some.
    RegionFull(String),
    Other(StartFailure),
}

impl From<StartFailure> for NotMade {
    fn from(failure: StartFailure) -> Self {
        Self::Other(failure)
    }
}

impl Fly {
    /// Starts the machine of a run, or finds it if an earlier request may have made it.
    pub async fn start(&self, run: &str, spec: &Spec) -> Result<Handle, StartFailure> {
        // A machine that exists needs no room.
        if self.doubtful.borrow().contains(run)
            && let Some(handle) = self.find(run).await?
        {
            return Ok(handle);
        }
        if let Some((until, _)) = self.full.get()
            && Instant::now() < until
        {
            return Err(StartFailure::Full("no region has room".to_owned()));
        }
        let variables = Variables::of(run, spec);
        let stored = self.secrets.store(&self.client, run, &variables.secret);
        let stored = stored.await.map_err(failure)?;
        let regions = self.settings.regions.len().max(1);
        // Other runs that start at the same time change the preferred region. The loop still asks each region exactly
        // once.
        let first = self.region.get();
        let mut last = String::new();
        for step in 0..regions {
            let region = (first + step) % regions;
            let made = self.create(run, spec, region, &variables.plain, &stored);
            match made.await {
                Ok(handle) => {
                    self.full.set(None);
                    return Ok(handle);
                }
                Err(NotMade::Other(failure)) => return Err(failure),
                Err(NotMade::RegionFull(why)) => last = why,
            }
            if self.region.get() == region {
                self.region.set((region + 1) % regions);
            }
            // The machine may exist, so the next attempt searches for it first.
            if self.doubtful.borrow().contains(run) {
                break;
            }
        }
        self.note_full();
        Err(StartFailure::Full(last))
    }

    /// Notes that no region has room, so that no machine is requested for a while. The pause doubles if it was too
    /// short, but only once for all runs that start at the same time.
    fn note_full(&self) {
        let now = Instant::now();
        let pause = match self.full.get() {
            Some((until, _)) if now < until => return,
            Some((_, pause)) => (pause * 2).min(MAX_FULL_PAUSE),
            None => FULL_PAUSE,
        };
        self.full.set(Some((now + pause, pause)));
    }

    /// Asks for a machine in the region with this index.
    async fn create(
        &self,
        run: &str,
        spec: &Spec,
        region: usize,
        plain: &[(String, String)],
        stored: &Stored,
    ) -> Result<Handle, NotMade> {
        let image = self.pinned_image.borrow().clone();
        let request = Request {
            dispatch: &self.dispatch,
            settings: &self.settings,
            stop_window: self.stop_window,
            image: image.as_deref().unwrap_or(&self.settings.image),
            region: self.settings.regions.get(region).map(String::as_str),
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
        let is_clash = is_name_clash(&error);
        if let Some(id) = taken_by(&error).filter(|_| is_clash) {
            return Ok(self.adopt_by_name(run, &id).await?);
        }
        if error.is_ambiguous() || is_clash {
            self.doubtful.borrow_mut().insert(run.to_owned());
        }
        if is_clash {
            return Err(StartFailure::Unknown(error.why).into());
        }
        // The rate limit is the same in every region, so another region does not help.
        let is_too_soon = error.code == Some(429);
        Err(match failure(error) {
            StartFailure::Full(why) if !is_too_soon => NotMade::RegionFull(why),
            failure => NotMade::Other(failure),
        })
    }

    /// Adopts the existing machine with the name of a run, if it belongs to this run.
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

    /// Notes that this machine belongs to the run.
    pub(super) fn adopt(&self, run: &str, id: &str) -> Handle {
        self.doubtful.borrow_mut().remove(run);
        self.runs.borrow_mut().insert(id.to_owned(), run.to_owned());
        Handle::Fly {
            machine: id.to_owned(),
        }
    }

    /// Searches for the machine of a run whose request had no clear answer. A list can lack machines, so two lists are
    /// read before the machine counts as missing. If there is no other machine, returns a destroyed one that has run:
    /// its run must not start a second time.
    pub(super) async fn find(&self, run: &str) -> Result<Option<Handle>, StartFailure> {
        let mut destroyed = None;
        for look in 0..2 {
            if look > 0 {
                sleep(SECOND_LOOK).await;
            }
            let list = self.list(true).await.map_err(failure)?;
            let machines = list.iter().map(Machine);
            let machines = machines.filter(|machine| machine.metadata(RUN) == Some(run));
            for machine in machines.filter(|machine| !machine.never_started()) {
                match machine.id() {
                    Some(id) if !machine.is_destroyed() => return Ok(Some(self.adopt(run, id))),
                    id => destroyed = id.map(str::to_owned).or(destroyed),
                }
            }
        }
        self.doubtful.borrow_mut().remove(run);
        Ok(destroyed.map(|id| self.adopt(run, &id)))
    }

    /// Gives all later machines the image of the first one.
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

/// The failure of a start for an error of the API.
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
        // The request is wrong or forbidden, or the image does not exist. The next run would fail in the same way.
        Some(_) => StartFailure::Refused(why),
    }
}

/// Whether the error says that another machine has the name.
fn is_name_clash(error: &ApiError) -> bool {
    let words = ["unique machine name violation", "already_exists"];
    matches!(error.code, Some(409 | 422)) && words.iter().any(|words| error.why.contains(words))
}

/// The id of the machine that has the name, if the error contains it.
fn taken_by(error: &ApiError) -> Option<String> {
    let rest = error.why.split("machine ID ").nth(1)?;
    let id: String = rest
        .chars()
        .take_while(char::is_ascii_alphanumeric)
        .collect();
    (!id.is_empty()).then_some(id)
}
