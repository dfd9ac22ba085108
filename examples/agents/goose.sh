#!/bin/sh
# Runs goose on one task. goose names the provider, the model and the service in its own variables, and exits with 0 if the
# service keeps answering with an error; this script sets the variables and corrects the exit code.
set -eu
provider=openai
if [ -n "${ANTHROPIC_API_KEY:-}" ]; then provider=anthropic; fi
model=${DESCARTES_MODEL:-}
case $model in
    */*)
        provider=${model%%/*}
        model=${model#*/}
        ;;
esac
# goose reads OPENAI_BASE_URL by itself.
if [ -n "${ANTHROPIC_BASE_URL:-}" ]; then export ANTHROPIC_HOST="$ANTHROPIC_BASE_URL"; fi
export GOOSE_MODE=auto GOOSE_DISABLE_SESSION_NAMING=true GOOSE_DISABLE_KEYRING=true GOOSE_TELEMETRY_OFF=true

output=$(mktemp)
status=$(mktemp)
trap 'rm -f "$output" "$status"' EXIT
trap 'exit 143' TERM
{
    code=0
    goose run --no-session --no-profile --with-builtin developer \
        --provider "$provider" ${model:+--model "$model"} --instructions - || code=$?
    echo "$code" >"$status"
} | tee "$output"

code=$(cat "$status")
# After the last repeat of a request, goose prints the service's error with this line at its end.
if [ "$code" = 0 ] && tail -n 1 "$output" | grep -q '^Please retry if you think this is a transient or recoverable error'; then
    echo "goose: no answer from the model" >&2
    exit 1
fi
exit "$code"
