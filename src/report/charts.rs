//! The chart of all attempts over time.

use maud::{Markup, html};

use super::caps::Detail;
use super::model::{Attempt, End, Interval, MergeEnd, Report};
use super::stage::{Span, Stage};
use super::text::Text;
use super::time::duration;
use crate::amounts::grouped;
use crate::clock::Millis;

/// A pause without any run is drawn shorter if it is longer than this part of the whole time.
const LONG_PAUSE: f64 = 0.08;
/// Shorter pauses are never changed, in milliseconds.
const MIN_LONG_PAUSE: Millis = 2_000;
/// The width of a long pause, as a part of the chart.
const PAUSE_WIDTH: f64 = 0.03;
/// The most pauses that are drawn shorter.
const MAX_PAUSES: usize = 12;
/// The distances between ticks, in milliseconds.
const STEPS: [Millis; 26] = [
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000,
    120_000, 300_000, 600_000, 900_000, 1_800_000, 3_600_000, 7_200_000, 21_600_000, 43_200_000,
    86_400_000,
];
/// How many ticks there are at most.
const MAX_TICKS: i64 = 6;
/// The shortest bar, in percent of the chart.
const MIN_BAR: f64 = 0.35;
/// On a page with many attempts, shorter bars are left out. In percent of the chart.
const MIN_BAR_OF_MANY: f64 = 0.02;
/// The coordinates of drawings of stages.
const PERCENT: &str = "0 0 100 100";

/// Maps times to positions in percent. Long pauses in which nothing ran are drawn shorter.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// The parts of the time in order, with the positions of their ends.
    parts: Vec<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Part {
    time: Interval,
    left: f64,
    right: f64,
    is_pause: bool,
}

impl Axis {
    pub fn of(intervals: impl IntoIterator<Item = Interval>) -> Self {
        let busy = union(intervals.into_iter().collect());
        let sum: Millis = busy.iter().map(|part| (part.to - part.from).max(1)).sum();
        let mut gaps: Vec<Millis> = busy
            .windows(2)
            .map(|pair| pair[1].from - pair[0].to)
            .collect();
        gaps.sort_unstable_by(|a, b| b.cmp(a));
        // Every row shows every pause, so only the longest ones count.
        let longest = gaps.get(MAX_PAUSES).copied().unwrap_or_default();
        let limit = MIN_LONG_PAUSE
            .max(rounded(float(sum) * LONG_PAUSE))
            .max(longest);
        // Short pauses belong to the part before them.
        let mut parts: Vec<(Interval, bool)> = Vec::new();
        for next in busy {
            match parts.last_mut() {
                None => parts.push((next, false)),
                Some((last, _)) if next.from - last.to <= limit => last.to = next.to,
                Some((last, _)) => {
                    let pause = Interval {
                        from: last.to,
                        to: next.from,
                    };
                    parts.push((pause, true));
                    parts.push((next, false));
                }
            }
        }
        let pauses = parts.iter().filter(|(_, is_pause)| *is_pause).count();
        let pause_width = PAUSE_WIDTH.min(0.3 / float(pauses.max(1)));
        let shown = 1.0 - pause_width * float(pauses);
        let lengths = parts.iter().filter(|(_, is_pause)| !is_pause);
        let all: Millis = lengths.map(|(part, _)| (part.to - part.from).max(1)).sum();
        let mut left = 0.0;
        let parts = parts.into_iter().map(|(time, is_pause)| {
            let width = if is_pause {
                pause_width
            } else {
                float((time.to - time.from).max(1)) / float(all) * shown
            };
            let part = Part {
                time,
                left,
                right: left + width,
                is_pause,
            };
            left += width;
            part
        });
        Self {
            parts: parts.collect(),
        }
    }

    /// The position of a time, from 0 to 100.
    pub fn at(&self, time: Millis) -> f64 {
        let part = self.parts.iter().find(|part| time <= part.time.to);
        let Some(part) = part.or(self.parts.last()) else {
            return 0.0;
        };
        let length = float((part.time.to - part.time.from).max(1));
        let share = (float(time - part.time.from) / length).clamp(0.0, 1.0);
        (part.left + share * (part.right - part.left)) * 100.0
    }

    fn begin(&self) -> Millis {
        self.parts.first().map_or(0, |part| part.time.from)
    }

    /// The ticks: positions, and the time since the beginning.
    fn ticks(&self) -> Vec<(f64, String)> {
        let shown = self.parts.iter().filter(|part| !part.is_pause);
        let length: Millis = shown
            .clone()
            .map(|part| part.time.to - part.time.from)
            .sum();
        let step = STEPS
            .iter()
            .copied()
            .find(|step| length / step <= MAX_TICKS);
        let step = step.unwrap_or_else(|| (length / MAX_TICKS).max(1));
        let begin = self.begin();
        let mut ticks: Vec<(f64, String)> = Vec::new();
        for part in shown {
            let first = (part.time.from - begin + step - 1) / step;
            for number in first..=(part.time.to - begin) / step {
                let time = number * step;
                let at = self.at(begin + time);
                if ticks.last().is_none_or(|(last, _)| at - last > 11.0) && at < 91.0 {
                    ticks.push((
                        at,
                        if time == 0 {
                            "0".to_owned()
                        } else {
                            duration(time)
                        },
                    ));
                }
            }
        }
        ticks
    }

