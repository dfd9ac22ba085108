//! A sample of the heartbeats of one run, so that they need little memory.

use serde_json::Value;

use super::stage::Stage;
use super::text::Cleaner;
use crate::amounts::possible_cost;
use crate::clock::Millis;
use crate::excerpt::first_chars;

/// The maximum number of heartbeats that are stored.
const MAX_HEARTBEATS: usize = 48;
/// The maximum length of an activity, in characters. A secret in it must still be found when the page is made, so this
/// is more than a page shows.
const MAX_ACTIVITY: usize = 480;

/// The maximum length of an activity on a page, in characters.
const MAX_SHOWN_ACTIVITY: usize = 160;

/// The data of one heartbeat.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub at: Millis,
    pub stage: Stage,
    pub turns: Option<u64>,
    pub tokens: Option<u64>,
    pub cost_usd: Option<f64>,
    /// The activity of the agent; `None` if it is the same as in the heartbeat before.
    pub activity: Option<String>,
}

/// Heartbeats of one run in the order of their arrival.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples {
    list: Vec<Sample>,
    last_activity: Option<String>,
}

impl Samples {
    /// Adds the field `progress` of a heartbeat.
    pub fn add(&mut self, at: Millis, progress: &Value) {
        let text = |name: &str| progress.get(name).and_then(Value::as_str);
        let activity = text("activity").map(|activity| first_chars(activity, MAX_ACTIVITY));
        let has_changed = activity != self.last_activity;
        if has_changed {
            self.last_activity.clone_from(&activity);
        }
        let usage = progress.get("usage").and_then(Value::as_object);
        let tokens = usage.map(|usage| {
            let counts = usage.values().filter_map(Value::as_u64);
            counts.fold(0, u64::saturating_add)
        });
        if self.list.len() == MAX_HEARTBEATS {
            // Every second heartbeat is dropped; the first and the last one stay.
            let mut position = 0;
            self.list.retain(|_| {
                position += 1;
                position % 2 == 1 || position == MAX_HEARTBEATS
            });
        }
        self.list.push(Sample {
            at,
            stage: Stage::of_phase(text("phase").unwrap_or_default()),
            turns: progress.get("turns").and_then(Value::as_u64),
            tokens,
            cost_usd: cost(progress),
            activity: activity.filter(|_| has_changed),
        });
    }

    /// These samples, with activities that a page can show.
    pub fn cleaned(&self, cleaner: &Cleaner) -> Self {
        let mut samples = self.clone();
        for sample in &mut samples.list {
            let activity = sample.activity.as_deref().map(|text| cleaner.line(text));
            sample.activity = activity.map(|text| first_chars(text.as_str(), MAX_SHOWN_ACTIVITY));
        }
        samples
    }

    pub fn iter(&self) -> impl Iterator<Item = &Sample> {
        self.list.iter()
    }

    /// The tokens that were used until each heartbeat that reports tokens.
    pub fn tokens(&self) -> Vec<(Millis, u64)> {
        let list = self.list.iter();
        list.filter_map(|sample| Some((sample.at, sample.tokens?)))
            .collect()
    }
}

/// The field `cost_usd` of a heartbeat or of the agent in a terminal event.
pub fn cost(object: &Value) -> Option<f64> {
    let cost = object.get("cost_usd").and_then(Value::as_f64);
    cost.and_then(possible_cost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn of_many_heartbeats_the_first_the_last_and_some_between_are_stored() {
        let mut samples = Samples::default();
        for at in 0..10_000 {
            samples.add(
                at,
                &json!({ "phase": "agent", "usage": { "input_tokens": at } }),
            );
        }
        let tokens = samples.tokens();
        assert!(
            tokens.len() <= MAX_HEARTBEATS && tokens.len() >= MAX_HEARTBEATS / 2,
            "{tokens:?}"
        );
        assert_eq!(tokens.first(), Some(&(0, 0)));
        assert_eq!(tokens.last(), Some(&(9_999, 9_999)));
        assert!(tokens.is_sorted());
    }

    #[test]
    fn an_activity_is_masked_before_it_is_cut() {
        let secret = "0123456789abcdef".repeat(4);
        let redactor = crate::redact::Redactor::new(&[secrecy::SecretString::from(secret.clone())]);
        let mut samples = Samples::default();
        let activity = format!("{} {secret}\u{1b}[31m", "x".repeat(130));
        samples.add(1, &json!({ "phase": "agent", "activity": activity }));
        let cleaned = samples.cleaned(&Cleaner::new(&redactor));
        let shown = cleaned.iter().next().unwrap().activity.clone().unwrap();
        assert!(
            !shown.contains("0123") && !shown.contains('\u{1b}'),
            "{shown}"
        );
    }

    #[test]
    fn token_counts_that_overflow_are_the_largest_number() {
        let mut samples = Samples::default();
        let usage = json!({ "input_tokens": u64::MAX, "output_tokens": u64::MAX });
        samples.add(1, &json!({ "phase": "agent", "usage": usage }));
        assert_eq!(samples.tokens(), [(1, u64::MAX)]);
    }

    #[test]
    fn an_activity_is_stored_once_until_it_changes() {
        let mut samples = Samples::default();
        for activity in ["a", "a", "b"] {
            samples.add(1, &json!({ "phase": "agent", "activity": activity }));
        }
        let found: Vec<_> = samples
            .iter()
            .map(|sample| sample.activity.clone())
            .collect();
        assert_eq!(found, [Some("a".to_owned()), None, Some("b".to_owned())]);
    }
}
