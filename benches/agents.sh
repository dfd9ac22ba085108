#!/usr/bin/env bash
# What the built-in agent takes beside mini-swe-agent, and beside Claude Code where `claude` is on PATH: all on the same
# scripted conversation with a Messages API on loopback, in turns, in the same run. Judges nothing: it prints.
#
# No model takes part, so this says what the agents themselves cost, and nothing of how well they work. Each has its
# own first instructions and tools, which is what most of the bytes are.
#
#   benches/agents.sh [turns] [rounds]    a release build of the worker must be there, python3 with venv, and
#                                         /usr/bin/time (package `time`)
set -euo pipefail
cd "$(dirname "$0")/.."

turns=${1:-20}
rounds=${2:-5}
mini_version=2.4.6
target=$(realpath "${CARGO_TARGET_DIR:-target}")
worker=$target/release/descartes-worker
venv=$target/mini_swe_agent

[[ -x $worker ]] || { echo "$worker is not there: cargo build --release" >&2; exit 1; }
[[ -x /usr/bin/time ]] || { echo "/usr/bin/time is not there: install the package \`time\`" >&2; exit 1; }
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet "mini-swe-agent==$mini_version"

# Without these it asks for a model and a key, fetches a list of prices before anything else, and minds a price that
# it does not know. `exec`, so that no shell is measured.
mini="exec env MSWEA_CONFIGURED=true MSWEA_SILENT_STARTUP=1 MSWEA_COST_TRACKING=ignore_errors LITELLM_LOCAL_MODEL_COST_MAP=True \
    $venv/bin/mini --model anthropic/\$MODEL --task=\"\$PROMPT\" --yolo --exit-immediately --cost-limit 0 --output \$HOME/trajectory.json"
agents=("built-in=exec $worker agent --model \$MODEL" "mini-swe-agent=$mini")
versions=("built-in $("$worker" --version)" "mini-swe-agent $mini_version, litellm $("$venv/bin/python" -c \
    'import importlib.metadata as m; print(m.version("litellm"))')")

if command -v claude > /dev/null; then
    # As the worker starts it.
    agents+=("claude-code=exec env IS_SANDBOX=1 DISABLE_AUTOUPDATER=1 CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 \
        CLAUDE_CODE_DISABLE_BACKGROUND_TASKS=1 claude --print --verbose --output-format stream-json \
        --permission-mode bypassPermissions --model \$MODEL")
    versions+=("claude-code $(claude --version)")
else
    versions+=("claude-code: there is no claude on PATH")
fi

printf '%s\n' "${versions[@]}"
python3 benches/agents_model.py "$turns" "$rounds" "${agents[@]}"
