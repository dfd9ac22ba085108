# The flake's calls to nixpkgs and crane, as data: `tests/nix/run` applies this to one system's packages.
# A package is represented by its name, a script by its text.
let
  name = package: package.name;
in
{
  image = image: {
    inherit (image.arguments)
      name
      tag
      maxLayers
      created
      config
      ;
    root = image.arguments.fakeRootCommands;
    contents = map (entry: {
      inherit (entry.arguments) pathsToLink ignoreCollisions;
      paths = map name entry.arguments.paths;
    }) image.arguments.contents;
    # The file with the variables of the agent: what it contains, or what makes it.
    environment = {
      inherit (image.environment) function;
    }
    // (
      if image.environment.function == "writeText" then
        { variables = builtins.fromJSON image.environment.arguments.text; }
      else
        {
          inherit (image.environment.arguments) command;
          inherit (image.environment.arguments.environment) path;
          base = builtins.fromJSON image.environment.arguments.environment.base;
          named = builtins.fromJSON image.environment.arguments.environment.named;
        }
    );
    sizes = {
      inherit (image.sizes.arguments) command;
      inherit (image.sizes.arguments.environment) programs others;
      graph = map (part: "${part}") image.sizes.arguments.environment.exportReferencesGraph.graph;
    };
    passthru = builtins.filter (name: image ? ${name}) [ "conf" ];
    # push and load come with every image.
    programs = map name [
      image.push
      image.load
    ];
  };

  crate = crate: {
    inherit (crate) function;
    inherit (crate.arguments)
      pname
      version
      doCheck
      postInstall
      cargoExtraArgs
      ;
    license = map (license: license.spdxId) crate.arguments.meta.license;
    files = crate.arguments.src.files;
    dependencies = {
      inherit (crate.arguments.cargoArtifacts) function;
      path = "${crate.arguments.cargoArtifacts}";
      inherit (crate.arguments.cargoArtifacts.arguments) doCheck cargoCheckCommand cargoExtraArgs;
      files = crate.arguments.cargoArtifacts.arguments.src.files;
    };
  };

  checks =
    checks:
    builtins.mapAttrs (
      _: check:
      {
        inherit (check) function;
      }
      // (if check.arguments ? command then { inherit (check.arguments) command; } else { })
      // (if check.arguments ? src then { files = check.arguments.src.files; } else { })
      // (
        if check.arguments ? testScript then
          {
            script = check.arguments.testScript;
            docker = check.arguments.nodes.machine.virtualisation.docker.enable;
          }
        else
          { }
      )
      // (
        if check.arguments ? cargoArtifacts then
          {
            artifacts = "${check.arguments.cargoArtifacts}";
            # Cargo compiles the dependencies again if a variable differs.
            env = check.arguments.env;
            artifactsEnv = check.arguments.cargoArtifacts.arguments.env or { };
            installs = check.arguments.doInstallCargoArtifacts;
          }
        else
          { }
      )
    ) checks;
}
