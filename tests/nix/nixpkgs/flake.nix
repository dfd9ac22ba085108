{
  description = "A stand-in for nixpkgs: has the names of packages, and records the calls of functions";

  outputs =
    { self }:
    let
      lib = import ./lib.nix;
    in
    {
      inherit lib;
      legacyPackages = lib.genAttrs [
        "x86_64-linux"
        "aarch64-linux"
        "aarch64-darwin"
      ] (system: import ./. { inherit system; });
    };
}
