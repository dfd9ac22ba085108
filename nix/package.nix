# The worker, and what the checks of the crate share with it.
{ lib, craneLib }:
let
  inherit (lib) fileset;

  # Named file by file: an edit of anything else rebuilds nothing.
  source =
    files:
    fileset.toSource {
      root = ../.;
      fileset = fileset.unions files;
    };
  # What the compiler reads; src/ also holds the sample project that `demo` embeds.
  compiled = [
    ../Cargo.toml
    ../Cargo.lock
    ../src
  ];

  manifest = (lib.importTOML ../Cargo.toml).package;

  args = {
    pname = manifest.name;
    inherit (manifest) version;
    src = source compiled;
    strictDeps = true;
  };

  # Crane makes them of the manifest and the lock alone: an edit of the sources leaves them as they are.
  cargoArtifacts = craneLib.buildDepsOnly args;

  worker = craneLib.buildPackage (
    args
    // {
      inherit cargoArtifacts;
      # The tests are a check of their own: who wants the worker need not wait for them.
      doCheck = false;
      # Else the path it is built for is written into it, and the same program built for another place is another one.
      env.NIX_NO_SELF_RPATH = "1";
      meta = {
        inherit (manifest) description;
        mainProgram = manifest.name;
      };
    }
  );
in
{
  inherit
    args
    cargoArtifacts
    compiled
    craneLib
    manifest
    source
    worker
    ;
}
