//! Times and durations for readers, and the stages of a run.

use jiff::Timestamp;
use serde_json::Value;

use super::samples::Samples;
use super::stage::{Stage, StageInterval};
use crate::clock::Millis;

/// A duration with at most two units: `3 min 05 s`.
pub fn duration(millis: Millis) -> String {
    let millis = millis.max(0);
    let seconds = millis / 1000;
    match seconds {
        _ if millis < 1000 => format!("{millis} ms"),
        1..=9 if millis % 1000 < 100 => format!("{seconds} s"),
        0..=9 => format!("{}.{} s", seconds, millis % 1000 / 100),
        10..=59 => format!("{seconds} s"),
        60..=3599 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600..=86_399 => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {:02} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A point in time in UTC, to the second.
pub fn date(millis: Millis) -> String {
    match Timestamp::from_millisecond(millis) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => String::new(),
    }
}

/// A point in time for the attribute `datetime` of HTML.
pub fn html_datetime(millis: Millis) -> String {
    Timestamp::from_millisecond(millis).map_or_else(|_| String::new(), |time| format!("{time:.3}"))
}

/// The known times of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunTimes {
    /// When the start of the run was requested.
    pub requested_at: Millis,
    /// When the engine confirmed the start.
    pub started_at: Option<Millis>,
    /// When the claim of the worker was granted.
    pub granted_at: Option<Millis>,
    /// When the worker reported the end, or the run was fenced.
    pub ended_at: Option<Millis>,
    /// Whether the work of the run is merged, or will be.
    pub is_merging: bool,
    /// When the work of the run was merged or rejected.
    pub settled_at: Option<Millis>,
    pub now: Millis,
}

/// The stages of a run, without gaps. The phases come from the terminal event, else from the heartbeats.
pub fn stages_of(times: &RunTimes, event: Option<&Value>, samples: &Samples) -> Vec<StageInterval> {
    let end = times.ended_at.unwrap_or(times.now);
    let started = times.started_at.or(times.granted_at).unwrap_or(end);
    let mut starts = vec![(Stage::Start, times.requested_at), (Stage::Claim, started)];
    if let Some(granted) = times.granted_at {
        let phases = phases(event, granted);
        if phases.is_empty() {
            starts.push((Stage::Unknown, granted));
            starts.extend(samples.iter().map(|sample| (sample.stage, sample.at)));
        } else {
            starts.extend(
                phases
                    .into_iter()
                    .map(|(stage, from)| (stage, from.min(end))),
            );
        }
    }
    let end_of_last = match (times.is_merging, times.settled_at) {
        (true, settled) => {
            starts.push((Stage::Merge, end));
            settled.unwrap_or(times.now)
        }
        (false, _) => end,
    };
    intervals_of(&starts, end_of_last)
}

/// The phases in a terminal event (`result.phases`), with points in time.
fn phases(event: Option<&Value>, granted: Millis) -> Vec<(Stage, Millis)> {
    let phases = event.and_then(|event| event.pointer("/result/phases")?.as_array());
    let phases = phases.into_iter().flatten().filter_map(|phase| {
        let word = phase.get("phase")?.as_str()?;
        let after = i64::try_from(phase.get("start_ms")?.as_u64()?).ok()?;
        Some((Stage::of_phase(word), granted.saturating_add(after)))
    });
    phases.collect()
}

