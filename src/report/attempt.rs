//! The section about one attempt: its end, its data, and the next step after it.

use maud::{Markup, html};

use super::charts::{attempt_bar, end_mark};
use super::model::{Attempt, Check, End, File, MergeEnd, NextStep, Work};
use super::patch::render_colored;
use super::spending::curve_of_attempt;
use super::text::Text;
use super::text_limits::Detail;
use super::time::duration;
use crate::amounts::{bytes_in_words, dollars, with_commas};

/// How many characters of a commit's id are shown.
const SHORT_COMMIT_LEN: usize = 10;

/// An attempt as a part of its task.
pub fn attempt(attempt: &Attempt, detail: Detail, is_only: bool) -> Markup {
    html! {
        section.attempt {
            // The line of the task says the same about its only attempt.
            @if detail == Detail::Full || !is_only {
                h4 { (heading(attempt, &html! { "Attempt " (attempt.number) })) }
            }
            (content(attempt, detail))
        }
    }
}

/// A run that only checks merged work. It is closed if the checks passed.
pub fn check_run(attempt: &Attempt, detail: Detail) -> Markup {
    html! {
        details.task open[attempt.is_failed()] {
            summary { (heading(attempt, &html! { "Check of " (short_commit(&attempt.base)) })) }
            (content(attempt, detail))
        }
    }
}

fn heading(attempt: &Attempt, name: &Markup) -> Markup {
    let mark = end_mark(attempt);
    html! { b { (name) } " " span.badge.(mark.class) { (mark.word) } " " span.quiet { (duration(attempt.duration())) } }
}

fn content(attempt: &Attempt, detail: Detail) -> Markup {
    html! {
            @if detail == Detail::Full { (attempt_bar(attempt)) }
            (end(&attempt.end))
            (merge(&attempt.merge))
            @if let Some(next_step) = &attempt.next_step { (next_step_text(next_step)) }
            (facts(attempt, detail))
            (prompts(&attempt.prompts, detail))
            @if let Some(note) = attempt.note.as_ref().filter(|_| !attempt.has_first_prompt()) {
                (part(&html! { "What the prompt said about earlier attempts" }, &html! { pre { (note) } }, Initially::Closed, detail))
            }
            @if let Some(summary) = &attempt.summary {
                (part(&html! { "What the agent said at the end" }, &html! { pre.words { (summary) } }, Initially::Open, detail))
            }
            (activity(attempt, detail))
            (checks(&attempt.checks, detail))
            @if let Some(work) = &attempt.work { (changes(work, detail)) }
    }
}

fn end(end: &End) -> Markup {
    html! {
        @match end {
            End::Running => p { "It had not ended when this report was written." },
            End::Completed { message } => p { (message) },
            End::Failed { reason, message, detail, is_retryable } => {
                p.bad { code { (reason) } ": " (message) @if *is_retryable { " (another attempt may help)" } }
                @if let Some(detail) = detail { pre { (detail) } }
            },
            End::Lost { why, exit_code, is_out_of_memory } => p.bad {
                "Lost: " (why)
                @if let Some(code) = exit_code { ", exit code " (code) }
                @if *is_out_of_memory { ", out of memory" }
            },
        }
    }
}

fn merge(merge: &MergeEnd) -> Markup {
    html! {
        @match merge {
            MergeEnd::None => {},
            MergeEnd::Waiting => p { "Its work was not merged yet when this report was written." },
            MergeEnd::Merged(commit) => p.good { "Merged as " (short_commit(commit)) "." },
            MergeEnd::Conflict(note) => { p.bad { "Its work conflicts with work that was merged meanwhile." } pre { (note) } },
            MergeEnd::Rejected(note) => { p.bad { "Its work was rejected after the merge:" } pre { (note) } },
        }
    }
}

fn next_step_text(next_step: &NextStep) -> Markup {
    html! {
        p {
            "Then: "
            @match next_step {
                NextStep::Attempt { number, pause } => { "attempt " (number) ", " (duration(*pause)) " later." },
                NextStep::LaterAttempt => "another attempt follows after a pause.",
                NextStep::None => "no further attempt.",
            }
        }
    }
}

fn facts(attempt: &Attempt, detail: Detail) -> Markup {
    let agent = attempt.agent.as_ref();
    let number = |value: Option<u64>| value.map(with_commas);
    let usage = agent.and_then(|agent| agent.usage);
    let rows: [(&str, Option<Markup>); 13] = [
        ("run", Some(html! { code { (attempt.run) } })),
        (
            "engine",
            (!attempt.engine.is_empty()).then(|| html! { (attempt.engine) }),
        ),
        (
            "memory",
            attempt
                .memory
                .map(|memory| html! { (bytes_in_words(memory)) }),
        ),
        ("agent", agent.map(|agent| html! { (agent.kind) })),
        (
            "model",
            agent
                .and_then(|agent| agent.model.as_ref())
                .map(|model| html! { (model) }),
        ),
        (
            "exit code",
            agent
                .and_then(|agent| agent.exit_code)
                .map(|code| html! { (code) }),
        ),
        (
            "turns",
            number(agent.and_then(|agent| agent.turns)).map(|text| html! { (text) }),
        ),
        (
            "tools used",
            number(agent.and_then(|agent| agent.tool_calls)).map(|text| html! { (text) }),
        ),
        (
            "tokens in",
            usage.map(|usage| html! { (with_commas(usage.input)) }),
        ),
        (
            "tokens out",
            usage.map(|usage| html! { (with_commas(usage.output)) }),
        ),
        (
            "tokens cached",
            usage.map(|usage| html! { (with_commas(usage.cached)) }),
        ),
        (
            "cost",
            attempt.cost_usd().map(|cost| html! { (dollars(cost)) }),
        ),
        (
            "began at",
            (!attempt.base.is_empty()).then(|| short_commit(&attempt.base)),
        ),
    ];
    let rows = rows
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    html! {
        @match detail {
            Detail::Full => p.facts {
                @for (name, value) in rows { span { i { (name) } " " (value) } }
            },
            Detail::Short => p.quiet {
                @for (position, (name, value)) in rows.enumerate() {
                    @if position > 0 { " · " }
                    (name) " " (value)
                }
            },
        }
    }
}

