# All outputs of this flake for one system.
{ inputs, system }:
let
  inherit (inputs) self;
  pkgs = inputs.nixpkgs.legacyPackages.${system};
  inherit (pkgs) lib;

  crate = import ./package.nix {
    inherit lib;
    craneLib = inputs.crane.mkLib pkgs;
  };

  # The commit's date, so that a commit gives the same image wherever and whenever it is built.
  origin = {
    # Null if the flake is not a git checkout.
    revision = self.rev or self.dirtyRev or null;
    created =
      let
        date = self.lastModifiedDate or "19700101000000";
        at = from: length: builtins.substring from length date;
      in
      "${at 0 4}-${at 4 2}-${at 6 2}T${at 8 2}:${at 10 2}:${at 12 2}Z";
  };

  imagesOf = crate: import ./image.nix { inherit crate origin; };
  mkImage = imagesOf crate;

  image = mkImage { inherit pkgs; };
  # Claude Code's licence is unfree: it is allowed for this package alone, in an instance of nixpkgs that only this image uses.
  image-claude-code =
    let
      unfree = import inputs.nixpkgs {
        inherit system;
        config.allowUnfreePredicate = package: lib.getName package == "claude-code";
      };
    in
    mkImage {
      pkgs = unfree;
      name = "descartes-worker-claude-code";
      agent = unfree.claude-code;
    };

  # An image contains Linux programs, so only Linux systems have one.
  onLinux = lib.optionalAttrs pkgs.stdenv.hostPlatform.isLinux;

  app = description: program: {
    type = "app";
    program = lib.getExe program;
    meta = { inherit description; };
  };

  checks = onLinux (
    import ./checks.nix {
      inherit
        pkgs
        crate
        imagesOf
        image
        ;
      inherit (inputs) advisory-db;
    }
  );
in
{
  inherit mkImage checks;

  packages = {
    default = crate.worker;
  }
  // onLinux { inherit image image-claude-code; };

  apps = onLinux {
    push = app "Pushes the image to a registry, and prints its digest" image.push;
    load = app "Loads the image into docker or podman" image.load;
  };

  devShells.default = import ./shell.nix { inherit pkgs crate checks; };

  formatter = pkgs.nixfmt-tree;
}
