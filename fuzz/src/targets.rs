//! The targets, by name: each reads one input and asserts what must hold.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::SecretString;
use tempfile::TempDir;

use crate::answer::Answer;
use crate::git_words::without_progress;
use crate::messages::{PartialAnswer, error_of_body};
use crate::records::Records;
use crate::redact::Redactor;
use crate::scud::{FinishedTasks, Project, TaskQuery, unify_status_letters};
use crate::stream_json::{Event, Reader, Totals};
use crate::task::Status;

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 8] = [
    ("graph", graph),
    ("graph_merge", graph_merge),
    ("settings", settings),
    ("stream_json", stream_json),
    ("messages", messages),
    ("answers", answers),
    ("git_output", git_output),
    ("redactor", redactor),
];

/// The target with this name.
pub fn find(name: &str) -> Target {
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    found
        .unwrap_or_else(|| panic!("there is no target {name}"))
        .1
}

/// A project in a temporary directory, which every input overwrites.
fn project() -> (&'static Path, Project) {
    static DIR: OnceLock<TempDir> = OnceLock::new();
    let dir = DIR.get_or_init(|| {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() {
            TempDir::new_in(memory)
        } else {
            TempDir::new()
        };
        let dir = dir.expect("a temporary directory");
        for name in [".scud/tasks", ".scud/agents"] {
            fs::create_dir_all(dir.path().join(name)).expect("a directory");
        }
        dir
    });
    (dir.path(), Project::at(dir.path().to_owned()))
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    runtime.expect("a runtime").block_on(future)
}

/// A found task gets another status: exactly its letter changes, and it is found with the new status.
fn graph(data: &[u8]) {
    let (dir, project) = project();
    let path = dir.join(".scud/tasks/tasks.scg");
    fs::write(&path, data).expect("written");
    for reference in ["1", "a:1"] {
        let query = TaskQuery {
            reference,
            tag: None,
            finished_tasks: FinishedTasks::Allow,
        };
        let Ok(task) = block_on(project.find(&query)) else {
            continue;
        };
        let _ = task.unmet_dependencies().count();
        let before = fs::read(&path).expect("the graph");
        let status = if task.status == Status::Done {
            Status::Pending
        } else {
            Status::Done
        };
        block_on(project.set_status(&task, status)).expect("a found task can be changed");
        let after = fs::read(&path).expect("the graph");
        assert_eq!(before.len(), after.len());
        let changed = before.iter().zip(&after).filter(|(one, two)| one != two);
        assert_eq!(changed.count(), 1);
        let found = block_on(project.find(&query)).expect("it is still there");
        assert_eq!(found.status, status);
        assert_eq!((found.id, found.title), (task.id, task.title));
    }
}

/// Unifying letters changes nothing else, and makes no letter that no version had.
fn graph_merge(data: &[u8]) {
    let mut parts = data.splitn(3, |byte| *byte == 0).map(<[u8]>::to_vec);
    let mut next = || parts.next().unwrap_or_default();
    let (base, ours, theirs) = (next(), next(), next());
    let [mut new_base, mut new_ours, mut new_theirs] = [base.clone(), ours.clone(), theirs.clone()];
    unify_status_letters(&mut new_base, &mut new_ours, &mut new_theirs);
    for (old, new) in [(&base, &new_base), (&ours, &new_ours), (&theirs, &new_theirs)] {
        assert_eq!(old.len(), new.len());
        for (old, new) in old.iter().zip(new) {
            let is_letter = |byte: u8| Status::from_letter(byte).is_some();
            assert!(old == new || is_letter(*old) && is_letter(*new));
        }
    }
    let again = [new_base.clone(), new_ours.clone(), new_theirs.clone()];
    unify_status_letters(&mut new_base, &mut new_ours, &mut new_theirs);
    assert_eq!(again, [new_base, new_ours, new_theirs]);
}

