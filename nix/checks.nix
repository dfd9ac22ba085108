# The checks of this flake; `nix flake check` builds all of them.
{
  pkgs,
  crate,
  imagesOf,
  image,
  advisory-db,
}:
let
  inherit (pkgs) lib;
  inherit (lib) fileset;
  inherit (crate) craneLib;

  built = crate.args // {
    inherit (crate) cargoArtifacts;
  };
  linted = crate.compiled ++ [
    ../benches
    ../clippy.toml
    ../docs/callback.schema.json
    (fileset.difference ../tests ../tests/nix)
  ];
  # The tests also read the documents, and check that the files which those name exist.
  tested = linted ++ [
    ../.ci
    ../LICENSE-APACHE
    ../LICENSE-MIT
    ../CHANGELOG.md
    ../CONTRIBUTING.md
    ../README.md
    ../SECURITY.md
    ../docs
    ../examples
    ../flake.nix
    ../nix
    ../templates
    ../tests/nix
  ];

  # A check that runs a command in a directory with the given files.
  run =
    name: tools: files: command:
    pkgs.runCommand name { nativeBuildInputs = tools; } ''
      cd ${crate.source files}
      ${command}
      touch $out
    '';
  ending = extension: fileset.fileFilter (file: file.hasExt extension) ../.;

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
        python3 ${../tests/nix/promises.py} image.tar ${lib.escapeShellArgs arguments}
        touch $out
      '';
in
{
  clippy = craneLib.cargoClippy (
    built
    // {
      src = crate.source linted;
      cargoClippyExtraArgs = "--all-targets --all-features -- --deny warnings";
    }
  );

  fmt = craneLib.cargoFmt {
    inherit (crate.args) pname version;
    src = crate.source linted;
  };

  nextest = craneLib.cargoNextest (
    built
    // {
      src = crate.source tested;
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
    built
    // {
      cargoDocExtraArgs = "--no-deps --document-private-items";
      env.RUSTDOCFLAGS = "--deny warnings";
    }
  );

  deny = craneLib.cargoDeny (
    crate.args // { src = crate.source (crate.compiled ++ [ ../deny.toml ]); }
  );

  audit = craneLib.cargoAudit {
    inherit (crate.args) pname version src;
    inherit advisory-db;
  };

  nixfmt = run "nixfmt" [ pkgs.nixfmt ] [ (ending "nix") ] ''
    find . -name '*.nix' -exec nixfmt --check {} +
  '';

  actionlint =
    run "actionlint"
      [
        pkgs.actionlint
        pkgs.shellcheck
      ]
      [ ../.github/workflows ]
      ''
        actionlint .github/workflows/*.yml
      '';

  shellcheck =
    run "shellcheck"
      [ pkgs.shellcheck ]
      [
        (ending "sh")
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
  image = promises "image" image [ "--no-compiler" ];

  # The same for a project's image, which must also contain the project's tools and variables.
  image-of-a-project =
    promises "image-of-a-project"
      (imagesOf crate {
        inherit pkgs;
        name = "image-of-a-project";
        tools = [ pkgs.tree ];
        devShell = pkgs.mkShellNoCC {
          packages = [ pkgs.hello ];
          GREETING = "from the shell";
        };
        env.FAREWELL = "from the image";
      })
      [
        "--no-compiler"
        "--program=hello"
        "--program=tree"
        "--variable=GREETING=from the shell"
        "--variable=FAREWELL=from the image"
      ];

  # Builds the worker a second time, and an image of it: both images must be the same, bit for bit.
  reproducible =
    let
      worker = crate.worker.overrideAttrs { buildAgain = "1"; };
      again = imagesOf (crate // { inherit worker; }) { inherit pkgs; };
    in
    pkgs.runCommand "reproducible" { nativeBuildInputs = [ pkgs.jq ]; } ''
      # If both were the same derivation, the comparison could not fail.
      test ${crate.worker} != ${worker}
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
      unpack ${again} second
      diff --recursive first second
      (cd first && find . -type f -exec sha256sum {} + | sort) > $out
    '';
}
