//! Whole pages.

use super::*;
use crate::redact::Redactor;
use crate::report::{Attempt, Cleaner, Task};

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
