//! What the model asks of the editor, right and wrong.

use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::json;

use super::*;

struct Place {
    dir: tempfile::TempDir,
    editor: Editor,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("project")).unwrap();
        let editor = Editor::below(&dir.path().join("project")).unwrap();
        Self { dir, editor }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.editor.root.join(name)
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), content).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn call(&self, command: &str, path: &str, more: &Value) -> Result<String, String> {
        let mut input = json!({ "command": command, "path": path });
        for (name, value) in more.as_object().unwrap() {
            input[name] = value.clone();
        }
        self.editor.call(&input)
    }

    fn view(&self, path: &str) -> Result<String, String> {
        self.call("view", path, &json!({}))
    }

    fn replace(&self, path: &str, old: &str, new: &str) -> Result<String, String> {
        self.call(
            "str_replace",
            path,
            &json!({ "old_str": old, "new_str": new }),
        )
    }

    fn insert(&self, path: &str, line: i64, text: &str) -> Result<String, String> {
        self.call(
            "insert",
            path,
            &json!({ "insert_line": line, "insert_text": text }),
        )
    }
}

#[test]
fn a_file_is_seen_with_its_line_numbers_whole_or_in_part() {
    let place = Place::new();
    place.write("f", b"one\ntwo\nthree\n");
    let view = |range: Value| place.call("view", "f", &json!({ "view_range": range }));
    assert_eq!(
        place.view("f").unwrap(),
        "     1\tone\n     2\ttwo\n     3\tthree\n"
    );
    assert_eq!(view(json!([2, 3])).unwrap(), "     2\ttwo\n     3\tthree\n");
    assert_eq!(view(json!([3, -1])).unwrap(), "     3\tthree\n");
    assert_eq!(
        view(json!([2, 99])).unwrap(),
        "     2\ttwo\n     3\tthree\n"
    );
    for wrong in [json!([0, 1]), json!([4, 5]), json!([3, 2])] {
        let error = view(wrong.clone()).unwrap_err();
        assert_eq!(
            error,
            format!("`view_range` is {wrong}, but the file has the lines 1 to 3")
        );
    }
    assert!(view(json!(["a"])).unwrap_err().contains("two line numbers"));
    place.write("empty", b"");
    assert_eq!(place.view("empty").unwrap(), "[the file is empty]");
}

#[test]
fn a_directory_is_seen_two_levels_deep_without_what_is_hidden() {
    let place = Place::new();
    for name in [
        "src/deep/deeper/f",
        "src/main.rs",
        "node_modules/x/y",
        ".git/config",
        "a",
    ] {
        place.write(name, b"");
    }
    assert_eq!(
        place.view(".").unwrap(),
        "./\n  a\n  node_modules/\n  src/\n    deep/\n    main.rs\n"
    );
    for at in 0..600 {
        place.write(&format!("many/{at}"), b"");
    }
    let view = place.view("many").unwrap();
    assert_eq!(view.lines().count(), 502);
    assert!(view.ends_with("[... there is more; look into a directory of it, or use bash]\n"));
}

#[test]
fn what_cannot_be_seen_is_said() {
    let place = Place::new();
    place.write("binary", b"\xff\xfe\x00");
    place.write("large", &vec![b'a'; 9 * 1024 * 1024]);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        place.path("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    for (name, error) in [
        ("nothing", "there is no file nothing"),
        ("binary", "binary is not a text in UTF-8; use bash"),
        (
            "large",
            "large is 9437184 bytes long, which is too much for this tool; use bash",
        ),
        ("fifo", "fifo is not a regular file"),
    ] {
        assert_eq!(place.view(name).unwrap_err(), error);
    }
}

