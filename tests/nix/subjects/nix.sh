#!/usr/bin/env bash
# `mkImage` with Nix in the image.
# shellcheck source=tests/nix/support.sh
source "$(dirname "${BASH_SOURCE[0]}")/../support.sh"

nix=$(make_image '{ inherit pkgs; name = "mine"; nix = true; }')
assert 'mkImage: with nix = true, the image has Nix, its configuration and its database' "$nix" '
    (.contents[0].paths | index("nix") != null) and (.root | test("install -m 644 [^ ]*-nix.conf etc/nix/nix.conf\n"))
    and (.root | test("database.sh [^ ]*-closure-info/registration 1000:1000 [^\n]*-mine-programs [^\n]*-mine-environment.json"))'

# The database of a store with two paths, one of which refers to the other. Only a real build has more of them.
mkdir -p "$store/image/nix/store"
first=/nix/store/00000000000000000000000000000000-first
second=/nix/store/11111111111111111111111111111111-second
hash=sha256:0000000000000000000000000000000000000000000000000000
printf '%s\n' "$first" "$hash" 120 '' 0 "$second" "$hash" 130 '' 1 "$first" >"$store/registration"
if ! (
    cd "$store/image"
    env -u NIX_STORE_DIR -u NIX_STATE_DIR -u NIX_LOCALSTATE_DIR -u NIX_LOG_DIR "$OLDPWD/nix/database.sh" "$store/registration" "$(id -u):$(id -g)" "$second"
) >"$store/log.txt" 2>&1; then
    cat "$store/log.txt"
    echo 'FAILED  database.sh'
    failed=1
fi
known=$(
    env -u NIX_STORE_DIR -u NIX_STATE_DIR -u NIX_LOCALSTATE_DIR -u NIX_LOG_DIR USER=nobody NIX_REMOTE="local?root=$store/image" \
        nix-store --query --requisites "$second" | jq --raw-input . | jq --slurp .
)
assert 'database.sh: Nix knows the paths of the image and their references' "$known" '. == ["'"$first"'", "'"$second"'"]'
assert 'database.sh: the database does not contain the time of the build' \
    "$(sqlite3 "$store/image/nix/var/nix/db/db.sqlite" 'SELECT DISTINCT registrationTime FROM ValidPaths')" '. == 1'
assert 'database.sh: garbage collection keeps what the image holds' \
    "$(jq --null-input --arg to "$(readlink "$store/image/nix/var/nix/gcroots/image/"*-second)" '$to')" '. == "'"$second"'"'

exit "$failed"
