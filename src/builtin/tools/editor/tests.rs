//! Valid and invalid calls of the editor.

use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::json;

use super::*;

struct Workspace {
    dir: tempfile::TempDir,
    editor: Editor,
}

impl Workspace {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("project")).unwrap();
        let editor = Editor::new(&dir.path().join("project")).unwrap();
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
fn view_shows_a_file_or_a_range_of_it_with_line_numbers() {
    let workspace = Workspace::new();
    workspace.write("f", b"one\ntwo\nthree\n");
    let view = |range: Value| workspace.call("view", "f", &json!({ "view_range": range }));
    assert_eq!(
        workspace.view("f").unwrap(),
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
            format!(
                "`view_range` is {wrong}: the first line must be from 1 to 3, and the last line must not be before it"
            )
        );
    }
    assert!(view(json!(["a"])).unwrap_err().contains("two line numbers"));
    workspace.write("empty", b"");
    assert_eq!(workspace.view("empty").unwrap(), "[the file is empty]");
}

#[test]
fn view_shows_two_levels_of_a_directory_without_hidden_entries() {
    let workspace = Workspace::new();
    for name in [
        "src/deep/deeper/f",
        "src/main.rs",
        "node_modules/x/y",
        ".git/config",
        "a",
    ] {
        workspace.write(name, b"");
    }
    assert_eq!(
        workspace.view(".").unwrap(),
        "./\n  a\n  node_modules/\n  src/\n    deep/\n    main.rs\n"
    );
    for at in 0..500 {
        workspace.write(&format!("many/{at}"), b"");
    }
    assert_eq!(workspace.view("many").unwrap().lines().count(), 501);
    workspace.write("many/500", b"");
    let view = workspace.view("many").unwrap();
    assert_eq!(view.lines().count(), 502);
    assert!(view.ends_with("[... more entries are left out; view a subdirectory, or use bash]\n"));
}

#[test]
fn view_says_why_it_cannot_show_a_file() {
    let workspace = Workspace::new();
    workspace.write("binary", b"\xff\xfe\x00");
    workspace.write("large", &vec![b'a'; 9 * 1024 * 1024]);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        workspace.path("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    for (name, error) in [
        ("nothing", "there is no file nothing"),
        ("binary", "binary is not text in UTF-8; use bash"),
        (
            "large",
            "large is 9437184 bytes long, which is too large for this tool; use bash",
        ),
        ("fifo", "fifo is not a regular file"),
    ] {
        assert_eq!(workspace.view(name).unwrap_err(), error);
    }
}

