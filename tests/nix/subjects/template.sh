#!/usr/bin/env bash
# The template.
# shellcheck source=tests/nix/support.sh
source "$(dirname "${BASH_SOURCE[0]}")/../support.sh"

template=$(nix eval --json --no-write-lock-file --override-input descartes-worker "$flake" \
    --override-input descartes-worker/nixpkgs "path:$standins/nixpkgs" --override-input descartes-worker/crane "path:$standins/crane" \
    "path:$PWD/templates/default#packages.x86_64-linux.worker" --apply "image: ($(cat tests/nix/facts.nix)).image image" 2>"$store/log.txt") ||
    { cat "$store/log.txt"; exit 1; }
assert 'the template makes an image of its shell' "$template" '
    .name == "my-project-worker" and .environment.function == "runCommand" and .programs == ["push", "load"]'
assert 'the shell of the template has no C compiler' "$(grep --count 'pkgs.mkShellNoCC {' templates/default/flake.nix)" '. == 1'
assert 'the template has less than 40 lines' "$(git ls-files -z templates/default | xargs -0 cat | wc -l)" '. < 40'
assert 'the template has a task graph and checks' "$(git ls-files templates/default | jq --raw-input . | jq --slurp .)" '
    index("templates/default/.scud/tasks/tasks.scg") != null and index("templates/default/.scud/config.toml") != null'

exit "$failed"
