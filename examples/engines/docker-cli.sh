#!/bin/sh
# The engine `command` with docker's command line: docker-cli.sh start|look|stop.
# Tested in CI with Docker Engine 20.10.
#
# DOCKER_OPTIONS has further options of `docker create`, for example: --network host
set -eu

# The directories of a repository on this machine, its own and those that it borrows objects from.
directories() {
    case ${DESCARTES_REPO-} in
    file://*)
        repository=${DESCARTES_REPO#file://}
        echo "$repository"
        cat "$repository/objects/info/alternates" 2>/dev/null || true
        ;;
    esac
}

# Replaces the files with the worker's output. $1 is the command that is running, look or stop: both can run at the same time, so each
# first writes a file that no other call uses. The files stay as they are if the container is gone.
save_output() {
    docker logs "$RUN_HANDLE" >"$RUN_OUTPUT.$1" 2>"$RUN_LOG.$1" || return 0
    mv "$RUN_OUTPUT.$1" "$RUN_OUTPUT"
    mv "$RUN_LOG.$1" "$RUN_LOG"
}

case $1 in
start)
    # A container of this name was made by an earlier call.
    if id=$(docker inspect --type container --format '{{.Id}}' "$RUN_NAME" 2>/dev/null); then
        state=$(docker inspect --type container --format '{{.State.Status}}' "$id")
    else
        set --
        # Without a value, docker takes it from the environment, so no secret is among the arguments.
        for name in $RUN_VARIABLES; do
            set -- "$@" --env "$name"
        done
        for dir in $(directories); do
            set -- "$@" --volume "$dir:$dir"
        done
        set -- "$@" ${RUN_MEMORY:+--memory "$RUN_MEMORY"} ${RUN_CPUS:+--cpus "$RUN_CPUS"}
        # shellcheck disable=SC2086 # several options
        id=$(docker create --name "$RUN_NAME" --label "descartes-command=$RUN_DISPATCH" "$@" ${DOCKER_OPTIONS-} "$RUN_IMAGE") || exit 75
        state=created
    fi
    if [ "$state" = created ]; then
        docker start "$id" >/dev/null || exit 75
    fi
    echo "$id"
    ;;
look)
    format='{{.State.Status}} {{.State.ExitCode}} {{if .State.OOMKilled}}oom{{end}}'
    if ! found=$(docker inspect --type container --format "$format" "$RUN_HANDLE" 2>&1); then
        case $found in
        *"No such container"*) echo gone ;;
        *)
            # The engine does not answer, which says nothing about the run.
            echo "$found" >&2
            exit 1
            ;;
        esac
        exit
    fi
    case $found in
    exited* | dead*)
        save_output look
        echo "exit ${found#* }"
        ;;
    created*) echo starting ;;
    *) echo running ;;
    esac
    ;;
stop)
    # Without a handle, the start had no clear result.
    RUN_HANDLE=${RUN_HANDLE:-$RUN_NAME}
    if docker stop --time "$RUN_GRACE_SECONDS" "$RUN_HANDLE" >/dev/null 2>&1; then
        save_output stop
    fi
    found=$(docker rm --force "$RUN_HANDLE" 2>&1) || case $found in
    *"No such container"*) ;;
    *)
        echo "$found" >&2
        exit 1
        ;;
    esac
    ;;
esac
