{
  description = "A project whose worker image carries its own tools";

  inputs.descartes-worker.url = "github:OWNER/descartes-worker";
  inputs.nixpkgs.follows = "descartes-worker/nixpkgs";

  outputs =
    {
      self,
      nixpkgs,
      descartes-worker,
    }:
    let
      system = "x86_64-linux";
      pkgs = nixpkgs.legacyPackages.${system};
    in
    {
      # The tools for you and for the agent.
      devShells.${system}.default = pkgs.mkShell { packages = [ pkgs.python3 ]; };

      # nix run .#worker.push -- registry.fly.io/APP:TAG
      packages.${system}.worker = descartes-worker.lib.mkImage {
        inherit pkgs;
        name = "my-project-worker";
        devShell = self.devShells.${system}.default;
      };
    };
}
