# A stand-in for nixpkgs: packages are names, and functions record their arguments. Nothing here can be built.
{
  system,
  config ? { },
}:
let
  lib = import ./lib.nix;

  # A derivation that is never built. `asked` has the arguments, and `by` the name of the function that made it.
  record =
    by: asked:
    let
      name = asked.name or asked.pname or by;
    in
    derivation {
      inherit name system;
      builder = "a stand-in";
    }
    // {
      inherit by asked;
      drvAttrs = asked;
      meta = asked.meta or { };
      overrideAttrs = changes: record "${by}.overrideAttrs" (asked // changes);
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
    asked:
    record "streamLayeredImage" asked
    // {
      imageName = asked.name;
      imageTag = asked.tag;
      conf = package "${asked.name}-conf.json";
      streamScript = package "stream";
    };

  buildEnv = record "buildEnv";
  testers.runNixOSTest = record "runNixOSTest";
  mkShell = asked: record "mkShell" ({ name = "nix-shell"; } // asked);
  mkShellNoCC = asked: record "mkShellNoCC" ({ name = "nix-shell"; } // asked);
  runCommand =
    name: environment: command:
    record "runCommand" { inherit name environment command; } // environment.passthru or { };
  runCommandCC =
    name: environment: command:
    record "runCommandCC" { inherit name environment command; };
  closureInfo = asked: record "closureInfo" (asked // { name = "closure-info"; });
  writeShellApplication =
    asked: record "writeShellApplication" (asked // { meta.mainProgram = asked.name; });
  writeText = name: text: record "writeText" { inherit name text; };
}
