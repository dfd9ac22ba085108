#!/bin/sh
# Runs mini-swe-agent on one task. It exits with 0 even if it gave up; its trajectory says how the run ended.
set -eu
trajectory=$(mktemp)
trap 'rm -f "$trajectory"' EXIT
trap 'exit 143' TERM

# Without this variable, the first start asks for a model and a key.
export MSWEA_CONFIGURED=true
# Sets the limit for one command to 600 s; most test suites need more than the default of 30 s.
mini ${DESCARTES_MODEL:+--model "$DESCARTES_MODEL"} --task="$(cat "$DESCARTES_PROMPT_FILE")" \
    --yolo --exit-immediately --output "$trajectory" \
    --config mini.yaml --config environment.timeout=600 </dev/null

grep -q '"exit_status": "Submitted"' "$trajectory" || {
    echo "mini-swe-agent: gave up before it was done" >&2
    exit 1
}
echo "mini-swe-agent: done"
