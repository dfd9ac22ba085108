//! A Git LFS server: the batch API with basic transfers, next to `git http-backend`. Also pointers and objects for
//! the tests.

use std::fs;
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

/// The id of an object: the SHA-256 of its content, in hexadecimal digits.
pub fn oid(content: &[u8]) -> String {
    let digest = digest(&SHA256, content);
    let digits = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
    digits.collect()
}

/// The text of the pointer that stands for this content.
pub fn pointer(content: &[u8]) -> String {
    let (oid, size) = (oid(content), content.len());
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n")
}

/// The path at which a repository stores an object.
pub fn object_path(git_dir: &Path, oid: &str) -> PathBuf {
    let objects = git_dir.join("lfs/objects");
    objects.join(&oid[..2]).join(&oid[2..4]).join(oid)
}

/// Puts an object into a repository.
pub fn store_object(git_dir: &Path, content: &[u8]) {
    let path = object_path(git_dir, &oid(content));
    fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
    fs::write(path, content).expect("a written object");
}

/// The HTTP answer to a request below `/project.git/info/lfs`; `None` if the target is not below it. `root` is the directory with
/// the repository `project.git`, and `base` is the URL of the server.
pub fn answer(root: &Path, base: &str, method: &str, target: &str, body: &[u8]) -> Option<Vec<u8>> {
    let git_dir = root.join("project.git");
    let route = target.strip_prefix("/project.git/info/lfs/objects/")?;
    Some(match (method, route) {
        ("POST", "batch") => {
            let request: Value = serde_json::from_slice(body).expect("JSON");
            let answer = batch(&git_dir, base, &request).to_string();
            response("200 OK", answer.as_bytes())
        }
        ("PUT", oid) => {
            assert_eq!(
                self::oid(body),
                oid,
                "the content of an object has the hash that its id says"
            );
            store_object(&git_dir, body);
            response("200 OK", b"")
        }
        (_, oid) => match fs::read(object_path(&git_dir, oid)) {
            Ok(content) => response("200 OK", &content),
            Err(_) => response("404 Not Found", b""),
        },
    })
}

/// The answer to a request of the batch API: the URL to send or to get each object.
fn batch(git_dir: &Path, base: &str, request: &Value) -> Value {
    let operation = request["operation"].as_str().expect("an operation");
    let objects = request["objects"].as_array().expect("objects");
    let objects = objects.iter().map(|object| {
        let oid = object["oid"].as_str().expect("an oid");
        let mut answer = json!({ "oid": oid, "size": object["size"] });
        let action = json!({ "href": format!("{base}/project.git/info/lfs/objects/{oid}") });
        match (operation, object_path(git_dir, oid).exists()) {
            ("upload", false) => answer["actions"] = json!({ "upload": action }),
            ("upload", true) => {}
            (_, true) => answer["actions"] = json!({ "download": action }),
            (_, false) => answer["error"] = json!({ "code": 404, "message": "no such object" }),
        }
        answer
    });
    json!({ "transfer": "basic", "objects": objects.collect::<Vec<_>>() })
}

/// The bytes of an HTTP answer.
fn response(status: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/vnd.git-lfs+json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    )
    .into_bytes();
    answer.extend_from_slice(body);
    answer
}
