#!/usr/bin/env bash
# The images of this flake.
# shellcheck source=tests/nix/support.sh
source "$(dirname "${BASH_SOURCE[0]}")/../support.sh"

image=$(read_output packages.x86_64-linux.image image)
assert 'the image has the name and the version of the crate' "$image" '.name == "descartes-worker" and .tag == "'"$version"'"'
assert 'the image leaves layers for images that build on it' "$image" '.maxLayers <= 100 and .maxLayers > 50'
assert 'created is a date' "$image" '.created | test("^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")'
assert 'the image names its user by number, and it is not root' "$image" '.config.User == "1000:1000"'
assert 'the entrypoint is the worker, without a command' "$image" '
    .config.Entrypoint == ["/app/descartes-worker"] and (.config | has("Cmd") | not)'
assert 'all labels are strings' "$image" '.config.Labels | length >= 4 and all(type == "string")'
assert 'labels have names that the OCI specifies, or begin with descartes-worker' "$image" '
    .config.Labels | keys | all(startswith("org.opencontainers.image.") or startswith("descartes-worker."))'
assert 'labels give the versions of the image and of the worker' "$image" '
    .config.Labels | .["org.opencontainers.image.version"] == "'"$version"'" and .["descartes-worker.version"] == "'"$version"'"
        and has("org.opencontainers.image.description") and has("org.opencontainers.image.licenses")'
# The revision is missing with older Nix if inputs are overridden, and with newer Nix if the tree is dirty.
assert 'if the revision is known, the label and the worker have the same one' "$image" '
    .config.Labels["descartes-worker.revision"] as $revision
    | (.config.Env | map(select(startswith("DESCARTES_REVISION=")))) == (if $revision then ["DESCARTES_REVISION=\($revision)"] else [] end)'
assert 'all variables are strings, and no name occurs twice' "$image" '
    .config.Env | all(type == "string") and (map(split("=")[0]) | length == (unique | length))'
assert 'variables name the home, the shell, the search path and the authorities' "$image" '
    .config.Env as $env
    | ["HOME=/home/worker", "USER=worker", "SHELL=/bin/bash", "PATH=/bin:/usr/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-bundle.crt"]
    | all(. as $variable | $env | index($variable) != null)'
assert 'SSL_CERT_FILE is the only variable with authorities, so that no other one takes precedence over it' "$image" '
    .config.Env | map(split("=")[0]) | map(select(test("CERT|CAINFO|CA_BUNDLE|CA_PATH"))) == ["SSL_CERT_FILE"]'
assert 'no variable contains a path of the store' "$image" '.config.Env | all(contains("/store/") | not)'
assert 'the image has the tools that coding agents use' "$image" '
    .contents[0].paths == ["bashInteractive", "bubblewrap", "coreutils", "curl", "diffutils", "file", "findutils", "gawk", "gitMinimal",
        "gnugrep", "gnupatch", "gnused", "gnutar", "gzip", "jq", "less", "openssh", "procps", "ripgrep", "unzip", "which", "xz"]'
assert 'programs of other distributions find a loader and libraries' "$image" '
    .root | test("ln -s [^ ]*-nix-ld/libexec/nix-ld lib64/ld-linux-x86_64.so\n") and test("ln -s [^ ]*-descartes-worker-libraries/lib usr/lib/nix-ld\n")'
assert 'variables tell nix-ld where the loader and the libraries are, also for the agent' "$image" '
    {NIX_LD: "/usr/lib/nix-ld/ld.so", NIX_LD_LIBRARY_PATH: "/usr/lib/nix-ld"} as $variables
    | .environment == {function: "writeText", variables: $variables}
    and (.config.Env | index("DESCARTES_AGENT_ENV_FILE=/app/environment.json") != null and index("NIX_LD=/usr/lib/nix-ld/ld.so") != null)'
assert 'the file with the variables of the agent is where the setting says' "$image" '
    .root | test("install -m 644 [^ ]*-descartes-worker-environment.json app/environment.json\n")'
assert 'the directories that programs expect in a home belong to the user' "$image" '
    .root | contains("mkdir -p ./home/worker/.cache ./home/worker/.config ./home/worker/.local/bin ./home/worker/.local/share ./home/worker/.local/state\n")
        and contains("chown -R 1000:1000 ./home/worker workspace")'
assert 'the image has an os-release' "$image" '.root | test("install -m 644 [^ ]*-os-release etc/os-release\n")'
assert 'on ARM the loader has the name that it has on other distributions' "$(read_output packages.aarch64-linux.image image)" '.root | test("libexec/nix-ld lib/ld-linux-aarch64.so\n")'
assert 'of each tool only the programs are linked' "$image" '.contents | length == 1 and .[0].pathsToLink == ["/bin"]'
assert 'the worker is copied, so that a new worker changes one layer' "$image" '
    (.root | test("install -m 755 [^ ]*-descartes-worker/bin/descartes-worker app/descartes-worker\n"))
    and (.contents[0].paths | index("descartes-worker") == null)'
assert 'the image has the programs push and load' "$image" '.programs == ["push", "load"]'

minimal=$(read_output packages.x86_64-linux.image-minimal image)
assert 'the minimal image has bash, git and busybox, and nothing for programs of other distributions' "$minimal" '
    .name == "descartes-worker-minimal" and .contents[0].paths == ["bash", "coreutils", "gitMinimal", "gnugrep", "gnused", "busybox"]
    and (.root | contains("nix-ld") | not) and (.config.Env | all(startswith("NIX_LD") | not)) and .environment.variables == {}'
assert 'the minimal image has the same entrypoint and user as the image' "$(jq --slurp '.' <<<"$minimal $image")" '
    .[0].config.Entrypoint == .[1].config.Entrypoint and .[0].config.User == .[1].config.User'

claude=$(read_output packages.x86_64-linux.image-claude-code image)
# The worker finds Claude Code on the PATH and sets its variables.
assert 'the image with Claude Code differs from the image only by claude-code, which comes first on the PATH' "$(jq --slurp '.' <<<"$claude $image")" '
    .[0].contents[0].paths == ["claude-code"] + .[1].contents[0].paths and (.[0].root | gsub("[^ ]*-environment.json|[^ ]*-libraries"; "")) == (.[1].root | gsub("[^ ]*-environment.json|[^ ]*-libraries"; ""))
    and (.[0].config | del(.Labels)) == (.[1].config | del(.Labels))'

exit "$failed"