    fn pauses(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(|part| part.is_pause)
    }
}

/// The intervals in order, with overlapping ones joined.
fn union(mut intervals: Vec<Interval>) -> Vec<Interval> {
    intervals.sort_by_key(|interval| (interval.from, interval.to));
    let mut joined: Vec<Interval> = Vec::new();
    for interval in intervals {
        match joined.last_mut() {
            Some(last) if interval.from <= last.to => last.to = last.to.max(interval.to),
            _ => joined.push(interval),
        }
    }
    joined
}

/// The bars of the stages. All bars of a stage are one element, because a large page has many.
fn bars(spans: &[Span], axis: &Axis, detail: Detail) -> Markup {
    let bar = |span: &Span| {
        let left = axis.at(span.from);
        let width = axis.at(span.to) - left;
        (width >= MIN_BAR_OF_MANY || detail == Detail::Full)
            .then(|| rectangle(left.min(100.0 - MIN_BAR), width.max(MIN_BAR), 20, 60))
    };
    let of_stage = |stage: Stage| spans.iter().filter(move |span| span.stage == stage);
    let bars = Stage::ALL.into_iter().filter_map(|stage| {
        let outline: String = of_stage(stage).filter_map(bar).collect();
        (!outline.is_empty()).then_some((stage, outline))
    });
    html! {
        @for (stage, outline) in bars {
            path.(stage.word()) d=(outline) {
                @if detail == Detail::Full {
                    title { (stage.word()) ": " (duration(of_stage(stage).map(|span| span.to - span.from).sum())) }
                }
            }
        }
    }
}

/// A rectangle as a part of the outline of a path. Positions are in percent of the drawing.
fn rectangle(left: f64, width: f64, top: u32, height: u32) -> String {
    let (left, width) = (short(left), short(width));
    format!("M{left} {top}h{width}v{height}h-{width}z")
}

/// A position with two digits at most.
fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The stages of one attempt alone, over its whole width.
pub fn attempt_bar(attempt: &Attempt) -> Markup {
    let axis = Axis::of(attempt.spans.iter().map(|span| Interval {
        from: span.from,
        to: span.to,
    }));
    html! {
        svg.bar viewBox=(PERCENT) preserveAspectRatio="none" role="img" aria-label="stages of this attempt" { (bars(&attempt.spans, &axis, Detail::Full)) }
        ul.stages {
            @for span in &attempt.spans {
                li { (swatch(span.stage.word())) (span.stage.word()) " " span.quiet { (duration(span.to - span.from)) } }
            }
        }
    }
}

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
    rows.sort_by_key(|(task, attempt)| (attempt.from(), task.map(|(at, _)| at), attempt.number));
    let spans = || rows.iter().flat_map(|(_, attempt)| &attempt.spans);
    let axis = Axis::of(spans().map(|span| Interval {
        from: span.from,
        to: span.to,
    }));
    let used: Vec<Stage> = Stage::ALL
        .into_iter()
        .filter(|stage| spans().any(|span| span.stage == *stage))
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
            @for (task, attempt) in &rows {
                (row(task.map(|(at, task)| (at, &task.name, &task.title)), attempt, &axis, detail))
            }
        }
        @for pause in axis.pauses() {
            p.quiet { "Nothing ran for " (duration(pause.time.to - pause.time.from)) ", after " (duration(pause.time.from - axis.begin())) "." }
        }
    }
}

fn row(
    task: Option<(usize, &Text, &Text)>,
    attempt: &Attempt,
    axis: &Axis,
    detail: Detail,
) -> Markup {
    let (sign, word) = sign(attempt);
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
        svg.lane viewBox=(PERCENT) preserveAspectRatio="none" role="img" aria-label=(word) {
            @if !pauses.is_empty() { path.pause d=(pauses) {} }
            (bars(&attempt.spans, axis, detail))
        }
        span.time { (duration(attempt.duration())) " " span.(sign.1) title=(word) { (sign.0) } }
    };
    html! {
        @if let Some((at, ..)) = task {
            a.row href={ "#task-" (at) } { (content) }
        } @else {
            div.row { (content) }
        }
    }
}