/// The stages between their starts: each one lasts until the next one begins, and the last one until `end`. The clock
/// of the worker may differ from that of this machine, so a stage that begins before the previous one ended is moved.
fn intervals_of(starts: &[(Stage, Millis)], end: Millis) -> Vec<StageInterval> {
    let mut stages: Vec<StageInterval> = Vec::new();
    let mut earliest = Millis::MIN;
    for (position, (stage, from)) in starts.iter().enumerate() {
        let from = (*from).max(earliest).min(end);
        let next = starts.get(position + 1).map_or(end, |(_, next)| *next);
        let to = next.max(from).min(end);
        earliest = to;
        match stages.last_mut() {
            Some(previous) if previous.stage == *stage => previous.to = to,
            _ if to > from => stages.push(StageInterval {
                stage: *stage,
                from,
                to,
            }),
            _ => {}
        }
    }
    if let (true, Some((stage, from))) = (stages.is_empty(), starts.first()) {
        // A run that took no time is shown anyway.
        stages.push(StageInterval {
            stage: *stage,
            from: *from,
            to: *from,
        });
    }
    stages
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn times() -> RunTimes {
        RunTimes {
            requested_at: 1_000,
            started_at: Some(1_200),
            granted_at: Some(1_500),
            ended_at: Some(9_000),
            is_merging: true,
            settled_at: Some(9_700),
            now: 20_000,
        }
    }

    fn words(stages: &[StageInterval]) -> Vec<(&'static str, Millis, Millis)> {
        stages
            .iter()
            .map(|interval| (interval.stage.word(), interval.from, interval.to))
            .collect()
    }

    #[test]
    fn the_stages_of_a_run_follow_each_other_without_gaps() {
        let event = json!({ "result": { "phases": [
            { "phase": "preparing", "start_ms": 0 },
            { "phase": "agent", "start_ms": 500 },
            { "phase": "checks", "start_ms": 5_500 },
            { "phase": "agent", "start_ms": 6_000 },
            { "phase": "hand_over", "start_ms": 7_000 },
        ] } });
        assert_eq!(
            words(&stages_of(&times(), Some(&event), &Samples::default())),
            [
                ("start", 1_000, 1_200),
                ("claim", 1_200, 1_500),
                ("prepare", 1_500, 2_000),
                ("agent", 2_000, 7_000),
                ("checks", 7_000, 7_500),
                ("agent", 7_500, 8_500),
                ("push", 8_500, 9_000),
                ("merge", 9_000, 9_700),
            ]
        );
    }

    #[test]
    fn a_lost_run_has_the_phases_of_its_heartbeats() {
        let mut samples = Samples::default();
        for (at, phase) in [(2_000, "preparing"), (3_000, "agent"), (4_000, "agent")] {
            samples.add(at, &json!({ "phase": phase }));
        }
        let times = RunTimes {
            is_merging: false,
            settled_at: None,
            ..times()
        };
        assert_eq!(
            words(&stages_of(&times, None, &samples)),
            [
                ("start", 1_000, 1_200),
                ("claim", 1_200, 1_500),
                ("unknown", 1_500, 2_000),
                ("prepare", 2_000, 3_000),
                ("agent", 3_000, 9_000),
            ]
        );
    }

    #[test]
    fn phases_after_the_end_of_the_run_are_cut_off() {
        let event = json!({ "result": { "phases": [
            { "phase": "preparing", "start_ms": 0 },
            { "phase": "agent", "start_ms": 90_000_000 },
        ] } });
        let stages = stages_of(&times(), Some(&event), &Samples::default());
        assert_eq!(
            words(&stages)[2..],
            [("prepare", 1_500, 9_000), ("merge", 9_000, 9_700)]
        );
    }

    #[test]
    fn a_run_that_was_not_started_has_one_stage() {
        let times = RunTimes {
            requested_at: 5,
            ended_at: Some(5),
            ..RunTimes::default()
        };
        let stages = stages_of(&times, None, &Samples::default());
        assert_eq!(words(&stages), [("start", 5, 5)]);
    }

    #[test]
    fn durations_have_at_most_two_units() {
        let texts = [5, 1_250, 12_000, 65_000, 3_700_000, 100_000_000].map(duration);
        let expected = [
            "5 ms",
            "1.2 s",
            "12 s",
            "1 min 05 s",
            "1 h 01 min",
            "1 d 03 h",
        ];
        assert_eq!(texts, expected);
    }
}
