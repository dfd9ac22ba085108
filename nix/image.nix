# `mkImage`: the worker's image, with the tools of a project.
#
# The worker is copied into the topmost layer instead of linked from there into the store. So a new worker changes one layer, and
# the large layers with the tools need not be pushed again.
{ crate, origin }:
{
  pkgs,
  # Packages for the agent's PATH. They come before the packages that every image has.
  tools ? [ ],
  # A shell as for `nix develop`: the agent and the checks get its packages and variables. The shellHook does not run.
  devShell ? null,
  # The package of a coding agent. For those in examples/agents/agents.json, the image also has the worker's settings.
  agent ? null,
  # Packages with libraries for programs that were built for other distributions.
  libraries ? [ ],
  # "full", or "minimal" for the smallest set of programs with which an agent can work.
  base ? "full",
  # Whether the agent can use Nix.
  nix ? false,
  name ? crate.manifest.name,
  # The tag in a local engine. The worker's version if it is null.
  tag ? null,
  # Environment variables of the image. The agent gets them too, except for the worker's settings.
  env ? { },
  user ? { },
  # Further directories that belong to the user.
  directories ? [ ],
  # Docker allows 127 layers; the rest is left to images that build on this one.
  maxLayers ? 100,
  labels ? { },
  # A date as RFC 3339 specifies.
  created ? origin.created,
  # The commit of the project.
  revision ? null,
}:
let
  inherit (pkgs) lib;

  mistakes = import ./arguments.nix { inherit lib; } {
    inherit
      pkgs
      tools
      devShell
      agent
      libraries
      base
      nix
      name
      tag
      env
      user
      directories
      maxLayers
      labels
      created
      revision
      ;
  };

  # A name without a registry and without directories, for the names of derivations.
  baseName = baseNameOf name;
  isFull = base == "full";

  text =
    value:
    if builtins.isBool value then
      lib.boolToString value
    else if builtins.isInt value || builtins.isFloat value then
      builtins.toJSON value
    else
      "${value}";

  person = {
    name = "worker";
    uid = 1000;
    gid = 1000;
    home = "/home/worker";
    shell = "/bin/bash";
  }
  // user;
  owner = "${toString person.uid}:${toString person.gid}";
  # Directories below the one that becomes the root of the image, which is the current directory while the topmost layer is made.
  inRoot = lib.concatMapStringsSep " " (directory: ".${directory}");
  # Where the shell is while the topmost layer is made.
  shellFile =
    if lib.hasPrefix builtins.storeDir person.shell then person.shell else ".${person.shell}";
  # Programs expect these directories, and some of them cannot make more than one level.
  xdgDirectories = map (directory: "${person.home}/${directory}") [
    ".cache"
    ".config"
    ".local/bin"
    ".local/share"
    ".local/state"
  ];

  programs = import ./programs.nix {
    inherit pkgs libraries;
    name = baseName;
    paths = lib.optional (agent != null) agent ++ tools ++ lib.optional nix pkgs.nix;
  };
  linkedPrograms = programs.link (if isFull then programs.full else programs.minimal);

  # The settings of the worker for this agent, if the project sets none.
  presets = lib.importJSON ../examples/agents/agents.json;
  preset =
    if agent == null || env ? DESCARTES_AGENT || env ? DESCARTES_AGENT_COMMAND then
      null
    else
      presets.${lib.getName agent} or null;

  searchPath = lib.optionalString (env ? PATH) "${text env.PATH}:" + "/bin:/usr/bin";
  # Where nix-ld finds the loader and the libraries. They are in the environment, because its built-in path is below /run, which
  # some platforms replace.
  nixLdVariables = lib.optionalAttrs isFull {
    NIX_LD = "/usr/lib/nix-ld/ld.so";
    NIX_LD_LIBRARY_PATH = "/usr/lib/nix-ld";
  };
  environmentFile = import ./variables.nix {
    inherit pkgs devShell;
    name = baseName;
    base = nixLdVariables;
    path = searchPath;
  };
  commonVariables = {
    HOME = person.home;
    USER = person.name;
    SHELL = person.shell;
    LANG = "C.UTF-8";
    # The only variable with authorities: OpenSSL's programs, curl, git and nixpkgs' programs read it, and the worker adds the
    # file to its built-in authorities. Any further variable would take precedence over it in some program, and a platform that sets only
    # this one, for a private authority, would break that program.
    SSL_CERT_FILE = "/etc/ssl/certs/ca-bundle.crt";
    DESCARTES_AGENT_ENV_FILE = "/app/environment.json";
  }
  // nixLdVariables
  // lib.optionalAttrs (preset != null) { DESCARTES_AGENT_COMMAND = preset.command; }
  // lib.optionalAttrs (origin.revision != null) {
    # Set here and not at compile time, so that a commit that changes no source file rebuilds no program.
    DESCARTES_REVISION = origin.revision;
  };
  isSetting = variable: lib.hasPrefix "DESCARTES_" variable;
  # The worker builds the agent's environment from empty, so further variables must be named.
  namesForAgent = lib.concatStringsSep "," (
    lib.filter (variable: !isSetting variable && variable != "PATH") (lib.attrNames env)
    ++ lib.optionals (preset != null) preset.variables
    ++ lib.optional (env ? DESCARTES_AGENT_ENV) (text env.DESCARTES_AGENT_ENV)
  );
  variables =
    commonVariables
    // lib.mapAttrs (_: text) env
    // {
      PATH = searchPath;
    }
    // lib.optionalAttrs (namesForAgent != "") { DESCARTES_AGENT_ENV = namesForAgent; };

  files = import ./files.nix {
    inherit pkgs person owner;
    version = crate.manifest.version;
  };

  layered = pkgs.dockerTools.streamLayeredImage {
    inherit name maxLayers created;
    tag = if tag == null then crate.manifest.version else tag;
    contents = [ linkedPrograms ];

    # These files form the topmost layer.
    fakeRootCommands = ''
      mkdir -p app usr/bin etc/ssl/certs etc/pki/tls/certs root .${person.home} workspace tmp var/empty
      mkdir -p ${inRoot (xdgDirectories ++ directories)}
      chmod 1777 tmp
      chmod 700 root .${person.home}
      chown -R ${owner} .${person.home} workspace ${inRoot directories}

      if ! test -x ${shellFile}; then
        echo 'mkImage: `user.shell` is ${person.shell}, but the image has no such program; add the package of the shell to `tools`' >&2
        exit 1
      fi

      install -m 755 ${lib.getExe crate.worker} app/${crate.manifest.name}
      # Some orchestrators start the worker by this name.
      ln -s ${crate.manifest.name} app/worker
      # A worker in the project's tools does not replace this one.
      ln -sf /app/${crate.manifest.name} bin/${crate.manifest.name}
      ln -s ${pkgs.coreutils}/bin/env usr/bin/env
      # The file also keeps the store paths of its variables in the image.
      install -m 644 ${environmentFile} app/environment.json

      install -m 644 ${files.passwd} etc/passwd
      install -m 644 ${files.group} etc/group
      install -m 644 ${files.nsswitch} etc/nsswitch.conf
      install -m 644 ${files.gitconfig} etc/gitconfig
      install -m 644 ${files.osRelease} etc/os-release
      # One bundle of authorities, under the names that programs of several distributions use.
      for name in ssl/certs/ca-bundle.crt ssl/certs/ca-certificates.crt pki/tls/certs/ca-bundle.crt; do
        ln -s ${pkgs.cacert}/etc/ssl/certs/ca-bundle.crt "etc/$name"
      done
    ''
    # The loader's place on other distributions.
    + lib.optionalString isFull ''
      mkdir -p ${programs.loaderDirectory} usr/lib
      ln -s ${pkgs.nix-ld}/libexec/nix-ld ${programs.loaderDirectory}/${programs.loaderName}
      ln -s ${programs.foreignLibraries}/lib usr/lib/nix-ld
    ''
    + lib.optionalString (preset != null && preset ? script) ''
      mkdir -p opt/agents
      install -m 644 ${../examples/agents + "/${preset.script}"} opt/agents/${preset.script}
    ''
    + lib.optionalString nix ''
      mkdir -p etc/nix
      install -m 644 ${files.nixConf} etc/nix/nix.conf
      PATH=${lib.getBin pkgs.buildPackages.nix}/bin:${lib.getBin pkgs.buildPackages.sqlite}/bin:$PATH \
        bash ${./database.sh} ${
          pkgs.closureInfo { rootPaths = storeRoots; }
        }/registration ${owner} ${toString storeRoots}
    '';

    config = {
      # A number, so that a platform can see that the user is not root without reading /etc/passwd.
      User = owner;
      WorkingDir = "/workspace";
      # Arguments are appended: `docker run IMAGE demo`.
      Entrypoint = [ "/app/${crate.manifest.name}" ];
      Env = lib.mapAttrsToList (variable: value: "${variable}=${value}") variables;
      Labels = {
        "org.opencontainers.image.title" = name;
        # What the image's worker is; the names below org.opencontainers.image are the project's.
        "${crate.manifest.name}.version" = crate.manifest.version;
      }
      // lib.optionalAttrs (origin.revision != null) {
        "${crate.manifest.name}.revision" = origin.revision;
      }
      // lib.optionalAttrs (tag != null) { "org.opencontainers.image.version" = tag; }
      // lib.optionalAttrs (revision != null) { "org.opencontainers.image.revision" = revision; }
      // lib.mapAttrs (_: text) labels;
    };
  };
  # What the topmost layer links to, in addition to the programs.
  linkedParts = [
    environmentFile
    pkgs.cacert
  ]
  ++ lib.optionals isFull [
    pkgs.nix-ld
    programs.foreignLibraries
  ];
  # What Nix in the image must know, and must not delete.
  storeRoots = [ linkedPrograms ] ++ linkedParts;
in
assert lib.assertMsg (
  pkgs ? stdenv.hostPlatform
) "mkImage: `pkgs` is not a set of packages; pass nixpkgs.legacyPackages.x86_64-linux";
assert lib.assertMsg pkgs.stdenv.hostPlatform.isLinux
  "mkImage: an image is made of Linux programs; pass the packages of x86_64-linux or aarch64-linux";
assert lib.assertMsg (mistakes == [ ])
  "mkImage:\n${lib.concatMapStringsSep "\n" (mistake: "  - ${mistake}") mistakes}";
layered
// {
  # For a look at the variables of the agent: `nix build .#worker.environment`.
  environment = environmentFile;
  # What each part costs: `nix build .#worker.sizes`.
  sizes = import ./sizes.nix {
    inherit pkgs;
    name = baseName;
    programs = linkedPrograms;
    others = linkedParts;
    worker = lib.getExe crate.worker;
  };
}
// import ./push.nix {
  inherit pkgs;
  image = layered;
}
