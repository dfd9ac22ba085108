#!/usr/bin/env bash
# `mkImage` with an agent: the settings of the worker come with it.
# shellcheck source=tests/nix/support.sh
source "$(dirname "${BASH_SOURCE[0]}")/../support.sh"

presets=$(jq . examples/agents/agents.json)
codex=$(make_image '{ inherit pkgs; name = "mine"; agent = pkgs.codex; }')
assert 'mkImage: the package of a tried agent sets its command, and no name of a key that the model gateway keeps' "$(jq --slurp . <<<"$codex $presets")" '
    .[1].codex as $preset
    | .[0].config.Env
    | index("DESCARTES_AGENT_COMMAND=" + $preset.command) != null and all(startswith("DESCARTES_AGENT_ENV=") | not)'
assert 'mkImage: the script of an agent is where its command names it' \
    "$(make_image '{ inherit pkgs; agent = pkgs.record "package" { name = "aider-chat"; }; }')" '
    (.config.Env | index("DESCARTES_AGENT_COMMAND=sh /opt/agents/aider.sh") != null) and (.root | test("install -m 644 [^ ]*aider.sh opt/agents/aider.sh\n"))'
assert 'mkImage: a command of the project takes precedence over the agent'\''s' \
    "$(make_image '{ inherit pkgs; agent = pkgs.codex; env.DESCARTES_AGENT_COMMAND = "mine"; }')" '
    .config.Env | index("DESCARTES_AGENT_COMMAND=mine") != null and all(contains("CODEX_API_KEY") | not)'
assert 'mkImage: an agent whose key the model gateway does not know gets the variable with the key' \
    "$(make_image '{ inherit pkgs; agent = pkgs.record "package" { name = "gemini-cli"; }; env.GREETING = "hello"; }')" '
    .config.Env | index("DESCARTES_AGENT_ENV=GREETING,GEMINI_API_KEY") != null and any(startswith("DESCARTES_AGENT_COMMAND=gemini --yolo"))'
assert 'mkImage: an agent that is not in agents.json is only on the PATH' "$(make_image '{ inherit pkgs; agent = pkgs.hello; }')" '
    .contents[0].paths[0] == "hello" and (.config.Env | all(startswith("DESCARTES_AGENT_COMMAND") | not))'
readme=$(jq --raw-input --slurp . examples/agents/README.md)
assert 'agents.json and examples/agents/README.md have the same commands and variables' "$(jq --slurp . <<<"$presets $readme")" '
    .[1] as $readme
    | .[0]
    | length >= 8 and all(
        .command as $command | .variables as $variables
        | $readme | contains("DESCARTES_AGENT_COMMAND='\''" + $command + "'\''\n" + (if $variables == [] then "" else "DESCARTES_AGENT_ENV=" + ($variables | join(",")) end)))'
assert 'agents.json names each script in examples/agents, and no other' "$(jq 'map(.script // empty)' <<<"$presets")" "$(git ls-files 'examples/agents/*.sh' | xargs -n 1 basename | jq --raw-input . | jq --slurp --compact-output .) == sort"

# --- the scripts, with programs that play the agents ---

mkdir "$store/agents"
# Prints the arguments and some variables, then what $SAYS contains; exits with $CODE.
for agent in goose crush; do
    cat >"$store/agents/$agent" <<'AGENT'
#!/bin/sh
printf '%s\n' "$*" "prompt $(cat)" "ANTHROPIC_HOST=${ANTHROPIC_HOST:-}" "GOOSE_MODE=${GOOSE_MODE:-}" \
    "ANTHROPIC_API_ENDPOINT=${ANTHROPIC_API_ENDPOINT-unset}" "OPENAI_API_ENDPOINT=${OPENAI_API_ENDPOINT-unset}"
printf '%b' "${SAYS:-}"
exit "${CODE:-0}"
AGENT
    chmod +x "$store/agents/$agent"
