# The flake's calls to nixpkgs and crane, as data: `tests/nix/run` applies this to one system's packages.
# A package is represented by its name, a script by its text.
let
  name = package: package.name;
in
{
  image = image: {
    inherit (image.asked)
      name
      tag
      maxLayers
      created
      config
      ;
    root = image.asked.fakeRootCommands;
    contents = map (entry: {
      inherit (entry.asked) pathsToLink ignoreCollisions;
      paths = map name entry.asked.paths;
    }) image.asked.contents;
    # push and load come with every image.
    programs = map name [
      image.push
      image.load
    ];
  };

  # An image with a shell has a configuration to which variables were added.
  stream = image: {
    inherit (image) by imageName imageTag;
    command = image.asked.command;
    programs = map name [
      image.push
      image.load
    ];
  };

  crate = crate: {
    inherit (crate) by;
    inherit (crate.asked) pname version doCheck;
    files = crate.asked.src.files;
    dependencies = {
      inherit (crate.asked.cargoArtifacts) by;
      files = crate.asked.cargoArtifacts.asked.src.files;
    };
  };

  checks =
    checks:
    builtins.mapAttrs (
      _: check:
      {
        inherit (check) by;
      }
      // (if check.asked ? command then { inherit (check.asked) command; } else { })
      // (if check.asked ? src then { files = check.asked.src.files; } else { })
      // (if check.asked ? cargoArtifacts then { artifacts = "${check.asked.cargoArtifacts}"; } else { })
    ) checks;
}
