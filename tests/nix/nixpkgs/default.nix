# A stand-in for nixpkgs: packages are names, and functions record their arguments. Nothing here can be built.
{
  system,
  config ? { },
}:
let
  lib = import ./lib.nix;

  # A derivation that is never built. It has the name of the function that made it, and the arguments of the call.
  record =
    function: arguments:
    let
      name = arguments.name or arguments.pname or function;
    in
    derivation {
      inherit name system;
      builder = "a stand-in";
    }
    // {
      inherit function arguments;
      drvAttrs = arguments;
      meta = arguments.meta or { };
      overrideAttrs = changes: record "${function}.overrideAttrs" (arguments // changes);
    };
  package = name: record "package" { inherit name; };

  free = lib.genAttrs (import ./names.nix) package;
in
free
// {
  inherit lib record;

  # Like nixpkgs, rejects unfree packages unless the configuration allows them.
  claude-code =
    if (config.allowUnfreePredicate or (_: false)) { pname = "claude-code"; } then
      package "claude-code"
    else
      throw "claude-code is unfree";

  stdenv.hostPlatform = {
    inherit system;
    isLinux = lib.hasSuffix "-linux" system;
    isx86_64 = lib.hasPrefix "x86_64-" system;
  };
  stdenv.buildPlatform = { inherit system; };
  stdenv.cc = {
    cc = package "gcc";
    bintools.dynamicLinker = "/glibc/lib/ld-linux-${lib.removeSuffix "-linux" system}.so";
  };
  buildPackages = free;
  runtimeShell = "${free.bash}/bin/bash";

  dockerTools.streamLayeredImage =
    arguments:
    record "streamLayeredImage" arguments
    // {
      imageName = arguments.name;
      imageTag = arguments.tag;
      conf = package "${arguments.name}-conf.json";
      streamScript = package "stream";
    };

  buildEnv = record "buildEnv";
  testers.runNixOSTest = record "runNixOSTest";
  mkShell = arguments: record "mkShell" ({ name = "nix-shell"; } // arguments);
  mkShellNoCC = arguments: record "mkShellNoCC" ({ name = "nix-shell"; } // arguments);
  runCommand =
    name: environment: command:
    record "runCommand" { inherit name environment command; } // environment.passthru or { };
  runCommandCC =
    name: environment: command:
    record "runCommandCC" { inherit name environment command; };
  closureInfo = arguments: record "closureInfo" (arguments // { name = "closure-info"; });
  writeShellApplication =
    arguments: record "writeShellApplication" (arguments // { meta.mainProgram = arguments.name; });
  writeText = name: text: record "writeText" { inherit name text; };
}
