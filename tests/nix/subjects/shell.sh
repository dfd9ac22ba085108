#!/usr/bin/env bash
# `mkImage` with a devShell: its variables are in a file for the agent and the checks.
# shellcheck source=tests/nix/support.sh
source "$(dirname "${BASH_SOURCE[0]}")/../support.sh"

shell=$(make_image '{
    inherit pkgs;
    name = "team/shelled";
    devShell = pkgs.mkShellNoCC { packages = [ pkgs.hello ]; GREETING = "hello"; TERM = "dumb"; LD_LIBRARY_PATH = "/broken"; env.INNER = "1"; };
    env.PATH = "/opt/bin";
}')
assert 'mkImage: the variables of a devShell are in a file, and none in the configuration' "$shell" '
    .environment.function == "runCommand" and (.config.Env | all(test("^(GREETING|TERM|LD_LIBRARY_PATH|INNER)=") | not))
    and (.config.Env | index("DESCARTES_AGENT_ENV_FILE=/app/environment.json") != null)'
assert 'mkImage: the file is made with the search path of the image and the names in the call of mkShell' "$shell" '
    .environment.path == "/opt/bin:/bin:/usr/bin" and (.environment.named - ["env", "name"] | sort) == ["GREETING", "INNER", "LD_LIBRARY_PATH", "TERM", "packages"]
    and .environment.base.NIX_LD == "/usr/lib/nix-ld/ld.so"'
assert 'mkImage: an image with a shell has push, load and the attribute conf, as every image' "$shell" '.programs == ["push", "load"] and .passthru == ["conf"]'

# What nix/environment.jq makes of the variables of two builders: $1 in the shell, $2 in an empty one, one NAME=VALUE a line.
filter_environment() {
    tr '\n' '\0' <<<"$1" >"$store/shell"
    tr '\n' '\0' <<<"$2" >"$store/empty"
    jq --null-input --from-file nix/environment.jq --rawfile shell "$store/shell" --rawfile empty_shell "$store/empty" \
        --argjson base '{ "NIX_LD": "/usr/lib/nix-ld/ld.so" }' --argjson named '["GREETING", "TERM", "DESCARTES_FORCE"]' --arg path /bin:/usr/bin
}
filtered=$(filter_environment 'GREETING=hello
TERM=dumb
SSL_CERT_FILE=/nix/store/cacert/bundle.crt
LD_LIBRARY_PATH=/nix/store/zlib/lib
FROM_A_HOOK=a=b
out=/nix/store/shell
NIX_ATTRS_JSON_FILE=/build/.attrs.json
NIX_ATTRS_SH_FILE=/build/.attrs.sh
DESCARTES_FORCE=true
BASH_FUNC_f%%=() { :; }
PATH=/hello/bin:/gcc/bin:/coreutils/bin:/bash/bin' 'TERM=xterm
SSL_CERT_FILE=/no-cert-file.crt
out=/nix/store/bare
PATH=/coreutils/bin:/bash/bin:/only-bare/bin')
assert 'environment.jq: the file has the variables of the shell, and those of every image' "$filtered" '
    .GREETING == "hello" and .LD_LIBRARY_PATH == "/nix/store/zlib/lib" and .FROM_A_HOOK == "a=b" and .NIX_LD == "/usr/lib/nix-ld/ld.so"'
assert 'environment.jq: the file has a variable that the call of mkShell names, even if a builder sets it too' "$filtered" '.TERM == "dumb"'
assert 'environment.jq: the file lacks what a builder sets, so that a private authority counts' "$filtered" 'has("SSL_CERT_FILE") or has("out") | not'
assert 'environment.jq: the file lacks paths of the builder, settings of the worker and functions of bash' "$filtered" '
    keys == ["FROM_A_HOOK", "GREETING", "LD_LIBRARY_PATH", "NIX_LD", "PATH", "TERM"]'
assert 'environment.jq: the shell'\''s programs come first, the builder'\''s bash after the image'\''s' "$filtered" '
    .PATH == "/hello/bin:/gcc/bin:/bin:/usr/bin:/coreutils/bin:/bash/bin"'

exit "$failed"
