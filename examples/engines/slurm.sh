#!/bin/sh
# The engine `command` with Slurm: slurm.sh start|look|stop.
# NOT TESTED WITH A CLUSTER: read it before you use it.
#
# The nodes share the file system of this machine, so a repository with a file:// URL works.
set -eu

case $1 in
start)
    # A job of this name was submitted by an earlier call.
    id=$(squeue --noheader --name "$RUN_NAME" --format %i) || exit 75
    if [ -z "$id" ]; then
        # Names only: Slurm takes the values from the environment.
        names=$(printf %s "$RUN_VARIABLES" | tr ' ' ',')
        id=$(sbatch --parsable --no-requeue --job-name "$RUN_NAME" --export "PATH,HOME,$names" \
            --output "$RUN_OUTPUT" --error "$RUN_LOG" --wrap descartes-worker) || exit 75
    fi
    echo "${id%%;*}"
    ;;
look)
    found=$(sacct --noheader --allocations --parsable2 --jobs "$RUN_HANDLE" --format State,ExitCode)
    code=${found#*|}
    case $found in
    '') echo gone ;;
    PENDING* | CONFIGURING*) echo starting ;;
    RUNNING* | COMPLETING* | SUSPENDED*) echo running ;;
    OUT_OF_MEMORY*) echo "exit 137 oom" ;;
    # sacct prints CODE:SIGNAL. A signal becomes the exit code 128 plus its number, as in a shell.
    *) echo "exit $((${code%:*} + (${code#*:} > 0 ? 128 + ${code#*:} : 0)))" ;;
    esac
    ;;
stop)
    # Without a handle, the start had no clear result.
    RUN_HANDLE=${RUN_HANDLE:-$(squeue --noheader --name "$RUN_NAME" --format %i)}
    if [ -z "$RUN_HANDLE" ]; then
        exit
    fi
    scancel --signal TERM --full "$RUN_HANDLE" 2>/dev/null || true
    waited=0
    while [ "$waited" -lt "$RUN_GRACE_SECONDS" ] && squeue --noheader --jobs "$RUN_HANDLE" 2>/dev/null | grep --quiet .; do
        sleep 1
        waited=$((waited + 1))
    done
    scancel "$RUN_HANDLE" 2>/dev/null || true
    ;;
esac
