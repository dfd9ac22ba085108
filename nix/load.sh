#!/usr/bin/env bash
# Loads an image into docker or podman, whichever is there and answers.
#
#     load IMAGE [--image IMAGE] [--engine docker|podman]
#
# IMAGE is a program that prints a docker archive, as Nix builds it, or such an archive.
set -euo pipefail

usage() {
    printf 'load: %s\nusage: load [--image IMAGE] [--engine docker|podman]\n' "$1" >&2
    exit 2
}

image=$1
shift
engines=(docker podman)
while (($#)); do
    (($# > 1)) || usage "$1 is no option, or its value is missing"
    case $1 in
        --image) image=$2 ;;
        --engine) engines=("$2") ;;
        *) usage "there is no option $1" ;;
    esac
    shift 2
done
[[ -r $image ]] || usage "there is no image at $image"

for engine in "${engines[@]}"; do
    # A client without its engine is of no use.
    if "$engine" info >/dev/null 2>&1; then
        if [[ -x $image ]]; then
            "$image" | "$engine" load
        else
            "$engine" load <"$image"
        fi
        exit
    fi
done
echo "load: none of these answers: ${engines[*]}" >&2
exit 1
