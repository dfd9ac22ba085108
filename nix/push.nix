# The programs that deliver an image: `push` to a registry, `load` into a container engine on this machine.
{ pkgs, image }:
let
  # The scripts take the image as their first argument; the option --image overrides it.
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

  # The container engine comes from the caller's PATH.
  load = script ./load.sh [ pkgs.coreutils ];
}
