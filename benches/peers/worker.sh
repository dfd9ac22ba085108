# The smallest worker in shell that keeps the protocol, with curl.
# Prints the event $1 with the sequence number $2 and the further fields $3.
event() {
    printf '{"task_id":"%s","project_id":"%s","status":"%s","message":"%s"' "$TASK_ID" "$PROJECT_ID" "$1" "$1"
    printf ',"version":1,"event":"task.%s","event_id":"sh.%s","run_id":"sh","sequence":%s' "$1" "$2" "$2"
    printf ',"timestamp":"2026-01-01T00:00:00.000Z"'
    printf ',"worker":{"version":"0.0.0","revision":null,"hostname":"sh","agent":null,"isolation":"off"}%s}' "$3"
}
# Sends the event on standard input to the route $1.
send() { curl -sS -o /dev/null -H 'content-type: application/json' --data-binary @- "$CALLBACK_URL/$1"; }
limits=',"heartbeat_interval_ms":null,"limits":{"callback_timeout_ms":1,"claim_deadline_ms":1,"finish_deadline_ms":1,'
limits=$limits'"task_timeout_ms":1,"idle_timeout_ms":null,"stop_window_ms":1,"max_turns":null,"max_budget_usd":null,"max_tokens":null}'
event started 0 "$limits" | send started || exit 3
if [ -n "${DESCARTES_REPO:-}" ]; then
    git clone -q --depth=1 --single-branch "$DESCARTES_REPO" "$DESCARTES_WORKSPACE" 2> /dev/null || exit 1
    cd "$DESCARTES_WORKSPACE" || exit 1
fi
sh -c "$DESCARTES_AGENT_COMMAND" || exit 1
if [ -n "${DESCARTES_REPO:-}" ]; then
    git add -A && git commit -qm 'done' && git push -q origin "HEAD:refs/heads/$DESCARTES_BRANCH" 2> /dev/null || exit 1
fi
output='"output":{"head":"","tail":"","total_bytes":0,"dropped_bytes":0}'
result=',"result":{"summary":null,"duration_ms":0,"agent":null,"work":null,"checks":[],'$output'}'
event completed 1 "$result" | send completed
