//! The structure of the source: which module may import which, and no circles of imports.
//!
//! Reads the source as tokens, so comments and strings do not count. Code for unit tests is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The modules of `src/`, the uppermost layer first. A module may import only from the layers
/// below its own.
const LAYERS: &[&[&str]] = &[
    &["main"],
    &["lifecycle", "vocabulary"],
    &["config"],
    &["check", "local", "probe"],
    &["dispatch"],
    &["task_list"],
    &["terminal", "report"],
    &[
        "runner",
        "callback",
        "receiver",
        "exit",
        "merge_graph",
        "completions",
    ],
    &["builtin", "gateway", "telemetry"],
    &["git", "stream_json", "scud", "http"],
    &["process"],
    &["isolation"],
    &["progress", "shutdown"],
    &["hangup", "temporary_dir"],
    &["task"],
    &["model"],
    &[
        "amounts",
        "atomic_file",
        "descartes_toml",
        "descriptors",
        "clock",
        "durations",
        "environment",
        "excerpt",
        "file_lock",
        "line_splitter",
        "panics",
        "programs",
        "redact",
        "result_line",
        "ring_buffer",
        "webhook",
    ],
];

/// Paths in `src/` that only unit tests compile.
fn is_for_tests(path: &str) -> bool {
    path.ends_with("/tests.rs")
        || path.contains("/tests/")
        || matches!(
            path,
            "scud/peers.rs"
                | "scud/samples.rs"
                | "git/samples.rs"
                | "dispatch/integration/samples.rs"
        )
}

/// The path of a module from the crate's root, for example `["runner", "agent"]`.
type Module = Vec<String>;

/// The module in the file with this path below `src/`.
fn module_of(path: &str) -> Module {
    let parts = path.trim_end_matches(".rs").split('/');
    parts.map(str::to_owned).collect()
}

/// The paths of all source files below `src/`, except unit tests.
fn source_files() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut found, mut unread) = (Vec::new(), vec![root.clone()]);
    while let Some(next) = unread.pop() {
        for entry in fs::read_dir(&next).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                unread.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let below: PathBuf = path.strip_prefix(&root).expect("below").to_owned();
                found.push(below.to_str().expect("UTF-8").to_owned());
            }
        }
    }
    found.retain(|path| !is_for_tests(path));
    found.sort();
    found
}

/// Adds every path that a token stream mentions to `found`. `use a::{b, c}` counts as `a::b` and `a::c`.
fn mentioned_paths(tokens: TokenStream, found: &mut Vec<Vec<String>>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            // `#[cfg(test)] mod tests { … }`
            TokenTree::Punct(punct) if punct.as_char() == '#' => {
                let is_test = tokens.get(at + 1).is_some_and(|attribute| {
                    let text = attribute.to_string().replace(' ', "");
                    text.contains("cfg(test)") || text.contains("cfg(all(test")
                });
                at += 2;
                if is_test {
                    while at < tokens.len() {
                        let end = match &tokens[at] {
                            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
                            TokenTree::Punct(punct) => punct.as_char() == ';',
                            _ => false,
                        };
                        at += 1;
                        if end {
                            break;
                        }
                    }
                }
            }
            TokenTree::Group(group) => {
                mentioned_paths(group.stream(), found);
                at += 1;
            }
            TokenTree::Ident(_) => at = read_path(&tokens, at, &[], found),
            _ => at += 1,
        }
    }
}

