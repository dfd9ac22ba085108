//! The sections of all tasks.

use maud::{Markup, html};

use super::attempt::attempt;
use super::drawing::class;
use super::model::{Report, Request, State, Task};

pub fn tasks(report: &Report) -> Markup {
    let is_single = report.tasks.len() == 1;
    html! {
        @for (at, task) in report.tasks.iter().enumerate() {
            (section(at, task, is_single || task.state == State::Failed))
        }
        @if !report.checks.is_empty() {
            h2 { "Checks of merged work" }
            @for run in &report.checks {
                (attempt(run, &html! { "Check of " code { (run.base.as_str().get(..10).unwrap_or(run.base.as_str())) } }))
            }
        }
    }
}

fn section(at: usize, task: &Task, is_open: bool) -> Markup {
    let count = task.attempts.len();
    html! {
        details.task open[is_open] {
            summary {
                span.badge class=(class(task.state)) { (task.word) }
                " " b { (task.name) } " " bdi { (task.title) }
                @if count > 1 { " " span.quiet { (count) " attempts" } }
            }
            // A link to this element opens the section.
            div id={ "task-" (at) } {
                @if let Some(why) = &task.why { p.bad { (why) } }
                (request(&task.request, task))
                @if count == 0 && task.state == State::Done { p.quiet { "It was done before, so no worker was started." } }
                @for run in &task.attempts {
                    (attempt(run, &html! { "Attempt " (run.number) }))
                }
            }
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
