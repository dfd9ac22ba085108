#!/bin/sh
# The project's own check.
expect() {
    if [ "$2" != "$3" ]; then
        echo "FAILED: $1: expected '$3', got '$2'"
        exit 1
    fi
    echo "ok: $1"
}
expect "nobody is greeted with silence" "$(sh greet.sh)" ""
expect "one guest is greeted" "$(sh greet.sh Ada)" "Hello, Ada!"
expect "the last guest is greeted too" "$(sh greet.sh Ada Grace | tail -n 1)" "Hello, Grace!"
