#!/usr/bin/env bash
# The whole flake: it evaluates, its lock fits, and it has these outputs.
# shellcheck source=tests/nix/support.sh
source "$(dirname "${BASH_SOURCE[0]}")/../support.sh"

nix flake check --no-build "${with_standins[@]}" "$flake" 2>"$store/log.txt" ||
    { cat "$store/log.txt"; exit 1; }
echo 'ok      the flake evaluates, for every system'

# --- the lock ---

# Nix would resolve an input again if its lock node is missing or has another reference.
nix flake metadata --json --no-update-lock-file "$flake" >/dev/null 2>"$store/log.txt" ||
    { cat "$store/log.txt"; echo 'FAILED  flake.lock does not fit flake.nix'; exit 1; }
lock=$(jq --null-input --argjson inputs "$(nix eval --json --file flake.nix inputs)" --slurpfile lock flake.lock '{ $inputs, lock: $lock[0] }')
assert 'flake.lock is of version 7' "$lock" '.lock.version == 7'
assert 'flake.lock has a node for every input of flake.nix, and no other' "$lock" '
    (.inputs | keys) as $names
    | (.lock.nodes.root.inputs | keys) == $names and (.lock.nodes | del(.root) | keys) == $names'
assert 'each node of flake.lock has the reference that flake.nix names' "$lock" '
    .lock as $lock
    | .inputs
    | to_entries
    | all(
        .key as $name
        | $lock.nodes[$name] as $node
        | "\($node.original.type):\([$node.original | .owner, .repo, .ref // empty] | join("/"))" == .value.url
        and (if .value.flake == false then $node.flake == false else ($node | has("flake") | not) end)
      )'
assert 'each node of flake.lock names one revision and the hash of its content' "$lock" '
    .lock.nodes
    | del(.root)
    | all(
        (.locked.rev | test("^[0-9a-f]{40}$")) and (.locked.narHash | test("^sha256-[A-Za-z0-9+/]{43}=$"))
        and .locked.lastModified > 1700000000 and .locked.owner == .original.owner and .locked.repo == .original.repo
      )'

# --- the outputs ---

assert 'both Linux systems have the worker and the images' \
    "$(evaluate "$flake#packages" --apply 'builtins.mapAttrs (_: builtins.attrNames)')" '
    .["x86_64-linux"] == ["default", "image", "image-claude-code", "image-minimal"]
    and .["aarch64-linux"] == .["x86_64-linux"]'
mac=$(evaluate "$flake#packages.aarch64-darwin" --apply 'builtins.mapAttrs (_: package: { inherit (package) system function; command = package.arguments.command or null; push = package.push.system or null; sizes = package.sizes.system or null; })')
assert 'on a Mac, the images are archives that a Linux builder makes; push and load run on the Mac' "$mac" '
    keys == ["default", "image", "image-claude-code", "image-minimal"]
    and .default.system == "aarch64-darwin"
    and (del(.default) | all(
        .system == "aarch64-linux" and .function == "runCommand" and (.command | test("streamLayeredImage|descartes-worker.* > \\$out$"))
        and .push == "aarch64-darwin" and .sizes == "aarch64-linux"))'
assert 'every system has the apps push and load' "$(evaluate "$flake#apps" --apply 'builtins.mapAttrs (_: builtins.attrNames)')" '
    length == 3 and all(. == ["load", "push"])'
assert 'each app is a program with a description' "$(evaluate "$flake#apps.x86_64-linux")" '
    all(.type == "app" and (.meta.description | length > 10)) and (.push.program | endswith("-push/bin/push"))'
assert 'every system has a shell and a formatter' \
    "$(evaluate "$flake#devShells" --apply 'builtins.mapAttrs (_: shells: shells.default.function)')" '
    length == 3 and all(. == "devShell")'
assert 'the formatter is nixfmt' "$(evaluate "$flake#formatter" --apply 'builtins.mapAttrs (_: formatter: formatter.name)')" '
    length == 3 and all(. == "nixfmt-tree")'
assert 'the template has a description' "$(evaluate "$flake#templates.default")" '
    .description | length > 10'

exit "$failed"
