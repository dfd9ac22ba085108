#!/usr/bin/env bash
# The table of what each part of an image costs.
# shellcheck source=tests/nix/support.sh
source "$(dirname "${BASH_SOURCE[0]}")/../support.sh"

sizes=$(make_image '{ inherit pkgs; name = "team/mine"; }' | jq .sizes)
assert 'the table of sizes is about the programs, the other parts and the worker' "$sizes" '
    (.programs | endswith("-mine-programs")) and .graph == [.programs] + .others
    and (.others | map(sub(".*/[0-9a-z]{32}-"; "")) == ["mine-environment.json", "cacert", "nix-ld", "mine-libraries"])
    and (.command | contains("/bin/descartes-worker)"))'
assert 'the table of the minimal image is not about libraries for other programs' "$(make_image '{ inherit pkgs; base = "minimal"; }')" '
    .sizes.others | map(sub(".*/[0-9a-z]{32}-"; "")) == ["descartes-worker-environment.json", "cacert"]'

# A store path with the name $1, the size $2 and references to the further names.
node() {
    local name=$1 size=$2
    shift 2
    jq --null-input --arg name "$name" --argjson size "$size" '
        def path: "/nix/store/" + (. + "00000000000000000000000000000000")[:32] + "-" + .;
        { path: ($name | path), narSize: $size, references: ($ARGS.positional | map(path)) }' --args "$@"
}
table=$({
    node programs 10 programs git curl bash
    node git 1000 libc bash
    node curl 200 libc brotli curl
    node libc 30000
    node bash 400 libc
    node brotli 50
    node cacert 7
} | jq --slurp '{ graph: ., programs: .[0].path, others: [.[-1].path] }' |
    jq --raw-output --from-file nix/sizes.jq --argjson worker 6000 | jq --raw-input 'split("\t")' | jq --slurp --compact-output .)
assert 'a part costs what only this part needs' "$table" 'index([["1000", "git"]]) != null and index([["250", "curl"], ["7", "cacert"]]) != null'
assert 'a part that another part needs costs nothing' "$table" 'index([["0", "bash"]]) != null'
assert 'the sum of the table is its last line' "$table" '
    .[-3:-1] == [["6000", "the worker"], ["30400", "used by several parts"]] and (.[:-1] | map(.[0] | tonumber) | add) == (.[-1][0] | tonumber)'

exit "$failed"
