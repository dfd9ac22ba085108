//! Records what a worker reports and logs, for the page of `--report`.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::settings::{Project, Settings};
use crate::clock::{Millis, now};
use crate::receiver::{Notice, Route};
use crate::report::{
    self, Attempt, Cleaner, End, File, Interval, MergeEnd, Outcome, Report, ReportFile, Request,
    RunTimes, Samples, State, TextLimits,
};
use crate::scud::{self, FinishedTasks, TaskQuery};
use crate::task::Task;
use crate::terminal::Screen;

/// How much of the end of the log is stored, in bytes.
const MAX_LOG_SIZE: usize = 64 * 1024;

/// The facts about a run that its page shows. Without `--report`, every method does nothing.
pub struct Recorder {
    file: Option<ReportFile>,
    cleaner: Cleaner,
    /// The task as the settings name it.
    task_name: String,
    project: String,
    /// The task in the project's graph, if it was found.
    task: Option<Task>,
    /// When this process began to start the worker.
    start_requested_at: Millis,
    started_at: Option<Millis>,
    /// When the claim was granted.
    granted_at: Option<Millis>,
    ended_at: Option<Millis>,
    run_id: String,
    /// The terminal event, once the worker has sent it.
    event: Option<Value>,
    samples: Samples,
    log: VecDeque<String>,
    log_bytes: usize,
    exit_code: Option<i32>,
    patch: Option<String>,
}

impl Recorder {
    /// # Errors
    /// If the file of `--report` cannot be written.
    pub fn for_run(settings: &Settings, screen: &Screen) -> eyre::Result<Self> {
        let file = settings.report.as_deref().map(ReportFile::check);
        Ok(Self {
            file: file.transpose()?,
            cleaner: Cleaner::new(screen.redactor()),
            task_name: String::new(),
            project: String::new(),
            task: None,
            start_requested_at: now(),
            started_at: None,
            granted_at: None,
            ended_at: None,
            run_id: String::new(),
            event: None,
            samples: Samples::default(),
            log: VecDeque::new(),
            log_bytes: 0,
            exit_code: None,
            patch: None,
        })
    }

    /// Reads the task from the project's graph.
    pub async fn read_task(&mut self, settings: &Settings) {
        if self.file.is_none() {
            return;
        }
        self.task_name.clone_from(&settings.task);
        match &settings.project {
            Project::InPlace(dir) | Project::Committed(dir) => {
                let query = TaskQuery {
                    reference: &settings.task,
                    tag: settings.tag.as_deref(),
                    finished_tasks: FinishedTasks::Allow,
                };
                self.task = scud::Project::at(dir.clone()).find(&query).await.ok();
                let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
                self.project = dir.display().to_string();
            }
            Project::Cloned { url, .. } => self.project.clone_from(url),
        }
    }

    /// Records that this process begins to start the worker.
    pub fn record_start_request(&mut self) {
        self.start_requested_at = now();
    }

    /// Records the time at which the worker was started.
    pub fn record_start(&mut self) {
        self.started_at = Some(now());
    }

    /// Records the facts of an event that the built-in orchestrator received.
    pub fn record_notice(&mut self, notice: &Notice) {
        let (Notice::Event(received), Some(_)) = (notice, &self.file) else {
            return;
        };
        let is_accepted = received.answer.status.is_success();
        match received.route {
            Route::Started if is_accepted => {
                self.granted_at.get_or_insert_with(now);
                received.text("/run_id").clone_into(&mut self.run_id);
            }
            Route::Progress => {
                if let Some(progress) = received.event.get("progress") {
                    self.samples.add(now(), progress);
                }
            }
            Route::Completed | Route::Failed if is_accepted && self.event.is_none() => {
                self.ended_at = Some(now());
                self.event = Some(received.event.clone());
            }
            _ => {}
        }
    }

    /// Records a line of the worker's log.
    pub fn record_log_line(&mut self, line: &str) {
        if self.file.is_none() {
            return;
        }
        self.log_bytes += line.len() + 1;
        self.log.push_back(line.to_owned());
        while self.log_bytes > MAX_LOG_SIZE
            && let Some(first) = self.log.pop_front()
        {
            self.log_bytes -= first.len() + 1;
        }
    }

    /// Records the end of the worker, and its exit code.
    pub fn record_end(&mut self, code: Option<i32>) {
        self.exit_code = code;
        self.ended_at.get_or_insert_with(now);
    }

