//! Tests how the bodies of errors are read.

use super::*;

#[test]
fn the_message_of_an_error_is_read_from_json_and_from_other_bodies() {
    let body = br#"{"type":"error","error":{"type":"not_found_error","message":"no such model"}}"#;
    let details = |kind: &str, message: &str| ErrorDetails {
        kind: kind.to_owned(),
        message: message.to_owned(),
    };
    let expected = details("not_found_error", "no such model");
    assert_eq!(error_of_body(body), expected);
    let page = b"<html>\n  Bad   Gateway </html>";
    assert_eq!(
        error_of_body(page),
        details("", "<html> Bad Gateway </html>")
    );
}