#[test]
fn a_file_is_created_with_its_directories_and_overwritten() {
    let place = Place::new();
    let create = |text: &str| place.call("create", "a/b/c", &json!({ "file_text": text }));
    assert_eq!(create("one\n").unwrap(), "a/b/c is created: 1 lines");
    fs::set_permissions(place.path("a/b/c"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(
        create("two\nlines\n").unwrap(),
        "a/b/c is overwritten: 2 lines"
    );
    assert_eq!(place.read("a/b/c"), "two\nlines\n");
    let mode = fs::metadata(place.path("a/b/c"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o755);
    let error = place
        .call("create", "a/b", &json!({ "file_text": "" }))
        .unwrap_err();
    assert_eq!(error, "a/b is there, and is not a regular file");
    let error = place
        .call("create", "a/b/c/d", &json!({ "file_text": "" }))
        .unwrap_err();
    assert!(
        error.starts_with("a/b/c/d cannot be reached: Not a directory"),
        "{error}"
    );
}

#[test]
fn a_text_is_replaced_where_it_is_there_once() {
    let place = Place::new();
    place.write("f", b"a\nb\nc\nb\n");
    assert_eq!(
        place.replace("f", "c", "see\nsea").unwrap(),
        "f is changed:\n     1\ta\n     2\tb\n     3\tsee\n     4\tsea\n     5\tb\n"
    );
    assert_eq!(
        place.replace("f", "b", "d").unwrap_err(),
        "`old_str` is 2 times in f (lines 2, 5); it must be there once, so take more of what stands around it"
    );
    assert_eq!(
        place.replace("f", "nothing", "d").unwrap_err(),
        "`old_str` is not in f; it must match exactly, white space included"
    );
    assert_eq!(
        place.replace("f", "", "d").unwrap_err(),
        "`old_str` is empty; use insert or create"
    );
    assert_eq!(place.read("f"), "a\nb\nsee\nsea\nb\n");
    place
        .call("str_replace", "f", &json!({ "old_str": "see\n" }))
        .unwrap();
    assert_eq!(place.read("f"), "a\nb\nsea\nb\n");
}

#[test]
fn a_text_that_is_everywhere_is_not_counted_to_the_end() {
    let place = Place::new();
    place.write("f", "a\n".repeat(1_000_000).as_bytes());
    let error = place.replace("f", "a", "b").unwrap_err();
    assert!(
        error.starts_with("`old_str` is at least 10 times in f (lines 1, 2, 3, "),
        "{error}"
    );
}

#[test]
fn what_is_read_only_stays_as_it_is() {
    let place = Place::new();
    place.write("f", b"a\n");
    fs::set_permissions(place.path("f"), fs::Permissions::from_mode(0o444)).unwrap();
    assert_eq!(place.replace("f", "a", "b").unwrap_err(), "f is read-only");
    assert_eq!(place.read("f"), "a\n");
}

#[test]
fn lines_that_end_in_carriage_returns_stay_so() {
    let place = Place::new();
    place.write("f", b"a\r\nb\r\nc\r\n");
    place.replace("f", "a\nb\n", "x\ny\n").unwrap();
    assert_eq!(place.read("f"), "x\r\ny\r\nc\r\n");
    place.insert("f", 1, "new\nlines\n").unwrap();
    assert_eq!(place.read("f"), "x\r\nnew\r\nlines\r\ny\r\nc\r\n");
}

#[test]
fn a_text_is_inserted_after_a_line() {
    let place = Place::new();
    let inserted = |content: &str, line: i64, text: &str| {
        place.write("f", content.as_bytes());
        place.insert("f", line, text).map(|_| place.read("f"))
    };
    assert_eq!(inserted("a\nb\n", 0, "x\n").unwrap(), "x\na\nb\n");
    assert_eq!(inserted("a\nb\n", 1, "x").unwrap(), "a\nx\nb\n");
    assert_eq!(inserted("a\nb\n", 2, "x\ny\n").unwrap(), "a\nb\nx\ny\n");
    assert_eq!(inserted("a\nb", 2, "x\n").unwrap(), "a\nb\nx");
    assert_eq!(inserted("", 0, "x").unwrap(), "x\n");
    for wrong in [3, -1] {
        assert_eq!(
            inserted("a\nb\n", wrong, "x").unwrap_err(),
            "`insert_line` must be a line number from 0 to 2, after which the text is inserted"
        );
    }
    place.write("f", b"a\n");
    place
        .call("insert", "f", &json!({ "insert_line": 1, "new_str": "b" }))
        .unwrap();
    assert_eq!(place.read("f"), "a\nb\n");
    let error = place
        .call("insert", "f", &json!({ "insert_line": 1 }))
        .unwrap_err();
    assert_eq!(error, "`insert_text` is missing; it must be a text");
}

#[test]
fn nothing_outside_the_project_is_seen_or_changed() {
    let place = Place::new();
    let outside = place.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    symlink(&outside, place.path("out")).unwrap();
    symlink(outside.join("secret"), place.path("file")).unwrap();
    symlink(outside.join("new"), place.path("dangling")).unwrap();
    let secret = outside.join("secret");
    let absolute = secret.to_str().unwrap();
    for path in [
        "../outside/secret",
        "out/secret",
        "file",
        absolute,
        "/etc/passwd",
        "out/new/er",
    ] {
        for (command, more) in [
            ("view", json!({})),
            ("create", json!({ "file_text": "x" })),
            (
                "str_replace",
                json!({ "old_str": "secret", "new_str": "x" }),
            ),
            ("insert", json!({ "insert_line": 0, "insert_text": "x" })),
        ] {
            let error = place.call(command, path, &more).unwrap_err();
            assert!(
                error.contains("is not in the project's directory"),
                "{path}: {error}"
            );
        }
    }
    let error = place
        .call("create", "dangling", &json!({ "file_text": "x" }))
        .unwrap_err();
    assert_eq!(error, "dangling is a symbolic link that leads nowhere");
    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    // What stays inside is followed, and an absolute path is one, too.
    place.write("real", b"here\n");
    symlink("real", place.path("link")).unwrap();
    assert!(place.view("link").unwrap().contains("here"));
    let real = place.path("real");
    assert!(place.view(real.to_str().unwrap()).unwrap().contains("here"));
    place.replace("link", "here", "there").unwrap();
    assert!(place.path("link").is_symlink());
    assert_eq!(place.read("real"), "there\n");
}

#[test]
fn a_call_that_lacks_something_is_told_what() {
    let place = Place::new();
    place.write("f", b"a\n");
    let error = |input: Value| place.editor.call(&input).unwrap_err();
    assert_eq!(error(json!({})), "`command` is missing; it must be a text");
    assert_eq!(
        error(json!({ "command": "view" })),
        "`path` is missing; it must be a text"
    );
    assert_eq!(
        error(json!({ "command": "create", "path": "x" })),
        "`file_text` is missing; it must be a text"
    );
    assert_eq!(
        error(json!({ "command": "undo_edit", "path": "f" })),
        "there is no command \"undo_edit\"; there are view, create, str_replace and insert"
    );
}
