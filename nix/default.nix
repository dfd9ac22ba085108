# All outputs of this flake for one system.
{
  inputs,
  system,
  # The outputs for Linux on the same processor: an image contains Linux programs.
  linux,
}:
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
        digits = start: length: builtins.substring start length date;
      in
      "${digits 0 4}-${digits 4 2}-${digits 6 2}T${digits 8 2}:${digits 10 2}:${digits 12 2}Z";
  };

  imagesOf = crate: import ./image.nix { inherit crate origin; };
  mkImage = imagesOf crate;

  # What this project says about its own images.
  ownArguments = {
    tag = crate.manifest.version;
    inherit (origin) revision;
    labels = {
      "org.opencontainers.image.description" = crate.manifest.description;
      "org.opencontainers.image.licenses" = crate.manifest.license;
    }
    // lib.optionalAttrs (crate.manifest ? repository) {
      "org.opencontainers.image.source" = crate.manifest.repository;
    };
  };
  images = {
    image = mkImage (ownArguments // { inherit pkgs; });
    image-minimal = mkImage (
      ownArguments
      // {
        inherit pkgs;
        name = "descartes-worker-minimal";
        base = "minimal";
      }
    );
    # Claude Code's license is unfree: it is allowed for this package alone, in an instance of nixpkgs that only this image uses.
    image-claude-code =
      let
        unfree = import inputs.nixpkgs {
          inherit system;
          config.allowUnfreePredicate = package: lib.getName package == "claude-code";
        };
      in
      mkImage (
        ownArguments
        // {
          pkgs = unfree;
          name = "descartes-worker-claude-code";
          agent = unfree.claude-code;
        }
      );
  };

  onLinux = lib.optionalAttrs pkgs.stdenv.hostPlatform.isLinux;

  # On a Mac with a Linux builder, an image is an archive: the program that prints an image runs on Linux only.
  archive =
    image:
    let
      archive = linux.pkgs.runCommand "${baseNameOf image.imageName}.tar" { } "${image} > $out";
    in
    archive
    // {
      inherit (image) environment sizes;
    }
    // import ./push.nix {
      inherit pkgs;
      image = archive;
    };
  # What `nix build .#image` and the like build on this system.
  imagesHere =
    if pkgs.stdenv.hostPlatform.isLinux then images else lib.mapAttrs (_: archive) linux.images;

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
        ownArguments
        ;
      inherit (images) image image-minimal;
      inherit (inputs) advisory-db;
    }
  );
in
{
  inherit
    mkImage
    checks
    images
    pkgs
    ;

  packages = {
    default = crate.worker;
  }
  // imagesHere;

  apps = {
    push = app "Pushes the image to a registry, and prints its digest" imagesHere.image.push;
    load = app "Loads the image into docker or podman" imagesHere.image.load;
  };

  devShells.default = import ./shell.nix { inherit pkgs crate checks; };

  formatter = pkgs.nixfmt-tree;
}
