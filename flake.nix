{
  description = "Runs one coding-agent task on a throw-away machine, from an image made of your project's tools";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    crane.url = "github:ipetkov/crane/v0.23.4";
    advisory-db = {
      url = "github:rustsec/advisory-db";
      flake = false;
    };
  };

  outputs =
    inputs@{ self, nixpkgs, ... }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
        "aarch64-darwin"
      ];
      # Evaluated once per system, and only for the requested one.
      perSystem = lib.genAttrs systems (
        system:
        import ./nix {
          inherit inputs system;
          linux = perSystem.${builtins.replaceStrings [ "darwin" ] [ "linux" ] system};
        }
      );
      output = name: lib.mapAttrs (_: outputs: outputs.${name}) perSystem;
    in
    {
      packages = output "packages";
      apps = output "apps";
      checks = output "checks";
      devShells = output "devShells";
      formatter = output "formatter";

      # docs/nix.md lists the arguments. The system is that of the packages that the caller passes.
      lib.mkImage =
        args:
        let
          system =
            args.pkgs.stdenv.hostPlatform.system
              or (throw "mkImage: `pkgs` is missing or is not a set of packages; pass nixpkgs.legacyPackages.x86_64-linux");
        in
        (perSystem.${system}
          or (throw "mkImage: there is no worker for ${system}; pass the packages of x86_64-linux or aarch64-linux")
        ).mkImage
          args;

      templates.default = {
        path = ./templates/default;
        description = "A project whose worker image carries its own tools";
      };
    };
}
