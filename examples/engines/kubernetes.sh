#!/bin/sh
# The engine `command` with Kubernetes Jobs: kubernetes.sh start|look|stop. Needs kubectl and jq.
# NOT TESTED WITH A CLUSTER: read it before you use it.
#
# Use --repo with a URL that the pods reach, and DESCARTES_DISPATCH_LISTEN and _URL with an address that they reach.
set -eu

case $1 in
start)
    # The variables are a Secret, and the Job takes its environment from it. `apply` finds what an earlier call has made.
    # shellcheck disable=SC2016 # variables of jq
    jq --null-input --arg names "$RUN_VARIABLES" '
        ($names | split(" ")) as $names
        | {
            apiVersion: "v1", kind: "List", items: [
                {
                    apiVersion: "v1", kind: "Secret",
                    metadata: { name: env.RUN_NAME, labels: { "descartes-command": env.RUN_DISPATCH } },
                    stringData: (env | with_entries(select(.key | IN($names[]))))
                },
                {
                    apiVersion: "batch/v1", kind: "Job",
                    metadata: { name: env.RUN_NAME, labels: { "descartes-command": env.RUN_DISPATCH } },
                    spec: {
                        backoffLimit: 0,
                        template: { spec: {
                            restartPolicy: "Never",
                            containers: [{
                                name: "worker", image: env.RUN_IMAGE,
                                envFrom: [{ secretRef: { name: env.RUN_NAME } }],
                                resources: { requests: { cpu: "1", memory: "2Gi" }, limits: { memory: "2Gi" } }
                            }]
                        } }
                    }
                }
            ]
        }' | kubectl apply --filename - >/dev/null || exit 75
    echo "$RUN_NAME"
    ;;
look)
    kubectl get job "$RUN_HANDLE" --ignore-not-found --output name | grep --quiet . || {
        # An error of kubectl must not look like a missing job.
        kubectl version >/dev/null && echo gone
        exit
    }
    state=$(kubectl get pods --selector "job-name=$RUN_HANDLE" --output json |
        jq --raw-output '.items[-1].status.containerStatuses[0].state // {}
            | if .terminated then "exit \(.terminated.exitCode)" + (if .terminated.reason == "OOMKilled" then " oom" else "" end)
              elif .running then "running" else "starting" end')
    case $state in
    exit*) kubectl logs "job/$RUN_HANDLE" >"$RUN_OUTPUT" ;;
    esac
    echo "$state"
    ;;
stop)
    # Without a handle, the start had no clear result.
    RUN_HANDLE=${RUN_HANDLE:-$RUN_NAME}
    kubectl delete job "$RUN_HANDLE" --ignore-not-found --cascade foreground --grace-period "$((RUN_GRACE_SECONDS + 1))" >/dev/null
    kubectl delete secret "$RUN_HANDLE" --ignore-not-found >/dev/null
    ;;
esac
