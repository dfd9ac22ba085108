#!/bin/sh
# Greets everybody who is named, one line each.
while [ $# -gt 1 ]; do
    echo "Hello, $1!"
    shift
done
