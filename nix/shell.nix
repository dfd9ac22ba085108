# The development shell: everything that builds and checks this project.
{
  pkgs,
  crate,
  checks,
}:
crate.craneLib.devShell {
  inherit checks;
  packages = [
    pkgs.actionlint
    pkgs.cargo-audit
    pkgs.cargo-deny
    pkgs.cargo-nextest
    pkgs.git
    pkgs.jq
    pkgs.nixfmt-tree
    pkgs.python3
    pkgs.rust-analyzer
    pkgs.shellcheck
    pkgs.skopeo
  ];
}
