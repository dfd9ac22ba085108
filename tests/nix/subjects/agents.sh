#!/usr/bin/env bash
# `mkImage` with an agent: the settings of the worker come with it.
# shellcheck source=tests/nix/support.sh
source "$(dirname "${BASH_SOURCE[0]}")/../support.sh"

presets=$(jq . examples/agents/agents.json)
codex=$(made '{ inherit pkgs; name = "mine"; agent = pkgs.codex; }')
assert 'mkImage: the package of a tried agent sets its command, and no name of a key that the model gateway keeps' "$(jq --slurp . <<<"$codex $presets")" '
    .[1].codex as $preset
    | .[0].config.Env
    | index("DESCARTES_AGENT_COMMAND=" + $preset.command) != null and all(startswith("DESCARTES_AGENT_ENV=") | not)'
assert 'mkImage: the script of an agent is where its command names it' \
    "$(made '{ inherit pkgs; agent = pkgs.record "package" { name = "aider-chat"; }; }')" '
    (.config.Env | index("DESCARTES_AGENT_COMMAND=sh /opt/agents/aider.sh") != null) and (.root | test("install -m 644 [^ ]*aider.sh opt/agents/aider.sh\n"))'
assert 'mkImage: a command of the project wins over the agent'\''s' \
    "$(made '{ inherit pkgs; agent = pkgs.codex; env.DESCARTES_AGENT_COMMAND = "mine"; }')" '
    .config.Env | index("DESCARTES_AGENT_COMMAND=mine") != null and all(contains("CODEX_API_KEY") | not)'
assert 'mkImage: an agent whose key the model gateway does not know gets the variable with the key' \
    "$(made '{ inherit pkgs; agent = pkgs.record "package" { name = "gemini-cli"; }; env.GREETING = "hello"; }')" '
    .config.Env | index("DESCARTES_AGENT_ENV=GREETING,GEMINI_API_KEY") != null and any(startswith("DESCARTES_AGENT_COMMAND=gemini --yolo"))'
assert 'mkImage: an agent that is not in agents.json is only on the PATH' "$(made '{ inherit pkgs; agent = pkgs.hello; }')" '
    .contents[0].paths[0] == "hello" and (.config.Env | all(startswith("DESCARTES_AGENT_COMMAND") | not))'
readme=$(jq --raw-input --slurp . examples/agents/README.md)
assert 'agents.json and examples/agents/README.md have the same commands and variables' "$(jq --slurp . <<<"$presets $readme")" '
    .[1] as $readme
    | .[0]
    | length >= 6 and all(
        .command as $command | .variables as $variables
        | $readme | contains("DESCARTES_AGENT_COMMAND='\''" + $command + "'\''\n" + (if $variables == [] then "" else "DESCARTES_AGENT_ENV=" + ($variables | join(",")) end)))'
assert 'agents.json names each script in examples/agents, and no other' "$(jq 'map(.script // empty)' <<<"$presets")" "$(git ls-files 'examples/agents/*.sh' | xargs -n 1 basename | jq --raw-input . | jq --slurp --compact-output .) == sort"

exit "$failed"