#[test]
fn create_makes_missing_directories_and_overwrites_an_existing_file() {
    let workspace = Workspace::new();
    let create = |text: &str| workspace.call("create", "a/b/c", &json!({ "file_text": text }));
    assert_eq!(create("one\n").unwrap(), "a/b/c is created: 1 lines");
    fs::set_permissions(workspace.path("a/b/c"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(
        create("two\nlines\n").unwrap(),
        "a/b/c is overwritten: 2 lines"
    );
    assert_eq!(workspace.read("a/b/c"), "two\nlines\n");
    let mode = fs::metadata(workspace.path("a/b/c"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o755);
    let error = workspace
        .call("create", "a/b", &json!({ "file_text": "" }))
        .unwrap_err();
    assert_eq!(error, "a/b exists and is not a regular file");
    let error = workspace
        .call("create", "a/b/c/d", &json!({ "file_text": "" }))
        .unwrap_err();
    assert!(
        error.starts_with("a/b/c/d cannot be reached: Not a directory"),
        "{error}"
    );
}

#[test]
fn str_replace_changes_a_text_that_occurs_once() {
    let workspace = Workspace::new();
    workspace.write("f", b"a\nb\nc\nb\n");
    assert_eq!(
        workspace.replace("f", "c", "see\nsea").unwrap(),
        "f is changed:\n     1\ta\n     2\tb\n     3\tsee\n     4\tsea\n     5\tb\n"
    );
    assert_eq!(
        workspace.replace("f", "b", "d").unwrap_err(),
        "`old_str` occurs 2 times in f (lines 2, 5); it must occur once, so include more of the text around it"
    );
    assert_eq!(
        workspace.replace("f", "nothing", "d").unwrap_err(),
        "`old_str` is not in f; it must match exactly, white space included"
    );
    assert_eq!(
        workspace.replace("f", "", "d").unwrap_err(),
        "`old_str` is empty; use insert or create"
    );
    assert_eq!(workspace.read("f"), "a\nb\nsee\nsea\nb\n");
    workspace
        .call("str_replace", "f", &json!({ "old_str": "see\n" }))
        .unwrap();
    assert_eq!(workspace.read("f"), "a\nb\nsea\nb\n");
}

#[test]
fn str_replace_counts_at_most_ten_occurrences() {
    let workspace = Workspace::new();
    workspace.write("f", "a\n".repeat(1_000_000).as_bytes());
    let error = workspace.replace("f", "a", "b").unwrap_err();
    assert!(
        error.starts_with("`old_str` occurs at least 10 times in f (lines 1, 2, 3, "),
        "{error}"
    );
}

#[test]
fn str_replace_does_not_change_a_read_only_file() {
    let workspace = Workspace::new();
    workspace.write("f", b"a\n");
    fs::set_permissions(workspace.path("f"), fs::Permissions::from_mode(0o444)).unwrap();
    assert_eq!(
        workspace.replace("f", "a", "b").unwrap_err(),
        "f is read-only"
    );
    assert_eq!(workspace.read("f"), "a\n");
}

#[test]
fn edits_keep_the_carriage_returns_at_line_ends() {
    let workspace = Workspace::new();
    workspace.write("f", b"a\r\nb\r\nc\r\n");
    workspace.replace("f", "a\nb\n", "x\ny\n").unwrap();
    assert_eq!(workspace.read("f"), "x\r\ny\r\nc\r\n");
    workspace.insert("f", 1, "new\nlines\n").unwrap();
    assert_eq!(workspace.read("f"), "x\r\nnew\r\nlines\r\ny\r\nc\r\n");
}

#[test]
fn str_replace_of_one_line_by_several_keeps_the_carriage_returns() {
    let workspace = Workspace::new();
    workspace.write("f", b"a\r\nb\r\nc\r\n");
    workspace.replace("f", "b", "b1\nb2").unwrap();
    assert_eq!(workspace.read("f"), "a\r\nb1\r\nb2\r\nc\r\n");
    workspace.replace("f", "b1\r\nb2", "b\r\nb").unwrap();
    assert_eq!(workspace.read("f"), "a\r\nb\r\nb\r\nc\r\n");
}

#[test]
fn str_replace_in_a_file_with_both_kinds_of_line_ends_writes_the_text_as_it_is() {
    let workspace = Workspace::new();
    workspace.write("f", b"a\r\nb\nc\n");
    workspace.replace("f", "b\n", "b1\nb2\n").unwrap();
    assert_eq!(workspace.read("f"), "a\r\nb1\nb2\nc\n");
}

#[test]
fn insert_adds_a_text_after_a_line() {
    let workspace = Workspace::new();
    let inserted = |content: &str, line: i64, text: &str| {
        workspace.write("f", content.as_bytes());
        workspace
            .insert("f", line, text)
            .map(|_| workspace.read("f"))
    };
    assert_eq!(inserted("a\nb\n", 0, "x\n").unwrap(), "x\na\nb\n");
    assert_eq!(inserted("a\nb\n", 1, "x").unwrap(), "a\nx\nb\n");
    assert_eq!(inserted("a\nb\n", 2, "x\ny\n").unwrap(), "a\nb\nx\ny\n");
    assert_eq!(inserted("a\nb", 2, "x\n").unwrap(), "a\nb\nx");
    assert_eq!(inserted("", 0, "x").unwrap(), "x\n");
    for wrong in [3, -1] {
        assert_eq!(
            inserted("a\nb\n", wrong, "x").unwrap_err(),
            "`insert_line` must be a line number from 0 to 2, the line after which the text is inserted"
        );
    }
    workspace.write("f", b"a\n");
    workspace
        .call("insert", "f", &json!({ "insert_line": 1, "new_str": "b" }))
        .unwrap();
    assert_eq!(workspace.read("f"), "a\nb\n");
    let error = workspace
        .call("insert", "f", &json!({ "insert_line": 1 }))
        .unwrap_err();
    assert_eq!(error, "`insert_text` must be a string");
}

#[test]
fn paths_outside_of_the_project_are_rejected() {
    let workspace = Workspace::new();
    let outside = workspace.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    symlink(&outside, workspace.path("out")).unwrap();
    symlink(outside.join("secret"), workspace.path("file")).unwrap();
    symlink(outside.join("new"), workspace.path("dangling")).unwrap();
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
            let error = workspace.call(command, path, &more).unwrap_err();
            assert!(
                error.contains("is not in the project's directory"),
                "{path}: {error}"
            );
        }
    }
    let error = workspace
        .call("create", "dangling", &json!({ "file_text": "x" }))
        .unwrap_err();
    assert_eq!(
        error,
        "dangling is a symbolic link to a file that does not exist"
    );
    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    // Links within the project are followed, and absolute paths are accepted.
    workspace.write("real", b"here\n");
    symlink("real", workspace.path("link")).unwrap();
    assert!(workspace.view("link").unwrap().contains("here"));
    let real = workspace.path("real");
    assert!(
        workspace
            .view(real.to_str().unwrap())
            .unwrap()
            .contains("here")
    );
    workspace.replace("link", "here", "there").unwrap();
    assert!(workspace.path("link").is_symlink());
    assert_eq!(workspace.read("real"), "there\n");
}

#[test]
fn a_call_without_a_required_argument_gets_an_error_that_names_it() {
    let workspace = Workspace::new();
    workspace.write("f", b"a\n");
    let error = |input: Value| workspace.editor.call(&input).unwrap_err();
    assert_eq!(error(json!({})), "`command` must be a string");
    assert_eq!(
        error(json!({ "command": "view" })),
        "`path` must be a string"
    );
    assert_eq!(
        error(json!({ "command": "create", "path": "x" })),
        "`file_text` must be a string"
    );
    assert_eq!(
        error(json!({ "command": "undo_edit", "path": "f" })),
        "there is no command \"undo_edit\"; there are view, create, str_replace and insert"
    );
}
