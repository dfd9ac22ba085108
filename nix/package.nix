# The worker's package, and what the crate's checks share with it.
{ lib, craneLib }:
let
  inherit (lib) fileset;

  # The source is listed file by file, so that an edit of any other file rebuilds nothing.
  source =
    files:
    fileset.toSource {
      root = ../.;
      fileset = fileset.unions files;
    };
  # The files that the compiler reads. src/ also contains the sample project that `demo` embeds.
  compiledFiles = [
    ../Cargo.toml
    ../Cargo.lock
    ../src
  ];

  manifest = (lib.importTOML ../Cargo.toml).package;

  args = {
    pname = manifest.name;
    inherit (manifest) version;
    src = source compiledFiles;
    strictDeps = true;
  };

  # `--locked` is what crane passes if nothing else is set.
  workerArgs = args // {
    cargoExtraArgs = "--locked --features otel";
  };

  # Crane builds the dependencies from the manifest and the lock alone, so an edit of the sources does not rebuild them.
  #
  # The worker needs neither the dependencies of the tests, nor crane's `cargo check`, nor a test program: without these,
  # a first build takes less than a third of the time.
  cargoArtifacts = craneLib.buildDepsOnly (
    workerArgs
    // {
      doCheck = false;
      cargoCheckCommand = "true";
    }
  );

  # What the checks compile: the profile that `cargo test` uses, because link time optimization takes minutes and the tests
  # do not need it. `env` must be the same for the dependencies and for each check, else cargo compiles them again.
  testArgs = args // {
    env = {
      CARGO_PROFILE = "dev";
      CARGO_PROFILE_DEV_DEBUG = "line-tables-only";
    };
  };
  testArtifacts = craneLib.buildDepsOnly (testArgs // { pname = "${manifest.name}-tests"; });

  worker = craneLib.buildPackage (
    workerArgs
    // {
      inherit cargoArtifacts;
      # The tests are a separate check, so that building the worker does not wait for them.
      doCheck = false;
      # The directories in which man and the shells look. The page is in the repository; the program writes the completions.
      postInstall = ''
        install -D -m 644 ${../docs/descartes-worker.1} $out/share/man/man1/${manifest.name}.1
        mkdir -p $out/share/bash-completion/completions $out/share/zsh/site-functions $out/share/fish/vendor_completions.d
        $out/bin/${manifest.name} completions bash > $out/share/bash-completion/completions/${manifest.name}
        $out/bin/${manifest.name} completions zsh > $out/share/zsh/site-functions/_${manifest.name}
        $out/bin/${manifest.name} completions fish > $out/share/fish/vendor_completions.d/${manifest.name}.fish
      '';
      # Without this the output's path is compiled into the program, and the same sources give different programs.
      env.NIX_NO_SELF_RPATH = "1";
      meta = {
        inherit (manifest) description;
        license = [
          lib.licenses.mit
          lib.licenses.asl20
        ];
        mainProgram = manifest.name;
      };
    }
  );
in
{
  inherit
    args
    cargoArtifacts
    compiledFiles
    craneLib
    manifest
    source
    testArgs
    testArtifacts
    worker
    ;
}
