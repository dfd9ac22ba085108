#!/usr/bin/env bash
# Loads an image into docker or podman: the first one that is installed and whose engine answers.
#
#     load IMAGE [--image IMAGE] [--engine docker|podman]
#
# IMAGE is a docker archive, or a program that prints one, as Nix builds it.
set -euo pipefail

usage() {
    printf 'load: %s\nusage: load [--image IMAGE] [--engine docker|podman]\n' "$1" >&2
    exit 2
}

image=$1
shift
engines=(docker podman)
while (($#)); do
    (($# > 1)) || usage "$1 is not a known option, or its value is missing"
    case $1 in
        --image) image=$2 ;;
        --engine) engines=("$2") ;;
        *) usage "$1 is not a known option" ;;
    esac
    shift 2
done
[[ -r $image ]] || usage "there is no image at $image"

for engine in "${engines[@]}"; do
    # A client is useless without a running engine.
    if "$engine" info >/dev/null 2>&1; then
        if [[ -x $image ]]; then
            "$image" | "$engine" load
        else
            "$engine" load <"$image"
        fi
        exit
    fi
done
echo "load: no container engine answers; tried: ${engines[*]}" >&2
exit 1
