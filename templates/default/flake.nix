{
  description = "A project with a worker image that contains its tools";

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
      # The tools that you and the agent work with.
      # Without a C compiler, which would more than double the image; with one: pkgs.mkShell.
      devShells.${system}.default = pkgs.mkShellNoCC { packages = [ pkgs.python3 ]; };

      # nix run .#worker.push -- registry.fly.io/APP:TAG
      packages.${system}.worker = descartes-worker.lib.mkImage {
        inherit pkgs;
        name = "my-project-worker";
        revision = self.rev or null;
        # A coding agent, in addition to the built-in one: agent = pkgs.opencode;
        devShell = self.devShells.${system}.default;
      };
    };
}
