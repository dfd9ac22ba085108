//! `completions`: the script that completes the command line in a shell.
//!
//! `clap_complete` writes it from the table of flags. This module adds the ids of tasks: the script
//! runs `descartes-worker tasks --ids` while a person types.

use std::io::{self, Write};

use clap_complete::Shell;

/// The addition to the bash script. The word before the cursor decides which ids it offers. bash treats the equals
/// sign of `--task=` as a separate word.
const BASH: &str = r#"
_descartes_worker_with_tasks() {
    local cur=$2 previous=$3 ready_only=
    if [[ $cur == = ]]; then
        cur=
    elif [[ $previous == = ]]; then
        previous=${COMP_WORDS[COMP_CWORD-2]}
    fi
    case $previous in
        --task) ready_only=--ready ;;
        --only|retry|skip|cancel) ;;
        *) _descartes__worker "$@"; return ;;
    esac
    COMPREPLY=($(compgen -W "$("$1" tasks --ids $ready_only 2>/dev/null)" -- "$cur"))
}
complete -F _descartes_worker_with_tasks -o bashdefault -o default descartes-worker
"#;

/// The addition to the zsh script: the functions that ask for ids.
const ZSH: &str = r#"
_descartes_worker_ready_tasks() {
    compadd -- ${(f)"$(descartes-worker tasks --ids --ready 2>/dev/null)"}
}
_descartes_worker_tasks() {
    compadd -- ${(f)"$(descartes-worker tasks --ids 2>/dev/null)"}
}
"#;

/// The addition to the fish script.
const FISH: &str = r"
complete -c descartes-worker -l task -x -a '(descartes-worker tasks --ids --ready 2>/dev/null)'
complete -c descartes-worker -l only -x -a '(descartes-worker tasks --ids 2>/dev/null)'
complete -c descartes-worker -n '__fish_seen_subcommand_from retry skip cancel' -f -a '(descartes-worker tasks --ids 2>/dev/null)'
";

/// Prints the script of a shell.
pub fn print(shell: Shell, cli: &mut clap::Command) -> io::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, cli, env!("CARGO_PKG_NAME"), &mut script);
    let script = String::from_utf8_lossy(&script);
    io::stdout()
        .lock()
        .write_all(with_task_ids(shell, &script).as_bytes())
}

/// The script that `clap_complete` has written, with completions of the ids of tasks.
fn with_task_ids(shell: Shell, script: &str) -> String {
    match shell {
        Shell::Bash => {
            // If the program's name has a hyphen, the script of clap_complete compares the current subcommand with
            // another name than the one that it has set.
            let name = env!("CARGO_PKG_NAME");
            let (compared, set) = (name.replace('-', "__subcmd__"), name.replace('-', "__"));
            let script = script.replace(
                &format!("{compared}__subcmd__"),
                &format!("{set}__subcmd__"),
            );
            format!("{script}{BASH}")
        }
        Shell::Fish => format!("{script}{FISH}"),
        Shell::Zsh => {
            let lines = script.lines().map(|line| {
                let line = if line.starts_with("'--task=") {
                    line.replace(":ID:_default'", ":ID:_descartes_worker_ready_tasks'")
                } else if line.starts_with("'--only=") {
                    line.replace(":IDS:_default'", ":IDS:_descartes_worker_tasks'")
                } else if line.starts_with("'::task-of-action ") {
                    line.replace(":_default'", ":_descartes_worker_tasks'")
                } else {
                    line.to_owned()
                };
                line + "\n"
            });
            let script: String = lines.collect();
            // The functions go below the first line, which zsh expects to be `#compdef`, and above the last lines,
            // which call them.
            script.replacen('\n', &format!("\n{ZSH}"), 1)
        }
        _ => script.to_owned(),
    }
}
