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
dir=$(mktemp -d)
trap 'kill "$receiver" 2>/dev/null || true; rm -rf "$dir"' EXIT
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null HOME=$dir TMPDIR=$dir
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b

git init -q -b main "$dir/seed"
mkdir -p "$dir/seed/.scud/tasks"
printf '# SCUD Graph v1\n# Phase: p\n\n@nodes\n1 | Do it | P | 1 | M\n' > "$dir/seed/.scud/tasks/tasks.scg"
# 250 files in each directory, 40 lines in each file.
awk -v seed="$dir/seed" -v files="$files" 'BEGIN {
    for (number = 0; number < files; number++) {
        if (number % 250 == 0) { dir = seed "/d" int(number / 250); system("mkdir -p " dir) }
        file = dir "/f" number ".txt"
        for (line = 0; line < 40; line++) print "line " line " of file " number ", " number * 7919 + line > file
        close(file)
    }
}'
git -C "$dir/seed" add -A
git -C "$dir/seed" commit -qm first
git clone -q --bare "$dir/seed" "$dir/project.git"

change='echo changed >> d0/f1.txt; echo new > new.txt'
port=$((20000 + RANDOM % 10000))
"$worker" receive --listen "127.0.0.1:$port" > "$dir/receiver" 2>&1 &
receiver=$!
# It prints its first line when it listens.
until grep -q . "$dir/receiver"; do :; done

# The time in milliseconds.
now() { date +%s%3N; }

run_plain_git() {
    git clone -q --depth=1 --single-branch "file://$dir/project.git" "$dir/plain" 2> /dev/null
    (cd "$dir/plain" && sh -c "$change" && git add -A && git commit -qm 'done' && git push -q origin "HEAD:refs/heads/plain-$1")
}

run_worker() {
    env -i PATH="$PATH" HOME="$dir" TMPDIR="$dir" TASK_ID=1 PROJECT_ID=p CALLBACK_URL="http://127.0.0.1:$port" \
        DESCARTES_REPO="file://$dir/project.git" DESCARTES_WORKSPACE="$dir/work" DESCARTES_BRANCH="work-$1" \
        DESCARTES_AGENT_COMMAND="$change" RUST_LOG=warn "$worker" > "$dir/out" 2>&1 || { cat "$dir/out"; exit 1; }
}

best_plain=999999 best_worker=999999
for round in $(seq "$rounds"); do
    start=$(now); run_plain_git "$round"; plain_time=$(($(now) - start))
    start=$(now); run_worker "$round"; worker_time=$(($(now) - start))
    rm -rf "$dir/plain" "$dir/work"
    echo "round $round: plain git $plain_time ms, worker $worker_time ms"
    [ "$plain_time" -lt "$best_plain" ] && best_plain=$plain_time
    [ "$worker_time" -lt "$best_worker" ] && best_worker=$worker_time
done
awk -v plain="$best_plain" -v worker="$best_worker" -v files="$files" \
    'BEGIN { ratio = worker / plain; printf "%d files: plain git %d ms, worker %d ms, %.2f times (budget 1.20)\n", files, plain, worker, ratio; exit ratio > 1.2 }'