/// `config.toml` and an agent definition.
fn settings(data: &[u8]) {
    let (dir, project) = project();
    fs::write(dir.join(".scud/config.toml"), data).expect("written");
    fs::write(dir.join(".scud/agents/x.toml"), data).expect("written");
    if let Err(error) = project.checks() {
        let _ = error.to_string();
    }
    match project.agent("x") {
        Ok(definition) => assert!(definition.is_some()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok(name) = std::str::from_utf8(data) {
        let _ = project.agent(name);
    }
}

/// Cuts do not change what is read, and no line vanishes that is not an object.
fn stream_json(data: &[u8]) {
    let read = |chunk: usize| {
        let mut reader = Reader::new(Totals::Session);
        let mut events = Vec::new();
        for bytes in data.chunks(chunk) {
            reader.read(bytes, &mut |event: Event<'_>| events.push(format!("{event:?}")));
        }
        let conclusion = format!("{:?}", reader.conclusion());
        (events, conclusion, reader.session_id, reader.model)
    };
    let whole = read(data.len().max(1));
    assert_eq!(whole, read(1));
    assert_eq!(whole, read(7));
    let Some(end) = data.iter().rposition(|byte| *byte == b'\n') else {
        return;
    };
    let lines = data[..end].split(|byte| *byte == b'\n');
    let raw = lines.filter(|line| !line.trim_ascii().is_empty() && line.trim_ascii_start()[0] != b'{');
    let shown = whole.0.iter().filter(|event| event.starts_with("Raw")).count();
    assert!(shown >= 2 * raw.count());
}

/// Each line is the data of one event of the Messages API; the whole input is the body of an error.
fn messages(data: &[u8]) {
    let _ = error_of_body(data);
    let mut answer = PartialAnswer::default();
    for line in String::from_utf8_lossy(data).lines() {
        if answer.push(line).is_err() {
            break;
        }
    }
    let _ = (answer.has_content(), answer.usage());
    if let Some(answer) = answer.into_answer() {
        let _ = (answer.text(), answer.tool_calls(), answer.is_unfinished());
        assert!(serde_json::to_string(&answer.content).is_ok());
    }
}

/// Two bytes of status, a line with `Retry-After` and `Location`, and a body.
fn answers(data: &[u8]) {
    let Some((status, rest)) = data.split_at_checked(2) else {
        return;
    };
    let status = 100 + u16::from_be_bytes([status[0], status[1]]) % 500;
    let mut parts = rest.splitn(2, |byte| *byte == b'\n');
    let (header, body) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(header) {
        headers.insert(HeaderName::from_static("retry-after"), value.clone());
        headers.insert(HeaderName::from_static("location"), value);
    }
    let status = StatusCode::from_u16(status).expect("a status");
    let _ = Answer::new(status, &headers, body.to_vec());
}

/// Records do not depend on cuts, and joined they are the input up to the last separator.
fn git_output(data: &[u8]) {
    let read = |chunk: usize| {
        let (mut records, mut found) = (Records::new(0), Vec::new());
        for bytes in data.chunks(chunk) {
            records.push(bytes, |record: &[u8]| found.push(record.to_vec()));
        }
        found
    };
    let whole = read(data.len().max(1));
    assert_eq!(whole, read(1));
    assert_eq!(whole, read(5));
    let joined: Vec<u8> = whole.iter().flat_map(|record| [record, &[0][..]].concat()).collect();
    assert!(data.starts_with(&joined));
    let text = without_progress(&String::from_utf8_lossy(data));
    assert!(text.lines().all(|line| !line.is_empty()));
}

/// The first line has the secrets, the rest is the stream. No secret passes, cuts do not matter, and for
/// secrets without other forms the result is that of a naive search.
fn redactor(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == b'\n');
    let secrets = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let text = parts.next().unwrap_or_default();
    let secrets: Vec<&str> = secrets.split(' ').filter(|word| word.len() >= 4).take(8).collect();
    let redactor = Redactor::new(
        &secrets
            .iter()
            .map(|secret| SecretString::from(*secret))
            .collect::<Vec<_>>(),
    );
    let mask = |chunk: usize| {
        let (mut stream, mut clean) = (redactor.stream(), Vec::new());
        for bytes in text.chunks(chunk) {
            stream.push(bytes, &mut |bytes| clean.extend_from_slice(bytes));
        }
        stream.finish(&mut |bytes| clean.extend_from_slice(bytes));
        clean
    };
    let whole = mask(text.len().max(1));
    assert_eq!(whole, mask(1));
    assert_eq!(whole, mask(3));
    for secret in &secrets {
        let bytes = secret.as_bytes();
        // The mask itself may make a secret that consists of stars.
        if !bytes.contains(&b'*') {
            assert!(!whole.windows(bytes.len()).any(|window| window == bytes));
        }
    }
    // Letters of this kind have no other forms in the text: base64 of them has capitals or digits.
    let plain = |bytes: &[u8]| bytes.iter().all(|byte| matches!(byte, b'a'..=b'c' | b' '));
    if plain(text) && secrets.iter().all(|secret| plain(secret.as_bytes())) {
        assert_eq!(whole, naive(text, &secrets));
    }
}

fn naive(text: &[u8], secrets: &[&str]) -> Vec<u8> {
    let mut covered = vec![false; text.len()];
    for at in 0..text.len() {
        for secret in secrets {
            if text[at..].starts_with(secret.as_bytes()) {
                covered[at..at + secret.len()].fill(true);
            }
        }
    }
    let mut clean = Vec::new();
    for (at, byte) in text.iter().enumerate() {
        if !covered[at] {
            clean.push(*byte);
        } else if at == 0 || !covered[at - 1] {
            clean.extend_from_slice(b"***");
        }
    }
    clean
}
