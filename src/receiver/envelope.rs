//! Checks the fields that every event has. Other fields are not checked: a newer worker may have more.

use serde_json::Value;

use super::route::Route;

/// The problems with the fields that every event has, each as one clause.
pub fn problems(route: Route, event: &Value) -> Vec<String> {
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
    let expected = [
        ("status", route.status()),
        ("event", &format!("task.{route}")),
    ];
    for (field, expected) in expected {
        if event.get(field).and_then(Value::as_str) != Some(expected) {
            problems.push(format!(
                "{field} is {}, not {expected:?}",
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
