//! Lists the tasks of a project's graph: which ones are ready, which ones wait for others, and why some are blocked.
//!
//! `tasks` prints the list, `local` without a task prints the ready tasks, `dispatch --plan` prints the order in which
//! tasks would run. These commands start no worker and change nothing, so they may print on standard output.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use eyre::{WrapErr, bail};
use serde::Serialize;
use serde_json::json;

use crate::excerpt::visible;
use crate::redact::Redactor;
use crate::scud::GRAPH_PATH;
use crate::scud::{Project, Standing, TaskGraph};
use crate::task::Status;
use crate::terminal::{Format, print_object};

/// The settings of `tasks`.
#[derive(Debug)]
pub struct Settings {
    pub project: PathBuf,
    /// The phase to list, instead of the active one.
    pub tag: Option<String>,
    pub filter: Filter,
    pub output: Output,
}

/// Which tasks are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    All,
    Ready,
    Blocked,
}

/// What is printed about the listed tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    Tasks(Format),
    /// The ids alone, for shells that complete them.
    Ids,
}

/// One task, as it is printed.
#[derive(Debug, Serialize)]
struct ListedTask {
    id: String,
    phase: String,
    title: String,
    status: String,
    priority: String,
    /// `ready`, `waiting`, `blocked`, `split`, `done`, or `closed`.
    standing: &'static str,
    /// The tasks that must be done first, for a task that waits.
    waits_for: Vec<String>,
    /// Why the task cannot become ready unless the graph changes.
    blocked_by: Vec<String>,
    /// The number of unfinished tasks in the longest chain of dependents that begins with this task.
    chain: usize,
}

/// An error that says what to do if a directory has no task graph.
pub fn require_graph(project: &Path) -> eyre::Result<()> {
    let path = project.join(GRAPH_PATH);
    match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(
            "{} does not exist; name the project's directory with --project, or write the task graph there, by hand or with the \
             command `scud`",
            path.display()
        ),
        _ => Ok(()),
    }
}

/// Prints the tasks of a project's phase.
pub async fn run(settings: &Settings, redactor: &Redactor) -> eyre::Result<()> {
    require_graph(&settings.project)?;
    let project = Project::at(settings.project.clone());
    let graph = project.all_tasks().await?;
    let active = project.active_tag()?;
    let phases = choose_phases(&graph, settings.tag.as_deref(), active.as_deref())
        // If neither the user nor the graph chooses a phase, every phase is listed.
        .or_else(|error| match settings.tag {
            Some(_) => Err(error),
            None => Ok(graph.phases.iter().cloned().collect()),
        })?;
    let lines = (0..graph.tasks.len())
        .filter(|task| phases.contains(&graph.tasks[*task].phase))
        .map(|task| (task, ListedTask::of(&graph, task)));
    let is_listed = |line: &ListedTask| match settings.filter {
        Filter::All => true,
        Filter::Ready => line.standing == "ready",
        Filter::Blocked => line.standing == "blocked",
    };
    let mut lines: Vec<(usize, ListedTask)> = lines.filter(|(_, line)| is_listed(line)).collect();
    if settings.filter == Filter::Ready {
        lines.sort_by_key(|(task, _)| graph.rank(*task));
    }
    let text = match settings.output {
        Output::Tasks(Format::Json) => {
            let lines: Vec<&ListedTask> = lines.iter().map(|(_, line)| line).collect();
            return Ok(print_object("tasks", json!({ "tasks": lines }), redactor)?);
        }
        Output::Ids => lines
            .iter()
            .map(|(_, line)| line.id.clone() + "\n")
            .collect(),
        Output::Tasks(Format::Lines) if lines.is_empty() => match settings.filter {
            Filter::All => "the graph has no tasks\n".to_owned(),
            Filter::Ready => "no task is ready\n".to_owned(),
            Filter::Blocked => "no task is blocked\n".to_owned(),
        },
        Output::Tasks(Format::Lines) => lines.iter().map(|(_, line)| line.text()).collect(),
    };
    print(&text)
}

/// The set with the phase that a command works on: the one with the tag `tag` if it is given, else the active one, else
/// the only one.
///
/// # Errors
/// If no phase has the tag, or if the graph has several phases and none is active. The message lists the phases to choose from.
pub fn choose_phases(
    graph: &TaskGraph,
    tag: Option<&str>,
    active: Option<&str>,
) -> eyre::Result<BTreeSet<String>> {
    let phase_names = || format!("`{}`", graph.phases.join("`, `"));
    let only = |phase: &String| BTreeSet::from([phase.clone()]);
    let find = |tag: &str| graph.phases.iter().find(|phase| *phase == tag);
    if let Some(tag) = tag {
        return find(tag).map(only).ok_or_else(|| {
            eyre::eyre!(
                "there is no phase `{tag}` in the graph, which has {}",
                phase_names()
            )
        });
    }
    match (active.and_then(find), graph.phases.as_slice()) {
        (Some(active), _) => Ok(only(active)),
        (None, [phase]) => Ok(only(phase)),
        (None, []) => bail!("the graph has no phases"),
        (None, _) => bail!(
            "the graph has several phases ({}): choose one with --tag",
            phase_names()
        ),
    }
}

