{
  description = "Stands in for crane where that cannot be had: records what it is asked for";

  outputs =
    { self }:
    {
      mkLib =
        pkgs:
        pkgs.lib.genAttrs [
          "buildDepsOnly"
          "buildPackage"
          "cargoAudit"
          "cargoClippy"
          "cargoDeny"
          "cargoDoc"
          "cargoFmt"
          "cargoNextest"
          "devShell"
        ] pkgs.record;
    };
}
