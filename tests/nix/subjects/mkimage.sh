#!/usr/bin/env bash
# `mkImage`: what its arguments change.
# shellcheck source=tests/nix/support.sh
source "$(dirname "${BASH_SOURCE[0]}")/../support.sh"

image=$(read_output packages.x86_64-linux.image image)
tools=$(make_image '{
    inherit pkgs;
    name = "mine";
    tag = "7";
    tools = [ pkgs.tree pkgs.git ];
    env = { GREETING = "hello"; DESCARTES_TASK_TIMEOUT = "10m"; };
    user = { name = "me"; uid = 1234; gid = 1235; };
    maxLayers = 20;
    labels."org.opencontainers.image.title" = "Mine";
    created = "2026-01-02T03:04:05Z";
    directories = [ "/data/cache" ];
    libraries = [ pkgs.zlib ];
    revision = "0123abc";
}')
assert 'mkImage: tools come first on the PATH, and the everyday ones stay' "$(jq --slurp '.' <<<"$tools $image")" '
    .[0].contents[0].paths == ["tree", "git"] + .[1].contents[0].paths and .[0].contents[0].ignoreCollisions'
assert 'mkImage: name, tag, layers, date and labels are the caller'\''s' "$tools" '
    .name == "mine" and .tag == "7" and .maxLayers == 20 and .created == "2026-01-02T03:04:05Z"
    and .config.Labels["org.opencontainers.image.title"] == "Mine"'
assert 'mkImage: the agent gets the variables, except for the settings of the worker' "$tools" '
    .config.Env
    | index("GREETING=hello") != null and index("DESCARTES_TASK_TIMEOUT=10m") != null and index("DESCARTES_AGENT_ENV=GREETING") != null'
assert 'mkImage: the user is the caller'\''s' "$tools" '
    .config.User == "1234:1235" and (.config.Env | index("USER=me") != null) and (.root | contains("chown -R 1234:1235 ./home/worker"))'
assert 'mkImage: further directories belong to the user' "$tools" '
    .root | contains(" ./data/cache\n") and test("chown -R 1234:1235 ./home/worker workspace ./data/cache\n")'
assert 'mkImage: the OCI labels have the version and the revision of the project, other labels those of the worker' "$tools" '
    .config.Labels
    | .["org.opencontainers.image.version"] == "7" and .["org.opencontainers.image.revision"] == "0123abc" and .["descartes-worker.version"] == "'"$version"'"
    and (has("org.opencontainers.image.licenses") or has("org.opencontainers.image.description") | not)'
assert 'mkImage: without a tag, the image has the worker'\''s version as its tag, and no label with a version' "$(make_image '{ inherit pkgs; name = "mine"; }')" '
    .tag == "'"$version"'" and (.config.Labels | has("org.opencontainers.image.version") | not)'

values=$(make_image '{
    inherit pkgs;
    name = "registry.example:5000/team/worker";
    env = { NUMBER = 80; FLAG = true; FILE = /. + "'"$standins"'/run"; PATH = "/opt/tools/bin"; TEXT = "a \"b\" $c"; };
    labels = { "org.example.number" = 7; "org.example.flag" = false; };
}')
assert 'mkImage: numbers, booleans and paths become text' "$values" '
    (.config.Env | index("NUMBER=80") != null and index("FLAG=true") != null and any(test("^FILE=/.*run$")) and index("TEXT=a \"b\" $c") != null)
    and .config.Labels["org.example.number"] == "7" and .config.Labels["org.example.flag"] == "false"'
assert 'mkImage: env.PATH comes before /bin, and DESCARTES_AGENT_ENV does not name PATH, which would replace the one in the file' "$values" '
    .config.Env | index("PATH=/opt/tools/bin:/bin:/usr/bin") != null and index("DESCARTES_AGENT_ENV=FILE,FLAG,NUMBER,TEXT") != null'

exit "$failed"