/// Reads one path, which may end in a group of further paths; returns the position after it.
fn read_path(
    tokens: &[TokenTree],
    mut at: usize,
    prefix: &[String],
    found: &mut Vec<Vec<String>>,
) -> usize {
    let mut path = prefix.to_vec();
    loop {
        match tokens.get(at) {
            Some(TokenTree::Ident(ident)) => path.push(ident.to_string()),
            Some(TokenTree::Group(group))
                if group.delimiter() == Delimiter::Brace && !path.is_empty() =>
            {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                let mut inside = 0;
                while inside < inner.len() {
                    inside = read_path(&inner, inside, &path, found).max(inside + 1);
                }
                return at + 1;
            }
            _ => {
                at += 1;
                break;
            }
        }
        at += 1;
        let is_separator = |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
        if is_separator(at) && is_separator(at + 1) {
            at += 2;
        } else {
            break;
        }
    }
    if path.len() > 1 {
        found.push(path);
    }
    at
}

/// The module that a path leads to, seen from `here`: the deepest one that has a file.
fn target(path: &[String], here: &Module, modules: &BTreeSet<Module>) -> Option<Module> {
    let mut place: Module = here.clone();
    if place == ["main"] {
        place.clear();
    }
    let mut rest = path;
    match rest[0].as_str() {
        "crate" => {
            place.clear();
            rest = &rest[1..];
        }
        "self" => rest = &rest[1..],
        "super" => {
            while rest.first().is_some_and(|word| word == "super") {
                place.pop();
                rest = &rest[1..];
            }
        }
        child => {
            let mut below = place.clone();
            below.push(child.to_owned());
            if !modules.contains(&below) {
                return None;
            }
        }
    }
    for word in rest {
        let mut deeper = place.clone();
        deeper.push(word.clone());
        if !modules.contains(&deeper) {
            break;
        }
        place = deeper;
    }
    if place.is_empty() {
        place.push("main".to_owned());
    }
    Some(place)
}

/// The modules from which each module imports.
fn imports() -> BTreeMap<Module, BTreeSet<Module>> {
    let files = source_files();
    let modules: BTreeSet<Module> = files.iter().map(|path| module_of(path)).collect();
    let read = |path: &String| {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(path);
        let text = fs::read_to_string(&file).expect("a source file");
        let tokens = TokenStream::from_str(&text).expect("tokens");
        let (here, mut paths) = (module_of(path), Vec::new());
        mentioned_paths(tokens, &mut paths);
        let targets = paths
            .iter()
            .filter_map(|path| target(path, &here, &modules));
        let targets = targets.filter(|to| *to != here).collect();
        (here, targets)
    };
    files.iter().map(read).collect()
}

/// The index of a module's layer in [`LAYERS`].
fn layer(name: &str) -> usize {
    LAYERS
        .iter()
        .position(|layer| layer.contains(&name))
        .unwrap_or_else(|| panic!("src/{name} has no layer in tests/it/structure.rs"))
}

#[test]
fn every_module_imports_only_from_the_layers_below_its_own() {
    let mut violations = Vec::new();
    for (from, targets) in imports() {
        for to in targets {
            if from[0] != to[0] && layer(&from[0]) >= layer(&to[0]) {
                violations.push(format!("{} imports {}", from.join("::"), to.join("::")));
            }
        }
    }
    assert!(
        violations.is_empty(),
        "imports from a layer that is not below:\n{}",
        violations.join("\n")
    );
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let imports = imports();
    let mut circles = BTreeSet::new();
    for start in imports.keys() {
        // Each module that can be reached from `start`, with the path to it.
        let mut paths: BTreeMap<&Module, Vec<&Module>> = BTreeMap::new();
        let mut unread = vec![(start, vec![start])];
        while let Some((at, path)) = unread.pop() {
            for next in imports.get(at).into_iter().flatten() {
                if next == start {
                    let mut members: Vec<String> =
                        path.iter().map(|module| module.join("::")).collect();
                    members.sort();
                    circles.insert(members.join(" <-> "));
                } else if !paths.contains_key(next) {
                    let mut further = path.clone();
                    further.push(next);
                    paths.insert(next, further.clone());
                    unread.push((next, further));
                }
            }
        }
    }
    let circles: Vec<String> = circles.into_iter().collect();
    assert!(circles.is_empty(), "circles:\n{}", circles.join("\n"));
}
