//! Makes the page from the model.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use ring::digest::{SHA256, digest};

use super::charts::chart;
use super::drawing::draw;
use super::model::{Outcome, Report};
use super::tasks::tasks;
use super::time::{date, duration, html_datetime};
use super::totals::{Totals, detail};
use crate::amounts::{dollars, with_commas};

const STYLE: &str = include_str!("page.css");

/// The page as HTML.
pub fn render(report: &Report) -> String {
    let totals = Totals::of(report);
    // Nothing may be loaded or executed, and only this style sheet may be used.
    let hash = BASE64_STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'"
    );
    let has_graph = report.tasks.len() > 1;
    let badge = outcome_badge(report.outcome);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                meta name="generator" content={ (env!("CARGO_PKG_NAME")) " " (env!("CARGO_PKG_VERSION")) };
                title { (report.title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { bdi { (report.title) } " " span.badge.(badge.class) { (badge.word) } }
                    p { (report.sentence) }
                    @for note in &report.notes { p.quiet { (note) } }
                    (numbers(report, &totals))
                    (facts(report))
                }
                main {
                    @if has_graph { h2 { "Graph" } (draw(report, detail(report))) }
                    h2 { @if has_graph { "Attempts over time" } @else { "Over time" } }
                    (chart(report, detail(report)))
                    @if !report.commands.is_empty() {
                        h2 { "Commands of the user" }
                        ul { @for (at, text) in &report.commands { li { span.quiet { (date(*at)) } " " (text) } } }
                    }
                    h2 { @if has_graph { "Tasks" } @else { "Task" } }
                    (tasks(report))
                }
                footer.quiet {
                    "Written by " (env!("CARGO_PKG_NAME")) " " (env!("CARGO_PKG_VERSION")) " at "
                    time datetime=(html_datetime(report.written_at)) { (date(report.written_at)) }
                    ". Long texts are shortened in the middle, and known secrets are masked."
                }
            }
        }
    };
    page.into_string()
}

/// The outcome next to the title of the page.
struct OutcomeBadge {
    word: &'static str,
    /// The CSS class of the color.
    class: &'static str,
}

fn outcome_badge(outcome: Outcome) -> OutcomeBadge {
    let (word, class) = match outcome {
        Outcome::Done => ("done", "good"),
        Outcome::Failed => ("not all done", "bad"),
        Outcome::Stopped => ("stopped", "bad"),
        Outcome::Running => ("running", "active"),
    };
    OutcomeBadge { word, class }
}

/// The important numbers at the top of the page, such as the cost.
fn numbers(report: &Report, totals: &Totals) -> Markup {
    let wall_time = totals.span.map(|span| duration(span.to - span.from));
    let is_resumed = report.sessions.len() > 1;
    html! {
        dl.numbers {
            div { dt { "tasks done" } dd.good[totals.done == totals.tasks()] { (totals.done) small { " of " (totals.tasks()) } } }
            @if totals.failed > 0 { div { dt { "blocked" } dd.bad { (totals.failed) } } }
            div { dt { "attempts" } dd { (totals.attempts) @if totals.failed_attempts > 0 { small.bad { " " (totals.failed_attempts) " failed" } } } }
            @if let Some(wall_time) = wall_time { div { dt { "wall time" } dd { (wall_time) @if is_resumed { small { " " (duration(totals.active)) " of it working" } } } } }
            div { dt { "time of all runs" } dd { (duration(totals.run_time)) } }
            @if totals.has_tokens { div { dt { "tokens" } dd { (with_commas(totals.tokens)) } } }
            @if totals.cost_usd > 0.0 { div { dt { "cost" } dd { (dollars(totals.cost_usd)) } } }
            @if totals.insertions > 0 || totals.deletions > 0 { div { dt { "lines" } dd { span.good { "+" (with_commas(totals.insertions)) } " " span.bad { "−" (with_commas(totals.deletions)) } } } }
        }
    }
}

fn facts(report: &Report) -> Markup {
    html! {
        dl.facts {
            @for (name, value) in &report.facts { div { dt { (name) } dd { bdi { (value) } } } }
            @for (at, session) in report.sessions.iter().enumerate() {
                div { dt { @if at == 0 { "began" } @else { "continued" } } dd { time datetime=(html_datetime(session.from)) { (date(session.from)) } } }
            }
        }
    }
}

#[cfg(test)]
mod tests;
