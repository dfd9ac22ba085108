//! Tests that the man page, `docs/descartes-worker.1`, has all commands, flags, variables and exit codes.
//!
//! The page is a file of the repository, so that the program does not need `clap_mangen`, and packages only copy the
//! page.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use clap::Command;
use clap_mangen::Man;

use super::{WORKER_COMMAND, exit_codes};
use crate::config::cli;
use crate::descartes_toml;

const PAGE: &str = "docs/descartes-worker.1";

#[test]
fn the_man_page_is_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = fs::read_to_string(root.join(PAGE)).unwrap_or_default();
    let expected = page();
    if found != expected {
        let new = root.join("target").join("descartes-worker.1");
        fs::write(&new, expected).expect("a written file");
        panic!("{PAGE} is not up to date: cp {} {PAGE}", new.display());
    }
}

fn page() -> String {
    let mut cli = cli().version(env!("CARGO_PKG_VERSION"));
    // Subcommands get their flags only when they are built.
    cli.build();
    let commands: Vec<Command> = cli
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .cloned()
        .collect();
    let worker_args: BTreeSet<String> = cli
        .get_arguments()
        .map(|arg| arg.get_id().to_string())
        .collect();
    let man = Man::new(without_subcommands(&cli))
        .source(WORKER_COMMAND)
        .manual("User Commands");
    let mut page = render_to_string(|to| man.render_title(to));
    page += &render_to_string(|to| man.render_name_section(to));
    page += ".SH SYNOPSIS\n\\fBdescartes\\-worker\\fR [\\fIOPTIONS\\fR]\n.br\n\\fBdescartes\\-worker\\fR \\fICOMMAND\\fR [\\fIOPTIONS\\fR]\n";
    page += &render_to_string(|to| man.render_description_section(to));
    page += ".SH COMMANDS\n";
    for command in &commands {
        let about = command
            .get_about()
            .map(ToString::to_string)
            .unwrap_or_default();
        let _ = writeln!(
            page,
            ".TP\n\\fB{}\\fR\n{}",
            escape_roff(command.get_name()),
            escape_roff(&about)
        );
    }
    page += &render_to_string(|to| man.render_options_section(to));
    for command in commands {
        let is_worker_arg = |id: &str| id == "help" || worker_args.contains(id);
        let has_further_args = command
            .get_arguments()
            .any(|arg| !is_worker_arg(arg.get_id().as_str()));
        if !has_further_args {
            continue;
        }
        let heading = format!(".SH \"OPTIONS OF {}\"", command.get_name().to_uppercase());
        let options = command.mut_args(|arg| {
            let is_hidden = is_worker_arg(arg.get_id().as_str());
            arg.hide(is_hidden)
        });
        let section = render_to_string(|to| Man::new(options).render_options_section(to));
        page += &section.replacen(".SH OPTIONS", &heading, 1);
    }
    page += &render_to_string(|to| man.render_extra_section(to)).replacen(
        ".SH EXTRA",
        ".SH ENVIRONMENT",
        1,
    );
    let file = escape_roff(descartes_toml::FILE_NAME);
    let _ = writeln!(
        page,
        ".SH FILES\n.TP\n\\fI{file}\\fR\nSettings that the project in the workspace brings along."
    );
    page += ".TP\n\\fI.scud/tasks/tasks.scg\\fR\nThe project's task graph.\n.SH \"EXIT STATUS\"\n";
    for entry in exit_codes() {
        let command = if entry.command == WORKER_COMMAND {
            "worker"
        } else {
            entry.command
        };
        let _ = writeln!(
            page,
            ".TP\n\\fB{}\\fR ({})\n{}",
            entry.code,
            escape_roff(command),
            escape_roff(entry.meaning)
        );
    }
    page
}

fn without_subcommands(cli: &Command) -> Command {
    let mut command = Command::new(WORKER_COMMAND).version(env!("CARGO_PKG_VERSION"));
    command = command.about(cli.get_about().cloned().unwrap_or_default());
    command = command.after_long_help(cli.get_after_long_help().cloned().unwrap_or_default());
    command
        .args(cli.get_arguments().cloned())
        .disable_help_flag(true)
        .disable_version_flag(true)
}

fn render_to_string(render: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>) -> String {
    let mut text = Vec::new();
    render(&mut text).expect("a vector takes all text");
    let text = String::from_utf8(text).expect("UTF-8");
    // clap_mangen defines the apostrophe at the start of every section; the definition at the title is enough.
    let definition = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";
    if text.contains(".TH ") {
        text
    } else {
        text.replace(definition, "")
    }
}

/// Escapes a text for roff.
fn escape_roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) {
        format!("\\&{text}")
    } else {
        text
    }
}
