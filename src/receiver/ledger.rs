//! What workers have said so far, and whether they may say what they say next.
//!
//! Verifies order and envelope as docs/protocol.md has them. Reads loosely what it does not verify:
//! a newer worker may say more.

use std::collections::HashMap;

use hyper::StatusCode;
use serde_json::Value;

/// One event that was heard.
#[derive(Debug, Clone)]
pub struct Received {
    /// The event as it came.
    pub event: Value,
    /// What is wrong with it; nothing, usually.
    pub problems: Vec<String>,
    /// It came before: a retry.
    pub repeated: bool,
}

impl Received {
    /// A text field, by its JSON pointer; empty where there is none.
    pub fn text(&self, pointer: &str) -> &str {
        self.event
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    pub fn number(&self, pointer: &str) -> Option<u64> {
        self.event.pointer(pointer).and_then(Value::as_u64)
    }
}

/// What is known of one run.
#[derive(Debug, Default)]
struct Run {
    task: (String, String),
    last_sequence: Option<u64>,
    seen: Vec<String>,
    /// The id of the terminal event, once there was one.
    ended: Option<String>,
}

#[derive(Debug, Default)]
pub struct Ledger {
    runs: HashMap<String, Run>,
}

type Reply = (StatusCode, String);

impl Ledger {
    /// Takes one request; gives the answer, and what there is to show for it.
    pub fn hear(&mut self, route: &str, body: &[u8]) -> (Reply, Option<Received>) {
        let event: Value = match serde_json::from_slice(body) {
            Ok(event) => event,
            Err(error) => return (bad(format!("the body is not JSON: {error}")), None),
        };
        if !matches!(route, "started" | "progress" | "completed" | "failed") {
            return (
                (
                    StatusCode::NOT_FOUND,
                    format!("there is no route {route:?}"),
                ),
                None,
            );
        }
        let mut heard = Received {
            problems: envelope(route, &event),
            event,
            repeated: false,
        };
        if heard.text("/run_id").is_empty() || heard.text("/event_id").is_empty() {
            let reply = bad(heard.problems.join("; "));
            return (reply, Some(heard));
        }
        let reply = self.place(route, &mut heard);
        (reply, Some(heard))
    }

    /// Puts an event into its run's story.
    fn place(&mut self, route: &str, heard: &mut Received) -> Reply {
        let task = (
            heard.text("/project_id").to_owned(),
            heard.text("/task_id").to_owned(),
        );
        let run_id = heard.text("/run_id").to_owned();
        let event_id = heard.text("/event_id").to_owned();
        let working = |run: &Run| run.task == task && run.ended.is_none();
        let other = self
            .runs
            .iter()
            .find(|(id, run)| **id != run_id && working(run));
        if let (Some((other, _)), "started") = (other, route) {
            return (
                StatusCode::CONFLICT,
                format!("run {other} is working on this task"),
            );
        }
        let first = !self.runs.contains_key(&run_id);
        let run = self.runs.entry(run_id).or_insert_with(|| Run {
            task,
            ..Run::default()
        });
        if run.seen.contains(&event_id) {
            heard.repeated = true;
            return (StatusCode::OK, "heard before".to_owned());
        }
        if first != (route == "started") {
            heard
                .problems
                .push("a run begins with one started event".to_owned());
        }
        if let Some(ended) = &run.ended {
            heard
                .problems
                .push(format!("the run ended already, with event {ended}"));
            return (StatusCode::CONFLICT, "the run ended already".to_owned());
        }
        let sequence = heard.number("/sequence");
        if sequence.is_none() || sequence <= run.last_sequence && run.last_sequence.is_some() {
            heard.problems.push(format!(
                "sequence {sequence:?} follows {:?}",
                run.last_sequence
            ));
        }
        run.last_sequence = sequence.or(run.last_sequence);
        if matches!(route, "completed" | "failed") {
            run.ended = Some(event_id.clone());
        }
        run.seen.push(event_id);
        (StatusCode::OK, "ok".to_owned())
    }
}

fn bad(what: String) -> Reply {
    (StatusCode::BAD_REQUEST, what)
}

/// What is wrong with the fields that every event has.
fn envelope(route: &str, event: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    for field in [
        "task_id",
        "project_id",
        "message",
        "event_id",
        "run_id",
        "timestamp",
    ] {
        if event
            .get(field)
            .and_then(Value::as_str)
            .is_none_or(str::is_empty)
        {
            problems.push(format!("{field} is missing"));
        }
    }
    let status = if route == "progress" {
        "running"
    } else {
        route
    };
    for (field, right) in [("status", status), ("event", &format!("task.{route}"))] {
        if event.get(field).and_then(Value::as_str) != Some(right) {
            problems.push(format!(
                "{field} is {}, not {right:?}",
                event.get(field).unwrap_or(&Value::Null)
            ));
        }
    }
    if event.get("version") != Some(&Value::from(1)) {
        problems.push(format!(
            "version is {}, not 1",
            event.get("version").unwrap_or(&Value::Null)
        ));
    }
    problems
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn say(ledger: &mut Ledger, run: &str, sequence: u64, route: &str) -> (u16, Vec<String>) {
        let event = json!({
            "task_id": "8", "project_id": "p", "message": "m", "version": 1, "run_id": run,
            "status": if route == "progress" { "running" } else { route },
            "event": format!("task.{route}"), "event_id": format!("{run}.{sequence}"),
            "sequence": sequence, "timestamp": "2026-11-23T08:00:00.000Z",
        });
        let ((status, _), heard) = ledger.hear(route, event.to_string().as_bytes());
        (
            status.as_u16(),
            heard.map(|heard| heard.problems).unwrap_or_default(),
        )
    }

    #[test]
    fn a_run_from_claim_to_report_is_in_order() {
        let mut ledger = Ledger::default();
        for (sequence, route) in ["started", "progress", "completed"].into_iter().enumerate() {
            assert_eq!(say(&mut ledger, "a", sequence as u64, route), (200, vec![]));
        }
        assert_eq!(
            say(&mut ledger, "a", 2, "completed"),
            (200, vec![]),
            "a retry is no problem"
        );
        let (status, problems) = say(&mut ledger, "a", 3, "failed");
        assert_eq!(status, 409);
        assert_eq!(problems, ["the run ended already, with event a.2"]);
    }

    #[test]
    fn a_task_that_is_being_worked_on_is_refused_to_others() {
        let mut ledger = Ledger::default();
        assert_eq!(say(&mut ledger, "a", 0, "started").0, 200);
        assert_eq!(say(&mut ledger, "b", 0, "started").0, 409);
        assert_eq!(say(&mut ledger, "a", 1, "failed").0, 200);
        assert_eq!(say(&mut ledger, "b", 0, "started").0, 200);
    }

    #[test]
    fn what_is_wrong_with_an_event_is_named() {
        let mut ledger = Ledger::default();
        assert_eq!(
            say(&mut ledger, "a", 4, "progress").1,
            ["a run begins with one started event"]
        );
        assert_eq!(
            say(&mut ledger, "a", 2, "progress").1,
            ["sequence Some(2) follows Some(4)"]
        );
        let ((status, words), heard) = ledger.hear("completed", b"{}");
        assert_eq!((status.as_u16(), heard.is_some()), (400, true));
        assert!(
            words.starts_with("task_id is missing; project_id is missing"),
            "{words}"
        );
        assert_eq!(ledger.hear("started", b"nonsense").0.0.as_u16(), 400);
        assert_eq!(ledger.hear("sideways", b"{}").0.0.as_u16(), 404);
    }
}
