//! The sections of all tasks.

use maud::{Markup, html};

use super::attempt::{attempt, check_run};
use super::drawing::class_of_state;
use super::model::{Attempt, Report, Request, State, Task};
use super::text_limits::Detail;
use super::time::duration;
use super::totals;

pub fn tasks(report: &Report) -> Markup {
    let is_single = report.tasks.len() == 1;
    let detail = totals::detail(report);
    html! {
        @for (at, task) in report.tasks.iter().enumerate() {
            (section(at, task, is_single || task.state == State::Failed, detail))
        }
        @if !report.checks.is_empty() {
            h2 { "Checks of merged work" }
            @for run in &report.checks {
                (check_run(run, detail))
            }
        }
    }
}

fn section(at: usize, task: &Task, is_open: bool, detail: Detail) -> Markup {
    html! {
        details.task open[is_open] {
            summary {
                span.badge.(class_of_state(task.state)) { (task.word) }
                " " b { (task.name) } " " bdi { (task.title) }
                (sums(task))
            }
            // A link to this element opens the section.
            div id={ "task-" (at) } {
                @if let Some(why) = &task.why { p.bad { (why) } }
                (request(&task.request, task))
                @if task.attempts.is_empty() && task.state == State::Done { p.quiet { @if task.is_split { "It is done because its subtasks are." } @else { "It was done before, so no worker was started." } } }
                @for run in &task.attempts {
                    (attempt(run, detail, task.attempts.len() == 1))
                }
            }
        }
    }
}

/// The number of attempts, the changed lines and the time of a task, for the end of the task's line.
fn sums(task: &Task) -> Markup {
    let time = task.attempts.iter().map(Attempt::duration).sum();
    let last = task.attempts.last().filter(|attempt| !attempt.is_failed());
    let work = last.and_then(|attempt| attempt.work.as_ref());
    html! {
        span.sums {
            @if task.attempts.len() > 1 { span.quiet { (task.attempts.len()) " attempts" } }
            @if let Some(work) = work { span { span.good { "+" (work.insertions) } " " span.bad { "−" (work.deletions) } } }
            @if !task.attempts.is_empty() { span.quiet { (duration(time)) } }
        }
    }
}

fn request(request: &Request, task: &Task) -> Markup {
    let texts = [
        ("Description", &request.description),
        ("Details", &request.details),
        ("How to test it", &request.test_strategy),
    ];
    html! {
        @if texts.iter().any(|(_, text)| text.is_some()) {
            details {
                summary { "What the agent was asked to do" }
                @for (name, text) in texts {
                    @if let Some(text) = text { h5 { (name) } pre.words { (text) } }
                }
                @if !task.priority.is_empty() { p.quiet { "Priority: " (task.priority) } }
            }
        }
    }
}
