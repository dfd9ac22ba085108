//! Reads the API's description of a machine.

use serde_json::Value;

/// The key of the metadata with the dispatch's id, by which all machines of the dispatch are found.
pub const DISPATCH: &str = "descartes_dispatch";
/// The key of the metadata with the task's id.
pub const TASK: &str = "descartes_task";
/// The key of the metadata with the run's id.
pub const RUN: &str = "descartes_run";

/// A machine as the API has described it.
#[derive(Debug, Clone, Copy)]
pub struct Machine<'a>(pub &'a Value);

/// How the main process of a machine has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// `None` if the API does not report an exit code.
    pub code: Option<i32>,
    pub is_out_of_memory: bool,
}

impl<'a> Machine<'a> {
    pub fn id(self) -> Option<&'a str> {
        let id = self.0.get("id")?.as_str()?;
        // The id becomes a part of a path.
        let is_plain = id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        (is_plain && !id.is_empty()).then_some(id)
    }

    pub fn state(self) -> &'a str {
        self.text("/state")
    }

    /// A value of the metadata.
    pub fn metadata(self, key: &str) -> Option<&'a str> {
        let config = ["config", "incomplete_config"];
        let mut configs = config.iter().filter_map(|name| self.0.get(name));
        configs.find_map(|config| config.get("metadata")?.get(key)?.as_str())
    }

    /// The digest of the image, such as `sha256:…`.
    pub fn image_digest(self) -> Option<&'a str> {
        let digest = self.text("/image_ref/digest");
        digest.starts_with("sha256:").then_some(digest)
    }

    /// Whether the machine is destroyed, so that it certainly cannot start any more.
    pub fn is_destroyed(self) -> bool {
        self.state() == "destroyed"
    }

    /// Whether the machine's process has ended, or can never begin.
    pub fn is_over(self) -> bool {
        // If the host cannot be reached, the state may be old.
        let is_known = self.0.get("host_status").and_then(Value::as_str);
        let is_known = is_known.is_none_or(|status| status == "ok");
        self.is_destroyed() || is_known && matches!(self.state(), "stopped" | "failed")
    }

    /// Whether the machine is destroyed and its process has never begun, according to the events that the API lists.
    pub fn never_started(self) -> bool {
        let events = self.0.get("events").and_then(Value::as_array);
        let is_sign = |event: &Value| {
            let kind = event.get("type").and_then(Value::as_str);
            matches!(kind, Some("start" | "exit"))
        };
        self.is_destroyed()
            && events.is_some_and(|events| !events.is_empty() && !events.iter().any(is_sign))
    }

    /// The newest end of the machine's process, if the events contain one.
    pub fn exit(self) -> Option<Exit> {
        let events = self.0.get("events")?.as_array()?;
        let exits = events
            .iter()
            .filter(|event| event.get("type").is_some_and(|t| t == "exit"));
        let time = |event: &&Value| event.get("timestamp").and_then(Value::as_i64);
        // The API lists the newest event first; of equal ones, the first is taken.
        let newest = exits.rev().max_by_key(time)?;
        let exit = ["/request/MonitorEvent/exit_event", "/request/exit_event"];
        let exit = exit.iter().find_map(|pointer| newest.pointer(pointer));
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
    fn the_exit_is_that_of_the_newest_event_and_its_newer_place_counts_first() {
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
    fn an_exit_event_without_a_request_has_no_code_and_other_events_are_no_exit() {
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
    fn a_machine_on_a_host_that_does_not_answer_is_not_over_unless_it_is_destroyed() {
        let machine = |state: &str, host: &str| json!({"state": state, "host_status": host});
        assert!(Machine(&machine("stopped", "ok")).is_over());
        assert!(Machine(&json!({"state": "failed"})).is_over());
        assert!(!Machine(&machine("stopped", "unreachable")).is_over());
        assert!(Machine(&machine("destroyed", "unreachable")).is_over());
        assert!(!Machine(&machine("destroying", "ok")).is_over());
        assert!(!Machine(&machine("created", "ok")).is_over());
    }

    #[test]
    fn a_destroyed_machine_never_started_only_if_its_events_say_so() {
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
