# The development shell: everything that builds and checks this project.
{
  pkgs,
  crate,
  checks,
}:
crate.craneLib.devShell {
  # The shell needs no packages of the virtual machine, whose evaluation takes several seconds.
  checks = removeAttrs checks [ "engine" ];
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
