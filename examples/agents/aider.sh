#!/bin/sh
# Runs aider on one task, in a git repository. aider exits with 0 even if the model fails, and leaves a cache in the project; this script
# corrects both.
set -eu
root=$(git rev-parse --show-toplevel)
# The names of the caches that the project already has, which stay.
old_caches=$(cd "$root" && for cache in .aider.tags.cache.v*; do printf '%s\n' "$cache"; done)
events=$(mktemp)
# Not .aider*, because a project may have its own .aider.conf.yml.
clean_up() {
    rm -f "$events"
    for cache in "$root"/.aider.tags.cache.v*; do
        printf '%s\n' "$old_caches" | grep -Fqx -e "${cache##*/}" || rm -rf "$cache"
    done
}
trap clean_up EXIT
trap 'exit 143' TERM

aider ${DESCARTES_MODEL:+--model "$DESCARTES_MODEL"} --message-file "$DESCARTES_PROMPT_FILE" \
    --yes-always --no-suggest-shell-commands --no-detect-urls --disable-playwright \
    --no-auto-commits --no-dirty-commits --no-gitignore \
    --chat-history-file /dev/null --input-history-file /dev/null \
    --no-pretty --no-stream --no-show-model-warnings \
    --no-check-update --no-show-release-notes --no-analytics --analytics-log "$events" </dev/null

# aider writes an event with this name for every answer of the model, and none for a failed request.
grep -q '"event": "message_send"' "$events" || {
    echo "aider: no answer from the model" >&2
    exit 1
}
