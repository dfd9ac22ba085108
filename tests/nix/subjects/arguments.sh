#!/usr/bin/env bash
# `mkImage` with wrong arguments.
# shellcheck source=tests/nix/support.sh
source "$(dirname "${BASH_SOURCE[0]}")/../support.sh"

# The table is of packages of x86_64-linux.
table=$(nix eval --impure --json --expr "
  let
    packagesOf = system: import $standins/nixpkgs { inherit system; };
    pkgs = packagesOf \"x86_64-linux\";
    # The defaults of mkImage, of the arguments that have one there.
    defaults = {
      inherit pkgs;
      tools = [ ]; devShell = null; agent = null; libraries = [ ]; base = \"full\"; nix = false; name = \"worker\"; tag = null;
      env = { }; directories = [ ]; maxLayers = 100; labels = { }; created = \"1970-01-01T00:00:01Z\"; revision = null;
    };
    person = { name = \"worker\"; uid = 1000; gid = 1000; home = \"/home/worker\"; shell = \"/bin/bash\"; };
    check = import $PWD/nix/arguments.nix { inherit (pkgs) lib; };
    complete = defaults: arguments: defaults // arguments // { user = if arguments ? user then arguments.user else person; };
  in
  map (case: { inherit (case) begins; call = builtins.attrNames case.arguments; mistakes = check (complete defaults case.arguments); })
    (import $standins/arguments.nix {
      inherit pkgs;
      macPackages = packagesOf \"aarch64-darwin\"; armPackages = packagesOf \"aarch64-linux\"; i686Packages = packagesOf \"i686-linux\";
    })")
# A case without a beginning must have no mistake; any other must have one, whose message begins so and goes on.
wrong='.begins as $begins | .mistakes |
    if $begins == null then . != []
    else length != 1 or (.[0] | (startswith($begins) | not) or (length < ($begins | length + 5) and (contains("attributes are") | not))) end'
assert 'the table has right and wrong calls, for every argument' "$table" '
    (map(select(.begins == null)) | length >= 8) and (map(select(.begins)) | length >= 115)
    and (map(select(.begins) | .call[]) | unique) == ["agent", "base", "created", "devShell", "directories", "env", "labels", "libraries",
        "maxLayers", "name", "nix", "revision", "tag", "tools", "user"]'
assert 'right arguments are accepted, and each wrong one is refused by name, with its value and what would be right' \
    "$(jq "map(select($wrong))" <<<"$table")" '. == []'

assert_refused 'all mistakes are reported at once' x86_64-linux '{ inherit pkgs; tag = "1+2"; env."A B" = ""; user.uid = 0; }' \
    'mkImage:' '  - `tag` is "1+2"; a tag has' '  - `env` is "A B"; the name of a variable' '  - `user.uid` is 0; '
assert_refused 'tools of a Mac are refused in an image of Linux' aarch64-linux '{ inherit pkgs; tools = [ (packagesOf "aarch64-darwin").tree ]; }' \
    '`tools` is the package tree; it is for aarch64-darwin, and the programs of the image are for aarch64-linux: take it from `pkgs`'
assert_refused 'an unknown argument is refused, and the message names it' x86_64-linux '{ inherit pkgs; tolls = [ pkgs.tree ]; }' tolls
assert_refused 'packages of darwin are refused, and the message says which are right' aarch64-darwin '{ inherit pkgs; }' \
    'pass the packages of x86_64-linux or aarch64-linux'
for system in x86_64-darwin riscv64-linux; do
    assert_refused "packages of $system are refused, and the message says which are right" "$system" '{ inherit pkgs; }' \
        "there is no worker for $system; pass the packages of x86_64-linux or aarch64-linux"
done
assert_refused 'a set without packages is refused, and the message says what is right' x86_64-linux '{ pkgs = { }; }' \
    'pass nixpkgs.legacyPackages.x86_64-linux'
assert_refused 'a call without packages is refused, and the message says what is right' x86_64-linux '{ name = "mine"; }' \
    'mkImage: `pkgs` is missing' 'pass nixpkgs.legacyPackages.x86_64-linux'

exit "$failed"
