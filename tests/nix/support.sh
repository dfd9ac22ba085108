# shellcheck shell=bash disable=SC2034
# What the scripts in tests/nix/subjects use: the flake with stand-ins for its inputs, and assertions. A script sources this file,
# asserts, and ends with `exit "$failed"`. (SC2034: the scripts use the variables that this file sets.)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

for program in nix jq sqlite3 git; do
    command -v "$program" >/dev/null || { echo "tests/nix: $program is missing" >&2; exit 1; }
done

# A private store, so that neither root nor a daemon is needed. tests/nix/run makes one for all its subjects.
store=${TESTS_NIX_STORE:-}
if [[ -z $store ]]; then
    store=$(mktemp -d)
    trap 'chmod -R u+w "$store" || true; rm -rf "$store" || true' EXIT
fi
export NIX_STORE_DIR=$store/store NIX_STATE_DIR=$store/var NIX_LOCALSTATE_DIR=$store/var NIX_LOG_DIR=$store/log NIX_CONF_DIR=$store/etc
export XDG_CACHE_HOME=$store/cache NIX_REMOTE=

flake=git+file://$PWD
standins=$PWD/tests/nix
with_standins=(--override-input nixpkgs "path:$standins/nixpkgs" --override-input crane "path:$standins/crane")

nix() {
    command nix --extra-experimental-features 'nix-command flakes' "$@"
}

# Evaluates with the stand-ins; prints the value as JSON.
evaluate() {
    nix eval --json "${with_standins[@]}" "$@" 2>"$store/log.txt" || { cat "$store/log.txt" >&2; return 1; }
}

# The flake's output at $1, as data by the function $2 of facts.nix.
read_output() {
    evaluate "$flake#$1" --apply "facts: ($(cat tests/nix/facts.nix)).$2 facts"
}

# The image that `mkImage` makes with the arguments $1 and the packages of system $2, as data.
make_image() {
    evaluate --impure "$flake#lib" --apply "
      lib:
      let
        packagesOf = system: import $standins/nixpkgs { inherit system; };
        pkgs = packagesOf \"${2:-x86_64-linux}\";
      in
      ($(cat tests/nix/facts.nix)).image (lib.mkImage $1)"
}

failed=0
# Asserts that the jq filter $3 is true for the data $2; $1 is the sentence that is printed. The data are empty if the call that
# makes them failed: that is a failure too, although jq would succeed.
assert() {
    if [[ -n $2 ]] && jq --exit-status "$3" <<<"$2" >/dev/null; then
        printf 'ok      %s\n' "$1"
    else
        printf 'FAILED  %s\n        %s\n' "$1" "$3"
        jq . <<<"${2:-\"no data\"}" | head -60
        failed=1
    fi
}

# Asserts that `mkImage` refuses the arguments $3, with `pkgs` of the system $2, by a message that contains each of the other texts.
assert_refused() {
    local sentence=$1 system=$2 arguments=$3
    shift 3
    if make_image "$arguments" "$system" >/dev/null 2>"$store/message.txt"; then
        printf 'FAILED  %s: mkImage accepted %s\n' "$sentence" "$arguments"
        failed=1
    else
        assert "$sentence" "$(jq --raw-input --slurp '{ message: ., texts: $ARGS.positional }' "$store/message.txt" --args "$@")" \
            '.message as $message | .texts | length > 0 and all(. as $text | $message | contains($text))'
    fi
}

# The files that the Rust files in the directories $1... include, and that the list .files of the data on standard input lacks. If a
# file includes one that its build does not get, only the build shows it.
missing_includes() {
    local data file name
    data=$(cat)
    git ls-files -- "$@" | grep '\.rs$' | while read -r file; do
        { grep -oE '(include_(str|bytes)!\(|#\[path = )"[^"]+"' "$file" || true; } | sed 's/.*"\(.*\)"/\1/' | while read -r name; do
            realpath --relative-to=. "$(dirname "$file")/$name"
        done
    done | sort --unique | jq --raw-input --slurp --argjson data "$data" '(split("\n") | map(select(. != ""))) - $data.files | join(" ")'
}

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
manifest=$(nix eval --impure --json --expr "builtins.fromTOML (builtins.readFile $PWD/Cargo.toml)")
