//! Events with any content: each matches docs/callback.schema.json and contains no secret.

use std::sync::OnceLock;
use std::time::Duration;

use jsonschema::Validator;
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use reqwest::Url;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::callback::credentials;
use crate::callback::settings::{Identity, Limits, Machine, Settings};
use crate::callback::wire::{Event, Kind};
use crate::excerpt;
use crate::model::UsageAndCost;
use crate::progress::{Phase, Progress};
use crate::redact::Redactor;
use crate::stream_json::{Reader, TotalsScope};
use crate::task::{
    AgentReport, CheckReport, Failure, Outcome, Patch, PhaseStart, Reason, RunReport, Verdict, Work,
};

const SCHEMA: &str = include_str!("../../../docs/callback.schema.json");
/// The largest body of an event, in bytes.
const MAX_BODY_SIZE: usize = 256 * 1024;
/// The largest patch in an event, in bytes.
const MAX_PATCH_SIZE: usize = 128 * 1024;
/// The largest output of a check in an event, in bytes.
const MAX_CHECK_OUTPUT_SIZE: usize = 4 * 1024;
/// The largest prompt in an event, in bytes: the worker leaves out the middle of larger ones.
const MAX_PROMPT_SIZE: usize = 16 * 1024;
/// The secret that no event may contain.
const SECRET: &str = "hunter2-hunter2";

pub fn events(data: &[u8]) {
    // An error only says that the input is too short.
    let _ = check(&mut Unstructured::new(data));
}

fn check(input: &mut Unstructured<'_>) -> Result<()> {
    let redactor = Redactor::new(&[SecretString::from(SECRET)]);
    let mut settings = settings(input)?;
    settings.identity = settings.identity.masked(&redactor);
    let progress = progress(input, &redactor)?;
    let snapshot = progress.snapshot();
    let new_event = |kind: Kind, message: &str| {
        Event::new(kind, &settings.identity, 7, &redactor.mask(message))
    };
    match input.int_in_range(0..=3)? {
        0 => {
            let mut event = new_event(Kind::Started, &text(input)?);
            event.add_limits(&settings);
            assert_valid(&event);
        }
        1 => {
            let mut event = new_event(Kind::Progress, &snapshot.message());
            let window = progress.take_output_window();
            event.add_progress(
                &snapshot,
                input.arbitrary::<bool>()?.then_some(&window),
                &redactor,
            );
            assert_valid(&event);
        }
        _ => {
            let outcome = outcome(input, snapshot.spent, &progress, &redactor)?;
            let kind = match outcome.verdict {
                Verdict::Completed { .. } => Kind::Completed,
                Verdict::Failed(_) => Kind::Failed,
            };
            let mut event = new_event(kind, outcome.message());
            event.add_outcome(&outcome, &redactor);
            assert_valid(&event);
            assert!(event.body().len() <= MAX_BODY_SIZE);
            if let Some(smaller) = event.without_patch_prompts_and_output() {
                assert_valid(&smaller);
                assert!(
                    smaller.without_patch_prompts_and_output().is_none(),
                    "the smaller event still has something to leave out"
                );
            }
        }
    }
    Ok(())
}

/// Asserts that an event matches the schema and does not contain the secret.
fn assert_valid(event: &Event) {
    static VALIDATOR: OnceLock<Validator> = OnceLock::new();
    let validator = VALIDATOR.get_or_init(|| {
        let schema = serde_json::from_str(SCHEMA).expect("JSON");
        jsonschema::options()
            .should_validate_formats(true)
            .build(&schema)
            .expect("a schema")
    });
    let body = event.body();
    let event: Value = serde_json::from_slice(&body).expect("JSON");
    if let Err(error) = validator.validate(&event) {
        panic!("{}: {error}", error.instance_path());
    }
    let body = String::from_utf8(body).expect("UTF-8");
    assert!(!body.contains(SECRET), "the secret is in {body}");
}

/// A text: sometimes a long one, sometimes one with the secret.
fn text(input: &mut Unstructured<'_>) -> Result<String> {
    let text = input.arbitrary::<&str>()?;
    Ok(match input.int_in_range(0..=9)? {
        0 => text.repeat(repetitions(text.len(), input.int_in_range(0..=20_000)?)),
        1 => format!("{text}{SECRET}{text}"),
        _ => text.to_owned(),
    })
}

