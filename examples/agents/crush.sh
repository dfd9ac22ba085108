#!/bin/sh
# Runs crush on one task. crush names the service in its own variables, and keeps its sessions in the project; this script sets
# the variables, and puts the sessions elsewhere.
set -eu
sessions=$(mktemp -d)
trap 'rm -rf "$sessions"' EXIT
trap 'exit 143' TERM

if [ -n "${ANTHROPIC_BASE_URL:-}" ]; then export ANTHROPIC_API_ENDPOINT="$ANTHROPIC_BASE_URL"; fi
if [ -n "${OPENAI_BASE_URL:-}" ]; then export OPENAI_API_ENDPOINT="$OPENAI_BASE_URL"; fi
export CRUSH_DISABLE_METRICS=1

crush run --quiet --data-dir "$sessions" ${DESCARTES_MODEL:+--model "$DESCARTES_MODEL"}
