//! Tests the shop of `demo --graph`: its scripted agent works on one task after the other.

use std::path::Path;
use std::process::Output;

use super::*;

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn environment() -> Variables {
    #[expect(clippy::disallowed_methods, reason = "the tests' own PATH")]
    let path = std::env::var_os("PATH").unwrap_or_default();
    vec![("PATH".into(), path)]
}

/// Runs a script of the project as the worker runs the agent.
fn shell(dir: &Path, script: &str, task: &str, prompt: &str) -> Output {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, prompt).unwrap();
    std::process::Command::new("sh")
        .current_dir(dir)
        .arg(script)
        .env("TASK_ID", task)
        .env("DESCARTES_PROMPT_FILE", file.path())
        .output()
        .unwrap()
}

fn assert_agent_succeeds(dir: &Path, task: &str, prompt: &str) {
    let output = shell(dir, ".agent.sh", task, prompt);
    assert!(output.status.success(), "{task}: {output:?}");
}

fn checks_pass(dir: &Path) -> bool {
    shell(dir, "test.sh", "", "").status.success()
}

#[test]
fn every_task_of_the_shop_passes_the_checks_but_the_receipt_only_after_a_repair() {
    let sample = block_on(Sample::create_with_graph(&environment())).unwrap();
    let dir = sample.dir();
    for task in ["shop:1", "2.1", "shop:2.2", "6", "7", "4", "3", "5"] {
        assert_agent_succeeds(dir, task, "Do the task.");
        if task == "3" {
            assert!(!checks_pass(dir), "the receipt is right at once");
            let repair =
                "Your work on task 3 (Print a receipt) is not done: the check `sh test.sh` failed";
            assert_agent_succeeds(dir, task, repair);
        }
        assert!(checks_pass(dir), "{task}");
    }
    let catalog = fs::read_to_string(dir.join("catalog.txt")).unwrap();
    let lines = [
        "The goods are in goods.txt.",
        "The prices are in prices.txt.",
        "The stock is in stock.txt.",
    ];
    assert_eq!(catalog.lines().collect::<Vec<_>>(), lines);
    assert!(!shell(dir, ".agent.sh", "8", "").status.success());
}

#[test]
fn prices_and_stock_conflict_unless_one_is_built_on_the_other() {
    let sample = block_on(Sample::create_with_graph(&environment())).unwrap();
    let git = |args: &[&str]| block_on(sample.git(args)).unwrap();
    let commit = |task: &str| {
        assert_agent_succeeds(sample.dir(), task, "Do the task.");
        git(&["add", "--all"]);
        git(&["commit", "--quiet", "--message", task]);
    };
    commit("1");
    git(&["checkout", "--quiet", "-b", "stock"]);
    commit("2.2");
    git(&["checkout", "--quiet", "-b", "prices", "main"]);
    commit("2.1");
    assert!(block_on(sample.git(["merge", "--quiet", "stock"])).is_err());
    let conflicts = git(&["diff", "--name-only", "--diff-filter=U"]);
    assert_eq!(conflicts, "catalog.txt\n");
    git(&["merge", "--abort"]);
    commit("2.2");
    assert!(checks_pass(sample.dir()));
}

#[test]
fn the_graph_of_the_shop_has_eight_tasks_to_work_on() {
    let graph = GRAPH_FILES
        .iter()
        .find(|(name, _)| name.ends_with("tasks.scg"));
    let (_, graph) = graph.unwrap();
    assert_eq!(graph.matches(" | P | ").count(), 8);
    let sample = block_on(Sample::create_with_graph(&environment())).unwrap();
    let project = crate::scud::Project::at(sample.dir().to_owned());
    for task in ["1", "2.1", "2.2", "3", "4", "5", "6", "7"] {
        let query = crate::scud::TaskQuery {
            reference: task,
            tag: Some(GRAPH_PHASE),
            finished_tasks: crate::scud::FinishedTasks::Reject,
        };
        block_on(project.find(&query)).unwrap();
    }
}