/// The prompts of an attempt: the first one, and those after failed checks.
fn prompts(prompts: &[(usize, Text)], detail: Detail) -> Markup {
    html! {
        @for (round, prompt) in prompts {
            @let head = html! {
                @if *round == 1 { "The prompt" } @else { "The prompt after failed checks, round " (round) }
            };
            (part(&head, &html! { pre.words { (prompt) } }, Initially::Closed, detail))
        }
    }
}

/// The activity of the agent: the worker's log, or else the heartbeats and the agent's output.
fn activity(attempt: &Attempt, detail: Detail) -> Markup {
    let activities = attempt
        .samples
        .iter()
        .filter_map(|sample| Some((sample.at, sample.activity.as_deref()?)));
    let activities: Vec<_> = activities.collect();
    let begin = attempt.started_at().unwrap_or_default();
    html! {
        // On a page with many attempts, only the chart shows the cost.
        @if detail == Detail::Full { @if let Some(curve) = curve_of_attempt(attempt) { (curve) } }
        @if let Some(log) = &attempt.log {
            (part(&html! { "What the worker and the agent did (the worker's log)" }, &html! { pre { (log) } }, Initially::Closed, detail))
        } @else if !activities.is_empty() {
            @let list = html! {
                ol.activities { @for (at, activity) in &activities { li { span.quiet { (duration(at - begin)) } " " (activity) } } }
            };
            (part(&html! { "What the agent did (from its heartbeats)" }, &list, Initially::Closed, detail))
        }
        @if let Some(output) = attempt.output.as_ref().filter(|_| detail == Detail::Full || attempt.log.is_none()) {
            @let head = html! { "What the agent printed " span.quiet { "(" (with_commas(output.total_bytes)) " bytes)" } };
            (part(&head, &html! { pre { (output.text) } }, Initially::Closed, detail))
        }
    }
}

fn checks(checks: &[Check], detail: Detail) -> Markup {
    html! {
        @for check in checks {
            @let is_passed = check.exit_code == Some(0);
            @let head = html! {
                "Check " code { (check.command) } " "
                @if is_passed { span.good { "passed" } }
                @else { span.bad { "failed" @if let Some(code) = check.exit_code { " with exit code " (code) } } }
                " " span.quiet { (duration(check.duration)) }
            };
            @if check.output.is_empty() {
                p.check { (head) }
            } @else {
                (part(&head, &html! { pre { (check.output) } }, if is_passed { Initially::Closed } else { Initially::Open }, detail))
            }
        }
    }
}

fn changes(work: &Work, detail: Detail) -> Markup {
    let head = html! {
        "Changes " span.quiet { (work.files_changed) " files, " } span.good { "+" (work.insertions) } " " span.bad { "−" (work.deletions) }
        @if let Some(branch) = &work.branch { " on " code { (branch) } }
    };
    html! {
        @if work.base == work.head {
            p { "It changed nothing." }
        } @else {
            @let content = html! {
                (files(&work.files, detail))
                @match &work.patch {
                    Some(patch) if detail == Detail::Full => (render_colored(patch)),
                    Some(patch) => pre.patch { (patch) },
                    None => p.quiet { "The worker's report has no patch; the commit is " (short_commit(&work.head)) "." },
                }
                @if work.is_truncated { p.quiet { "The patch is not complete." } }
            };
            (part(&head, &content, Initially::Closed, detail))
        }
    }
}

/// Whether a part of an attempt is open or closed when a reader opens the page.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Initially {
    Open,
    Closed,
}

/// A part of an attempt under its heading. On a page with many attempts, only whole tasks can be opened and closed.
fn part(head: &Markup, content: &Markup, initially: Initially, detail: Detail) -> Markup {
    html! {
        @match detail {
            Detail::Full => details open[initially == Initially::Open] { summary { (head) } (content) },
            Detail::Short => { h5 { (head) } (content) },
        }
    }
}

fn files(files: &[File], detail: Detail) -> Markup {
    html! {
        @match detail {
            Detail::Full => table.files {
                @for file in files {
                    tr {
                        td { bdi { code { (file.path) } } }
                        @if file.is_binary { td.quiet colspan="2" { "binary" } }
                        @else { td.good { "+" (file.insertions) } td.bad { "−" (file.deletions) } }
                    }
                }
            },
            Detail::Short => pre.list {
                @for file in files {
                    (file.path)
                    @if file.is_binary { " binary\n" } @else { " +" (file.insertions) " −" (file.deletions) "\n" }
                }
            },
        }
    }
}

fn short_commit(commit: &Text) -> Markup {
    let text = commit.as_str();
    html! { code title=(text) { (text.get(..SHORT_COMMIT_LEN).unwrap_or(text)) } }
}
