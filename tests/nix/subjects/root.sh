#!/usr/bin/env bash
# The commands that make the topmost layer of an image: run for real, with empty files in place of what Nix would build.
# shellcheck source=tests/nix/support.sh
source "$(dirname "${BASH_SOURCE[0]}")/../support.sh"

# Only root may change owners, and this test needs no root: so the owners are written to a file.
cat >"$store/make.sh" <<'MAKE'
chown() {
    [[ $1 == -R ]] && shift
    local owner=$1
    shift
    for path in "$@"; do printf '%s\t%s\n' "$owner" "${path#./}" >>"$OWNERS"; done
}
eval "$COMMANDS"
MAKE

# Makes the topmost layer of the image with the arguments $1, with the programs $2 in /bin. Prints the owners and the files as data.
make_layer() {
    local commands root path programs
    commands=$(make_image "$1" | jq --raw-output .root)
    while read -r path; do
        [[ -e $path ]] || { mkdir -p "$(dirname "$path")" && touch "$path"; }
    done < <(grep -oE "$NIX_STORE_DIR/[A-Za-z0-9+._?=/-]+" <<<"$commands")
    root=$(mktemp -d "$store/root.XXXXXX")
    mkdir "$root/bin"
    read -ra programs <<<"$2"
    for path in "${programs[@]}"; do
        install -m 755 /dev/null "$root/bin/$path"
    done
    : >"$store/owners"
    (cd "$root" && COMMANDS=$commands OWNERS=$store/owners bash -e "$store/make.sh") || return 1
    (cd "$root" && find . -mindepth 1 -printf '/%P\t%y%m\t%l\n') | jq --raw-input --slurp --rawfile owners "$store/owners" '
        def rows: split("\n") | map(select(. != "") | split("\t"));
        { owners: ($owners | rows | map({ key: ("/" + .[1]), value: .[0] }) | from_entries),
          files: (rows | map({ key: .[0], value: (.[1] + (if .[2] == "" then "" else " " + .[2] end)) }) | from_entries) }'
}

usual=$(make_layer '{ inherit pkgs; }' 'bash sh')
assert 'the worker is a file, and has the names under which it is started' "$usual" '
    .files | .["/app/descartes-worker"] == "f755" and .["/app/worker"] == "l777 descartes-worker" and .["/bin/descartes-worker"] == "l777 /app/descartes-worker"'
assert 'the home and the workspace belong to the user, and only the user can enter the home' "$usual" '
    .owners == { "/home/worker": "1000:1000", "/workspace": "1000:1000" } and .files["/home/worker"] == "d700" and .files["/workspace"] == "d755"'
assert 'the home has the directories that programs expect' "$usual" '
    .files as $files | [".cache", ".config", ".local/bin", ".local/share", ".local/state"] | all($files["/home/worker/" + .] == "d755")'
assert 'everybody can write to /tmp, and only root can enter the home of root' "$usual" '.files["/tmp"] == "d1777" and .files["/root"] == "d700"'
assert 'the files in /etc are not links, which some engines refuse there' "$usual" '
    .files as $files | ["passwd", "group", "nsswitch.conf", "gitconfig", "os-release"] | all($files["/etc/" + .] == "f644")'
assert 'the authorities have the names of several distributions' "$usual" '
    .files | [.["/etc/ssl/certs/ca-bundle.crt"], .["/etc/ssl/certs/ca-certificates.crt"], .["/etc/pki/tls/certs/ca-bundle.crt"]]
    | all(endswith("/etc/ssl/certs/ca-bundle.crt"))'
assert 'programs of other distributions find a loader' "$usual" '
    .files | (.["/lib64/ld-linux-x86_64.so"] | endswith("/libexec/nix-ld")) and (.["/usr/lib/nix-ld"] | endswith("/lib"))'

mine=$(make_layer '{
    inherit pkgs;
    user = { name = "me"; uid = 1234; gid = 1235; home = "/var/lib/my.user"; shell = "/bin/zsh"; };
    directories = [ "/data/cache" "/var/lib/my.user/.cargo" ];
    agent = pkgs.record "package" { name = "aider-chat"; };
}' 'bash sh zsh')
assert 'another home and further directories are made, and belong to the other user' "$mine" '
    .owners == { "/var/lib/my.user": "1234:1235", "/workspace": "1234:1235", "/data/cache": "1234:1235", "/var/lib/my.user/.cargo": "1234:1235" }
    and .files["/var/lib/my.user"] == "d700" and .files["/data/cache"] == "d755" and (.files | has("/home") | not)'
assert 'the script of an agent is where its command names it' "$mine" '.files["/opt/agents/aider.sh"] == "f644"'

assert 'a worker in the tools of the project does not replace this one' "$(make_layer '{ inherit pkgs; }' 'bash sh descartes-worker')" '
    .files["/bin/descartes-worker"] == "l777 /app/descartes-worker"'
assert 'the minimal image has no loader' "$(make_layer '{ inherit pkgs; base = "minimal"; }' 'bash sh')" '
    .files | keys | all(startswith("/lib") | not)'

if make_layer '{ inherit pkgs; user.shell = "/bin/zsh"; }' 'bash sh' >"$store/message.txt" 2>&1; then
    echo 'FAILED  an image was made without the shell of its user'
    failed=1
else
    assert 'an image without the shell of its user is not made, and the message says what to do' "$(jq --raw-input --slurp . "$store/message.txt")" '
        contains("`user.shell` is /bin/zsh, but the image has no such program; add the package of the shell to `tools`")'
fi

exit "$failed"
