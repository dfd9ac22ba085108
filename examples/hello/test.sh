#!/bin/sh
# The project's own check.
expect() {
    if [ "$2" != "$3" ]; then
        echo "FAILED: $1: expected '$3', got '$2'"
        exit 1
    fi
    echo "ok: $1"
}
expect "nobody is named" "$(sh hello.sh)" "Hello, World!"
expect "somebody is named" "$(sh hello.sh Ada)" "Hello, Ada!"
expect "a name of two words" "$(sh hello.sh 'Grace Hopper')" "Hello, Grace Hopper!"
