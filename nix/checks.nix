# The checks of this flake; `nix flake check` builds all of them.
{
  pkgs,
  crate,
  imagesOf,
  image,
  image-minimal,
  ownArguments,
  advisory-db,
}:
let
  inherit (pkgs) lib;
  inherit (lib) fileset;
  inherit (crate) craneLib;

  checkArgs = crate.testArgs // {
    cargoArtifacts = crate.testArtifacts;
    # Nothing builds on the compiled files of a check.
    doInstallCargoArtifacts = false;
  };
  lintedFiles = crate.compiledFiles ++ [
    ../benches
    ../build.rs
    ../clippy.toml
    ../docs/callback.schema.json
    ../docs/cli.schema.json
    ../docs/reference.md
    (fileset.difference ../tests ../tests/nix)
  ];
  # The tests also check that the files which the documents name exist.
  testedFiles = [ (fileset.fileFilter (_: true) ../.) ];

  # A check that runs a command in a directory with the given files.
  runIn =
    name: tools: files: command:
    pkgs.runCommand name { nativeBuildInputs = tools; } ''
      cd ${crate.source files}
      ${command}
      touch $out
    '';
  programs = import ./programs.nix {
    inherit pkgs;
    name = "checks";
    paths = [ ];
    libraries = [ ];
  };
  engineTest = crate.source [
    ../nix/load.sh
    ../tests/nix/engine
  ];
  filesWithExtension = extension: fileset.fileFilter (file: file.hasExt extension) ../.;

  # A program as another distribution would build it.
  foreignProgram =
    flags: libraries:
    pkgs.runCommandCC "foreign" { buildInputs = libraries; } ''
      $CXX ${../tests/nix/foreign.cc} ${flags} -o $out
      ${lib.getExe pkgs.patchelf} --remove-rpath --set-interpreter \
        /${programs.loaderDirectory}/${programs.loaderName} $out
    '';
  # A check that tests the promises of docs/nix.md on an image.
  promises =
    name: image: arguments:
    pkgs.runCommand name
      {
        nativeBuildInputs = [
          pkgs.bubblewrap
          pkgs.openssl
          pkgs.python3
        ];
      }
      ''
        ${image} > image.tar
        python3 ${../tests/nix/promises} image.tar ${lib.escapeShellArgs arguments}
        touch $out
      '';
