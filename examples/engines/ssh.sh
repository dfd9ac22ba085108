#!/bin/sh
# The engine `command` with processes on other machines, over ssh: ssh.sh start|look|stop.
# Tested in CI with OpenSSH's server on the loopback interface.
#
# SSH_HOSTS is a list of hosts, separated by spaces. Each must have descartes-worker, git and the agent on its PATH, and
# reach DESCARTES_DISPATCH_URL and the repository. SSH is the ssh command (default: ssh -o BatchMode=yes).
set -eu
SSH=${SSH:-ssh -o BatchMode=yes -o ConnectTimeout=10}

# The same run always has the same host: a second start finds what the first one has started.
host() {
    # shellcheck disable=SC2086 # a list
    set -- $SSH_HOSTS
    number=$(printf %s "$RUN_NAME" | cksum | cut -d ' ' -f 1)
    shift $((number % $#))
    echo "$1"
}

# Runs the script $1 on the host of the run, in the directory of the run.
on_host() {
    # shellcheck disable=SC2086 # a command with options
    $SSH "$(host)" "umask 077; mkdir -p ~/.descartes-runs/$RUN_NAME && cd ~/.descartes-runs/$RUN_NAME && { $1
}"
}

# Assignments of all variables of the worker, for a shell. They go through standard input.
assignments() {
    for name in $RUN_VARIABLES; do
        eval "value=\${$name}"
        # shellcheck disable=SC2154 # eval assigns it
        printf "export %s='%s'\n" "$name" "$(printf %s "$value" | sed "s/'/'\\\\''/g")"
    done
}

copy_output() {
    on_host 'cat stdout' >"$RUN_OUTPUT"
    on_host 'cat log' >"$RUN_LOG"
}

case $1 in
start)
    # The directory `begun` can be made once only.
    assignments | on_host 'cat > variables.$$
        if mkdir begun 2>/dev/null; then
            mv variables.$$ variables
            setsid sh -c "trap : TERM; . ./variables; rm variables; echo \$\$ > pid.new; mv pid.new pid
                descartes-worker > stdout 2> log < /dev/null; echo \$? > code.new; mv code.new code" > /dev/null 2>&1 < /dev/null &
        else
            rm variables.$$
        fi' || exit 75
    echo "$(host):$RUN_NAME"
    ;;
look)
    # ssh itself ends with 255 if the host does not answer, which says nothing about the run.
    found=$(on_host 'if [ -e code ]; then echo "exit $(cat code)"
        elif [ ! -e begun ]; then echo gone
        elif [ ! -e pid ]; then echo starting
        elif kill -0 "$(cat pid)" 2>/dev/null; then echo running
        else echo gone
        fi') || exit 1
    case $found in
    exit*) copy_output ;;
    esac
    echo "$found"
    ;;
stop)
    on_host "if [ -e pid ] && [ ! -e code ]; then
            # The process group of the shell that setsid has started.
            kill -TERM -- -\$(cat pid) 2>/dev/null
            waited=0
            while [ ! -e code ] && [ \$waited -lt $RUN_GRACE_SECONDS ]; do sleep 1; waited=\$((waited + 1)); done
            kill -KILL -- -\$(cat pid) 2>/dev/null
        fi
        touch stdout log"
    copy_output
    if [ "$RUN_GRACE_SECONDS" = 0 ]; then
        # shellcheck disable=SC2086 # a command with options
        $SSH "$(host)" "rm -rf ~/.descartes-runs/$RUN_NAME"
    fi
    ;;
esac
