# Everything for work on this project: what builds it, what checks it, and what the checks run.
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