done
# What the script of agent $1 prints and how it ends, with the further arguments as variables.
run_script() {
    local script=examples/agents/$1.sh code=0 output
    shift
    output=$(env -i "PATH=$store/agents:$PATH" TMPDIR="$store/agents" "$@" sh "$script" 2>/dev/null <<<'Build a roof.') || code=$?
    jq --null-input --arg output "$output" --argjson code "$code" '{ lines: ($output | split("\n")), $code }'
}
error='Ran into this error: Server error (500).\n\nPlease retry if you think this is a transient or recoverable error.\n'
assert 'goose.sh: without a model, goose gets the provider of the key, the URL of the service and the prompt' \
    "$(run_script goose ANTHROPIC_API_KEY=k ANTHROPIC_BASE_URL=http://127.0.0.1:9/x)" '
    .code == 0 and (.lines[0] | test("^run .*--provider anthropic --instructions -$"))
    and (.lines | index("prompt Build a roof.") and index("ANTHROPIC_HOST=http://127.0.0.1:9/x") and index("GOOSE_MODE=auto"))'
assert 'goose.sh: with another key, the provider is the other one' "$(run_script goose OPENAI_API_KEY=k DESCARTES_MODEL=gpt-4o)" '
    .lines[0] | test("--provider openai --model gpt-4o ")'
assert 'goose.sh: a model can name its provider' "$(run_script goose ANTHROPIC_API_KEY=k DESCARTES_MODEL=openrouter/qwen/qwen3)" '
    .lines[0] | test("--provider openrouter --model qwen/qwen3 ")'
assert 'goose.sh: an error of the service as the last word is exit code 1, although goose ends with 0' "$(run_script goose SAYS="$error")" '.code == 1'
assert 'goose.sh: an error of the service before further work is not a failure' "$(run_script goose SAYS="${error}The house has a roof.")" '
    .code == 0 and .lines[-1] == "The house has a roof."'
assert 'goose.sh: the exit code of goose is that of the script' "$(run_script goose CODE=7)" '.code == 7'
assert 'crush.sh: crush gets the URL of the service under its own name, and no empty URL' \
    "$(run_script crush ANTHROPIC_BASE_URL=http://127.0.0.1:9/x DESCARTES_MODEL=anthropic/claude-sonnet-4-6)" '
    (.lines[0] | test("^run --quiet --data-dir [^ ]+ --model anthropic/claude-sonnet-4-6$"))
    and (.lines | index("prompt Build a roof.") and index("ANTHROPIC_API_ENDPOINT=http://127.0.0.1:9/x") and index("OPENAI_API_ENDPOINT=unset"))'
assert 'crush.sh: the exit code of crush is that of the script' "$(run_script crush CODE=7)" '.code == 7'

# A repository in which the script of aider runs; prints the names of aider's files that it has afterwards. The arguments
# are directories that it has before.
run_aider() {
    local project
    project=$(mktemp -d "$store/project.XXXXXX")
    git init --quiet "$project"
    (
        cd "$project"
        if (($#)); then mkdir "$@"; fi
        PATH="$store/agents:$PATH" TMPDIR="$store/agents" DESCARTES_PROMPT_FILE=/dev/null sh "$aider_script"
    )
    find "$project" -mindepth 1 -maxdepth 1 -name '.aider*' -printf '%f\n' | jq --raw-input . | jq --slurp sort
}
aider_script=$PWD/examples/agents/aider.sh
# Writes a cache, and the event of an answer of the model.
cat >"$store/agents/aider" <<'AGENT'
#!/bin/sh
mkdir -p .aider.tags.cache.v4
while [ "$1" != --analytics-log ]; do shift; done
echo '{"event": "message_send"}' >"$2"
AGENT
chmod +x "$store/agents/aider"
assert 'aider.sh: the cache that aider has made is deleted' "$(run_aider)" '. == []'
assert 'aider.sh: a cache that the project already had stays' "$(run_aider .aider.tags.cache.v4)" '. == [".aider.tags.cache.v4"]'
assert 'aider.sh: with an older cache, only the new one is deleted' "$(run_aider .aider.tags.cache.v3)" '. == [".aider.tags.cache.v3"]'
assert 'the scripts leave no temporary file' "$(find "$store/agents" -mindepth 1 -printf '%f\n' | jq --raw-input . | jq --slurp sort)" '. == ["aider", "crush", "goose"]'

exit "$failed"
