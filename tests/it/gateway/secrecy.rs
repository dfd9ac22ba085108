//! The agent cannot read the key anywhere.

use super::KEY;
use super::session::{WAITING_AGENT, end_agent};
use crate::support::{Project, Receiver, Worker, nobody, wait_until};

/// A script that searches for the key everywhere. The script contains the two halves of the key separately, so
/// that it does not find itself.
const SEARCH: &str = r#"
first=sk-ant-test- second=SECOND_HALF
key=$first$second
count=0
for file in /proc/[0-9]*/environ /proc/[0-9]*/cmdline /proc/[0-9]*/maps /proc/[0-9]*/fd/*; do
    case $file in /proc/$$/*|/proc/self/*) continue;; esac
    if [ -f "$file" ] && [ -r "$file" ] && tr '\0' '\n' < "$file" 2>/dev/null > copy; then
        count=$((count + 1))
        if grep -q -e "$key" copy; then echo "found in $file"; fi
    fi
done
rm -f copy
env | sed "s/^first=.*//;s/^second=.*//" > mine
if grep -q -e "$key" mine; then echo 'found in the environment'; fi
if grep -r -q -e "$key" "$HOME" "$TMPDIR" . 2>/dev/null; then echo 'found in a file'; fi
gateway=
for pid in $(cat /proc/$PPID/task/$PPID/children); do
    if tr '\0' ' ' < /proc/$pid/cmdline | grep -q ' gateway $'; then gateway=$pid; fi
done
for pid in $PPID $gateway; do
    for file in environ mem maps fd/0 fd/1 auxv stack; do
        if head -c 1 /proc/$pid/$file > /dev/null 2>&1; then echo "$pid/$file is open"; fi
    done
done
echo "read $count files, gateway ${gateway:+there}"
"#;

#[test]
fn the_key_is_in_no_place_that_the_agent_can_read() {
    let (receiver, project) = (Receiver::start(), nobody::project());
    let bin = nobody::shared_dir();
    let (home, temporary_dir) = (nobody::shared_dir(), nobody::shared_dir());
    // Only this test has this key: without root, the agent can read the environment of a worker that another test has just started.
    let name = temporary_dir.path().display().to_string();
    let second_half: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let key = format!("sk-ant-test-{second_half}");
    let worker = Worker::new(&receiver, &project)
        .env("HOME", home.path())
        .env("TMPDIR", temporary_dir.path())
        .env("ANTHROPIC_API_KEY", &key)
        .env("OPENAI_API_KEY", &key)
        // In a PID namespace, the script would not see the processes that it searches.
        .env("DESCARTES_ISOLATION", "off")
        .agent(SEARCH.replace("SECOND_HALF", &second_half));
    if nobody::is_root() && nobody::may_become_nobody() {
        for dir in [&home, &temporary_dir] {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
            std::fs::set_permissions(dir.path(), mode).expect("the owner can change the mode");
        }
    }
    let ended = crate::supervision::secrets::as_unprivileged_user("", worker, &bin).run();
    let event = ended.assert_completed(&receiver);
    let output = event["result"]["output"]["tail"].as_str().expect("a tail");
    assert!(!output.contains("found"), "{output}");
    assert!(!output.contains("is open"), "{output}");
    assert!(output.contains("gateway there"), "{output}");
    assert!(!output.contains("read 0 files"), "{output}");
}

#[test]
fn the_secret_path_and_the_key_are_not_on_the_gateways_command_line_or_in_its_environment() {
    let (receiver, project) = (Receiver::start(), Project::new());
    let running = Worker::new(&receiver, &project)
        .env("ANTHROPIC_API_KEY", KEY)
        .agent(WAITING_AGENT)
        .start();
    wait_until("the agent", || project.path("environment").exists());
    let environment = project.read("environment");
    let url = environment
        .lines()
        .find_map(|line| line.strip_prefix("ANTHROPIC_BASE_URL="));
    let path = url.and_then(|url| url.rsplit('/').next()).expect("a path");
    assert_eq!(path.len(), 32);
    let worker = running.pid().as_raw_nonzero().get();
    let gateway = super::hostile::gateway_pid(worker).as_raw_nonzero();
    let command = std::fs::read(format!("/proc/{gateway}/cmdline")).expect("the command line");
    let environment = std::fs::read(format!("/proc/{gateway}/environ")).unwrap_or_default();
    for bytes in [command, environment] {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(!text.contains(path) && !text.contains(KEY), "{text}");
    }
    let _pipe = end_agent(&project, 0);
    running.wait().assert_completed(&receiver);
}
