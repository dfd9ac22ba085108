#!/bin/sh
# mini-swe-agent on one task. It exits 0 where it gave up, too; its trajectory says which it was.
set -eu
trajectory=$(mktemp)
trap 'rm -f "$trajectory"' EXIT
trap 'exit 143' TERM

# Without this it asks for a model and a key at its first start.
export MSWEA_CONFIGURED=true
# Its own limit for one command is 30 s, which few test suites keep.
mini ${DESCARTES_MODEL:+--model "$DESCARTES_MODEL"} --task="$(cat "$DESCARTES_PROMPT_FILE")" \
    --yolo --exit-immediately --output "$trajectory" \
    --config mini.yaml --config environment.timeout=600 </dev/null

grep -q '"exit_status": "Submitted"' "$trajectory" || {
    echo "mini-swe-agent: gave up before it was done" >&2
    exit 1
}
echo "mini-swe-agent: done"
