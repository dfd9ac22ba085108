#!/bin/sh
# Runs the tests of all tasks that are done so far.
status=0
for test in tests/*.sh; do
    [ -e "$test" ] || continue
    if sh "$test"; then
        echo "ok: $test"
    else
        echo "FAILED: $test"
        status=1
    fi
done
exit "$status"
