#!/bin/sh
# aider on one task. It exits 0 where the model failed, too, and keeps a cache in the project; this makes up for both.
set -eu
events=$(mktemp)
root=$(git rev-parse --show-toplevel)
# By name, not .aider*: a project may have an .aider.conf.yml of its own.
trap 'rm -rf "$events" "$root"/.aider.tags.cache.v*' EXIT
trap 'exit 143' TERM

aider ${DESCARTES_MODEL:+--model "$DESCARTES_MODEL"} --message-file "$DESCARTES_PROMPT_FILE" \
    --yes-always --no-suggest-shell-commands --no-detect-urls --disable-playwright \
    --no-auto-commits --no-dirty-commits --no-gitignore \
    --chat-history-file /dev/null --input-history-file /dev/null \
    --no-pretty --no-stream --no-show-model-warnings \
    --no-check-update --no-show-release-notes --no-analytics --analytics-log "$events" </dev/null

# An event of this name for every answer of the model, and none for a request that failed.
grep -q '"event": "message_send"' "$events" || {
    echo "aider: no answer from the model" >&2
    exit 1
}
