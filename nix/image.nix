# `mkImage`: the worker's image, with the tools of a project.
#
# The worker is copied into the topmost layer instead of linked from there into the store. So a new worker changes one layer, and
# the large layers with the tools need not be pushed again.
{ crate, origin }:
{
  pkgs,
  # Packages for the agent's PATH. They come before the packages that every image has.
  tools ? [ ],
  # A shell as for `nix develop`: the image gets its packages and variables, but does not run its shellHook.
  devShell ? null,
  # The package of a coding agent.
  agent ? null,
  name ? crate.manifest.name,
  tag ? crate.manifest.version,
  # Environment variables of the image. The agent gets them too, except for the worker's settings.
  env ? { },
  user ? { },
  # Docker allows 127 layers; the rest is left to images that build on this one.
  maxLayers ? 100,
  labels ? { },
  # A date as RFC 3339 specifies.
  created ? origin.created,
}:
let
  inherit (pkgs) lib;

  person = {
    name = "worker";
    uid = 1000;
    gid = 1000;
    home = "/home/worker";
    shell = "/bin/bash";
  }
  // user;
  owner = "${toString person.uid}:${toString person.gid}";

  # The tools that coding agents use. No compiler: each project brings its own.
  everyday = [
    pkgs.bashInteractive
    # The worker isolates the agent with it.
    pkgs.bubblewrap
    pkgs.coreutils
    pkgs.curl
    pkgs.diffutils
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
    pkgs.which
  ];
  programs = pkgs.buildEnv {
    name = "${name}-programs";
    paths = lib.optional (agent != null) agent ++ tools ++ everyday;
    pathsToLink = [ "/bin" ];
    # The first package with a program wins, so the project's tools replace the everyday ones.
    ignoreCollisions = true;
  };

  # Files, not links into the store: some container runtimes refuse an image whose /etc/passwd is an absolute link.
  passwd = pkgs.writeText "passwd" ''
    root:x:0:0:root:/root:/bin/sh
    ${person.name}:x:${owner}:${person.name}:${person.home}:${person.shell}
    nobody:x:65534:65534:nobody:/var/empty:/bin/sh
  '';
  group = pkgs.writeText "group" ''
    root:x:0:
    ${person.name}:x:${toString person.gid}:
    nobody:x:65534:
  '';
  nsswitch = pkgs.writeText "nsswitch.conf" ''
    passwd: files
    group: files
    hosts: files dns
  '';
  # A commit needs an author, and a mounted workspace may belong to another user.
  gitconfig = pkgs.writeText "gitconfig" ''
    [user]
    	name = descartes-worker
    	email = descartes-worker@localhost
    [init]
    	defaultBranch = main
    [safe]
    	directory = *
  '';

  bundle = "/etc/ssl/certs/ca-bundle.crt";
  always = {
    HOME = person.home;
    USER = person.name;
    SHELL = person.shell;
    PATH = "/bin:/usr/bin";
    LANG = "C.UTF-8";
    # For OpenSSL's programs and curl, for nixpkgs' programs, and for git. The worker adds them to its built-in authorities.
    SSL_CERT_FILE = bundle;
    NIX_SSL_CERT_FILE = bundle;
    GIT_SSL_CAINFO = bundle;
  }
  // lib.optionalAttrs (origin.revision != null) {
    # Set here and not at compile time, so that a commit that changes no source file rebuilds no program.
    DESCARTES_REVISION = origin.revision;
  };
  isSetting = variable: lib.hasPrefix "DESCARTES_" variable;
  # The worker builds the agent's environment from empty, so further variables must be named.
  forAgent = lib.concatStringsSep "," (
    lib.filter (variable: !isSetting variable) (lib.attrNames env)
    ++ lib.optional (env ? DESCARTES_AGENT_ENV) env.DESCARTES_AGENT_ENV
  );
  variables = always // env // lib.optionalAttrs (forAgent != "") { DESCARTES_AGENT_ENV = forAgent; };

  # The variables of a shell as its own builder sees them, including those that its packages' hooks set.
  surroundings =
    shell:
    shell.overrideAttrs {
      name = "${name}-surroundings";
      outputs = [ "out" ];
      # Linker flags would contain the path of this derivation.
      NIX_NO_SELF_RPATH = "1";
      buildCommand = "env --null > $out";
    };
  # Writes the variables as a JSON object. Variables that an empty shell has too belong to the builder and are left out.
  given =
    pkgs.runCommand "${name}-environment.json"
      {
        nativeBuildInputs = [ pkgs.jq ];
        filter = ./environment.jq;
      }
      ''
        jq --null-input --from-file "$filter" \
          --rawfile shell ${surroundings devShell} \
          --rawfile bare ${surroundings (pkgs.mkShellNoCC { })} > $out
      '';

  layered = pkgs.dockerTools.streamLayeredImage {
    inherit
      name
      tag
      maxLayers
      created
      ;
    contents = [ programs ];

    # These files form the topmost layer.
    fakeRootCommands = ''
      mkdir -p app usr/bin etc/ssl/certs etc/pki/tls/certs root .${person.home} workspace tmp var/empty
      chmod 1777 tmp
      chmod 700 root .${person.home}
      chown ${owner} .${person.home} workspace

      install -m 755 ${lib.getExe crate.worker} app/${crate.manifest.name}
      # Some orchestrators start the worker by this name.
      ln -s ${crate.manifest.name} app/worker
      ln -s /app/${crate.manifest.name} bin/${crate.manifest.name}
      ln -s ${pkgs.coreutils}/bin/env usr/bin/env

      install -m 644 ${passwd} etc/passwd
      install -m 644 ${group} etc/group
      install -m 644 ${nsswitch} etc/nsswitch.conf
      install -m 644 ${gitconfig} etc/gitconfig
      # One bundle of authorities, under the names that programs of several distributions use.
      for name in ssl/certs/ca-bundle.crt ssl/certs/ca-certificates.crt pki/tls/certs/ca-bundle.crt; do
        ln -s ${pkgs.cacert}/etc/ssl/certs/ca-bundle.crt "etc/$name"
      done
    ''
    # Lists what the image takes from the shell, and keeps the store paths of those variables in the image.
    + lib.optionalString (devShell != null) ''
      install -m 644 ${given} app/environment.json
    '';

    config = {
      # A number, so that a platform can see that the user is not root without reading /etc/passwd.
      User = owner;
      WorkingDir = "/workspace";
      # Arguments are appended: `docker run IMAGE demo`.
      Entrypoint = [ "/app/${crate.manifest.name}" ];
      Env = lib.mapAttrsToList (variable: value: "${variable}=${toString value}") variables;
      Labels = {
        "org.opencontainers.image.title" = name;
        "org.opencontainers.image.description" = crate.manifest.description;
        "org.opencontainers.image.licenses" = crate.manifest.license;
        "org.opencontainers.image.version" = crate.manifest.version;
      }
      // lib.optionalAttrs (origin.revision != null) {
        "org.opencontainers.image.revision" = origin.revision;
      }
      // lib.optionalAttrs (crate.manifest ? repository) {
        "org.opencontainers.image.source" = crate.manifest.repository;
      }
      // labels;
    };
  };

  # A shell's variables are known only after it was built, so a build step adds them to the configuration.
  conf =
    pkgs.runCommand "${name}-conf.json"
      {
        nativeBuildInputs = [ pkgs.jq ];
        filter = ./environment-merge.jq;
      }
      ''
        jq --from-file "$filter" --slurpfile given ${given} ${layered.conf} > $out
      '';
  image =
    if devShell == null then
      layered
    else
      pkgs.runCommand "stream-${name}" {
        nativeBuildInputs = [ pkgs.makeWrapper ];
        passthru = { inherit (layered) imageName imageTag; };
      } "makeWrapper ${layered.streamScript} $out --add-flags ${conf}";
in
assert lib.assertMsg pkgs.stdenv.hostPlatform.isLinux
  "mkImage: an image is made of Linux programs; pass the packages of x86_64-linux or aarch64-linux";
image // import ./push.nix { inherit pkgs image; }