/// How often a text of `size` bytes is repeated: `wanted` times, or fewer if it would get longer than the
/// largest event. Longer texts would only make the target slower.
fn repetitions(size: usize, wanted: usize) -> usize {
    wanted.min(MAX_BODY_SIZE.div_ceil(size.max(1)))
}

/// A value or `None`.
fn maybe<T>(
    input: &mut Unstructured<'_>,
    value: impl FnOnce(&mut Unstructured<'_>) -> Result<T>,
) -> Result<Option<T>> {
    if input.arbitrary()? {
        value(input).map(Some)
    } else {
        Ok(None)
    }
}

/// A name that the settings allow: one line, not empty, at most 200 bytes.
fn name(input: &mut Unstructured<'_>) -> Result<String> {
    let text = input.arbitrary::<&str>()?;
    let name: String = text
        .chars()
        .filter(|c| !matches!(c, '\r' | '\n'))
        .take(50)
        .collect();
    // Ids and branches are sent unchanged, because they identify something.
    Ok(if name.is_empty() || name.contains(SECRET) {
        "8".to_owned()
    } else {
        name
    })
}

/// A duration of whole milliseconds, as in the settings.
fn duration(input: &mut Unstructured<'_>) -> Result<Duration> {
    Ok(Duration::from_millis(input.arbitrary::<u64>()?.max(1)))
}

fn settings(input: &mut Unstructured<'_>) -> Result<Settings> {
    let dollars = |input: &mut Unstructured<'_>| input.arbitrary::<f64>();
    let is_allowed = |amount: &f64| amount.is_finite() && *amount > 0.0;
    Ok(Settings {
        url: Url::parse("http://localhost/").expect("a URL"),
        request_timeout: duration(input)?,
        claim_timeout: duration(input)?,
        finish_timeout: duration(input)?,
        heartbeat_interval: maybe(input, duration)?,
        credentials: credentials::Settings,
        traceparent: None,
        authorities: None,
        identity: Identity {
            task_id: name(input)?,
            project_id: name(input)?,
            run_id: name(input)?,
            agent: maybe(input, |_| Ok("command"))?,
            isolation: None,
            hostname: name(input)?,
            revision: maybe(input, text)?,
            machine: maybe(input, |input| {
                Ok(Machine {
                    id: maybe(input, text)?,
                    app: maybe(input, text)?,
                    region: maybe(input, text)?,
                    image: maybe(input, text)?,
                    memory_mb: input.arbitrary()?,
                })
            })?,
        },
        limits: Limits {
            task_timeout: duration(input)?,
            idle_timeout: maybe(input, duration)?,
            stop_window: duration(input)?,
            max_turns: input.arbitrary()?,
            max_budget_usd: maybe(input, dollars)?.filter(is_allowed),
            max_tokens: input.arbitrary()?,
        },
    })
}

/// Turns, tokens and cost, read from lines as an agent prints them.
fn spent(input: &mut Unstructured<'_>) -> Result<UsageAndCost> {
    let mut reader = Reader::new(TotalsScope::Round);
    for _ in 0..input.int_in_range(0..=3)? {
        let tokens: i64 = input.arbitrary()?;
        let usage = json!({"input_tokens": tokens, "output_tokens": input.arbitrary::<f64>()?});
        let line = if input.arbitrary()? {
            json!({"type": "assistant", "message": {"id": tokens.to_string(), "usage": usage}})
        } else {
            let usage =
                json!({"m": {"inputTokens": tokens, "outputTokens": input.arbitrary::<f64>()?}});
            json!({"type": "result", "total_cost_usd": input.arbitrary::<f64>()?, "modelUsage": usage})
        };
        reader.read(format!("{line}\n").as_bytes(), &mut |_| {});
        if input.arbitrary()? {
            reader.next_round();
        }
    }
    Ok(reader.spent())
}

fn progress(input: &mut Unstructured<'_>, redactor: &Redactor) -> Result<Progress> {
    let progress = Progress::new();
    progress.enter(*input.choose(&Phase::ALL)?);
    progress.set_spent(spent(input)?);
    if input.arbitrary()? {
        progress.set_activity(&text(input)?);
    }
    let mut stream = redactor.stream();
    for _ in 0..input.int_in_range(0..=3)? {
        let bytes = input.arbitrary::<&[u8]>()?;
        let bytes = bytes.repeat(repetitions(bytes.len(), input.int_in_range(0..=2_000)?));
        stream.push(&bytes, &mut |clean| progress.add_output(clean));
        stream.push(text(input)?.as_bytes(), &mut |clean| {
            progress.add_output(clean)
        });
        if input.arbitrary()? {
            let window = progress.take_output_window();
            if input.arbitrary()? {
                progress.count_as_dropped(&window);
            }
        }
    }
    stream.finish(&mut |clean| progress.add_output(clean));
    Ok(progress)
}

fn outcome(
    input: &mut Unstructured<'_>,
    spent: UsageAndCost,
    progress: &Progress,
    redactor: &Redactor,
) -> Result<Outcome> {
    let verdict = if input.arbitrary()? {
        Verdict::Completed {
            message: text(input)?,
        }
    } else {
        let causes = (0..input.int_in_range(0..=3)?)
            .map(|_| text(input))
            .collect::<Result<_>>()?;
        Verdict::Failed(Failure {
            causes,
            ..Failure::new(*input.choose(&Reason::ALL)?, text(input)?)
        })
    };
    let check = check_report(input, redactor)?;
    let report = RunReport {
        summary: maybe(input, text)?,
        prompts: (0..input.int_in_range(0..=8)?)
            .map(|_| {
                Ok(excerpt::both_ends(
                    &redactor.mask(&format!("# Task {}", text(input)?)),
                    MAX_PROMPT_SIZE,
                ))
            })
            .collect::<Result<_>>()?,
        duration: duration(input)?,
        phases: (0..input.int_in_range(0..=9)?)
            .map(|_| phase_start(input))
            .collect::<Result<_>>()?,
        agent: maybe(input, |input| {
            Ok(AgentReport {
                kind: "command",
                model: maybe(input, text)?,
                session_id: maybe(input, text)?,
                exit_code: exit_code(input)?,
                spent,
            })
        })?,
        work: maybe(input, |input| work(input, redactor))?,
        checks: vec![check; input.int_in_range(0..=120)?],
        output: progress.output(),
    };
    Ok(Outcome { verdict, report })
}

fn phase_start(input: &mut Unstructured<'_>) -> Result<PhaseStart> {
    let phases = [
        Phase::Preparing,
        Phase::Agent,
        Phase::Checks,
        Phase::HandOver,
    ];
    Ok(PhaseStart {
        phase: input.choose(&phases)?.word(),
        since_claim: duration(input)?,
    })
}

fn exit_code(input: &mut Unstructured<'_>) -> Result<Option<i32>> {
    Ok(input.arbitrary::<Option<u8>>()?.map(i32::from))
}

fn check_report(input: &mut Unstructured<'_>, redactor: &Redactor) -> Result<CheckReport> {
    let output = redactor.mask(&text(input)?);
    let output = &output.as_bytes()[output.len().saturating_sub(MAX_CHECK_OUTPUT_SIZE)..];
    Ok(CheckReport {
        command: text(input)?,
        exit_code: exit_code(input)?,
        duration: duration(input)?,
        output_tail: String::from_utf8_lossy(output).into_owned(),
    })
}

fn work(input: &mut Unstructured<'_>, redactor: &Redactor) -> Result<Work> {
    let head = format!("{:040x}", input.arbitrary::<u64>()?);
    let mut work = Work::new(&"0".repeat(40), &head);
    work.branch = maybe(input, name)?;
    (work.files_changed, work.insertions, work.deletions) = input.arbitrary()?;
    let mut patch = redactor.mask(&text(input)?);
    let end = (0..=patch.len().min(MAX_PATCH_SIZE))
        .rev()
        .find(|end| patch.is_char_boundary(*end));
    patch.truncate(end.unwrap_or(0));
    work.patch = (!patch.is_empty()).then_some(Patch {
        text: patch,
        truncated: input.arbitrary()?,
    });
    Ok(work)
}
