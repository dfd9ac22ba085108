//! Opens a page in Chromium, and reads the measurements of a script in the page.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use ring::digest::{SHA256, digest};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::path;

/// The script that measures the page in the browser.
const SCRIPT: &str = include_str!("measure.js");

/// The theme that the user has chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theme {
    Light,
    Dark,
}

/// Measures the page alone.
pub fn measure(page: &Path) -> Value {
    let dir = tempfile::tempdir().expect("a directory");
    let copy = with_script(page, &dir);
    read_measurements(&open(&dir, &copy, Theme::Light, &[]))
}

/// Measures the page in a frame with this width, because a window has a minimum width.
pub fn measure_in_frame(page: &Path, width: u64, theme: Theme) -> Value {
    let dir = tempfile::tempdir().expect("a directory");
    let copy = with_script(page, &dir);
    let name = copy.file_name().expect("a name").to_str().expect("UTF-8");
    let frame_page = dir.path().join("around.html");
    let html = format!(
        "<!DOCTYPE html><meta name=\"color-scheme\" content=\"light dark\"><body><p id=\"measured\"></p>\
         <script>addEventListener('message', event => {{ document.getElementById('measured').textContent = event.data }})</script>\
         <iframe src=\"{name}\" width=\"{width}\" height=\"900\" style=\"border:0\"></iframe>"
    );
    fs::write(&frame_page, html).expect("a page");
    // With a virtual time budget, Chromium dumps the page only after the message has arrived.
    read_measurements(&open(
        &dir,
        &frame_page,
        theme,
        &["--virtual-time-budget=10000"],
    ))
}

/// A copy of the page with the script, which the policy of the copy allows.
fn with_script(page: &Path, dir: &TempDir) -> PathBuf {
    let html = fs::read_to_string(page).expect("the page");
    let hash = BASE64_STANDARD.encode(digest(&SHA256, SCRIPT.as_bytes()));
    let policy = "content=\"default-src 'none'; ";
    assert!(html.contains(policy), "the page has no policy");
    let html = html.replacen(policy, &format!("{policy}script-src 'sha256-{hash}'; "), 1);
    let html = html.replacen("</body>", &format!("<script>{SCRIPT}</script></body>"), 1);
    let copy = dir.path().join("page.html");
    fs::write(&copy, html).expect("a copy");
    copy
}

/// Opens a page in Chromium with these further flags; returns its DOM after it was loaded.
fn open(dir: &TempDir, page: &Path, theme: Theme, flags: &[&str]) -> String {
    let scheme = match theme {
        Theme::Light => 1,
        Theme::Dark => 0,
    };
    let output = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-background-networking",
            "--disable-gpu",
            // In a container, the shared memory may be smaller than a page needs.
            "--disable-dev-shm-usage",
            "--window-size=1300,1000",
            "--dump-dom",
        ])
        .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
        .arg(format!(
            "--user-data-dir={}",
            dir.path().join("profile").display()
        ))
        .args(flags)
        .arg(format!("file://{}", page.display()))
        .env_clear()
        .env("PATH", path())
        .env("HOME", dir.path())
        .stdin(Stdio::null())
        .output()
        .expect("chromium, which `.ci/run` installs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && !text.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// The measurements that the script has written into the page.
#[track_caller]
fn read_measurements(dom: &str) -> Value {
    let found = dom
        .split_once("<p id=\"measured\">")
        .expect("the measurements")
        .1;
    let json = found.split_once("</p>").expect("their end").0;
    let json = json
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&");
    serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json:?}"))
}
