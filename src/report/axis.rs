//! The time axis of the charts.

use super::model::Interval;
use super::time::duration;
use crate::clock::Millis;

/// A pause in which nothing ran is drawn shorter if it is longer than this share of the whole time.
const LONG_PAUSE: f64 = 0.08;
/// Pauses of up to this length are never drawn shorter, in milliseconds.
const MIN_LONG_PAUSE: Millis = 2_000;
/// The width of a long pause, as a share of the chart.
const PAUSE_WIDTH: f64 = 0.03;
/// The maximum number of pauses that are drawn shorter.
const MAX_PAUSES: usize = 12;
/// The possible distances between ticks, in milliseconds.
const TICK_STEPS: [Millis; 26] = [
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000,
    120_000, 300_000, 600_000, 900_000, 1_800_000, 3_600_000, 7_200_000, 21_600_000, 43_200_000,
    86_400_000,
];
/// The maximum number of steps between ticks.
const MAX_TICKS: i64 = 6;
/// The minimum distance between two ticks, in percent of the chart, so that their texts do not touch.
const MIN_TICK_DISTANCE: f64 = 11.0;
/// Further right, the text of a tick would not fit. In percent of the chart.
const MAX_TICK_POSITION: f64 = 91.0;

/// Maps times to positions in percent. Long pauses in which nothing ran are drawn shorter.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// The parts of the time, in order.
    parts: Vec<Part>,
}

/// A part of the time. `left` and `right` are the edges of its drawing, as shares of the whole width.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    pub time: Interval,
    pub left: f64,
    pub right: f64,
    is_pause: bool,
}

impl Axis {
    /// The axis for a chart with these runs. Overlapping runs are joined first, then the gaps between them are
    /// measured.
    pub fn of(intervals: impl IntoIterator<Item = Interval>) -> Self {
        let busy = join_overlapping(intervals.into_iter().collect());
        let sum: Millis = busy.iter().map(|part| (part.to - part.from).max(1)).sum();
        let mut gaps: Vec<Millis> = busy
            .windows(2)
            .map(|pair| pair[1].from - pair[0].to)
            .collect();
        gaps.sort_unstable_by(|a, b| b.cmp(a));
        // Every row shows every pause, so only the longest pauses are drawn shorter.
        let longest_unshortened = gaps.get(MAX_PAUSES).copied().unwrap_or_default();
        let longest_short_pause = MIN_LONG_PAUSE
            .max(round_to_millis(to_float(sum) * LONG_PAUSE))
            .max(longest_unshortened);
        // Short pauses belong to the part before them.
        let mut parts: Vec<(Interval, bool)> = Vec::new();
        for next in busy {
            match parts.last_mut() {
                None => parts.push((next, false)),
                Some((last, _)) if next.from - last.to <= longest_short_pause => last.to = next.to,
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
        let pause_width = PAUSE_WIDTH.min(0.3 / to_float(pauses.max(1)));
        let width_of_runs = 1.0 - pause_width * to_float(pauses);
        let lengths = parts.iter().filter(|(_, is_pause)| !is_pause);
        let total_length: Millis = lengths.map(|(part, _)| (part.to - part.from).max(1)).sum();
        let mut left = 0.0;
        let parts = parts.into_iter().map(|(time, is_pause)| {
            let width = if is_pause {
                pause_width
            } else {
                to_float((time.to - time.from).max(1)) / to_float(total_length) * width_of_runs
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
    pub fn position(&self, time: Millis) -> f64 {
        let part = self.parts.iter().find(|part| time <= part.time.to);
        let Some(part) = part.or(self.parts.last()) else {
            return 0.0;
        };
        let length = to_float((part.time.to - part.time.from).max(1));
        let share = (to_float(time - part.time.from) / length).clamp(0.0, 1.0);
        (part.left + share * (part.right - part.left)) * 100.0
    }

    /// The time at the left edge.
    pub fn begin(&self) -> Millis {
        self.parts.first().map_or(0, |part| part.time.from)
    }

    /// The ticks: positions, and the time since the beginning.
    pub fn ticks(&self) -> Vec<(f64, String)> {
        let runs = self.parts.iter().filter(|part| !part.is_pause);
        let length: Millis = runs.clone().map(|part| part.time.to - part.time.from).sum();
        let step = TICK_STEPS
            .iter()
            .copied()
            .find(|step| length / step <= MAX_TICKS);
        let step = step.unwrap_or_else(|| (length / MAX_TICKS).max(1));
        let begin = self.begin();
        let mut ticks: Vec<(f64, String)> = Vec::new();
        for part in runs {
            let first = (part.time.from - begin + step - 1) / step;
            for number in first..=(part.time.to - begin) / step {
                let time = number * step;
                let at = self.position(begin + time);
                if ticks
                    .last()
                    .is_none_or(|(last, _)| at - last > MIN_TICK_DISTANCE)
                    && at < MAX_TICK_POSITION
                {
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

    /// The pauses that are drawn shorter.
    pub fn pauses(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(|part| part.is_pause)
    }
}

/// Joins overlapping intervals, and sorts them.
fn join_overlapping(mut intervals: Vec<Interval>) -> Vec<Interval> {
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

/// A position with at most two digits after the point.
pub fn format_position(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "positions in a drawing need no more than 52 bits"
)]
pub fn to_float(number: impl TryInto<i64>) -> f64 {
    number.try_into().unwrap_or(i64::MAX) as f64
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a part of a number of milliseconds"
)]
fn round_to_millis(number: f64) -> Millis {
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
        let found = [1_000, 2_000, 3_000, 5_000].map(|time| axis.position(time).round());
        assert_eq!(found.map(|at| at.to_string()), ["0", "25", "50", "100"]);
    }

    #[test]
    fn a_night_without_a_dispatcher_takes_little_room() {
        let night = 12 * 3_600_000;
        let axis = Axis::of([interval(0, 60_000), interval(night, night + 60_000)]);
        let width = axis.position(night) - axis.position(60_000);
        assert!((width - PAUSE_WIDTH * 100.0).abs() < 0.01, "{axis:?}");
        assert!((axis.position(60_000) - 48.5).abs() < 0.01, "{axis:?}");
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
                ticks
                    .windows(2)
                    .all(|pair| pair[1].0 - pair[0].0 > MIN_TICK_DISTANCE),
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
        assert!(axis.position(7).abs() < f64::EPSILON && axis.ticks().is_empty());
    }
}
