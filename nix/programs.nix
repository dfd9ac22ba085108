# The programs of an image, and what programs of other distributions need.
{
  pkgs,
  # For the names of derivations.
  name,
  # Packages that come before those of every image.
  paths,
  # Packages with further libraries for programs of other distributions.
  libraries,
}:
let
  inherit (pkgs) lib;
  loader = pkgs.stdenv.cc.bintools.dynamicLinker;
in
{
  # The tools that coding agents use. No compiler: each project brings its own.
  full = [
    pkgs.bashInteractive
    # Isolates the agent from the worker, by a PID namespace.
    pkgs.bubblewrap
    pkgs.coreutils
    pkgs.curl
    pkgs.diffutils
    # Agents ask it what a file is before they read it.
    pkgs.file
    pkgs.findutils
    pkgs.gawk
    # The full git package pulls in Perl and Python.
    pkgs.gitMinimal
    pkgs.gnugrep
    pkgs.gnupatch
    pkgs.gnused
    pkgs.gnutar
    pkgs.gzip
    pkgs.jq
    pkgs.less
    pkgs.openssh
    pkgs.procps
    pkgs.ripgrep
    # Downloads are often .zip or .tar.xz archives.
    pkgs.unzip
    pkgs.which
    pkgs.xz
  ];

  # git contains most of these packages anyway; busybox has the other commands, in about one megabyte.
  minimal = [
    pkgs.bash
    pkgs.coreutils
    pkgs.gitMinimal
    pkgs.gnugrep
    pkgs.gnused
    pkgs.busybox
  ];

  link =
    everydayPrograms:
    pkgs.buildEnv {
      name = "${name}-programs";
      paths = paths ++ everydayPrograms;
      pathsToLink = [ "/bin" ];
      # If two packages have a program of the same name, the first one is used: the project's tools replace the everyday ones.
      ignoreCollisions = true;
    };

  # Programs that were built for other distributions name the loader by this path.
  loaderDirectory = if pkgs.stdenv.hostPlatform.isx86_64 then "lib64" else "lib";
  loaderName = baseNameOf loader;
  # Libraries that most such programs need, and the loader of nixpkgs, which nix-ld starts. The image contains most of them anyway.
  foreignLibraries = pkgs.buildEnv {
    name = "${name}-libraries";
    paths = map lib.getLib (
      [
        # libstdc++ and libgcc_s.
        pkgs.stdenv.cc.cc
        pkgs.openssl
        pkgs.xz
        pkgs.zlib
        pkgs.zstd
      ]
      ++ libraries
    );
    pathsToLink = [ "/lib" ];
    ignoreCollisions = true;
    postBuild = "ln -s ${loader} $out/lib/ld.so";
  };
}
