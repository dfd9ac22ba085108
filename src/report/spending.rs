//! Curves of the cost or the tokens of agents over time.

use maud::{Markup, html};

use super::axis::{Axis, format_position, to_float};
use super::model::{Attempt, Report};
use super::stage::Stage;
use super::time::duration;
use super::totals::{attempts, cost_usd};
use crate::amounts::{dollars, with_commas};
use crate::clock::Millis;

/// The `viewBox` of the drawing of a curve.
const VIEW_BOX: &str = "0 0 100 100";
/// The distance between the upper edge and the highest point, so that its line is not cut off.
const TOP_MARGIN: f64 = 6.0;
/// The minimum distance between two points of a curve, in percent of its width.
const MIN_DISTANCE: f64 = 0.1;

/// The amount that was spent until a point in time.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Point {
    at: Millis,
    amount: f64,
}

/// The curve of the cost of an attempt; if no cost is known, the curve of its tokens.
pub fn curve_of_attempt(attempt: &Attempt) -> Option<Markup> {
    let cost = cost(attempt);
    let (points, what) = if cost.is_empty() {
        (tokens(attempt), "tokens")
    } else {
        (cost, "cost")
    };
    let (from, last) = (begin_of_agent(attempt)?, *points.last()?);
    let length = last.at - from;
    // A curve needs two amounts at different times.
    if length <= 0 || last.amount <= 0.0 || points.len() < 2 {
        return None;
    }
    let positions = points.iter().map(|point| {
        let share = to_float(point.at - from) / to_float(length);
        (share.clamp(0.0, 1.0) * 100.0, point.amount / last.amount)
    });
    let tokens = attempt.samples.tokens().into_iter();
    let tokens = tokens.map(|(_, tokens)| tokens).max();
    let spent = match (what, tokens) {
        ("cost", Some(tokens)) => {
            format!(
                "{} and {} tokens",
                dollars(last.amount),
                with_commas(tokens)
            )
        }
        ("cost", None) => dollars(last.amount),
        (_, tokens) => format!("{} tokens", with_commas(tokens.unwrap_or_default())),
    };
    Some(html! {
        figure {
            svg.curve viewBox=(VIEW_BOX) preserveAspectRatio="none" role="img" aria-label={ (what) " over time" } {
                path d=(step_path(positions)) vector-effect="non-scaling-stroke" {}
            }
            figcaption.quiet { (what) " over time: " (spent) " in " (duration(length)) }
        }
    })
}

/// The row of the chart with the cost of all attempts together; `None` if no cost is known.
pub fn cost_row(report: &Report, axis: &Axis) -> Option<Markup> {
    let mut increases: Vec<Point> = attempts(report).flat_map(increases).collect();
    increases.sort_by_key(|point| point.at);
    let total = cost_usd(report);
    if total <= 0.0 || !total.is_finite() {
        return None;
    }
    let mut sum = 0.0;
    let positions = increases.iter().map(|point| {
        sum += point.amount;
        (axis.position(point.at), sum / total)
    });
    Some(html! {
        div.row {
            span.label { b { "cost" } " of all attempts" }
            svg.lane.curve viewBox=(VIEW_BOX) preserveAspectRatio="none" role="img" aria-label="cost over time" {
                path d=(step_path(positions)) vector-effect="non-scaling-stroke" {}
            }
            span.time { (dollars(total)) }
        }
    })
}

/// The cost between each point and the one before it.
fn increases(attempt: &Attempt) -> Vec<Point> {
    let mut previous = 0.0;
    let increases = cost(attempt).into_iter().map(|point| {
        let amount = point.amount - previous;
        previous = point.amount;
        Point { amount, ..point }
    });
    increases.collect()
}

/// The cost that the heartbeats and the terminal event report. It never becomes less, and ends with
/// [`Attempt::cost_usd`].
fn cost(attempt: &Attempt) -> Vec<Point> {
    let samples = attempt.samples.iter();
    let points = samples.filter_map(|sample| {
        Some(Point {
            at: sample.at,
            amount: sample.cost_usd?,
        })
    });
    let mut points: Vec<Point> = points.collect();
    if let Some(amount) = attempt.agent.as_ref().and_then(|agent| agent.cost_usd) {
        // A heartbeat may have reported more, for example with the gateway's prices.
        for point in &mut points {
            point.amount = point.amount.min(amount);
        }
        if let Some(at) = end_of_agent(attempt) {
            let at = points.last().map_or(at, |last| last.at.max(at));
            points.push(Point { at, amount });
        }
    }
    make_nondecreasing(&mut points);
    let has_cost = points.last().is_some_and(|last| last.amount > 0.0);
    if has_cost { points } else { Vec::new() }
}

