#!/usr/bin/env bash
# Pushes an image to a registry as docker v2s2 and gzip, which every registry and every platform takes, and prints the
# reference with its digest. A tag that has this digest already is left alone, and nothing is sent.
#
#     push IMAGE [--image IMAGE] [--authfile FILE] [--plain-http] REGISTRY/REPOSITORY:TAG
#
# IMAGE is a program that prints a docker archive, as Nix builds it, or such an archive. Credentials: --authfile,
# $REGISTRY_AUTH_FILE, for registry.fly.io $FLY_API_TOKEN, or where podman, skopeo and docker keep theirs.
set -euo pipefail

usage() {
    printf 'push: %s\nusage: push [--image IMAGE] [--authfile FILE] [--plain-http] REGISTRY/REPOSITORY:TAG\n' "$1" >&2
    exit 2
}

image=$1
shift
authfile=${REGISTRY_AUTH_FILE:-}
verify=true
destination=
while (($#)); do
    case $1 in
        --image | --authfile)
            (($# > 1)) || usage "$1 needs a value"
            case $1 in
                --image) image=$2 ;;
                --authfile) authfile=$2 ;;
            esac
            shift
            ;;
        # For a registry on loopback, which has no certificate.
        --plain-http) verify=false ;;
        -*) usage "there is no option $1" ;;
        *)
            [[ -z $destination ]] || usage "more than one destination: $destination and $1"
            destination=${1#docker://}
            ;;
    esac
    shift
done
[[ -n $destination ]] || usage 'the destination is missing'
[[ $destination == */* ]] || usage "$destination names no registry and repository"
# After the last slash: before it, a colon is a port's.
[[ ${destination##*/} == *:?* ]] || usage "$destination has no tag"
[[ -r $image ]] || usage "there is no image at $image"

umask 077
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The token goes from the environment into a file that is the caller's alone: never into a command line, which all users see.
if [[ -z $authfile && $destination == registry.fly.io/* && -n ${FLY_API_TOKEN:-} ]]; then
    authfile=$work/auth.json
    jq --null-input '{ auths: { "registry.fly.io": { auth: ("x:" + env.FLY_API_TOKEN | @base64) } } }' >"$authfile"
fi
credentials=()
if [[ -n $authfile ]]; then
    credentials=(--authfile "$authfile")
fi

# The archive is our own: no policy of this machine has a say in it.
skopeo=(skopeo --insecure-policy --tmpdir "$work")

if [[ -x $image ]]; then
    # It tells of every layer, which is of interest only if it fails.
    "$image" >"$work/archive" 2>"$work/layers" || { cat "$work/layers" >&2 && exit 1; }
    image=$work/archive
fi
# Compressed here first, so that the digest is known before anything is sent.
"${skopeo[@]}" copy --quiet --format v2s2 --dest-compress --dest-compress-format gzip \
    "docker-archive:$image" "dir:$work/image"
rm -f "$work/archive"
digest=sha256:$(sha256sum "$work/image/manifest.json" | cut -d ' ' -f 1)
repository=${destination%:*}

# Whatever is wrong here, a missing tag or missing rights, the copy says it better.
there=$("${skopeo[@]}" inspect --raw "${credentials[@]}" --tls-verify="$verify" "docker://$destination" 2>/dev/null |
    sha256sum | cut -d ' ' -f 1) || there=
if [[ sha256:$there == "$digest" ]]; then
    echo "$destination is this image already; nothing was sent" >&2
else
    "${skopeo[@]}" copy --preserve-digests "${credentials[@]}" --dest-tls-verify="$verify" \
        "dir:$work/image" "docker://$destination" >&2
fi
echo "$repository@$digest"