/// A sign for the end of an attempt with its class, and the end in words.
pub fn sign(attempt: &Attempt) -> ((&'static str, &'static str), &'static str) {
    match (&attempt.end, &attempt.merge) {
        (_, MergeEnd::Conflict(_)) => (("⨯", "bad"), "conflict"),
        (_, MergeEnd::Red(_)) => (("⨯", "bad"), "its work was rejected after the merge"),
        (End::Running, _) => (("…", "active"), "running"),
        (End::Completed { .. }, MergeEnd::Merged(_)) => (("✓", "good"), "merged"),
        (End::Completed { .. }, MergeEnd::Waiting) => (("…", "active"), "waiting for its merge"),
        (End::Completed { .. }, MergeEnd::None) => (("✓", "good"), "completed"),
        (End::Failed { .. }, _) => (("⨯", "bad"), "failed"),
        (End::Lost { .. }, _) => (("⨯", "bad"), "lost"),
    }
}

/// The tokens that an attempt has used over time.
pub fn tokens(attempt: &Attempt) -> Option<Markup> {
    let samples = attempt.samples.tokens();
    let (first, last) = (samples.first()?, samples.last()?);
    let most = samples
        .iter()
        .map(|(_, tokens)| *tokens)
        .max()
        .filter(|most| *most > 0)?;
    if last.0 <= first.0 {
        return None;
    }
    let points = samples.iter().map(|(at, tokens)| {
        let x = float(at - first.0) / float(last.0 - first.0) * 100.0;
        let y = 30.0
            - float(i64::try_from(*tokens).unwrap_or(i64::MAX))
                / float(i64::try_from(most).unwrap_or(i64::MAX))
                * 28.0;
        format!("{x:.1},{y:.1}")
    });
    let points: Vec<String> = points.collect();
    Some(html! {
        figure {
            svg.curve viewBox="0 0 100 30" preserveAspectRatio="none" role="img" aria-label="tokens over time" {
                polyline points=(points.join(" ")) vector-effect="non-scaling-stroke" {}
            }
            figcaption.quiet { (grouped(most)) " tokens in " (duration(last.0 - first.0)) ", by its heartbeats" }
        }
    })
}

fn percent(value: f64) -> String {
    format!("{value:.2}%")
}

#[expect(
    clippy::cast_precision_loss,
    reason = "positions in a drawing need no more than 52 bits"
)]
fn float(number: impl TryInto<i64>) -> f64 {
    number.try_into().unwrap_or(i64::MAX) as f64
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a part of a number of milliseconds"
)]
fn rounded(number: f64) -> Millis {
    number.round() as Millis
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(from: Millis, to: Millis) -> Interval {
        Interval { from, to }
    }

    #[test]
    fn time_is_mapped_evenly_from_the_first_start_to_the_last_end() {
        let axis = Axis::of([interval(1_000, 2_000), interval(1_500, 5_000)]);
        let found = [1_000, 2_000, 3_000, 5_000].map(|time| axis.at(time).round());
        assert_eq!(found.map(|at| at.to_string()), ["0", "25", "50", "100"]);
    }

    #[test]
    fn a_night_without_a_dispatcher_takes_little_room() {
        let night = 12 * 3_600_000;
        let axis = Axis::of([interval(0, 60_000), interval(night, night + 60_000)]);
        let width = axis.at(night) - axis.at(60_000);
        assert!((width - PAUSE_WIDTH * 100.0).abs() < 0.01, "{axis:?}");
        assert!((axis.at(60_000) - 48.5).abs() < 0.01, "{axis:?}");
        assert_eq!(axis.pauses().count(), 1);
    }

    #[test]
    fn of_many_pauses_only_the_longest_are_drawn_shorter() {
        let hour = 3_600_000;
        let run = |number: Millis| {
            let from = number * (number + 24) * hour;
            interval(from, from + 60_000)
        };
        let axis = Axis::of((0..500).map(run));
        assert_eq!(axis.pauses().count(), MAX_PAUSES);
        let pauses: Vec<Interval> = axis.pauses().map(|pause| pause.time).collect();
        assert_eq!(pauses.last().map(|pause| pause.to), Some(run(499).from));
    }

    #[test]
    fn ticks_are_round_and_do_not_touch() {
        for length in [3, 950, 7_300, 61_000, 5_400_000, 900_000_000] {
            let ticks = Axis::of([interval(5, 5 + length)]).ticks();
            assert!((1..=7).contains(&ticks.len()), "{length}: {ticks:?}");
            assert!(
                ticks.windows(2).all(|pair| pair[1].0 - pair[0].0 > 11.0),
                "{ticks:?}"
            );
        }
        let ticks = Axis::of([interval(0, 60_000)]).ticks();
        let words: Vec<&str> = ticks.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(words, ["0", "10 s", "20 s", "30 s", "40 s", "50 s"]);
    }

    #[test]
    fn a_chart_without_attempts_is_empty() {
        let axis = Axis::of([]);
        assert!(axis.at(7).abs() < f64::EPSILON && axis.ticks().is_empty());
    }
}
