//! Answers that a developer sets in advance (`--answer`), to see how a worker reacts to them.

use std::collections::{HashMap, VecDeque};

use hyper::StatusCode;

use super::route::Route;

/// The scripted answers of each route.
#[derive(Debug, Default)]
pub struct ScriptedAnswers(HashMap<Route, VecDeque<Scripted>>);

/// One scripted answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scripted {
    /// The answer that the orchestrator gives without `--answer`.
    Normal,
    Status(StatusCode),
}

impl ScriptedAnswers {
    /// Adds the answers in a text like `completed=503,ok`. The error completes a sentence that begins with the text.
    pub fn add(&mut self, text: &str) -> Result<(), String> {
        const EXAMPLE: &str = "write it like started=409 or completed=503,503,ok";
        let (route, answers) = text
            .split_once('=')
            .ok_or_else(|| format!("has no =; {EXAMPLE}"))?;
        let route = Route::parse(route).ok_or_else(|| {
            format!(
                "names an unknown route; there are started, progress, completed and failed: {EXAMPLE}"
            )
        })?;
        let parsed = answers.split(',').map(|answer| match answer {
            "ok" => Ok(Scripted::Normal),
            status => match status.parse() {
                Ok(status @ 200..=599) => {
                    let status = StatusCode::from_u16(status).expect("a valid status");
                    Ok(Scripted::Status(status))
                }
                _ => Err(format!(
                    "has the answer {status:?}, which is neither ok nor a status from 200 to 599; {EXAMPLE}"
                )),
            },
        });
        let parsed: Vec<Scripted> = parsed.collect::<Result<_, _>>()?;
        self.0.entry(route).or_default().extend(parsed);
        Ok(())
    }

    /// The scripted status for the next request on a route; `None` for the normal answer. The last
    /// answer is repeated.
    pub fn next(&mut self, route: Route) -> Option<StatusCode> {
        let answers = self.0.get_mut(&route)?;
        let answer = match answers.len() {
            0 | 1 => answers.front().copied(),
            _ => answers.pop_front(),
        };
        match answer? {
            Scripted::Normal => None,
            Scripted::Status(status) => Some(status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_used_in_order_and_the_last_one_is_repeated() {
        let mut answers = ScriptedAnswers::default();
        answers.add("started=503,ok").unwrap();
        answers.add("started=409").unwrap();
        let mut next = || answers.next(Route::Started).map(|status| status.as_u16());
        assert_eq!([next(), next()], [Some(503), None]);
        assert_eq!([next(), next()], [Some(409), Some(409)]);
        assert_eq!(answers.next(Route::Failed), None);
    }

    #[test]
    fn the_error_for_a_malformed_answer_says_what_is_wrong_with_it() {
        let why = |text: &str| ScriptedAnswers::default().add(text).unwrap_err();
        assert!(why("409").starts_with("has no =; write it like"));
        assert!(why("begun=409").starts_with("names an unknown route; there are started,"));
        for answer in ["", "100", "600", "no"] {
            let why = why(&format!("started=409,{answer}"));
            assert!(why.starts_with(&format!("has the answer {answer:?}, which is neither")));
        }
    }
}
