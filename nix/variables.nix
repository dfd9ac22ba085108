# The file that DESCARTES_AGENT_ENV_FILE names: a JSON object of variables for the agent and the checks. They are not in the image's
# configuration, because there the worker, its git and its curl would use them too: a shell's LD_LIBRARY_PATH could break them all.
{
  pkgs,
  # For the names of derivations.
  name,
  devShell,
  # Variables that every image has.
  base,
  # The search path of the image.
  path,
}:
let
  inherit (pkgs) lib;

  emptyShell = pkgs.mkShellNoCC { };
  # The variables of a shell as its own builder sees them, including those that its packages' hooks set.
  environmentOf =
    shell:
    shell.overrideAttrs {
      name = "${name}-variables";
      outputs = [ "out" ];
      # Linker flags would contain the path of this derivation.
      NIX_NO_SELF_RPATH = "1";
      buildCommand = "env --null > $out";
    };
  # The names in the call of mkShell, without the attributes that every derivation has.
  named =
    let
      namesIn = shell: lib.attrNames shell.drvAttrs ++ lib.attrNames (shell.drvAttrs.env or { });
    in
    lib.subtractLists (namesIn emptyShell) (namesIn devShell);
in
if devShell == null then
  pkgs.writeText "${name}-environment.json" (builtins.toJSON base)
else
  pkgs.runCommand "${name}-environment.json"
    {
      nativeBuildInputs = [ pkgs.jq ];
      filter = ./environment.jq;
      base = builtins.toJSON base;
      named = builtins.toJSON named;
      inherit path;
    }
    ''
      jq --null-input --from-file "$filter" \
        --rawfile shell ${environmentOf devShell} \
        --rawfile empty_shell ${environmentOf emptyShell} \
        --argjson base "$base" \
        --argjson named "$named" \
        --arg path "$path" > $out
    ''
