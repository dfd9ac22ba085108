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
    # The file with the variables of the agent: what it contains, or what makes it.
    environment = {
      inherit (image.environment) by;
    }
    // (
      if image.environment.by == "writeText" then
        { variables = builtins.fromJSON image.environment.asked.text; }
      else
        {
          inherit (image.environment.asked) command;
          inherit (image.environment.asked.environment) path;
          base = builtins.fromJSON image.environment.asked.environment.base;
          named = builtins.fromJSON image.environment.asked.environment.named;
        }
    );
    sizes = {
      inherit (image.sizes.asked) command;
      inherit (image.sizes.asked.environment) programs others;
      graph = map (part: "${part}") image.sizes.asked.environment.exportReferencesGraph.graph;
    };
    passthru = builtins.filter (name: image ? ${name}) [ "conf" ];
    # push and load come with every image.
    programs = map name [
      image.push
      image.load
    ];
  };

  crate = crate: {
    inherit (crate) by;
    inherit (crate.asked) pname version doCheck postInstall cargoExtraArgs;
    license = map (license: license.spdxId) crate.asked.meta.license;
    files = crate.asked.src.files;
    dependencies = {
      inherit (crate.asked.cargoArtifacts) by;
      path = "${crate.asked.cargoArtifacts}";
      inherit (crate.asked.cargoArtifacts.asked) doCheck cargoCheckCommand cargoExtraArgs;
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
      // (
        if check.asked ? testScript then
          {
            script = check.asked.testScript;
            docker = check.asked.nodes.machine.virtualisation.docker.enable;
          }
        else
          { }
      )
      // (
        if check.asked ? cargoArtifacts then
          {
            artifacts = "${check.asked.cargoArtifacts}";
            # Cargo compiles the dependencies again if a variable differs.
            env = check.asked.env;
            artifactsEnv = check.asked.cargoArtifacts.asked.env or { };
            installs = check.asked.doInstallCargoArtifacts;
          }
        else
          { }
      )
    ) checks;
}
