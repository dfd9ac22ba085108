//! Shells complete the command line with flags and the ids of tasks.

#[cfg(feature = "peers")]
use crate::support::Project;
use crate::support::Worker;

/// Needs bash, which not every machine has.
#[cfg(feature = "peers")]
#[test]
fn bash_completes_the_ids_of_tasks() {
    let project = Project::new();
    let script = r#"
        eval "$("$0" completions bash)"
        complete -p descartes-worker
        try() {
            COMP_WORDS=("$worker" "$@")
            COMP_CWORD=$#
            COMPREPLY=()
            _descartes_worker_with_tasks "$worker" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
            echo "$*: ${COMPREPLY[*]}"
        }
        worker=$0
        try --task ""
        try local --task = ""
        try local --task =
        try dispatch retry ""
        try dispatch --only 7
        try dispatch --ba
    "#;
    let ended = Worker::without_settings()
        .started_by("bash", |program| {
            vec!["-c".into(), script.into(), program.into()]
        })
        .dir(project.dir())
        .run();
    ended.assert_code(0);
    assert_eq!(
        ended.stdout,
        "complete -o bashdefault -o default -F _descartes_worker_with_tasks descartes-worker\n\
         --task : 8\nlocal --task = : 8\nlocal --task =: 8\ndispatch retry : 7 8 9\ndispatch --only 7: 7\n\
         dispatch --ba: --base\n",
        "{ended:#?}"
    );
}

/// The output of a shell that runs a script in a project with one ready task and one done task. The program is on the `PATH`.
#[cfg(feature = "peers")]
fn output_of_shell(shell: &str, script: &str) -> String {
    let project = Project::with_graph(
        "# SCUD Graph v1\n# Phase: house\n\n@nodes\ndone-1 | Plan | D | 1 | H\nready-2 | Build | P | 1 | H\n",
    );
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_descartes-worker"));
    let mut path = program
        .parent()
        .expect("a directory")
        .as_os_str()
        .to_owned();
    path.push(":");
    path.push(crate::support::path());
    let ended = Worker::without_settings()
        .started_by(shell, |_| vec!["-c".into(), script.into()])
        .env("PATH", path)
        .env("HOME", project.dir())
        .dir(project.dir())
        .run();
    ended.assert_code(0);
    ended.stdout
}

/// Needs fish, which not every machine has.
#[cfg(feature = "peers")]
#[test]
fn fish_completes_the_ids_of_tasks() {
    let script = r#"
        descartes-worker completions fish | source
        for line in "--task " "local --task " "dispatch retry " "dispatch --only d" "dispatch --ba"
            echo "$line:" (complete -C "descartes-worker $line" | string replace -r '\t.*' '')
        end
    "#;
    assert_eq!(
        output_of_shell("fish", script),
        "--task : ready-2\nlocal --task : ready-2\ndispatch retry : done-1 ready-2\ndispatch --only d: done-1\n\
         dispatch --ba: --base\n"
    );
}

/// Needs zsh, which not every machine has.
#[cfg(feature = "peers")]
#[test]
fn zsh_completes_the_ids_of_tasks() {
    // A person's shell on a pseudo-terminal: Tab completes the word, and the next command shows the line.
    let script = r#"
        mkdir functions && descartes-worker completions zsh > functions/_descartes-worker
        zmodload zsh/zpty
        zpty shell zsh -f -i
        zpty -w shell 'PROMPT=; stty -echo; fpath=(functions $fpath); autoload -Uz compinit; compinit -D -u'
        zpty -w shell 'descartes-worker() { print -r -- "<$*>" }; print READY-$((1+1))'
        zpty -r shell text '*READY-2*'
        try() {
            zpty -w -n shell "descartes-worker $*"$'\t\n'
            zpty -r shell text '*<*>*'
            print -r -- "$*: ${${text##*<}%%>*}"
        }
        try "--task "
        try "local --task "
        try "dispatch retry d"
        try "dispatch --only d"
    "#;
    // The function has the name of the program, which the script of the completions calls to get the ids.
    let script = script.replace(
        "descartes-worker() {",
        "descartes-worker() { [[ $1 == tasks ]] && { command descartes-worker \"$@\"; return };",
    );
    assert_eq!(
        output_of_shell("zsh", &script),
        "--task : --task ready-2\nlocal --task : local --task ready-2\ndispatch retry d: dispatch retry done-1\n\
         dispatch --only d: dispatch --only done-1\n"
    );
}

#[test]
fn shells_can_complete_the_command_line() {
    for (shell, part_of_script) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef descartes-worker"),
        ("zsh", ":ID:_descartes_worker_ready_tasks'"),
        ("zsh", ":IDS:_descartes_worker_tasks'"),
        ("zsh", "cancel:_descartes_worker_tasks'"),
        ("fish", "complete -c descartes-worker"),
        ("fish", "-l task -x -a '(descartes-worker tasks --ids"),
    ] {
        let ended = Worker::without_settings()
            .args(["completions", shell])
            .run();
        ended.assert_code(0);
        assert!(ended.stdout.contains(part_of_script), "{ended:#?}");
        assert!(ended.stdout.contains("task-timeout"), "{ended:#?}");
    }
    Worker::without_settings()
        .args(["completions", "dos"])
        .run()
        .assert_code(2);
}
