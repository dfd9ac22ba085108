//! Reads the API's description of a machine.

use serde_json::Value;

/// The key of the dispatch's id in a machine's metadata. Requests for lists filter by it.
pub const DISPATCH_KEY: &str = "descartes_dispatch";
/// The key of the task's id in a machine's metadata.
pub const TASK_KEY: &str = "descartes_task";
/// The key of the run's id in a machine's metadata.
pub const RUN_KEY: &str = "descartes_run";

/// The API's description of a machine.
#[derive(Debug, Clone, Copy)]
pub struct Machine<'a>(pub &'a Value);

/// How the main process of a machine has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// `None` if the API does not report an exit code.
    pub code: Option<i32>,
    /// Whether the process was killed because the machine ran out of memory.
    pub is_out_of_memory: bool,
}

impl<'a> Machine<'a> {
    /// `None` if the id is missing or contains unexpected characters.
    pub fn id(self) -> Option<&'a str> {
        let id = self.0.get("id")?.as_str()?;
        // The id becomes a part of a URL path, so it must not contain a slash, for example.
        let is_plain = id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        (is_plain && !id.is_empty()).then_some(id)
    }

    /// The API's word for the state, such as `started`.
    pub fn state(self) -> &'a str {
        self.text("/state")
    }

    /// A value of the metadata.
    pub fn metadata(self, key: &str) -> Option<&'a str> {
        let names = ["config", "incomplete_config"];
        let mut configs = names.iter().filter_map(|name| self.0.get(name));
        configs.find_map(|config| config.get("metadata")?.get(key)?.as_str())
    }

    /// The digest of the image, such as `sha256:…`.
    pub fn image_digest(self) -> Option<&'a str> {
        let digest = self.text("/image_ref/digest");
        digest.starts_with("sha256:").then_some(digest)
    }

    /// Whether the machine is destroyed, so that it cannot start any more.
    pub fn is_destroyed(self) -> bool {
        self.state() == "destroyed"
    }

    /// Whether the machine's main process has ended, or can never start.
    pub fn has_ended(self) -> bool {
        // If Fly cannot reach the machine's host, the state may be outdated.
        let host_status = self.0.get("host_status").and_then(Value::as_str);
        let is_current = host_status.is_none_or(|status| status == "ok");
        self.is_destroyed() || is_current && matches!(self.state(), "stopped" | "failed")
    }

    /// Whether the machine is destroyed and its events say that its process has never started. `false` without events.
    pub fn never_started(self) -> bool {
        let events = self.0.get("events").and_then(Value::as_array);
        let shows_start = |event: &Value| {
            let kind = event.get("type").and_then(Value::as_str);
            matches!(kind, Some("start" | "exit"))
        };
        self.is_destroyed()
            && events.is_some_and(|events| !events.is_empty() && !events.iter().any(shows_start))
    }

    /// How the machine's process has ended last, according to the newest exit event; `None` if there is none.
    pub fn exit(self) -> Option<Exit> {
        let events = self.0.get("events")?.as_array()?;
        let exits = events
            .iter()
            .filter(|event| event.get("type").is_some_and(|kind| kind == "exit"));
        let time = |event: &&Value| event.get("timestamp").and_then(Value::as_i64);
        // The API lists the newest event first. Of events with equal times, `max_by_key` returns the last one, so the
        // order is reversed.
        let newest = exits.rev().max_by_key(time)?;
        let pointers = ["/request/MonitorEvent/exit_event", "/request/exit_event"];
        let exit = pointers.iter().find_map(|pointer| newest.pointer(pointer));
        let exit = exit.filter(|exit| exit.is_object());
        let code = exit.and_then(|exit| exit.get("exit_code")?.as_i64());
        let oom = exit.and_then(|exit| exit.get("oom_killed")?.as_bool());
        Some(Exit {
            code: code.and_then(|code| i32::try_from(code).ok()),
            is_out_of_memory: oom == Some(true),
        })
    }

    pub fn memory_mib(self) -> Option<u64> {
        self.0.pointer("/config/guest/memory_mb")?.as_u64()
    }

    /// The string at a JSON pointer, or the empty string.
    fn text(self, pointer: &str) -> &'a str {
        let value = self.0.pointer(pointer);
        value.and_then(Value::as_str).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn exit_of(events: &Value) -> Option<Exit> {
        Machine(&json!({ "events": events })).exit()
    }

    #[test]
    fn the_exit_is_that_of_the_newest_event_and_its_monitor_event_is_preferred() {
        let old =
            json!({"type": "exit", "timestamp": 1, "request": {"exit_event": {"exit_code": 1}}});
        let both = json!({"type": "exit", "timestamp": 5, "request": {
            "exit_event": {"exit_code": 2},
            "MonitorEvent": {"exit_event": {"exit_code": 137, "oom_killed": true}},
        }});
        let start = json!({"type": "start", "timestamp": 9});
        let expected = Some(Exit {
            code: Some(137),
            is_out_of_memory: true,
        });
        assert_eq!(exit_of(&json!([start, both, old])), expected);
        assert_eq!(exit_of(&json!([old, both, start])), expected);
    }

    #[test]
    fn an_exit_event_without_a_request_has_no_exit_code_and_other_events_do_not_count() {
        let unknown = Some(Exit {
            code: None,
            is_out_of_memory: false,
        });
        for request in [Value::Null, json!({}), json!({"exit_event": null})] {
            let event = json!([{"type": "exit", "timestamp": 1, "request": request}]);
            assert_eq!(exit_of(&event), unknown);
        }
        assert_eq!(exit_of(&json!([{"type": "start"}])), None);
        assert_eq!(exit_of(&Value::Null), None);
    }

    #[test]
    fn a_machine_on_an_unreachable_host_has_ended_only_if_it_is_destroyed() {
        let machine = |state: &str, host: &str| json!({"state": state, "host_status": host});
        assert!(Machine(&machine("stopped", "ok")).has_ended());
        assert!(Machine(&json!({"state": "failed"})).has_ended());
        assert!(!Machine(&machine("stopped", "unreachable")).has_ended());
        assert!(Machine(&machine("destroyed", "unreachable")).has_ended());
        assert!(!Machine(&machine("destroying", "ok")).has_ended());
        assert!(!Machine(&machine("created", "ok")).has_ended());
    }

    #[test]
    fn a_destroyed_machine_has_never_started_only_if_its_events_say_so() {
        let never_started = |state: &str, events: Value| {
            Machine(&json!({"state": state, "events": events})).never_started()
        };
        let launch = json!({"type": "launch"});
        assert!(never_started("destroyed", json!([launch])));
        assert!(!never_started("created", json!([launch])));
        for kind in ["start", "exit"] {
            assert!(!never_started("destroyed", json!([{"type": kind}, launch])));
        }
        assert!(!never_started("destroyed", json!([])));
        assert!(!never_started("destroyed", Value::Null));
    }
}