/// Replaces each amount that is lower than an earlier one by the highest earlier one.
fn make_nondecreasing(points: &mut [Point]) {
    let mut highest = 0.0;
    for point in points {
        highest = point.amount.max(highest);
        point.amount = highest;
    }
}

/// The tokens that the heartbeats report. Their number never becomes less.
fn tokens(attempt: &Attempt) -> Vec<Point> {
    let tokens = attempt.samples.tokens().into_iter();
    let points = tokens.map(|(at, tokens)| Point {
        at,
        amount: to_float(i64::try_from(tokens).unwrap_or(i64::MAX)),
    });
    let mut points: Vec<Point> = points.collect();
    make_nondecreasing(&mut points);
    points
}

/// When the agent of an attempt began. If that is not known, when the attempt began.
fn begin_of_agent(attempt: &Attempt) -> Option<Millis> {
    let mut stages = attempt.stages.iter();
    let agent = stages.find(|interval| interval.stage == Stage::Agent);
    agent.map(|interval| interval.from).or(attempt.started_at())
}

/// When the agent of an attempt ended. If that is not known, when the attempt ended.
fn end_of_agent(attempt: &Attempt) -> Option<Millis> {
    let mut stages = attempt.stages.iter().rev();
    let agent = stages.find(|interval| interval.stage == Stage::Agent);
    agent.map(|interval| interval.to).or(attempt.ended_at())
}