in
{
  clippy = craneLib.cargoClippy (
    checkArgs
    // {
      src = crate.source lintedFiles;
      cargoClippyExtraArgs = "--all-targets --all-features -- --deny warnings";
    }
  );

  fmt = craneLib.cargoFmt {
    inherit (crate.args) pname version;
    src = crate.source lintedFiles;
  };

  nextest = craneLib.cargoNextest (
    checkArgs
    // {
      src = crate.source testedFiles;
      # The tests take minutes, so one run reports every failure and not only the first.
      cargoNextestExtraArgs = "--no-fail-fast";
      nativeBuildInputs = [
        pkgs.git
        pkgs.procps
        pkgs.util-linux
        pkgs.which
        pkgs.writableTmpDirAsHomeHook
      ];
    }
  );

  doc = craneLib.cargoDoc (
    checkArgs
    // {
      cargoDocExtraArgs = "--no-deps --document-private-items";
      env = checkArgs.env // {
        RUSTDOCFLAGS = "--deny warnings";
      };
    }
  );

  deny = craneLib.cargoDeny (
    crate.args // { src = crate.source (crate.compiledFiles ++ [ ../deny.toml ]); }
  );

  audit = craneLib.cargoAudit {
    inherit (crate.args) pname version src;
    inherit advisory-db;
  };

  nixfmt = runIn "nixfmt" [ pkgs.nixfmt ] [ (filesWithExtension "nix") ] ''
    find . -name '*.nix' -exec nixfmt --check {} +
  '';

  actionlint =
    runIn "actionlint"
      [
        pkgs.actionlint
        pkgs.shellcheck
      ]
      [ ../.github/workflows ]
      ''
        actionlint .github/workflows/*.yml
      '';

  shellcheck =
    runIn "shellcheck"
      [ pkgs.shellcheck ]
      [
        (filesWithExtension "sh")
        ../tests/nix/run
        ../tests/nix/push
        ../tests/nix/engine
        ../docs/pictures/make
        ../.ci
      ]
      ''
        find . -type f -exec shellcheck --shell bash --severity warning {} +
      '';

  # Unpacks the image, runs it, and proves everything that docs/nix.md promises about it.
  image = promises "image" image [
    "--no-compiler"
    "--foreign=${foreignProgram "" [ ]}"
  ];

  # The smallest image keeps every promise that is not about the tools that it lacks.
  image-minimal = promises "image-minimal" image-minimal [
    "--no-compiler"
    "--minimal"
  ];

  # The same for a project's image, which must also contain the project's tools and variables, and in which an agent can use Nix.
  image-of-a-project =
    promises "image-of-a-project"
      (imagesOf crate {
        inherit pkgs;
        name = "image-of-a-project";
        tag = "1.2.3";
        tools = [
          pkgs.python3
          pkgs.tree
        ];
        nix = true;
        libraries = [ pkgs.sqlite ];
        directories = [ "/data/cache" ];
        devShell = pkgs.mkShellNoCC {
          packages = [ pkgs.hello ];
          GREETING = "from the shell";
          # Libraries that cannot be loaded: only the agent may meet them.
          LD_LIBRARY_PATH = pkgs.runCommand "broken-libraries" { } ''
            mkdir $out
            echo broken | tee $out/libgcc_s.so.1 > $out/libz.so.1
          '';
        };
        env.FAREWELL = "from the image";
      })
      [
        "--no-compiler"
        "--foreign=${foreignProgram "-DWITH_SQLITE -lsqlite3" [ pkgs.sqlite ]}"
        "--version=1.2.3"
        "--nix"
        "--program=tree"
        "--agents-program=hello"
        "--directory=/data/cache"
        "--agents-variable=GREETING=from the shell"
        "--variable=FAREWELL=from the image"
      ];

  # Builds the worker a second time, and an image of it: both images must be the same, bit for bit.
  reproducible =
    let
      # Another attribute makes another derivation, so Nix builds the worker again.
      rebuiltWorker = crate.worker.overrideAttrs { buildAgain = "1"; };
      rebuiltImage = imagesOf (crate // { worker = rebuiltWorker; }) (
        ownArguments // { inherit pkgs; }
      );
    in
    pkgs.runCommand "reproducible" { nativeBuildInputs = [ pkgs.jq ]; } ''
      # If both were the same derivation, the comparison could not fail.
      test ${crate.worker} != ${rebuiltWorker}
      unpack() {
        mkdir $2
        $1 | tar --extract --directory $2
        config=$2/$(jq --raw-output '.[0].Config' $2/manifest.json)
        # The history names the store path of the topmost layer, which differs between the two builds.
        jq 'del(.history[].comment)' $config > $2/config
        jq 'del(.[].Config)' $2/manifest.json > $2/manifest
        rm $config $2/manifest.json
      }
      unpack ${image} first
      unpack ${rebuiltImage} second
      diff --recursive first second
      (cd first && find . -type f -exec sha256sum {} + | sort) > $out
    '';
}
# A virtual machine needs KVM, which GitHub's machines with ARM processors do not have.
// lib.optionalAttrs pkgs.stdenv.hostPlatform.isx86_64 {
  # Runs the image in a real Docker engine, in a virtual machine.
  engine = pkgs.testers.runNixOSTest {
    name = "engine";
    nodes.machine = {
      virtualisation = {
        docker.enable = true;
        # The default disk is too small for an image and its containers.
        diskSize = 4096;
        memorySize = 2048;
      };
      environment.systemPackages = [ pkgs.git ];
    };
    testScript = ''
      machine.wait_for_unit("docker.service")
      print(machine.succeed("${engineTest}/tests/nix/engine ${image} 2>&1"))
    '';
  };
}
