# `mkImage`: the worker's image, with the tools of a project.
#
# The worker is copied into the topmost layer instead of linked from there into the store: so a new worker is one new layer, and
# the layers of the tools, which are large, stay where they have been pushed before.
{ crate, origin }:
{
  pkgs,
  # Packages whose programs the agent finds on its PATH. They win over those the image has anyway.
  tools ? [ ],
  # What `nix develop` would give, its shellHook apart: its packages, and the variables they and the shell set.
  devShell ? null,
  # The package of a coding agent.
  agent ? null,
  name ? crate.manifest.name,
  tag ? crate.manifest.version,
  # Variables. The agent sees them too, except for the worker's settings.
  env ? { },
  user ? { },
  # Docker takes 127 at most; some are left to whoever builds upon this image.
  maxLayers ? 100,
  labels ? { },
  # A date, in the form of RFC 3339.
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

  # What a coding agent reaches for, and no compiler: that is the project's to bring.
  everyday = [
    pkgs.bashInteractive
    pkgs.coreutils
    pkgs.curl
    pkgs.diffutils
    pkgs.findutils
    pkgs.gawk
    # The full one brings Perl and Python.
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
    # The first one wins: the project's tools over the everyday ones.
    ignoreCollisions = true;
  };

  # Files, not links into the store: some container runtimes refuse an image whose passwd is a link out of /etc.
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
  # A commit needs an author, and a workspace that was mounted from elsewhere belongs to another user.
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
    # OpenSSL's programs and curl; those of nixpkgs; git. The worker takes them beside those that it has built in.
    SSL_CERT_FILE = bundle;
    NIX_SSL_CERT_FILE = bundle;
    GIT_SSL_CAINFO = bundle;
  }
  // lib.optionalAttrs (origin.revision != null) {
    # Of this commit, while the program is of its sources alone: so an edit of anything else rebuilds no program.
    DESCARTES_REVISION = origin.revision;
  };
  isSetting = variable: lib.hasPrefix "DESCARTES_" variable;
  # The agent's environment is built from empty: what it may see besides the usual must be named.
  forAgent = lib.concatStringsSep "," (
    lib.filter (variable: !isSetting variable) (lib.attrNames env)
    ++ lib.optional (env ? DESCARTES_AGENT_ENV) env.DESCARTES_AGENT_ENV
  );
  variables = always // env // lib.optionalAttrs (forAgent != "") { DESCARTES_AGENT_ENV = forAgent; };

  # The variables of a shell as its own builder sees them, hooks of its packages included.
  surroundings =
    shell:
    shell.overrideAttrs {
      name = "${name}-surroundings";
      outputs = [ "out" ];
      # Linker flags would name this very derivation.
      NIX_NO_SELF_RPATH = "1";
      buildCommand = "env --null > $out";
    };
  # A JSON object. What a shell without packages has too is the builder's own, and left out.
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

    # Ends up in the topmost layer.
    fakeRootCommands = ''
      mkdir -p app usr/bin etc/ssl/certs etc/pki/tls/certs root .${person.home} workspace tmp var/empty
      chmod 1777 tmp
      chmod 700 root .${person.home}
      chown ${owner} .${person.home} workspace

      install -m 755 ${lib.getExe crate.worker} app/${crate.manifest.name}
      # Spawners name it so.
      ln -s ${crate.manifest.name} app/worker
      ln -s /app/${crate.manifest.name} bin/${crate.manifest.name}
      ln -s ${pkgs.coreutils}/bin/env usr/bin/env

      install -m 644 ${passwd} etc/passwd
      install -m 644 ${group} etc/group
      install -m 644 ${nsswitch} etc/nsswitch.conf
      install -m 644 ${gitconfig} etc/gitconfig
      # One bundle, by the names under which programs of several distributions look for it.
      for name in ssl/certs/ca-bundle.crt ssl/certs/ca-certificates.crt pki/tls/certs/ca-bundle.crt; do
        ln -s ${pkgs.cacert}/etc/ssl/certs/ca-bundle.crt "etc/$name"
      done
    ''
    # Says what the image has of the shell, and keeps all of that in the image.
    + lib.optionalString (devShell != null) ''
      install -m 644 ${given} app/environment.json
    '';

    config = {
      # A number, so that a platform can see that it is not root without looking into the image.
      User = owner;
      WorkingDir = "/workspace";
      # Arguments follow it: `docker run IMAGE demo`.
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

  # A shell's variables are known only after it was built, so they are added to the finished configuration.
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
