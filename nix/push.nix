# What brings an image where it is used: `push` to a registry, `load` into an engine on this machine.
{ pkgs, image }:
let
  # The scripts take the image as their first argument, and an option that overrides it.
  script =
    file: runtimeInputs:
    pkgs.writeShellApplication {
      name = pkgs.lib.removeSuffix ".sh" (baseNameOf file);
      inherit runtimeInputs;
      text = ''
        exec ${pkgs.runtimeShell} ${file} ${image} "$@"
      '';
    };
in
{
  push = script ./push.sh [
    pkgs.coreutils
    pkgs.jq
    pkgs.skopeo
  ];

  # The engine is the caller's.
  load = script ./load.sh [ pkgs.coreutils ];
}