/// The outline of the area below a curve that goes up in steps. Positions are in percent of the width, amounts in
/// shares of the largest one.
fn step_path(positions: impl Iterator<Item = (f64, f64)>) -> String {
    let mut path = String::new();
    let mut last: Option<(f64, f64)> = None;
    let mut add = |(x, share): (f64, f64)| {
        let y = 100.0 - share * (100.0 - TOP_MARGIN);
        let begin = if path.is_empty() {
            format!("M{} 100", format_position(x))
        } else {
            format!("H{}", format_position(x))
        };
        path.push_str(&begin);
        path.push('V');
        path.push_str(&format_position(y));
    };
    for (x, share) in positions {
        match &mut last {
            Some((at, amount)) if x - *at < MIN_DISTANCE => *amount = share,
            _ => {
                if let Some(done) = last.replace((x, share)) {
                    add(done);
                }
            }
        }
    }
    if let Some(done) = last {
        add(done);
    }
    path + "H100V100z"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::model::{Agent, Interval};
    use crate::report::samples::Samples;
    use crate::report::stage::StageInterval;
    use crate::report::totals::Totals;
    use serde_json::json;

    /// An attempt whose agent works from second 10 to second 110.
    fn attempt(cost_usd: Option<f64>, heartbeats: &[(Millis, f64)]) -> Attempt {
        let mut samples = Samples::default();
        for (at, cost) in heartbeats {
            let usage = json!({ "input_tokens": 1_000 });
            samples.add(
                *at,
                &json!({ "phase": "agent", "cost_usd": cost, "usage": usage }),
            );
        }
        let interval = |stage, from, to| StageInterval { stage, from, to };
        Attempt {
            samples,
            stages: vec![
                interval(Stage::Prepare, 0, 10_000),
                interval(Stage::Agent, 10_000, 110_000),
                interval(Stage::Push, 110_000, 120_000),
            ],
            agent: Some(Agent {
                cost_usd,
                ..Agent::default()
            }),
            ..Attempt::default()
        }
    }

    #[test]
    fn the_cost_of_an_attempt_goes_up_in_steps_to_the_reported_cost() {
        let attempt = attempt(Some(0.4), &[(35_000, 0.1), (60_000, 0.2)]);
        let html = curve_of_attempt(&attempt).unwrap().into_string();
        assert!(
            html.contains("d=\"M25 100V76.5H50V53H100V6H100V100z\""),
            "{html}"
        );
        assert!(
            html.contains("$0.40 and 1,000 tokens in 1 min 40 s"),
            "{html}"
        );
    }

    #[test]
    fn an_attempt_without_known_costs_shows_its_tokens() {
        let mut attempt = attempt(None, &[]);
        for (at, tokens) in [(60_000, 100), (110_000, 200)] {
            let usage = json!({ "output_tokens": tokens });
            attempt
                .samples
                .add(at, &json!({ "phase": "agent", "usage": usage }));
        }
        let html = curve_of_attempt(&attempt).unwrap().into_string();
        assert!(html.contains("tokens over time: 200 tokens"), "{html}");
    }

    #[test]
    fn an_attempt_that_spent_nothing_or_had_no_heartbeat_has_no_curve() {
        assert!(curve_of_attempt(&attempt(Some(0.4), &[])).is_none());
        assert!(curve_of_attempt(&attempt(Some(0.0), &[(60_000, 0.0)])).is_none());
        assert!(curve_of_attempt(&Attempt::default()).is_none());
    }

    #[test]
    fn the_row_of_all_attempts_adds_their_costs_up() {
        let attempts = [
            attempt(Some(0.75), &[(60_000, 0.25)]),
            attempt(Some(0.25), &[]),
        ];
        let task = |attempt| crate::report::Task {
            attempts: vec![attempt],
            ..crate::report::Task::default()
        };
        let report = Report {
            tasks: attempts.map(task).to_vec(),
            ..Report::default()
        };
        let axis = Axis::of([Interval {
            from: 0,
            to: 120_000,
        }]);
        let html = cost_row(&report, &axis).unwrap().into_string();
        assert!(
            html.contains("d=\"M50 100V76.5H91.67V6H100V100z\""),
            "{html}"
        );
        assert!(html.contains("$1.00"), "{html}");
    }

    #[test]
    fn thousands_of_points_are_one_short_path() {
        let points = (0..100_000).map(|at| (f64::from(at) / 1_000.0, f64::from(at) / 100_000.0));
        assert!(step_path(points).len() < 20_000);
    }

    fn report_of(attempts: Vec<Attempt>) -> Report {
        let task = |attempt| crate::report::Task {
            attempts: vec![attempt],
            ..crate::report::Task::default()
        };
        Report {
            tasks: attempts.into_iter().map(task).collect(),
            ..Report::default()
        }
    }

    fn row_html(report: &Report) -> Option<String> {
        let axis = Axis::of([Interval {
            from: 0,
            to: 120_000,
        }]);
        cost_row(report, &axis).map(maud::PreEscaped::into_string)
    }

    #[test]
    fn a_page_has_one_cost_even_if_heartbeats_report_more_than_the_terminal_event() {
        let attempt = attempt(Some(0.4), &[(35_000, 0.1), (60_000, 0.9)]);
        let curve = curve_of_attempt(&attempt).unwrap().into_string();
        assert!(curve.contains("$0.40 and"), "{curve}");
        let report = report_of(vec![attempt]);
        let row = row_html(&report).unwrap();
        assert!(row.contains("$0.40"), "{row}");
        assert_eq!(dollars(Totals::of(&report).cost_usd), "$0.40");
    }

    #[test]
    fn a_running_attempt_counts_with_its_heartbeats_and_one_without_times_with_its_cost() {
        let mut running = attempt(None, &[(35_000, 0.1), (60_000, 0.5)]);
        running.agent = None;
        let mut without_times = attempt(Some(0.25), &[]);
        without_times.stages.clear();
        let report = report_of(vec![running, without_times]);
        let row = row_html(&report).unwrap();
        assert!(row.contains("$0.75"), "{row}");
        assert_eq!(dollars(Totals::of(&report).cost_usd), "$0.75");
    }

    #[test]
    fn a_curve_of_tokens_never_goes_down() {
        let mut attempt = attempt(None, &[]);
        for (at, tokens) in [(30_000, 100), (60_000, 400), (110_000, 200)] {
            let usage = json!({ "output_tokens": tokens });
            attempt
                .samples
                .add(at, &json!({ "phase": "agent", "usage": usage }));
        }
        let html = curve_of_attempt(&attempt).unwrap().into_string();
        assert!(
            html.contains("d=\"M20 100V76.5H50V6H100V6H100V100z\""),
            "{html}"
        );
        assert!(html.contains("tokens over time: 400 tokens"), "{html}");
    }

    #[test]
    fn impossible_costs_do_not_count() {
        for cost in [f64::MAX, 1e300, 2e9, -1.0] {
            let mut impossible = attempt(None, &[(35_000, cost), (60_000, cost)]);
            let event = json!({ "result": { "agent": { "kind": "builtin", "cost_usd": cost } } });
            let cleaner = crate::report::Cleaner::new(&crate::redact::Redactor::new(&[]));
            let limits = crate::report::TextLimits::of(2, 2);
            crate::report::add_terminal_event(&mut impossible, &event, &cleaner, limits);
            assert!(
                curve_of_attempt(&impossible)
                    .is_none_or(|html| html.into_string().contains("tokens over time"))
            );
            let report = report_of(vec![impossible.clone(), impossible]);
            assert_eq!(row_html(&report), None, "{cost}");
            assert!(Totals::of(&report).cost_usd <= 0.0, "{cost}");
        }
    }

    #[test]
    fn a_row_without_a_finite_total_is_left_out() {
        let one = attempt(Some(f64::MAX), &[]);
        assert_eq!(row_html(&report_of(vec![one.clone(), one])), None);
    }
}
