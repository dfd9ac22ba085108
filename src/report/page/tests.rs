//! Tests of whole pages.

use super::*;
use crate::redact::Redactor;
use crate::report::{Attempt, Cleaner, Request, Task, TextLimits, add_terminal_event};
use serde_json::json;

#[test]
fn the_policy_of_the_page_names_the_hash_of_its_style_sheet() {
    let html = render(&Report::default());
    let style = html.split_once("<style>").expect("a style").1;
    let style = style.split_once("</style>").expect("its end").0;
    let hash = BASE64_STANDARD.encode(digest(&SHA256, style.as_bytes()));
    assert!(
        html.contains(&format!("style-src 'sha256-{hash}'")),
        "{html}"
    );
    assert!(html.contains("default-src 'none'"), "{html}");
}

#[test]
fn no_element_has_an_attribute_twice() {
    let cleaner = Cleaner::new(&Redactor::new(&[]));
    let task = Task {
        name: cleaner.line("1"),
        attempts: vec![Attempt::default()],
        ..Task::default()
    };
    let html = render(&Report {
        tasks: vec![
            task.clone(),
            Task {
                needs: vec![0],
                ..task
            },
        ],
        ..Report::default()
    });
    for tag in html
        .split('<')
        .filter_map(|tag| tag.split_once('>'))
        .map(|(tag, _)| tag)
    {
        assert!(tag.matches(" class=").count() < 2, "<{tag}>");
    }
}

/// A task with one attempt. The agent got one prompt for each round, none of which has the description.
fn task_with_prompts(rounds: usize, tasks: usize) -> Task {
    let cleaner = Cleaner::new(&Redactor::new(&[]));
    let limits = TextLimits::of(tasks, tasks);
    let prompts: Vec<_> = (1..=rounds)
        .map(|round| format!("the prompt of round {round}"))
        .collect();
    let mut attempt = Attempt {
        note: Some(cleaner.line("the note about the attempt before")),
        ..Attempt::default()
    };
    let event = json!({ "result": { "prompts": prompts } });
    add_terminal_event(&mut attempt, &event, &cleaner, limits);
    let description = Some("Four walls and a roof".to_owned());
    Task {
        request: Request::of([&description, &None, &None], &cleaner, limits),
        attempts: vec![attempt],
        ..Task::default()
    }
}

#[test]
fn a_page_of_any_size_says_what_each_task_asks_for() {
    for count in [1, 500] {
        for rounds in [0, 1, 8] {
            let html = render(&Report {
                tasks: vec![task_with_prompts(rounds, count); count],
                ..Report::default()
            });
            let descriptions = html.matches("Four walls and a roof").count();
            assert_eq!(descriptions, count, "{rounds} rounds");
        }
    }
}

#[test]
fn a_large_page_has_the_last_repair_prompt_and_the_note_in_place_of_all_prompts() {
    let page = |count: usize, rounds| {
        render(&Report {
            tasks: vec![task_with_prompts(rounds, count); count],
            ..Report::default()
        })
    };
    let (small, large) = (page(1, 8), page(500, 8));
    assert_eq!(small.matches("the prompt of round").count(), 8);
    assert!(!small.contains("the note about"), "{small}");
    assert_eq!(large.matches("the prompt of round").count(), 500);
    assert_eq!(large.matches("the prompt of round 8").count(), 500);
    assert_eq!(large.matches("after failed checks, round 8").count(), 500);
    assert_eq!(large.matches("the note about").count(), 500);
    assert!(!page(500, 1).contains("the prompt of round"));
}
