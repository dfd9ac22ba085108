#!/usr/bin/env bash
# How long cloning and pushing take: a worker's whole run next to plain git, in the same run.
#
# Both clone the same bare repository (file://, shallow), change one file, add another, commit, push. The
# worker also talks to an orchestrator, looks for secrets and large files, and makes a patch. Budget: 1.2 times
# plain git.
#
#   benches/git.sh [files] [rounds]       needs a release build of the worker
set -euo pipefail

files=${1:-50000}
rounds=${2:-5}
worker=$(cd "$(dirname "$0")/.." && pwd)/target/release/descartes-worker
at=$(mktemp -d)
trap 'kill "$receiver" 2>/dev/null || true; rm -rf "$at"' EXIT
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null HOME=$at TMPDIR=$at
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b

git init -q -b main "$at/seed"
mkdir -p "$at/seed/.scud/tasks"
printf '# SCUD Graph v1\n# Phase: p\n\n@nodes\n1 | Do it | P | 1 | M\n' > "$at/seed/.scud/tasks/tasks.scg"
awk -v at="$at/seed" -v n="$files" 'BEGIN {
    for (i = 0; i < n; i++) {
        if (i % 250 == 0) { dir = at "/d" int(i / 250); system("mkdir -p " dir) }
        file = dir "/f" i ".txt"
        for (l = 0; l < 40; l++) print "line " l " of file " i ", " i * 7919 + l > file
        close(file)
    }
}'
git -C "$at/seed" add -A
git -C "$at/seed" commit -qm first
git clone -q --bare "$at/seed" "$at/project.git"

change='echo changed >> d0/f1.txt; echo new > new.txt'
port=$((20000 + RANDOM % 10000))
"$worker" receive --listen "127.0.0.1:$port" > "$at/receiver" 2>&1 &
receiver=$!
until grep -q . "$at/receiver"; do :; done

now() { date +%s%3N; }

plain() {
    git clone -q --depth=1 --single-branch "file://$at/project.git" "$at/plain" 2> /dev/null
    (cd "$at/plain" && sh -c "$change" && git add -A && git commit -qm 'done' && git push -q origin "HEAD:refs/heads/plain-$1")
}

whole() {
    env -i PATH="$PATH" HOME="$at" TMPDIR="$at" TASK_ID=1 PROJECT_ID=p CALLBACK_URL="http://127.0.0.1:$port" \
        DESCARTES_REPO="file://$at/project.git" DESCARTES_WORKSPACE="$at/work" DESCARTES_BRANCH="work-$1" \
        DESCARTES_AGENT_COMMAND="$change" RUST_LOG=warn "$worker" > "$at/out" 2>&1 || { cat "$at/out"; exit 1; }
}

best_plain=999999 best_whole=999999
for round in $(seq "$rounds"); do
    began=$(now); plain "$round"; took_plain=$(($(now) - began))
    began=$(now); whole "$round"; took_whole=$(($(now) - began))
    rm -rf "$at/plain" "$at/work"
    echo "round $round: plain git $took_plain ms, worker $took_whole ms"
    [ "$took_plain" -lt "$best_plain" ] && best_plain=$took_plain
    [ "$took_whole" -lt "$best_whole" ] && best_whole=$took_whole
done
awk -v p="$best_plain" -v w="$best_whole" -v n="$files" \
    'BEGIN { printf "%d files: plain git %d ms, worker %d ms, %.2f times (budget 1.20)\n", n, p, w, w / p; exit w / p > 1.2 }'
