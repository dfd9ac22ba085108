#!/usr/bin/env bash
# Measures the built-in agent next to mini-swe-agent, and next to Claude Code if `claude` is on PATH. All have the same
# scripted conversation with a Messages API on loopback, alternately, in the same run. Prints figures and judges none of them.
#
# No model takes part, so the figures show what the agents themselves cost, and not how well they work. Most of the
# bytes are each agent's own instructions and tool descriptions.
#
#   benches/agents.sh [turns] [rounds]    turns of the conversation (default: 20), and how often each agent runs (default: 5)
#
# It needs a release build of the worker, python3 with venv, and /usr/bin/time (package `time`).
#
# BENCH_PROGRAM names another build of the worker. pip installs mini-swe-agent into a virtual environment in Cargo's target directory.
set -euo pipefail
# Relative to the caller's directory.
worker=${BENCH_PROGRAM:+$(realpath "$BENCH_PROGRAM")}
cd "$(dirname "$0")/.."

turns=${1:-20}
rounds=${2:-5}
mini_version=2.4.6
target=$(realpath "${CARGO_TARGET_DIR:-target}")
worker=${worker:-$target/release/descartes-worker}
venv=$target/mini_swe_agent

[[ -x $worker ]] || { echo "$worker is not a program; build it with: cargo build --release" >&2; exit 1; }
[[ -x /usr/bin/time ]] || { echo "/usr/bin/time does not exist; install the package \`time\`" >&2; exit 1; }
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet "mini-swe-agent==$mini_version"

# Without these variables mini-swe-agent asks for a model and a key, downloads a list of prices, and refuses models whose
# price it does not know. `exec` keeps the shell out of the measurement.
mini="exec env MSWEA_CONFIGURED=true MSWEA_SILENT_STARTUP=1 MSWEA_COST_TRACKING=ignore_errors LITELLM_LOCAL_MODEL_COST_MAP=True \
    $(printf %q "$venv/bin/mini") --model anthropic/\$MODEL --task=\"\$PROMPT\" --yolo --exit-immediately --cost-limit 0 --output \$HOME/trajectory.json"
agents=("built-in=exec $(printf %q "$worker") agent --model \$MODEL" "mini-swe-agent=$mini")
versions=("built-in $("$worker" --version)" "mini-swe-agent $mini_version, litellm $("$venv/bin/python" -c \
    'import importlib.metadata as m; print(m.version("litellm"))')")

if command -v claude > /dev/null; then
    # The arguments with which the worker starts it.
    agents+=("claude-code=exec env IS_SANDBOX=1 DISABLE_AUTOUPDATER=1 CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 \
        CLAUDE_CODE_DISABLE_BACKGROUND_TASKS=1 claude --print --verbose --output-format stream-json \
        --permission-mode bypassPermissions --model \$MODEL")
    versions+=("claude-code $(claude --version)")
else
    versions+=("claude-code: claude is not on PATH")
fi

printf '%s\n' "${versions[@]}"
python3 benches/agents_model.py "$turns" "$rounds" "${agents[@]}"
