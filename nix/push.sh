#!/usr/bin/env bash
# Pushes an image to a registry and prints its reference with the digest. The format is docker v2s2 with gzip, which every
# registry and platform accepts. If the tag already has this digest, nothing is sent.
#
#     push IMAGE [--image IMAGE] [--authfile FILE] [--plain-http] REGISTRY/REPOSITORY:TAG
#
# IMAGE is a docker archive, or a program that prints one, as Nix builds it. Credentials come from --authfile,
# $REGISTRY_AUTH_FILE, $FLY_API_TOKEN for registry.fly.io, or the files in which podman, skopeo and docker keep theirs.
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
        -*) usage "$1 is not a known option" ;;
        *)
            [[ -z $destination ]] || usage "more than one destination: $destination and $1"
            destination=${1#docker://}
            ;;
    esac
    shift
done
[[ -n $destination ]] || usage 'the destination is missing'
[[ $destination == */* ]] || usage "$destination does not name a registry and a repository"
# Only after the last slash: before it, a colon separates host and port.
[[ ${destination##*/} == *:?* ]] || usage "$destination has no tag"
[[ -r $image ]] || usage "there is no image at $image"

umask 077
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The token goes from the environment into a file that only the caller can read, never into a command line, which every user can read.
if [[ -z $authfile && $destination == registry.fly.io/* && -n ${FLY_API_TOKEN:-} ]]; then
    authfile=$work/auth.json
    jq --null-input '{ auths: { "registry.fly.io": { auth: ("x:" + env.FLY_API_TOKEN | @base64) } } }' >"$authfile"
fi
credentials=()
if [[ -n $authfile ]]; then
    credentials=(--authfile "$authfile")
fi

# Nix built the archive, so this machine's trust policy does not apply to it.
skopeo=(skopeo --insecure-policy --tmpdir "$work")

if [[ -x $image ]]; then
    # skopeo prints a line for every layer, which is only interesting if it fails.
    "$image" >"$work/archive" 2>"$work/layers" || { cat "$work/layers" >&2 && exit 1; }
    image=$work/archive
fi
# Compress locally first, so that the digest is known before anything is sent.
"${skopeo[@]}" copy --quiet --format v2s2 --dest-compress --dest-compress-format gzip \
    "docker-archive:$image" "dir:$work/image"
rm -f "$work/archive"
digest=sha256:$(sha256sum "$work/image/manifest.json" | cut -d ' ' -f 1)
repository=${destination%:*}

# Ignore errors here (a missing tag, missing rights): the copy below reports them better.
remote=$("${skopeo[@]}" inspect --raw "${credentials[@]}" --tls-verify="$verify" "docker://$destination" 2>/dev/null |
    sha256sum | cut -d ' ' -f 1) || remote=
if [[ sha256:$remote == "$digest" ]]; then
    echo "$destination already has this image; nothing was sent" >&2
else
    "${skopeo[@]}" copy --preserve-digests "${credentials[@]}" --dest-tls-verify="$verify" \
        "dir:$work/image" "docker://$destination" >&2
fi
echo "$repository@$digest"