/// The ready tasks of a project, as text.
pub async fn ready_tasks(project: PathBuf) -> eyre::Result<String> {
    require_graph(&project)?;
    let graph = Project::at(project).all_tasks().await?;
    let ready = graph.ready();
    if ready.is_empty() {
        return Ok("no task is ready; `descartes-worker tasks` says why".to_owned());
    }
    let mut text = String::from("ready are:");
    for task in ready {
        let _ = write!(
            text,
            "\n  {:<8} {}",
            graph.name(task),
            visible(&graph.tasks[task].title)
        );
    }
    Ok(text)
}

impl ListedTask {
    fn of(graph: &TaskGraph, task: usize) -> Self {
        let node = &graph.tasks[task];
        let (standing, waits_for, blocked_by) = match &node.standing {
            Standing::Done => ("done", Vec::new(), Vec::new()),
            Standing::Ready => ("ready", Vec::new(), Vec::new()),
            Standing::Split => ("split", Vec::new(), Vec::new()),
            Standing::Closed => ("closed", Vec::new(), Vec::new()),
            Standing::Waiting(needed) => {
                let names = needed.iter().map(|needed| graph.name(*needed));
                ("waiting", names.collect(), Vec::new())
            }
            Standing::Blocked(why) => {
                let why = why.iter().map(|obstacle| graph.describe(obstacle));
                ("blocked", Vec::new(), why.collect())
            }
        };
        Self {
            id: graph.name(task),
            phase: node.phase.clone(),
            title: node.title.clone(),
            status: node.status.to_string(),
            priority: node.priority.to_string(),
            standing,
            waits_for,
            blocked_by,
            chain: node.chain_length,
        }
    }

    fn text(&self) -> String {
        let mut text = format!("{:<8} {:<8} {}", self.standing, self.id, self.title);
        if self.standing == "closed" {
            let _ = write!(text, " ({})", self.status);
        }
        if !self.waits_for.is_empty() {
            let _ = write!(text, " (waits for {})", self.waits_for.join(", "));
        }
        if !self.blocked_by.is_empty() {
            let _ = write!(text, " ({})", self.blocked_by.join("; "));
        }
        text.push('\n');
        text
    }
}

/// The output of `dispatch --plan`.
#[derive(Debug, Serialize)]
pub struct Plan {
    /// The order in which the tasks would run one after the other.
    order: Vec<ListedTask>,
    /// The ids of the longest chain of unfinished tasks.
    longest_chain: Vec<String>,
    blocked: Vec<ListedTask>,
}

impl Plan {
    /// The plan for the tasks that `is_member` selects.
    pub fn of(graph: &TaskGraph, is_member: impl Fn(usize) -> bool) -> Self {
        let order = run_order(graph, &is_member).into_iter();
        let path = graph.critical_path().into_iter();
        let members = (0..graph.tasks.len()).filter(|task| is_member(*task));
        let lines = members.map(|task| ListedTask::of(graph, task));
        Self {
            order: order.map(|task| ListedTask::of(graph, task)).collect(),
            longest_chain: path.map(|task| graph.name(task)).collect(),
            blocked: lines.filter(|line| line.standing == "blocked").collect(),
        }
    }

    pub fn text(&self) -> String {
        let mut text = String::new();
        for (number, line) in self.order.iter().enumerate() {
            let _ = write!(text, "{:>4}  {:<8} {}", number + 1, line.id, line.title);
            if !line.waits_for.is_empty() {
                let _ = write!(text, " (after {})", line.waits_for.join(", "));
            }
            text.push('\n');
        }
        if self.order.is_empty() {
            text.push_str("nothing would run\n");
        }
        let chain = &self.longest_chain;
        if chain.len() > 1 {
            let _ = writeln!(
                text,
                "longest chain: {} ({} tasks)",
                chain.join(" → "),
                chain.len()
            );
        }
        text.extend(self.blocked.iter().map(ListedTask::text));
        text
    }
}

/// The order in which one worker would run the tasks: of the ready tasks, always the most important one.
fn run_order(graph: &TaskGraph, is_member: &impl Fn(usize) -> bool) -> Vec<usize> {
    let dependents = graph.dependents();
    let is_open = |task: usize| {
        let standing = &graph.tasks[task].standing;
        is_member(task)
            && !matches!(
                standing,
                Standing::Done | Standing::Blocked(_) | Standing::Closed
            )
    };
    let mut open_needs: Vec<usize> = graph
        .tasks
        .iter()
        .map(|node| {
            let open = node
                .needs
                .iter()
                .filter(|needed| !graph.tasks[**needed].is_done);
            open.count()
        })
        .collect();
    let mut ready: BTreeSet<_> = (0..graph.tasks.len())
        .filter(|task| is_open(*task) && open_needs[*task] == 0)
        .map(|task| graph.rank(task))
        .collect();
    let mut order = Vec::new();
    while let Some((_, _, task)) = ready.pop_first() {
        if graph.tasks[task].status != Status::Expanded {
            order.push(task);
        }
        for next in dependents[task].iter().copied() {
            open_needs[next] -= 1;
            if open_needs[next] == 0 && is_open(next) {
                ready.insert(graph.rank(next));
            }
        }
    }
    order
}

/// Prints to standard output. A reader that has closed the pipe (`| head`) is not an error.
pub fn print(text: &str) -> eyre::Result<()> {
    match io::stdout().lock().write_all(visible(text).as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).wrap_err("cannot write to standard output")
        }
        _ => Ok(()),
    }
}
