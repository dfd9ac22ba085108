#!/bin/sh
# Stands in for a coding agent: no model, but everything else an agent command has to do. The prompt
# is on standard input, the working directory is the project, and exit code 0 says "done".
set -eu
prompt=$(cat)
echo "the prompt begins: $(printf '%s\n' "$prompt" | head -n 1)"
sed 's/Hello, World!/Hello, ${1:-World}!/' hello.sh > hello.new
mv hello.new hello.sh
echo "hello.sh greets whoever is named now."
