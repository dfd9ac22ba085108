//! The chart of all attempts over time.

use maud::{Markup, html};

use super::axis::{Axis, Part, format_position};
use super::model::{Attempt, End, Interval, MergeEnd, Report};
use super::spending::cost_row;
use super::stage::{Stage, StageInterval};
use super::text::Text;
use super::text_limits::Detail;
use super::time::duration;

/// The shortest bar, in percent of the chart.
const MIN_BAR_WIDTH: f64 = 0.35;
/// On a page with many attempts, shorter bars are left out. In percent of the chart.
const MIN_BAR_WIDTH_OF_MANY: f64 = 0.02;
/// The `viewBox` of a drawing of stages: coordinates are in percent.
const VIEW_BOX: &str = "0 0 100 100";

/// The bars of the stages. All bars of a stage are one element, because a large page has many.
fn bars(stages: &[StageInterval], axis: &Axis, detail: Detail) -> Markup {
    let bar = |interval: &StageInterval| {
        let left = axis.position(interval.from);
        let width = axis.position(interval.to) - left;
        (width >= MIN_BAR_WIDTH_OF_MANY || detail == Detail::Full).then(|| {
            rectangle(
                left.min(100.0 - MIN_BAR_WIDTH),
                width.max(MIN_BAR_WIDTH),
                20,
                60,
            )
        })
    };
    let of_stage = |stage: Stage| {
        stages
            .iter()
            .filter(move |interval| interval.stage == stage)
    };
    let bars = Stage::ALL.into_iter().filter_map(|stage| {
        let outline: String = of_stage(stage).filter_map(bar).collect();
        (!outline.is_empty()).then_some((stage, outline))
    });
    html! {
        @for (stage, outline) in bars {
            path.(stage.word()) d=(outline) {
                @if detail == Detail::Full {
                    title { (stage.word()) ": " (duration(of_stage(stage).map(|interval| interval.to - interval.from).sum())) }
                }
            }
        }
    }
}

/// A rectangle as a part of the outline of a path. Positions are in percent of the drawing.
fn rectangle(left: f64, width: f64, top: u32, height: u32) -> String {
    let (left, width) = (format_position(left), format_position(width));
    format!("M{left} {top}h{width}v{height}h-{width}z")
}

/// The stages of one attempt alone, over its whole width.
pub fn attempt_bar(attempt: &Attempt) -> Markup {
    let axis = Axis::of(attempt.stages.iter().map(|stage| Interval {
        from: stage.from,
        to: stage.to,
    }));
    html! {
        svg.bar viewBox=(VIEW_BOX) preserveAspectRatio="none" role="img" aria-label="stages of this attempt" { (bars(&attempt.stages, &axis, Detail::Full)) }
        ul.stages {
            @for interval in &attempt.stages {
                li { (swatch(interval.stage.word())) (interval.stage.word()) " " span.quiet { (duration(interval.to - interval.from)) } }
            }
        }
    }
}

/// A small square in the color of a stage.
fn swatch(class: &str) -> Markup {
    html! { i.swatch.(class) aria-hidden="true" {} }
}

/// The chart of all attempts, one row for each.
pub fn chart(report: &Report, detail: Detail) -> Markup {
    let tasks = report.tasks.iter().enumerate();
    let rows = tasks.flat_map(|(at, task)| {
        task.attempts
            .iter()
            .map(move |attempt| (Some((at, task)), attempt))
    });
    let checks = report.checks.iter().map(|attempt| (None, attempt));
    let mut rows: Vec<_> = rows.chain(checks).collect();
    rows.sort_by_key(|(task, attempt)| {
        (attempt.started_at(), task.map(|(at, _)| at), attempt.number)
    });
    let stages = || rows.iter().flat_map(|(_, attempt)| &attempt.stages);
    let axis = Axis::of(stages().map(|interval| Interval {
        from: interval.from,
        to: interval.to,
    }));
    let used: Vec<Stage> = Stage::ALL
        .into_iter()
        .filter(|stage| stages().any(|interval| interval.stage == *stage))
        .collect();
    html! {
        ul.legend {
            @for stage in used { li { (swatch(stage.word())) (stage.word()) } }
            @if axis.pauses().next().is_some() { li { (swatch("pause")) "nothing ran" } }
        }
        div.chart.scroll[rows.len() > 60] {
            div.row.axis aria-hidden="true" {
                span.label {}
                span.ticks {
                    svg {
                        @for (at, text) in axis.ticks() {
                            line x1=(percent(at)) x2=(percent(at)) y1="70%" y2="100%" {}
                            text x=(percent(at)) y="55%" { (text) }
                        }
                    }
                }
                span.time {}
            }
            @if rows.len() > 1 {
                @if let Some(row) = cost_row(report, &axis) { (row) }
            }
            @for (task, attempt) in &rows {
                (row(task.map(|(at, task)| (at, &task.name, &task.title)), attempt, &axis, detail))
            }
        }
        @for pause in axis.pauses() {
            p.quiet { "Nothing ran for " (duration(pause.time.to - pause.time.from)) ", after " (duration(pause.time.from - axis.begin())) "." }
        }
    }
}

/// The row of one attempt. `task` has the position, the name and the title of its task.
fn row(
    task: Option<(usize, &Text, &Text)>,
    attempt: &Attempt,
    axis: &Axis,
    detail: Detail,
) -> Markup {
    let mark = end_mark(attempt);
    let pause =
        |part: &Part| rectangle(part.left * 100.0, (part.right - part.left) * 100.0, 0, 100);
    let pauses: String = axis.pauses().map(pause).collect();
    let content = html! {
        span.label {
            @if let Some((_, name, title)) = task {
                b { (name) } @if attempt.number > 1 { " #" (attempt.number) } " " bdi { (title) }
            } @else {
                b { "checks" } " of merged work"
            }
        }
        svg.lane viewBox=(VIEW_BOX) preserveAspectRatio="none" role="img" aria-label=(mark.word) {
            @if !pauses.is_empty() { path.pause d=(pauses) {} }
            (bars(&attempt.stages, axis, detail))
        }
        span.time { (duration(attempt.duration())) " " span.(mark.class) title=(mark.word) { (mark.sign) } }
    };
    html! {
        @if let Some((at, ..)) = task {
            a.row href={ "#task-" (at) } { (content) }
        } @else {
            div.row { (content) }
        }
    }
}

/// How the page marks the end of an attempt.
pub struct EndMark {
    pub sign: &'static str,
    /// The CSS class of the color.
    pub class: &'static str,
    /// The end in words.
    pub word: &'static str,
}

pub fn end_mark(attempt: &Attempt) -> EndMark {
    let (sign, class, word) = match (&attempt.end, &attempt.merge) {
        (_, MergeEnd::Conflict(_)) => ("⨯", "bad", "conflict"),
        (_, MergeEnd::Rejected(_)) => ("⨯", "bad", "its work was rejected after the merge"),
        (End::Running, _) => ("…", "active", "running"),
        (End::Completed { .. }, MergeEnd::Merged(_)) => ("✓", "good", "merged"),
        (End::Completed { .. }, MergeEnd::Waiting) => ("…", "active", "waiting for its merge"),
        (End::Completed { .. }, MergeEnd::None) => ("✓", "good", "completed"),
        (End::Failed { .. }, _) => ("⨯", "bad", "failed"),
        (End::Lost { .. }, _) => ("⨯", "bad", "lost"),
    };
    EndMark { sign, class, word }
}

fn percent(value: f64) -> String {
    format!("{value:.2}%")
}