    /// Sets the patch of a project that the worker has changed in place.
    pub fn set_patch(&mut self, patch: String) {
        self.patch = Some(patch);
    }

    /// Writes the page. A failure is only printed, because the outcome of the run matters more.
    pub fn write(&self, screen: &Screen) {
        let Some(file) = self.file.as_ref().filter(|_| self.started_at.is_some()) else {
            return;
        };
        match file.write(&report::render(&self.page())) {
            Ok(()) => screen.line(&format!("the report is in {}", file.path().display())),
            Err(error) => screen.line(&format!("{error:#}")),
        }
    }

    fn page(&self) -> Report {
        let line = |text: &str| self.cleaner.line(text);
        let attempt = self.attempt();
        let (state, word, outcome) = match &attempt.end {
            End::Completed { .. } => (State::Done, "done", Outcome::Done),
            _ => (State::Failed, "failed", Outcome::Failed),
        };
        let sentence = match &attempt.end {
            End::Completed { message } | End::Failed { message, .. } => message.clone(),
            End::Lost { why, .. } => why.clone(),
            End::Running => line("the worker was not started"),
        };
        let task = self.task.as_ref();
        let name = task.map_or_else(
            || self.task_name.clone(),
            |task| format!("{}:{}", task.phase, task.id),
        );
        let title = task.map_or("", |task| task.title.as_str());
        let to = self.ended_at.unwrap_or_else(now);
        Report {
            title: line(&format!("Task {name} {title}")),
            outcome,
            sentence,
            facts: vec![("project", line(&self.project))],
            written_at: now(),
            sessions: vec![Interval {
                from: self.start_requested_at,
                to,
            }],
            tasks: vec![report::Task {
                name: line(&name),
                title: line(title),
                state,
                word,
                why: None,
                priority: task
                    .map(|task| line(&task.priority.to_string()))
                    .unwrap_or_default(),
                request: self.request(),
                attempts: vec![attempt],
                needs: Vec::new(),
                is_split: false,
            }],
            ..Report::default()
        }
    }

    fn request(&self) -> Request {
        let Some(task) = &self.task else {
            return Request::default();
        };
        let texts = [&task.description, &task.details, &task.test_strategy];
        Request::of(texts, &self.cleaner, TextLimits::of(1, 1))
    }

    fn attempt(&self) -> Attempt {
        let limits = TextLimits::of(1, 1);
        let times = RunTimes {
            requested_at: self.start_requested_at,
            started_at: self.started_at,
            granted_at: self.granted_at,
            ended_at: self.ended_at,
            is_merging: false,
            settled_at: None,
            now: now(),
        };
        let lines: Vec<&str> = self.log.iter().map(String::as_str).collect();
        let log = self.cleaner.block(&lines.join("\n"), limits.max_log());
        let mut attempt = Attempt {
            run: self.cleaner.line(&self.run_id),
            number: 1,
            engine: "local",
            stages: report::stages_of(&times, self.event.as_ref(), &self.samples),
            samples: self.samples.cleaned(&self.cleaner),
            log: (!log.is_empty()).then_some(log),
            merge: MergeEnd::None,
            ..Attempt::default()
        };
        match &self.event {
            Some(event) => {
                let event = self.with_patch(event);
                report::add_terminal_event(&mut attempt, &event, &self.cleaner, limits);
            }
            None if self.started_at.is_some() => {
                attempt.end = End::Lost {
                    why: self.cleaner.line("the worker has ended without a report"),
                    exit_code: self.exit_code,
                    is_out_of_memory: false,
                };
            }
            None => {}
        }
        attempt
    }

    /// The terminal event, with the patch from [`Self::set_patch`] in its report.
    fn with_patch(&self, event: &Value) -> Value {
        let mut event = event.clone();
        if let (Some(patch), Some(result)) = (&self.patch, event.get_mut("result"))
            && result["work"].is_null()
        {
            let files = report::changed_files(patch, &self.cleaner);
            let sum = |count: fn(&File) -> u64| files.iter().map(count).sum::<u64>();
            result["work"] = json!({
                "base_commit": "before",
                "head_commit": "after",
                "files_changed": files.len(),
                "insertions": sum(|file| file.insertions),
                "deletions": sum(|file| file.deletions),
                "patch": patch,
            });
        }
        event
    }
}
