#!/usr/bin/env bash
# The checks: what they compile, and with which files.
# shellcheck source=tests/nix/support.sh
source "$(dirname "${BASH_SOURCE[0]}")/../support.sh"

checks=$(read_output checks.x86_64-linux checks)
assert 'x86_64-linux has all checks' "$checks" '
    keys == ["actionlint", "audit", "clippy", "deny", "doc", "engine", "fmt", "image", "image-minimal", "image-of-a-project", "nextest", "nixfmt", "reproducible", "shellcheck"]'
assert 'aarch64-linux has the same checks, except for the one that needs a virtual machine' \
    "$(evaluate "$flake#checks.aarch64-linux" --apply builtins.attrNames)" "$(jq --compact-output 'keys - ["engine"]' <<<"$checks") == ."
assert 'darwin has no checks' "$(evaluate "$flake#checks.aarch64-darwin")" '. == {}'
assert 'clippy, tests and documentation share one build of the dependencies' "$checks" '
    [.clippy, .nextest, .doc | .artifacts] | unique | length == 1 and .[0] != null'
assert 'clippy, tests and documentation compile with the profile of cargo test, without link time optimization' "$checks" '
    [.clippy, .nextest, .doc] | all(.env.CARGO_PROFILE == "dev" and (.env | del(.RUSTDOCFLAGS)) == .artifactsEnv)'
assert 'the tests do not use the dependencies that are compiled for the worker' "$(jq --slurp . <<<"$checks $(read_output packages.x86_64-linux.default crate)")" '
    .[0].nextest.artifacts != .[1].dependencies.path'
assert 'clippy, tests and documentation do not keep what they compiled' "$checks" '[.clippy, .nextest, .doc] | all(.installs == false)'
assert 'clippy gets every test and benchmark' "$(jq --slurp . <<<"$checks $manifest")" '
    .[0].clippy.files as $files
    | .[1].test + .[1].bench
    | all(.path as $path | $files | index($path) != null)'
assert 'clippy gets its configuration, the tests get the files that they read' "$checks" '
    (.clippy.files | index("clippy.toml") != null) and (.nextest.files | index("tests/it/main.rs") != null)'
assert 'clippy gets every file that the sources, the tests and the benchmarks include' \
    "$(jq .clippy <<<"$checks" | missing_includes src tests benches build.rs)" '. == ""'
assert 'the tests get every file of the repository, because a document can name any' \
    "$(jq --null-input --argjson files "$(jq .nextest.files <<<"$checks")" '[inputs] - $files' < <(git ls-files | jq --raw-input .))" '. == []'
assert 'only the tests depend on the documents' "$checks" '
    to_entries | map(select(.value.files // [] | index("README.md") != null) | .key) == ["nextest"]'
assert 'the check of the image runs the promises on an archive' "$checks" '.image.command | test("promises image.tar")'
assert 'a program for other distributions runs in the image, and one that needs a further library in the image of a project' "$checks" '
    (.image.command | test("--foreign=[^ ]*-foreign")) and (.["image-of-a-project"].command | test("--foreign=[^ ]*-foreign"))
    and (.["image-minimal"].command | contains("--foreign") | not)'
assert 'the worker is built twice, and the images of the two are compared' "$checks" '.reproducible.command | test("diff --recursive first second")'
assert 'a virtual machine with Docker runs tests/nix/engine on the image' "$checks" '
    .engine.function == "runNixOSTest" and .engine.docker
    and (.engine.script | test("succeed\\(\"[^ ]*-source/tests/nix/engine [^ ]*-descartes-worker 2>&1\"\\)"))'
# The virtual machine has these two files of the repository, and no other.
assert 'tests/nix/engine uses no file but nix/load.sh' "$(grep --only-matching --extended-regexp '(tests|nix|src|docs)/[a-z./]+' tests/nix/engine | sort --unique | jq --raw-input . | jq --slurp .)" '
    . == ["nix/load.sh", "nix/store", "tests/nix/engine"]'
assert 'the shell does not evaluate the virtual machine' "$(evaluate "$flake#devShells.x86_64-linux.default" --apply 'shell: builtins.attrNames shell.arguments.checks')" '
    index("engine") == null and index("clippy") != null'

exit "$failed"
